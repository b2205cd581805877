"""Empties the queue behind the SQL door: claims in one transaction, places in the next.

At most ORDERMILL_DRAINS a pool, each in a place that is a session advisory lock: the first takes what there is, and
calls for help when a whole batch waits; the others take whole batches only, and end when there are none. Exactly-once
rests on the claim, and who is served first on `shop.await_earlier_claims`.
"""

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from celery.utils.log import get_task_logger
from sqlalchemy.engine import Connection

from workers import metrics
from workers.database import call, call_one, lock_session, reachable
from workers.errors import BusinessError, DatabaseError, FaultError, OutageError, PermanentError, TransientError
from workers.logs import log_outcomes
from workers.settings import Settings

log = get_task_logger(__name__)

LOCK_CLASS = 0x4F4D  # "OM": the first half of the lock's key of a pool's first place; the second half is the pool's id
PLACE = 0x10000  # added for each further place
# Polled each 5 ms for 2 s after a find, so that a busy shop need not wait, then each 100 ms: chosen, not measured.
BUSY_SECONDS, BUSY_PAUSE, IDLE_PAUSE = 2.0, 0.005, 0.1
# The floor spares the index the dead rows of placed orders. Measured in November 2026: under one long snapshot,
# claiming 50 rose from 0.5 to 16 ms after 200,000 deletes; with the floor, 0.6 ms. Ids are given before the commit, so
# it lies where the queue was read a while ago; a transaction that takes longer is found when all is read, each second.
FLOOR_SECONDS, FLOOR_LAG = 1.0, 0.25
SWEPT_AT_ONCE = 100
# An order that waits longer may have a drain that holds the pool's lock and stands still (SIGSTOP, a frozen machine):
# its TCP is alive, so the server does not end it. Chosen, not measured: above the usual lease and timeouts.
LATE_SECONDS = 30
# How long a drain that helps waits for the next whole batch, and how often the first one calls. Chosen, not measured.
HELP_SECONDS = 0.5
STOPPED_PAUSE = 1.0  # what stopped a drain will mostly stop its successor: do not spin. Chosen, not measured.
LOST_PAUSE = 0.2  # where only the session was lost, which another may have at once: a restart takes a second or so
STOPPED_SECONDS = 5.0  # for so long PostgreSQL is waited for: as long as beat takes to start the next

QUERY_CANCELED = "57014"
# The connection broke while it placed, or PostgreSQL itself went down. Perhaps by this very claim, so that giving it
# back uncounted could go on for ever: it is given back in halves, and what is alone is counted.
MAY_BE_ITS_FAULT = {None, "57P02"}
UNHEARD = "Each attempt to place this order ended with the connection to the database."


@dataclass
class Drain:
    """One run over the pools that have a place for it; counts what it did, and calls for help."""

    settings: Settings
    connection: Connection
    for_help: Callable[[], None] | None = None
    pools: list[int] = field(default_factory=list)
    placed: int = 0
    rejected: int = 0
    returned: int = 0
    released: int = 0
    helps: set[int] = field(default_factory=set)  # pools where this is not the first drain
    floors: dict[int, int] = field(default_factory=dict)
    read_to: dict[int, int] = field(default_factory=dict)  # the newest order that was claimed, by pool
    next_floors: dict[int, int] = field(default_factory=dict)
    from_zero: set[int] = field(default_factory=set)  # pools that are read without their floor, once
    rests: dict[int, float] = field(default_factory=dict)  # pools that ran into a lock, and until when
    kept: dict[object, float] = field(default_factory=dict)  # claims to be released, and when
    taken: dict[int, int] = field(default_factory=dict)  # orders by pool since it was last looked at
    looks: dict[int, float] = field(default_factory=dict)  # when each pool is looked at next
    called_at: float = 0.0
    unheard: object = None  # the claim that was being placed when the session was lost

    def take_pools(self) -> bool:
        """Locks a place at each pool that has a free one, the first if it is free; false when there is none."""
        for place in range(self.settings.drains):
            # CASE: the order of AND is not promised, and a second place must not be locked in passing.
            rows = self.connection.exec_driver_sql(
                "SELECT id FROM api.pools"
                " WHERE CASE WHEN id = ANY (%s) THEN false ELSE pg_try_advisory_lock(%s, id) END",
                (self.pools, LOCK_CLASS + place * PLACE),
            )
            taken = [row[0] for row in rows]
            self.pools += taken
            self.helps.update(taken if place else ())
        return bool(self.pools)

    def take_late_pools(self) -> bool:
        """Takes, without their locks, the pools whose oldest order has waited too long; false when there are none."""
        rows = self.connection.exec_driver_sql(
            "SELECT p.id FROM api.pools AS p JOIN api.queue AS q ON q.pool = p.code"
            " WHERE q.oldest < clock_timestamp() - make_interval(secs => %s)",
            (LATE_SECONDS,),
        )
        self.pools = [row[0] for row in rows]
        return bool(self.pools)

    def run(self, seconds: float, until_empty: bool = False) -> None:
        """Polls for so many seconds, at least once; if asked, only until nothing is waiting."""
        try:
            self._run(seconds, until_empty)
            self.look_last()
        finally:
            self.release_kept(float("inf"))

    def _run(self, seconds: float, until_empty: bool) -> None:
        now = time.monotonic()
        ends, found_at, floored_at, lagged_at = now + seconds, now, now, now
        only_helps = bool(self.helps.issuperset(self.pools))
        if only_helps:
            found_at -= HELP_SECONDS  # at once, when the first look finds no whole batch
        while True:
            found = sum(self.turn(pool) for pool in self.pools)
            now = time.monotonic()
            if now >= ends or (until_empty and not found):
                return
            if found:
                found_at = now
            elif only_helps and now - found_at >= HELP_SECONDS:
                return
            if now - lagged_at > FLOOR_LAG:
                self.floors, self.next_floors, lagged_at = self.next_floors, dict(self.read_to), now
            if now - floored_at > FLOOR_SECONDS:
                self.from_zero.update(self.pools)
                self.sweep()
                floored_at = now
            if not found:
                time.sleep(BUSY_PAUSE if now - found_at < BUSY_SECONDS else IDLE_PAUSE)

    def sweep(self) -> None:
        """Takes back claims whose drain died, for its successor is at work long before the next `orders.sweep`."""
        with contextlib.suppress(TransientError):
            call("api.sweep_claims", SWEPT_AT_ONCE, self.settings.claim_attempts, on=self.connection)

    def turn(self, pool: int) -> int:
        """A pool's share of a round: one batch, or nothing while it rests from a lock that it ran into."""
        started = time.monotonic()
        self.release_kept(started)
        if started < self.rests.get(pool, 0.0):
            return 0
        try:
            return self.drain_once(pool)
        except (TransientError, OutageError) as error:
            if not _is_of_a_pool(error):
                raise
            # As long as it took, so that the other pools have half of the time.
            now = time.monotonic()
            rest = min(now - started, self.settings.claim_lease_seconds / 4)
            self.rests[pool] = now + rest * random.uniform(0.75, 1.25)  # noqa: S311
            log.info("pool %d is tried again later: %s", pool, error)
            return 0

    def drain_once(self, pool: int) -> int:
        """Claims and places one batch of a pool; gives how many orders it had, 0 when none wait."""
        claims = call(
            "api.claim_orders",
            pool,
            self.settings.place_batch,
            self.settings.claim_lease_seconds,
            0 if pool in self.from_zero else self.floors.get(pool, 0),
            self.settings.place_batch if pool in self.helps else 1,
            on=self.connection,
        )
        self.from_zero.discard(pool)
        if not claims:
            return 0
        claim = claims[0]
        self.read_to[pool] = max(self.read_to.get(pool, 0), claim["last_id"])
        if claim["claim_id"] is None:
            return 0
        if claim["orders"] >= self.settings.place_batch and pool not in self.helps:
            self.call_for_help()
        self.place(claim)
        self.look(pool, claim["orders"])
        return int(claim["orders"])

    def look(self, pool: int, orders: int) -> None:
        """Notes, as often as the database wants it, how much waits and how fast it goes: a pool may have a limit."""
        self.taken[pool] = self.taken.get(pool, 0) + orders
        now = time.monotonic()
        if now >= self.looks.get(pool, 0.0):
            taken, self.taken[pool] = self.taken[pool], 0
            pause = call_one("api.note_queue", pool, taken, self.read_to.get(pool, 0), on=self.connection)
            self.looks[pool] = now + pause

    def look_last(self) -> None:
        """Notes what was taken since the last looks: else a pool would seem slower than it is."""
        for pool, orders in self.taken.items():
            try:
                if orders:
                    call_one("api.note_queue", pool, orders, self.read_to.get(pool, 0), on=self.connection)
            except (TransientError, OutageError) as error:
                if not _is_of_a_pool(error):
                    raise
        self.taken.clear()

    def call_for_help(self) -> None:
        """Has one more drain started, at most twice a second; where that fails, no more in this run."""
        now = time.monotonic()
        if self.for_help is None or self.settings.drains == 1 or now - self.called_at < HELP_SECONDS:
            return
        self.called_at = now
        try:
            self.for_help()
        except OutageError as error:
            log.warning("no drain can be called for help: %s", error)
            self.for_help = None

    def place(self, claim: dict[str, Any]) -> None:
        """Places a claim, or gives it back: in halves when the orders are at fault, else uncounted; raises the latter.

        Nobody's orders become dead letters because of a lock, an outage or a broken deployment.
        """
        started = time.monotonic()
        try:
            outcomes = self.try_to_place(claim["claim_id"])
        except (PermanentError, BusinessError) as error:
            self.give_back(claim, error)
            return
        except OutageError as error:
            if error.sqlstate == QUERY_CANCELED and claim["orders"] > 1:
                # Perhaps it is only too much for one statement, and then always: halves are not counted either.
                self.give_back(claim, error)
            elif error.sqlstate == QUERY_CANCELED:
                self.keep(claim["claim_id"], started)
            elif error.sqlstate in MAY_BE_ITS_FAULT:
                self.unheard = claim["claim_id"]
            else:
                self.release(claim["claim_id"])
            raise
        except TransientError:
            self.keep(claim["claim_id"], started)
            raise
        except FaultError:
            self.release(claim["claim_id"])
            raise
        log_outcomes(outcomes)
        metrics.answered("orders.drain", outcomes, time.monotonic() - started, batch=True)
        placed = sum(outcome["status"] == "placed" for outcome in outcomes)
        self.placed += placed
        self.rejected += len(outcomes) - placed

    def try_to_place(self, claim_id: object) -> list[Any]:
        """The outcomes; after a deadlock or a lock timeout it is tried again, for a part of the claim's lease."""
        # The other pools wait meanwhile, and the last attempt must have ended, and be given back, within the lease.
        patience = self.settings.claim_lease_seconds / 2 - self.settings.lock_timeout_ms / 1000
        gives_up = time.monotonic() + min(patience, self.settings.lock_timeout_ms / 1000)
        for attempt in range(1, self.settings.retry_quick_attempts):
            try:
                return call("api.place_claim", claim_id, on=self.connection)
            except TransientError as error:
                if time.monotonic() > gives_up:
                    raise
                log.info("claim %s is tried again: %s", claim_id, error)
                metrics.retried(error)
                # Jitter from the first: the partner of a deadlock must not come back at the same moment.
                time.sleep(random.uniform(0.002, 0.02 * attempt))  # noqa: S311
        return call("api.place_claim", claim_id, on=self.connection)

    def give_back(self, claim: dict[str, Any], error: DatabaseError) -> None:
        """Gives a claim back in halves; an order alone, with one more attempt, or at its last as a dead letter."""
        self.returned += 1
        how = call(
            "api.return_claim",
            claim["claim_id"],
            self.settings.claim_attempts,
            "OM090",
            f"The database refuses this order: {error}",
            on=self.connection,
        )
        log.error("claim %s is %s: %s", claim["claim_id"], how[0], error)

    def take_back_unheard(self) -> None:
        """Gives back, on a new connection, the claim whose placing was not heard to its end, before its lease runs out.

        Placed meanwhile, it is gone. A backend that outlived the connection has the claim locked for as long as it
        places: that is waited for, and where it takes too long the claim is left to the sweep.
        """
        if self.unheard is None:
            return
        asked = (self.unheard, self.settings.claim_attempts, "OM090", UNHEARD)
        try:
            how = call_one("api.return_claim", *asked, patience=0)
        except DatabaseError as error:
            log.warning("claim %s is left to the sweep: %s", self.unheard, error)
            return
        self.returned += how != "gone"
        log.error("claim %s, whose placing ended with its session, is %s", self.unheard, how)

    def keep(self, claim_id: object, started: float) -> None:
        """Releases a claim in a while: longer than its pool rests, so that the orders behind it have a turn."""
        now = time.monotonic()
        within_its_lease = started + self.settings.claim_lease_seconds / 2
        self.kept[claim_id] = min(now + 2.5 * (now - started), within_its_lease)

    def release_kept(self, now: float) -> None:
        """Releases the claims whose time has come."""
        for claim_id in [claim_id for claim_id, at in self.kept.items() if at <= now]:
            del self.kept[claim_id]
            self.release(claim_id)

    def release(self, claim_id: object) -> None:
        """Gives a claim back as it was. Where that fails too, its lease runs out and the sweep has it."""
        self.released += 1
        try:
            # On a connection of its own: this one may be what is broken.
            call("api.release_claim", claim_id)
        except DatabaseError as error:
            log.warning("claim %s is left to the sweep: %s", claim_id, error)


def drain(
    settings: Settings,
    seconds: float,
    *,
    until_empty: bool = False,
    late: bool = False,
    for_help: Callable[[], None] | None = None,
) -> dict[str, int] | None:
    """Drains the pools that have a place for so many seconds, or only until they are empty; None when none has one.

    `for_help` starts one more drain, or raises OutageError; it is called when a whole batch waits.

    With `late` it drains, whoever has their locks, the pools whose oldest order has waited for `LATE_SECONDS`.

    An outage or a broken deployment ends it: the next drain, or the sweep, goes on from the claims.
    """
    started = _started(settings, seconds, until_empty, late, for_help)
    if started is None:
        return None
    run, stopped = started
    if stopped:
        log.error("the drain stops: %s", stopped)
        # A successor that finds no database would be the last of its chain.
        if _database_is_back(time.monotonic() + STOPPED_SECONDS, stopped):
            run.take_back_unheard()
    return {
        "pools": len(run.pools) - len(run.helps),
        "helped": len(run.helps),
        "placed": run.placed,
        "rejected": run.rejected,
        "returned": run.returned,
        "released": run.released,
    }


def _started(
    settings: Settings, seconds: float, until_empty: bool, late: bool, for_help: Callable[[], None] | None
) -> tuple[Drain, DatabaseError | None] | None:
    """A drain that has run, and what stopped it; None when no pool has a place, or it cannot be started."""
    gives_up = time.monotonic() + STOPPED_SECONDS
    while True:
        try:
            with lock_session() as connection:
                run = Drain(settings, connection, for_help)
                if not (run.take_late_pools() if late else run.take_pools()):
                    return None
                return run, _until_stopped(run, seconds, until_empty)
        except (TransientError, OutageError, FaultError) as error:
            log.error("no drain can start: %s", error)
            if not isinstance(error, OutageError) or not _database_is_back(gives_up, error):
                return None  # beat tries again


def _is_of_a_pool(error: DatabaseError) -> bool:
    """Whether it is a lock or a time limit that one pool ran into, and the database is there for the others."""
    return not isinstance(error, OutageError) or error.sqlstate == QUERY_CANCELED


def _database_is_back(gives_up: float, error: DatabaseError) -> bool:
    """Waits until PostgreSQL answers, and a moment in any case; false where it does not in that time."""
    pause = LOST_PAUSE if isinstance(error, OutageError) and error.sqlstate in MAY_BE_ITS_FAULT else STOPPED_PAUSE
    while time.monotonic() < gives_up:
        time.sleep(pause)
        if reachable():
            return True
    return False


def _until_stopped(run: Drain, seconds: float, until_empty: bool) -> DatabaseError | None:
    try:
        run.run(seconds, until_empty)
    except (OutageError, FaultError) as error:
        return error
    return None
