"""The Celery door, and stock Celery beside it: the same messages to the same queue, events on and consumed on both."""

import contextlib
import secrets
import time
from dataclasses import dataclass
from typing import Any

import redis
from celery import Celery

from bench.block import Block
from bench.peers.celery_events import read_counts
from bench.sides import Side
from workers.child import wait_until

QUEUE, STEPS = "orders", ("", "\x06\x163", "\x06\x166", "\x06\x169")
UNACKNOWLEDGED = ("unacked", "orders.unacked")
PRELOAD_DATABASE = 5
NOOP, PLACE, PLACE_MANY = "bench.noop", "orders.place", "orders.place_many"
DRAIN_SECONDS = 900
OURS_APP, STOCK_APP = "bench.peers.ours_app", "bench.peers.celery_app"


@dataclass(frozen=True)
class CelerySide(Side):
    """`workers` solo processes, or one prefork worker with so many; `batch_publish`: by kombu's `Producer.batch()`."""

    app: str = OURS_APP
    workers: int = 1
    pool: str = "solo"
    prefetch: int = 100
    batch_publish: bool = True
    ignore_result: bool = False
    many: int = 1  # orders a message
    env: tuple[tuple[str, str], ...] = ()  # further settings of the workers

    @property
    def setting(self) -> str:
        """Workers, pool, prefetch."""
        many = f", {self.many} orders a message" if self.many > 1 else ""
        return f"{self.workers} {self.pool}, prefetch {self.prefetch}{many}"

    def start(self, block: Block) -> None:
        """Starts the consumer of events and the workers; ready when each was heard by the consumer."""
        counts = block.rig.home / "events.json"
        counts.unlink(missing_ok=True)
        # No result backend: with one, Celery's client subscribes to each task's result, on both sides alike.
        client = Celery("a-shop", broker=block.broker, set_as_current=False)
        block.held |= {"client": client, "counts": counts}
        block.child("events", "events", str(counts), "bench.peers.celery_events", block.broker, str(counts))
        processes = self.workers if self.pool == "solo" else 1
        for number in range(processes):
            self._worker(block, f"{self.name.replace(' ', '-')}{number}")
        block.wait_ready("ready.")
        if not wait_until(lambda: self.events(block).get("worker-heartbeat", 0) >= processes, 60, 0.05):
            raise RuntimeError("the consumer of events does not hear the workers")

    def _worker(self, block: Block, name: str) -> None:
        node = f"{name}-{secrets.token_hex(3)}@bench"
        options = ["-Q", QUEUE, "-n", node, "-P", self.pool, "-E", "--loglevel=WARNING"]
        options += ["--without-gossip", "--without-mingle"]
        concurrency = self.workers if self.pool == "prefork" else 1
        if self.pool == "prefork":
            options += ["-c", str(self.workers)]
        if self.app == STOCK_APP:
            options.append(f"--prefetch-multiplier={max(1, self.prefetch // concurrency)}")
        transport = "batch" if self.app == OURS_APP else "stock"
        env = {"ORDERMILL_ORDERS_TRANSPORT": transport, "ORDERMILL_ORDERS_PREFETCH": str(self.prefetch)}
        env |= dict(self.env)
        # Each as its own documents start it.
        module = (
            ("workers.entry", "worker", "-A", self.app)
            if self.app == OURS_APP
            else ("celery", "-A", self.app, "worker")
        )
        block.child("worker", name, node, *module, *options, env=env)

    def submit(self, block: Block, orders: list[dict[str, Any]]) -> None:
        """Publishes one message an order, or one for each so many."""
        if self.many > 1:
            bundles = [[orders[at : at + self.many]] for at in range(0, len(orders), self.many)]
            self.publish(block, PLACE_MANY, bundles)
        else:
            self.publish(block, PLACE, [[order] for order in orders])

    def publish(self, block: Block, task: str, messages: list[list[Any]], client: Celery | None = None) -> None:
        """Sends one message for each of these arguments, one by one or in kombu's batches."""
        client = client or block.held["client"]
        options = {"queue": QUEUE, "ignore_result": self.ignore_result or task == NOOP}
        block.held["messages"] = block.held.get("messages", 0) + len(messages)
        with (
            client.producer_pool.acquire(block=True) as producer,
            producer.batch() if self.batch_publish else contextlib.nullcontext(),
        ):
            for arguments in messages:
                client.send_task(task, args=arguments, producer=producer, **options)

    def wait(self, block: Block, orders: int) -> float:
        """Waits until no message waits or is unacknowledged, twice in a row; gives the moment of the first time."""
        deadline, since = time.monotonic() + DRAIN_SECONDS, None
        while True:
            block.check_children()
            with block.rig.redis.pipeline(transaction=False) as asked:
                for step in STEPS:
                    asked.llen(f"{QUEUE}{step}")
                for key in UNACKNOWLEDGED:
                    asked.hlen(key)
                left = sum(asked.execute())
            now = time.monotonic()
            if not left and since is not None:
                return since
            since = None if left else now
            if now > deadline:
                raise RuntimeError(f"{self.name}: {left} messages are left after {DRAIN_SECONDS} s")
            time.sleep(0.02)

    def check(self, block: Block) -> None:
        """Also: each message had its events."""
        super().check(block)
        self.check_events(block)

    def events(self, block: Block) -> dict[str, int]:
        """How many events of each type the consumer had."""
        return read_counts(block.held["counts"])

    def check_events(self, block: Block) -> None:
        """Raises unless each message was received, started and succeeded in the eyes of a consumer of events."""
        sent, wanted = block.held["messages"], ("task-received", "task-started", "task-succeeded")
        if not wait_until(lambda: all(self.events(block).get(name, 0) >= sent for name in wanted), 30, 0.1):
            raise RuntimeError(f"{self.name}: of {sent} messages the consumer saw {self.events(block)}")

    def stop(self, block: Block) -> None:
        """Closes the client's connections."""
        if "client" in block.held:
            block.held["client"].close()


@dataclass(frozen=True)
class NoopSide(CelerySide):
    """Tasks that do nothing: published to another Redis database before, and moved to the workers in one step."""

    def submit(self, block: Block, orders: list[dict[str, Any]]) -> None:
        """Moves what `load` published, or publishes (the warm-up)."""
        if "preloaded" in block.held:
            block.held.pop("preloaded")
            with redis.Redis.from_url(preload_url(block)) as client:
                if not client.move(QUEUE, 0):
                    raise RuntimeError("the queue was not empty")
        else:
            self.publish(block, NOOP, [[number] for number in range(len(orders))])

    def prepare(self, block: Block, orders: list[dict[str, Any]]) -> None:
        """Publishes them where no worker looks."""
        with Celery("a-shop", broker=preload_url(block), set_as_current=False) as client:
            self.publish(block, NOOP, [[number] for number in range(len(orders))], client)
        block.held["preloaded"] = True

    def check(self, block: Block) -> None:
        """Raises unless the workers say that they ran as many messages as were sent, and events say so too."""
        inspect = block.held["client"].control.inspect(timeout=20, limit=len(block.children["worker"]))
        answers: dict[str, Any] = inspect.stats() or {}
        ran = sum(answer["total"].get(NOOP, 0) for answer in answers.values())
        if ran != block.held["messages"]:
            raise RuntimeError(f"{self.name}: {block.held['messages']} messages sent, {ran} run")
        self.check_events(block)


def preload_url(block: Block) -> str:
    """A database of the same Redis that no worker reads."""
    return f"{block.broker.removesuffix('/0')}/{PRELOAD_DATABASE}"


OURS = CelerySide("Ordermill, Celery door")
STOCK = CelerySide("stock Celery", app=STOCK_APP, workers=4, pool="prefork", prefetch=16)
OURS_NOOP = NoopSide("Ordermill")
STOCK_NOOP = NoopSide("stock Celery", app=STOCK_APP, prefetch=64)
