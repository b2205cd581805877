"""Feeds what happened to those who wait for it: gives events their positions, then each consumer its next ones.

One dispatcher at a time, by a session advisory lock, only to spare work: exactly-once rests on each consumer's cursor,
which moves in the transaction of the effect, and the order on the sequencer's lock.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from celery.utils.log import get_task_logger
from sqlalchemy.engine import Connection

from workers import cache_events
from workers.database import call, call_one, lock_session
from workers.errors import BusinessError, DatabaseError, FaultError, OutageError, PermanentError, TransientError
from workers.settings import Settings

log = get_task_logger(__name__)

LOCK, LATE_LOCK = (0x4F4D45, 0), (0x4F4D45, 1)  # "OME": of the dispatcher, and of the one beside it
SEQUENCED, DISPATCHED = 1000, 500  # the most events in one transaction. Chosen, not measured.
# Polled each 5 ms for 2 s after a find, then each 20 ms: a lone event then waits for 10 ms. Chosen, not measured.
BUSY_SECONDS, BUSY_PAUSE, IDLE_PAUSE = 2.0, 0.005, 0.02
# Consumers are asked when there are new events, and this often for what another dispatcher sequenced.
ASKED_SECONDS = 0.25
# An event that waits longer may have a dispatcher that holds the lock and stands still (SIGSTOP, a frozen machine).
LATE_SECONDS = 10
STOPPED_PAUSE = 1.0  # what stopped a dispatcher will mostly stop its successor: do not spin. Chosen, not measured.
REST = 1.0  # seconds that a consumer is left alone after an outage of its own
# One that waits for a lock keeps all others waiting: briefly, and ever less often. Chosen, not measured.
LOCK_MS, FIRST_REST, LONGEST_REST = 100, 0.05, 2.0
QUERY_CANCELED = "57014"

Handler = Callable[[list[dict[str, Any]]], None]
HANDLERS: dict[str, Handler] = {"cache": cache_events.handle}


@dataclass
class Consumer:
    """One consumer as this dispatcher knows it; after a failure it is given less, or left alone until `rests`."""

    name: str
    outside: bool
    limit: int = DISPATCHED
    rests: float = 0.0
    locked: int = 0  # how often in a row a lock or a deadlock stopped it
    after: int = 0  # its cursor, when it is given one event
    behind: bool = True


@dataclass
class Dispatcher:
    """One run; counts what it did, by consumer."""

    settings: Settings
    connection: Connection
    consumers: list[Consumer] = field(default_factory=list)
    sequenced: int = 0
    buried: int = 0
    given: dict[str, int] = field(default_factory=dict)

    def take(self, lock: tuple[int, int] = LOCK) -> bool:
        """Takes the lock; false when another dispatcher has it."""
        row = self.connection.exec_driver_sql("SELECT pg_try_advisory_lock(%s, %s)", lock).fetchone()
        return bool(row and row[0])

    def late(self) -> bool:
        """Whether something waits that whoever has the lock should have given to its consumer long ago."""
        row = self.connection.exec_driver_sql(
            "SELECT EXISTS (SELECT FROM api.event_backlog"
            " WHERE waits_since < clock_timestamp() - make_interval(secs => %s))",
            (LATE_SECONDS,),
        ).fetchone()
        return bool(row and row[0])

    def run(self, seconds: float, until_empty: bool = False) -> None:
        """Polls for so many seconds, at least once; if asked, only until nothing is waiting."""
        self.connection.exec_driver_sql("SELECT set_config('lock_timeout', %s, false)", (f"{LOCK_MS}ms",))
        rows = self.connection.exec_driver_sql("SELECT consumer, outside FROM api.event_consumers ORDER BY consumer")
        self.consumers = [Consumer(*row) for row in rows]
        started = found_at = time.monotonic()
        asked_at = 0.0
        while True:
            fresh = int(call_one("api.sequence_events", SEQUENCED, on=self.connection))
            self.sequenced += fresh
            now = time.monotonic()
            if ask_all := fresh > 0 or now - asked_at > ASKED_SECONDS:
                asked_at = now
            found = fresh + sum(self.turn(each) for each in self.consumers if ask_all or each.behind)
            now = time.monotonic()
            if now - started >= seconds or (until_empty and not found):
                return
            if found:
                found_at = now
            else:
                time.sleep(BUSY_PAUSE if now - found_at < BUSY_SECONDS else IDLE_PAUSE)

    def turn(self, consumer: Consumer) -> int:
        """A consumer's share of a round: one batch, or nothing while it rests; gives how many events it had."""
        if time.monotonic() < consumer.rests:
            return 0
        try:
            count = self.give_outside(consumer) if consumer.outside else self.give(consumer)
        except DatabaseError as error:
            if isinstance(error, OutageError) and error.sqlstate != QUERY_CANCELED:
                raise
            self.failed(consumer, error)
            return 0
        consumer.behind, consumer.locked = count >= consumer.limit, 0
        consumer.limit = min(DISPATCHED, consumer.limit * 2)
        if count:
            self.given[consumer.name] = self.given.get(consumer.name, 0) + count
        return count

    def give(self, consumer: Consumer) -> int:
        """Gives a batch to a consumer in the database."""
        if consumer.limit == 1:
            consumer.after = int(call_one("api.consumer_position", consumer.name, on=self.connection))
        return int(call_one("api.dispatch_events", consumer.name, consumer.limit, on=self.connection))

    def give_outside(self, consumer: Consumer) -> int:
        """Gives a batch to a consumer elsewhere, and then moves its cursor: at least once.

        What it cannot do now, it has again in a while: the events after it wait.
        """
        handler = HANDLERS.get(consumer.name)
        events = call("api.read_events", consumer.name, consumer.limit, on=self.connection) if handler else []
        if not handler or not events:
            return 0
        try:
            handler(events)
        except Exception as error:
            log.warning("consumer %s is given its events again later: %r", consumer.name, error)
            consumer.rests = time.monotonic() + REST
            consumer.behind = True
            return 0
        call_one("api.advance_consumer", consumer.name, events[0]["after"], events[-1]["position"], on=self.connection)
        return len(events)

    def failed(self, consumer: Consumer, error: DatabaseError) -> None:
        """Gives less at once, then the one event alone; what it cannot take even so is a dead letter, and passed by.

        No event is buried because of a lock, an outage or a broken deployment: those are waited for.
        """
        consumer.behind = True
        if isinstance(error, TransientError):
            rest = min(LONGEST_REST, FIRST_REST * 2**consumer.locked)
            consumer.locked = min(consumer.locked + 1, 10)
            consumer.rests = time.monotonic() + random.uniform(0.5, 1.0) * rest  # noqa: S311
        elif isinstance(error, FaultError) or (consumer.limit == 1 and isinstance(error, OutageError)):
            log.error("consumer %s waits: %s", consumer.name, error)
            consumer.rests = time.monotonic() + REST
        elif consumer.limit > 1:
            consumer.limit //= 2
        elif isinstance(error, PermanentError | BusinessError):
            reason = f"Consumer {consumer.name} cannot take this event: {error}"
            letter = call_one("api.bury_event", consumer.name, consumer.after, "OM095", reason, on=self.connection)
            if letter:  # else somebody moved the cursor meanwhile: what comes next was not tried
                self.buried += 1
                log.error("%s It is dead letter %s.", reason, letter)
        log.info("consumer %s is given %d at once: %s", consumer.name, consumer.limit, error)


def dispatch(settings: Settings, seconds: float, *, until_empty: bool = False) -> dict[str, Any] | None:
    """Sequences and dispatches for so many seconds, or only until nothing waits; None when another dispatcher does.

    Where that one stands still it goes on beside it. An outage or a broken deployment ends it: the next goes on from
    the cursors.
    """
    try:
        with lock_session() as connection:
            run = Dispatcher(settings, connection)
            alone = run.take()
            if not alone and not (run.take(LATE_LOCK) and run.late()):
                return None
            stopped = _until_stopped(run, seconds, until_empty or not alone)
    except (TransientError, OutageError, FaultError) as error:
        log.error("no dispatcher can start: %s", error)  # beat tries again
        return None
    if stopped:
        log.error("the dispatcher stops: %s", stopped)
        time.sleep(STOPPED_PAUSE)
    return {"sequenced": run.sequenced, "buried": run.buried, "given": run.given, "beside": not alone}


def _until_stopped(run: Dispatcher, seconds: float, until_empty: bool) -> DatabaseError | None:
    try:
        run.run(seconds, until_empty)
    except (TransientError, OutageError, FaultError) as error:
        return error
    return None
