"""Submits the baskets in time order through both doors, some twice, and waits for each outcome.

A closed loop: a door that has its share of undecided orders is not given more, so the time from submit to outcome is
what an order costs and not how long a queue the demo chose to build.
"""

import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import redis

from workers.demo.baskets import Basket
from workers.demo.doors import CELERY, SQL, CeleryDoor, Request, SqlDoor
from workers.demo.tally import Tally

CHUNK = 25
# One round of chunks: half of the orders through each door, mostly the way most applications would.
ROUND = ("place", "submit_orders", "place", "submit_orders", "place", "submit_orders", "place_many", "submit_order")
DOOR_OF = {"place": CELERY, "place_many": CELERY, "submit_orders": SQL, "submit_order": SQL}
LIMITS = {CELERY: 100, SQL: 100}
POLL_SECONDS = 0.05
DEPTH_SECONDS = 0.5
STALL_SECONDS = 60.0
SENT_TWICE = 50  # one of so many: 2 %
LATE_CHUNKS = 12
WATCHED = 20

DECIDED = """SELECT key, status, decided_at, answer->>'code' FROM shop.request_keys
WHERE key = ANY(%s) AND status <> 'pending'"""


class NotDecided(Exception):
    """Keys that have no outcome although nothing has moved for a minute."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = list(keys)
        shown = ", ".join(self.keys[:5])
        super().__init__(
            f"{len(self.keys)} orders have no outcome after {STALL_SECONDS:.0f} s without progress, first {shown}. "
            "Look into the workers' logs and at shop.order_queue, shop.claims and the Redis list `orders`."
        )


class Submitter:
    """One process that submits and watches; `refresh` is called a few times a second."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        broker: redis.Redis,
        doors: tuple[CeleryDoor, SqlDoor],
        tally: Tally,
        refresh: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._broker = broker
        self._celery, self._sql = doors
        self._tally = tally
        self._refresh = refresh
        self._clock_ahead = self._measure_clock()
        self._next_poll = self._next_depth = 0.0
        self._last_progress = time.monotonic()
        self._again: deque[tuple[int, str, Request]] = deque()

    def run(self, baskets: Sequence[Basket], run: str) -> None:
        """Submit every basket once and some twice, then wait for all outcomes; raises NotDecided."""
        watched = max(1, len(baskets) // WATCHED)
        for number, (kind, chunk) in enumerate(plan(baskets)):
            door = DOOR_OF[kind]
            while self._tally.waiting(door) > LIMITS[door] - len(chunk):
                self._wait()
            requests = [basket.request(run) for basket in chunk]
            self._submit(kind, requests, watch=number * CHUNK % watched < CHUNK)
            for basket, request in zip(chunk, requests, strict=True):
                self._plan_again(number, basket, door, request)
            self._send_again(number)
            self._poll()
        self._send_again(None)
        while self._tally.in_flight:
            self._wait()
        self._refresh()

    def _submit(self, kind: str, requests: list[Request], *, watch: bool) -> None:
        keys = [request["key"] for request in requests]
        if kind in {"place_many", "submit_orders"}:
            self._tally.sent(DOOR_OF[kind], keys, self._now())
            (self._celery if kind == "place_many" else self._sql).many(requests)
            return
        for index, request in enumerate(requests):
            self._tally.sent(DOOR_OF[kind], [request["key"]], self._now())
            if kind == "place":
                self._celery.one(request, watch=watch and index == 0)
            else:
                self._sql.one(request)

    def _plan_again(self, number: int, basket: Basket, door: str, request: Request) -> None:
        luck = zlib.crc32(str(basket.basket_id).encode())
        if luck % SENT_TWICE:
            return
        same_door, at_once = luck & 256, luck & 512
        other = SQL if door == CELERY else CELERY
        self._again.append((number + (0 if at_once else LATE_CHUNKS), door if same_door else other, request))

    def _send_again(self, number: int | None) -> None:
        """Send the second copies that are due: some at once, while the first is undecided, some later."""
        due = [entry for entry in self._again if number is None or entry[0] <= number]
        for entry in due:
            self._again.remove(entry)
            _, door, request = entry
            if door == CELERY:
                self._celery.one(request)
            else:
                self._sql.again(request)
            self._tally.duplicates += 1

    def _wait(self) -> None:
        pause = self._next_poll - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        self._poll()
        if time.monotonic() - self._last_progress > STALL_SECONDS:
            raise NotDecided(list(self._tally.in_flight))

    def _poll(self) -> None:
        now = time.monotonic()
        if now < self._next_poll:
            return
        decided = self._connection.execute(DECIDED, [list(self._tally.in_flight)]).fetchall()
        for key, status, decided_at, code in decided:
            self._tally.outcome(key, status, code, decided_at)
        if decided:
            self._last_progress = now
        if now >= self._next_depth:
            self._measure_depth()
            self._next_depth = now + DEPTH_SECONDS
        self._refresh()
        self._next_poll = time.monotonic() + POLL_SECONDS

    def _measure_depth(self) -> None:
        self._tally.redis_depth = int(self._broker.llen("orders"))
        row = self._connection.execute("SELECT count(*) FROM shop.order_queue").fetchone()
        self._tally.sql_depth = row[0] if row else 0

    def _measure_clock(self) -> float:
        """Seconds by which the database's clock, which times decisions, is ahead of ours, which times submissions."""
        before = time.time()
        row = self._connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
        return (row[0] if row else before) - (before + time.time()) / 2

    def _now(self) -> float:
        return time.time() + self._clock_ahead


def plan(baskets: Sequence[Basket]) -> Iterator[tuple[str, Sequence[Basket]]]:
    """The baskets in time order, in chunks, each with the way it is sent."""
    for number, start in enumerate(range(0, len(baskets), CHUNK)):
        yield ROUND[number % len(ROUND)], baskets[start : start + CHUNK]
