"""Empties the queue behind the SQL door: claims in one transaction, places in the next.

One drain a pool at a time, by a session advisory lock, only for the queue's order: exactly-once rests on the claim.
"""

import time
from dataclasses import dataclass, field

from celery.utils.log import get_task_logger
from sqlalchemy.engine import Connection

from workers.database import call, session
from workers.errors import BusinessError, FaultError, OutageError, PermanentError, TransientError
from workers.settings import Settings

log = get_task_logger(__name__)

LOCK_CLASS = 0x4F4D  # "OM": the first half of the advisory lock's key; the second is the pool's id
# Polled each 5 ms for 2 s after a find, so that a busy shop waits for nothing, then each 100 ms.
BUSY_SECONDS, BUSY_PAUSE, IDLE_PAUSE = 2.0, 0.005, 0.1
# The floor spares the index the dead rows of placed orders; a transaction that commits late may be below it.
FLOOR_SECONDS = 1.0


@dataclass
class Drain:
    """One run over the pools that no other drain has; counts what it did."""

    settings: Settings
    connection: Connection
    pools: list[int] = field(default_factory=list)
    placed: int = 0
    rejected: int = 0
    returned: int = 0
    floors: dict[int, int] = field(default_factory=dict)

    def take_pools(self) -> bool:
        """Locks the pools that are free; false when other drains have them all."""
        rows = self.connection.exec_driver_sql(
            "SELECT id FROM api.pools WHERE pg_try_advisory_lock(%s, id)", (LOCK_CLASS,)
        )
        self.pools = [row[0] for row in rows]
        return bool(self.pools)

    def run(self, seconds: float) -> None:
        """Polls for so many seconds; with 0, until nothing is waiting."""
        now = time.monotonic()
        ends, found_at, floored_at = now + seconds, now, now
        while True:
            found = sum(self.drain_once(pool) for pool in self.pools)
            now = time.monotonic()
            if now >= ends and (seconds > 0 or not found):
                return
            if found:
                found_at = now
            if now - floored_at > FLOOR_SECONDS:
                self.floors.clear()
                floored_at = now
            if not found:
                time.sleep(BUSY_PAUSE if now - found_at < BUSY_SECONDS else IDLE_PAUSE)

    def drain_once(self, pool: int) -> int:
        """Claims and places one batch of a pool; gives how many orders it had, 0 when none wait."""
        claims = call(
            "api.claim_orders",
            pool,
            self.settings.place_batch,
            self.settings.claim_lease_seconds,
            self.floors.get(pool, 0),
            on=self.connection,
        )
        if not claims:
            return 0
        claim = claims[0]
        self.floors[pool] = max(self.floors.get(pool, 0), claim["last_id"])
        self.place(claim["claim_id"])
        return int(claim["orders"])

    def place(self, claim_id: object) -> None:
        """Places a claim; after a deadlock again; gives it back, for halves, when no retry can mend the error."""
        for _ in range(self.settings.retry_quick_attempts):
            try:
                outcomes = call("api.place_claim", claim_id, on=self.connection)
            except TransientError as error:
                log.info("claim %s is tried again: %s", claim_id, error)
                continue
            except FaultError:
                # Not these orders' fault, so not an attempt of theirs: they wait for the deployment to be mended.
                call("api.release_claim", claim_id, on=self.connection)
                raise
            except (PermanentError, BusinessError) as error:
                self.returned += 1
                how = call(
                    "api.return_claim",
                    claim_id,
                    self.settings.claim_attempts,
                    "OM090",
                    f"The database refuses this order: {error}",
                    on=self.connection,
                )
                log.error("claim %s is %s: %s", claim_id, how[0], error)
                return
            placed = sum(outcome["status"] == "placed" for outcome in outcomes)
            self.placed += placed
            self.rejected += len(outcomes) - placed
            return
        log.warning("claim %s is left to the sweep after %d attempts", claim_id, self.settings.retry_quick_attempts)


def drain(settings: Settings, seconds: float) -> dict[str, int] | None:
    """Drains the pools that are free for so many seconds (0: until they are empty); None when none is free.

    An outage or a broken deployment ends it: the next drain, or the sweep, goes on from the claims.
    """
    with session() as connection:
        connection.detach()  # the locks go with this connection, whatever happens
        run = Drain(settings, connection)
        if not run.take_pools():
            return None
        try:
            run.run(seconds)
        except (OutageError, FaultError) as error:
            log.error("the drain stops: %s", error)
        return {"pools": len(run.pools), "placed": run.placed, "rejected": run.rejected, "returned": run.returned}
