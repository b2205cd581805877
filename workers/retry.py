"""Which failures are worth another attempt, and how long to wait before it.

The whole transaction is run again, outermost; a lost COMMIT reply is safe, because the request's key has the answer.
"""

import logging
import random
from collections.abc import Iterator

import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from workers import metrics
from workers.errors import BusinessError, DatabaseError, FaultError, OutageError, PermanentError, TransientError
from workers.settings import Settings

QUICK = {
    "40P01": "deadlock_detected",
    "40001": "serialization_failure",
    "55P03": "lock_not_available: lock_timeout ran out",
}
SLOW = {
    "25006": "read_only_sql_transaction: this is a standby now",
    "25P03": "idle_in_transaction_session_timeout: the worker stood still",
    "40003": "statement_completion_unknown",
}
SLOW_CLASSES = {
    "08": "connection exception",
    "26": "a prepared statement is gone, as behind a pooler: the connection is given up, and a new one has its own",
    "53": "insufficient resources: connections, memory, disk",
    "57": "operator intervention: a shutdown or a start, or statement_timeout, which under load is an outage too",
    "58": "system error outside PostgreSQL",
}
# A bad deployment, which must not decide anybody's order.
FAULT_CLASSES = {
    "0A": "feature not supported: another version of PostgreSQL than was tested",
    "55": "an object is not in the state that it must be in, or in use",
    "42": "syntax, a missing object or a missing right",
}
# A violated CHECK names its constraint. Without one no partition of the table takes the row: they were not made ahead.
CHECK_VIOLATION = "23514"


log = logging.getLogger(__name__)


def _say(details: RetryDetails) -> None:
    log.warning("tried again in %.2f s: %s", details.wait_for, details.caused_by)
    metrics.retried(details.caused_by)


set_on_retry_hooks([_say])  # its own line says neither what failed nor why


def classify(sqlstate: str | None, disconnected: bool = False) -> type[DatabaseError]:
    """The kind of error that a SQLSTATE stands for.

    Without one either the connection broke, which the caller knows, or the driver itself refused what was to be sent:
    that will be refused each time.
    """
    if sqlstate in QUICK:
        return TransientError
    if disconnected or sqlstate in SLOW or (sqlstate or "")[:2] in SLOW_CLASSES:
        return OutageError
    if (sqlstate or "")[:2] in FAULT_CLASSES:
        return FaultError
    return BusinessError if (sqlstate or "").startswith("OM") else PermanentError


def retrying(settings: Settings, patience: float | None = None) -> Iterator[stamina.Attempt]:
    """Attempts at one transaction: quick ones with jitter after a deadlock, slow ones in an outage.

    None starts after `patience` seconds, by default those of ORDERMILL_RETRY_SLOW_SECONDS.
    """
    quick = 0

    def backoff(error: Exception) -> bool | float:
        nonlocal quick
        if isinstance(error, TransientError):
            quick += 1
            # Jitter from the first: the partner of a deadlock must not come back at the same moment.
            return quick < settings.retry_quick_attempts and random.uniform(0.002, 0.02 * quick)  # noqa: S311
        return isinstance(error, OutageError)

    return iter(
        stamina.retry_context(
            on=backoff,
            attempts=None,
            timeout=settings.retry_slow_seconds if patience is None else patience,
            wait_initial=0.1,
            wait_max=1.0,
            wait_jitter=0.1,
        )
    )
