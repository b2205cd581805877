"""Workers killed on purpose, again and again, and a count of what became of each message: lost, doubled or decided.

`bench/losses.py` runs these rounds for people, also over the stock transport; `tests/faults/test_door_killed.py`
asserts on them.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from celery import Celery

from tests.nursery import Nursery, Seedling
from tests.shop import order
from tests.workers_fixtures import Mill
from workers.child import wait_until

SKU = "LOSSES"
QUEUES = ("orders", "orders\x06\x163", "orders\x06\x166", "orders\x06\x169")
DRAIN_SECONDS = 60.0
LATE_SECONDS = 3.0  # for what was on its way out of Redis when the queue was seen empty
Report = Callable[[str], None]


@dataclass(frozen=True)
class Tally:
    """What became of all messages; `lost` are keys without an outcome, `doubled` keys with more than one order."""

    way: str
    transport: str
    seed: int
    rounds: int
    published: int
    placed: int
    other: dict[str, int]
    lost: list[str]
    doubled: list[str]
    waiting: int
    findings: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether each message became one placed order, and nothing is left over."""
        return not (self.lost or self.doubled or self.other or self.waiting or self.findings)


class Publisher:
    """An application that sends orders of one unit, and knows the keys it has sent. It asks for results, as most do."""

    def __init__(self, mill: Mill) -> None:
        self.client = Celery("a-publisher", broker=mill.broker_url, set_as_current=False)
        self.requests: list[dict[str, Any]] = []
        self.began = time.monotonic()

    def send(self) -> None:
        request = order(None, (SKU, 1))
        self.client.send_task("orders.place", args=(request,), queue="orders")
        self.requests.append(request)  # not before: one that was not published cannot be lost

    @contextmanager
    def steadily(self, rate: float) -> Iterator[None]:
        """So many messages a second, from a thread, for the length of the block."""
        over = threading.Event()
        began = time.monotonic()

        def publish() -> None:
            while not over.wait(0.005):
                while len(self.requests) < (time.monotonic() - began) * rate:
                    self.send()

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def stop_rounds(mill: Mill, rounds: int, seed: int, report: Report = lambda _line: None) -> Tally:
    """SIGSTOP of an idle worker, some messages, SIGKILL, and another worker, so many times."""
    chance, publisher = random.Random(seed), Publisher(mill)
    opened(mill)
    with Nursery(mill) as nursery:
        worker = waiting_for_messages(mill, nursery.begin())
        for number in range(1, rounds + 1):
            worker.freeze()
            for _ in range(chance.randint(1, 3)):
                publisher.send()
            worker.kill()
            worker = waiting_for_messages(mill, nursery.begin())
            report(f"round {number} of {rounds}, {len(publisher.requests)} published")
        return tally(mill, "stop", publisher, rounds, seed)


def kill_rounds(mill: Mill, rounds: int, seed: int, rate: float = 200, report: Report = lambda _line: None) -> Tally:
    """kill -9 of one of two workers at a random moment under a steady rate, so many times; another stands ready."""
    chance, publisher = random.Random(seed), Publisher(mill)
    opened(mill)
    moment = threading.Event()  # never set: the moment is what chance says, and nothing is waited for
    with Nursery(mill) as nursery:
        workers = [worker.ready() for worker in [nursery.begin(), nursery.begin()]]
        with publisher.steadily(rate):
            for number in range(1, rounds + 1):
                workers.append(nursery.begin())
                moment.wait(chance.uniform(0.1, 1.0))
                workers.pop(chance.randrange(2)).kill()
                workers[-1].ready()
                report(f"round {number} of {rounds}, {len(publisher.requests)} published")
        return tally(mill, "kill", publisher, rounds, seed)


def opened(mill: Mill) -> None:
    """Stock enough for all, counted in one place."""
    if not mill.shop.level(SKU, "E1"):
        mill.shop.stock(SKU, "E1", 100_000_000)


def waiting_for_messages(mill: Mill, worker: Seedling) -> Seedling:
    """Comes back when this worker, the only one, waits in Redis for the next message."""
    worker.ready()
    database = str(mill.broker.connection_pool.connection_kwargs.get("db", 0))

    def blocked() -> bool:
        assert worker.alive(), f"the worker died: {worker.log}"
        return any(client["db"] == database and "b" in client["flags"] for client in mill.broker.client_list())

    assert wait_until(blocked, 30, 0.005), f"the worker does not wait for messages: {worker.log}"
    return worker


def left_in_redis(mill: Mill) -> int:
    """How many orders messages wait, or were taken and not acknowledged."""
    with mill.broker.pipeline() as look:  # in one look: what one gives back another may take
        for queue in QUEUES:
            look.llen(queue)
        return sum(look.hlen("orders.unacked").execute())


def tally(mill: Mill, way: str, publisher: Publisher, rounds: int, seed: int) -> Tally:
    """Waits until nothing is left in Redis, then counts."""
    wait_until(lambda: not left_in_redis(mill), DRAIN_SECONDS, 0.1)
    mill.all_decided(publisher.requests, LATE_SECONDS)
    publisher.client.close()
    keys = [request["key"] for request in publisher.requests]
    statuses = dict(
        mill.db.execute(
            "SELECT key, coalesce(answer->>'status', '') FROM shop.request_keys WHERE key = ANY(%s)", [keys]
        ).fetchall()
    )
    counts: dict[str, int] = {}
    for status in statuses.values():
        counts[status] = counts.get(status, 0) + 1
    return Tally(
        way=way,
        transport=mill.env.get("ORDERMILL_ORDERS_TRANSPORT", "batch"),
        seed=seed,
        rounds=rounds,
        published=len(keys),
        placed=counts.pop("placed", 0),
        other={status: count for status, count in counts.items() if status},
        lost=[key for key in keys if not statuses.get(key)],
        doubled=mill.shop.rows(
            "SELECT key FROM shop.orders WHERE key = ANY(%s) GROUP BY key HAVING count(*) > 1 ORDER BY key", keys
        ),
        waiting=left_in_redis(mill),
        findings=[str(found) for found in mill.shop.verify()],
        seconds=time.monotonic() - publisher.began,
    )
