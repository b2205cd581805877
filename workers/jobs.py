"""Runs a maintenance job in its slot: one successful run a slot, however many beats and workers there are."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery.utils.log import get_task_logger
from sqlalchemy.engine import Connection

from workers import metrics
from workers.database import Jsonb, call, holdable, session
from workers.errors import OrdermillError, TransientError
from workers.settings import get_settings

log = get_task_logger(__name__)

Work = Callable[[Connection], dict[str, Any]]

BATCH_ATTEMPTS = 5  # chosen, not measured: one lock that somebody holds must not fail a job of many batches


def run_job(job: str, cadence: float | None, lease: float, work: Work) -> dict[str, Any]:
    """Does the work in the slot that is due and gives its result, or {"skipped": slot taken}.

    Args:
        job: the name under which runs are recorded.
        cadence: seconds between slots; None runs now, outside any slot, as a person would.
        lease: seconds after which an unfinished run may be claimed by another worker: more than the work takes, yet not
            much, since a run whose claim was never heard of (its COMMIT's reply was lost) holds the slot as long.
        work: gets a connection with the timeouts of a job; gives what is recorded.
    """
    if cadence is None:
        with job_session() as connection:
            return work(connection)
    claimed = call("api.claim_job", job, f"{cadence} seconds", f"{lease} seconds")
    if not claimed:
        return {"skipped": "the slot is taken"}
    slot, attempt = claimed[0]["slot"], claimed[0]["attempt"]
    started = time.monotonic()
    try:
        with job_session() as connection:
            result = work(connection)
    except Exception as error:
        metrics.job_ended(job, "failed", time.monotonic() - started)
        try:
            call("api.finish_job", job, slot, attempt, "failed", Jsonb({"error": holdable(error)}))
        except OrdermillError as second:
            log.warning("%s: that it failed is not recorded, so its lease has to run out first: %s", job, second)
        raise
    seconds = time.monotonic() - started
    result |= {"ms": round(seconds * 1000)}
    call("api.finish_job", job, slot, attempt, "succeeded", Jsonb(result))
    metrics.job_ended(job, "succeeded", seconds)
    return result


def repeat(connection: Connection, routine: str, *arguments: object) -> int:
    """Calls a routine that does one bounded batch and gives its count, until it gives 0; gives the sum."""
    total = 0
    while done := int(batch(connection, routine, *arguments)[0]):
        total += done
    return total


def batch(connection: Connection, routine: str, *arguments: object) -> list[Any]:
    """Calls a routine that does one bounded batch, again after a lock or a deadlock; gives its rows."""
    for attempt in range(1, BATCH_ATTEMPTS):
        try:
            return call(routine, *arguments, on=connection)
        except TransientError as error:
            log.info("%s is tried again: %s", routine, error)
            metrics.retried(error)
            time.sleep(random.uniform(0.01, 0.1 * attempt))  # noqa: S311
    return call(routine, *arguments, on=connection)


@contextmanager
def job_session() -> Iterator[Connection]:
    """A connection whose statements may run as long as a job's may; it is not reused for orders."""
    with session() as connection:
        connection.detach()
        connection.exec_driver_sql(
            "SELECT set_config('statement_timeout', %s, false)", (f"{get_settings().job_statement_timeout_ms}ms",)
        )
        yield connection
