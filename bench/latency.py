"""Open-loop latency: orders sent at the moments of a schedule, and when each was committed.

It counts from the *scheduled* moment, so a producer or a door that is late counts as latency. Committed is an order in
the first snapshot that shows it: a watcher in the server notes one each half a millisecond, so a figure is up to about
so much too long and never too short. (`track_commit_timestamp` notes a moment before the commit's fsync.)
"""

import bisect
import random
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from bench.block import Block, figures
from bench.measuring import cpu_seconds
from bench.produced import Producer
from workers.database import connect

LATE, DECIDED = 0.1, 5.0  # seconds: sent or decided later than this, an order is a drop
WATCH_SECONDS, WATCH_PAUSE = 0.5, 0.0005
# A procedure that commits: it holds no snapshot, so that it is in no vacuum's way.
WATCHER = """
    CREATE PROCEDURE pg_temp.watch(p_seconds float8, p_pause float8, INOUT p_seen text[])
    LANGUAGE plpgsql AS $$
    DECLARE
        v_ends timestamptz := clock_timestamp() + make_interval(secs => p_seconds);
        v_last text;
        v_now text;
    BEGIN
        p_seen := '{}';
        WHILE clock_timestamp() < v_ends LOOP
            v_now := pg_current_snapshot();
            IF v_now IS DISTINCT FROM v_last THEN
                p_seen := p_seen || (extract(epoch FROM clock_timestamp()) || ' ' || v_now);
                v_last := v_now;
            END IF;
            COMMIT;
            PERFORM pg_sleep(p_pause);
        END LOOP;
    END
    $$"""


def schedule(rate: float, orders: int, seed: int) -> list[float]:
    """Seconds from the start at which to send: as independent customers come, so many a second on average (Poisson)."""
    moments, now = random.Random(seed), 0.0  # noqa: S311
    due = []
    for _ in range(orders):
        now += moments.expovariate(rate)
        due.append(now)
    return due


def percentile(ordered: Sequence[float], share: float) -> float:
    """The least value that at least this share of a sorted list does not exceed."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def drops(due: Sequence[float], began: Sequence[float], latencies: Sequence[float]) -> int:
    """How many orders were sent too late, or decided too late."""
    return sum(
        sent - wanted > LATE or latency > DECIDED for wanted, sent, latency in zip(due, began, latencies, strict=True)
    )


@dataclass(frozen=True)
class Snapshot:
    """What was committed at a moment; transactions are compared by their last 32 bits, as rows have them."""

    at: float
    first: int
    end: int
    running: frozenset[int]

    @classmethod
    def of(cls, text: str) -> Self:
        """From `<epoch> <xmin>:<xmax>:<running>`."""
        at, _, shown = text.partition(" ")
        first, end, running = shown.split(":")
        return cls(float(at), int(first), int(end), frozenset(int(each) for each in running.split(",") if each))

    def shows(self, transaction: int) -> bool:
        """Whether the transaction had committed."""
        return transaction < self.first or (transaction < self.end and transaction not in self.running)


def first_seen(snapshots: Sequence[Snapshot], transactions: Iterable[int]) -> dict[int, float]:
    """The moment of the first snapshot that shows each transaction; infinite where none does."""
    found = {}
    for each in set(transactions):
        place = bisect.bisect_left(snapshots, True, key=lambda snapshot, each=each: snapshot.shows(each))  # type: ignore[misc]
        found[each] = snapshots[place].at if place < len(snapshots) else float("inf")
    return found


@dataclass
class Watcher:
    """Notes snapshots for the length of a `with` block, on a connection of its own."""

    url: str
    snapshots: list[Snapshot] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _error: Exception | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._error and error is None:
            raise self._error

    def _watch(self) -> None:
        try:
            with connect(self.url) as db:
                db.execute(WATCHER)
                while not self._ended.is_set():
                    row = db.execute("CALL pg_temp.watch(%s, %s, NULL)", [WATCH_SECONDS, WATCH_PAUSE]).fetchone()
                    self.snapshots += map(Snapshot.of, row[0] if row else ())
        except Exception as error:  # told where the block is left
            self._error = error


def measured(
    block: Block, door: str, orders: list[dict[str, Any]], due: list[float] | None
) -> tuple[dict[str, Any], list[float]]:
    """Sends these orders, as quickly as may be without a schedule; gives what it cost and the latencies in seconds."""
    producer = Producer.of(block, door, orders, due=due)
    roots = block.rig.server_pids() | {role: block.pids(role) for role in block.children}
    with Watcher(block.url) as watcher:
        time.sleep(WATCH_SECONDS / 2)  # until it notes
        before = cpu_seconds(roots)
        block.sent += len(orders)
        block.held["messages"] = block.held.get("messages", 0) + len(orders)
        done = producer.begin()
        block.side.wait(block, len(orders))
        after = cpu_seconds(roots)
        time.sleep(WATCH_SECONDS / 10)  # the last one is shown
    rows = block.db.execute(
        "SELECT key, xmin::text::bigint FROM shop.request_keys WHERE key = ANY(%s) AND answer IS NOT NULL",
        [[order["key"] for order in orders]],
    ).fetchall()
    seen, by_key = first_seen(watcher.snapshots, (row[1] for row in rows)), dict(rows)
    wanted = due or [0.0] * len(orders)
    latencies = [
        # One that is undecided has no end: the side's check says so.
        seen.get(by_key.get(order["key"], -1), float("inf")) - done["start"] - moment
        for order, moment in zip(orders, wanted, strict=True)
    ]
    cpu = {name: after[name] - before[name] for name in roots}
    last = max(moment + latency for moment, latency in zip(wanted, latencies, strict=True))
    return figures(cpu, last, len(orders)) | {
        "drops": drops(wanted, done["began_at"], latencies),
        "sent_ms": [1000 * (at - moment) for at, moment in zip(done["returned_at"], wanted, strict=True)],
    }, latencies


def described(cost: dict[str, Any], latencies: Sequence[float]) -> dict[str, Any]:
    """One run's percentiles in milliseconds, `sent_…` to the producer's own call's return, with what it cost."""
    found, sent = sorted(1000 * each for each in latencies), sorted(cost["sent_ms"])
    return {
        "p50_ms": round(percentile(found, 0.5), 2),
        "p95_ms": round(percentile(found, 0.95), 2),
        "p99_ms": round(percentile(found, 0.99), 2),
        "max_ms": round(found[-1], 2),
        "sent_p50_ms": round(percentile(sent, 0.5), 2),
        "sent_p99_ms": round(percentile(sent, 0.99), 2),
    } | {name: cost[name] for name in ("rate", "orders", "drops", "cpu_ms", "event_consumer_cpu_ms")}
