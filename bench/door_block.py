"""One side of `celery_door.py` at work for one block: a fresh shop, an emptied Redis, new workers, an event consumer.

CPU is read from /proc before the first message and after the last one is acknowledged. A block after which the shop
does not verify, or in which a message was not run, raises and so has no figure.
"""

import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from celery import Celery
from psycopg.sql import SQL, Identifier
from sqlalchemy import make_url

from bench.door_events import read_counts
from bench.measuring import cpu_seconds, rss_mb
from bench.orders import CATALOG, Orders
from workers.child import Child, wait_until
from workers.database import connect
from workers.embedded import Servers
from workers.migrate import migrate

QUEUE, STEPS = "orders", ("", "\x06\x163", "\x06\x166", "\x06\x169")
UNACKNOWLEDGED = ("unacked", "orders.unacked")
PRELOAD_DATABASE = 5
NOOP, PLACE = "bench.noop", "orders.place"
READY_SECONDS, DRAIN_SECONDS, WARM_UP = 60, 900, 200
OURS_APP, STOCK_APP = "bench.door_app", "bench.stock_app"


@dataclass(frozen=True)
class Side:
    """Who works, and how it is set: `workers` solo processes, or one prefork worker with so many."""

    name: str
    app: str
    workers: int = 1
    pool: str = "solo"
    prefetch: int = 100
    batch_publish: bool = True
    ignore_result: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.workers} {self.pool}, prefetch {self.prefetch})"

    def tuned(self, **changes: Any) -> "Side":
        """The same side, set otherwise."""
        return replace(self, **changes)


OURS = Side("ours", OURS_APP)
STOCK = Side("stock", STOCK_APP, prefetch=16)


class Rig:
    """The servers of a run and a template of the shop; for the length of a `with` block."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.servers = Servers(home)
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        self._closing.enter_context(self.servers)
        self.admin = self._closing.enter_context(connect(self.servers.database_url))
        self.redis = self._closing.enter_context(redis.Redis.from_url(self.servers.redis_url))
        self.template = self.create("bench_template", "template0")
        migrate(self.template)
        with connect(self.template) as session:
            session.execute(CATALOG.encode())
            session.execute("ANALYZE")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def create(self, name: str, template: str = "bench_template") -> str:
        """A new database; gives its address."""
        self.admin.execute(
            SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(Identifier(name), Identifier(template))
        )
        return make_url(self.servers.database_url).set(database=name).render_as_string(hide_password=False)

    def drop(self, name: str) -> None:
        """Drops a database with whoever is in it."""
        self.admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))

    def server_pids(self) -> dict[str, list[int]]:
        """The servers' processes, by component."""
        servers = {"postgres": self.servers.postgres, "redis": self.servers.valkey}
        return {name: [server.pid] for name, server in servers.items() if server and server.pid}

    def facts(self) -> dict[str, str]:
        """What the servers are and that they are durable."""
        names = ("server_version", "fsync", "synchronous_commit", "full_page_writes")
        values = {f"postgres_{name}": str(self.admin.execute(f"SHOW {name}".encode()).fetchone()[0]) for name in names}  # type: ignore[index]
        answer: Any = self.redis.info("server")
        return values | {"redis": f"{answer.get('server_name', 'redis')} {answer.get('valkey_version', '')}".strip()}


class Block:
    """A side that is ready, warmed up and idle, over a shop of its own."""

    def __init__(self, rig: Rig, side: Side, url: str, task: str) -> None:
        self.rig, self.side, self.url, self.task = rig, side, url, task
        self.broker = rig.servers.redis_url
        self.client = Celery("a-shop", broker=self.broker, set_as_current=False)
        self.preload_url = f"{self.broker.rpartition('/')[0]}/{PRELOAD_DATABASE}"
        self.preload = Celery("a-shop", broker=self.preload_url, set_as_current=False)
        self.db = connect(url)
        self.workers: list[Child] = []
        self.consumer: Child | None = None
        self.counts = rig.home / "events.json"
        self.sent = 0

    # Processes

    def start(self) -> None:
        """Starts the consumer and the workers, and waits until all are ready and each was heard by the consumer."""
        self.counts.unlink(missing_ok=True)
        self.consumer = self._child("events", str(self.counts), "bench.door_events", self.broker, str(self.counts))
        processes = self.side.workers if self.side.pool == "solo" else 1
        for number in range(processes):
            self.workers.append(self._worker(f"{self.side.name}{number}"))

        def ready() -> bool:
            for child in (*self.workers, self.consumer):
                if child:
                    child.check()
            return all("ready." in child.log.read_text(errors="replace") for child in self.workers) and (
                self.events().get("worker-heartbeat", 0) >= processes
            )

        if not wait_until(ready, READY_SECONDS, 0.05):
            raise RuntimeError(f"{self.side} is not ready:\n" + "\n".join(self.workers[0].last_lines(20)))

    def _worker(self, name: str) -> Child:
        node = f"{name}-{secrets.token_hex(3)}@bench"
        options = ["-Q", QUEUE, "-n", node, "-P", self.side.pool, "-E", "--loglevel=WARNING"]
        options += ["--without-gossip", "--without-mingle"]
        if self.side.pool == "prefork":
            options += ["-c", str(self.side.workers)]
        if self.side.app == STOCK_APP:
            options.append(f"--prefetch-multiplier={max(1, self.side.prefetch // self._concurrency())}")
        return self._child(name, node, "celery", "-A", self.side.app, "worker", *options)

    def _concurrency(self) -> int:
        return self.side.workers if self.side.pool == "prefork" else 1

    def _child(self, name: str, mark: str, *module: str) -> Child:
        ours = ("DATABASE_URL", "REDIS_URL", "CELERY_", "ORDERMILL_", "FLOWER_")
        env = {key: value for key, value in os.environ.items() if not key.startswith(ours)} | {
            "DATABASE_URL": self.url,
            "REDIS_URL": self.broker,
            "CELERY_BROKER_URL": self.broker,
            "ORDERMILL_HOME": str(self.rig.home),
            "ORDERMILL_ORDERS_TRANSPORT": "batch" if self.side.app == OURS_APP else "stock",
            "ORDERMILL_ORDERS_PREFETCH": str(self.side.prefetch),
        }
        unique = f"bench-{name}-{secrets.token_hex(3)}"
        log, pid_file = self.rig.home / "logs" / f"{unique}.log", self.rig.home / "run" / f"{unique}.pid"
        child = Child(unique, [sys.executable, "-m", *module], mark, log, pid_file, env, Path(__file__).parent.parent)
        child.start()
        return child

    def close(self) -> None:
        """Ends what was started here."""
        for child in (*self.workers, self.consumer):
            if child:
                child.ask()
        for child in (*self.workers, self.consumer):
            if child:
                child.stop(5)
        for app in (self.client, self.preload):
            app.close()
        self.db.close()

    # Messages

    def publish(self, client: Celery, messages: list[list[Any]], batch: bool) -> None:
        """Sends one message for each of these arguments, one by one or in kombu's batches."""
        options = {"queue": QUEUE, "ignore_result": self.side.ignore_result or self.task == NOOP}
        self.sent += len(messages)
        with client.producer_pool.acquire(block=True) as producer:
            if not batch:
                for arguments in messages:
                    client.send_task(self.task, args=arguments, producer=producer, **options)
                return
            with producer.batch():
                for arguments in messages:
                    client.send_task(self.task, args=arguments, producer=producer, **options)

    def wait_done(self) -> float:
        """Waits until no message waits or is unacknowledged, twice in a row; gives the moment of the first time."""
        deadline, since = time.monotonic() + DRAIN_SECONDS, None
        while True:
            for child in self.workers:
                child.check()
            with self.rig.redis.pipeline(transaction=False) as asked:
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
                raise RuntimeError(f"{self.side}: {left} messages are left after {DRAIN_SECONDS} s")
            time.sleep(0.02)

    def warm_up(self, messages: list[list[Any]]) -> None:
        """Sends these and waits until they are done."""
        self.publish(self.client, messages, self.side.batch_publish)
        self.wait_done()

    def run(self, messages: list[list[Any]], *, preloaded: bool) -> dict[str, Any]:
        """Sends these, waits until they are done, and gives what it cost.

        Preloaded, they are published to another Redis database before, by `Producer.batch()`, and moved from there
        to the workers in one step.
        """
        roots = self.rig.server_pids() | {"worker": pids(self.workers), "events": pids([self.consumer])}
        if preloaded:
            self.publish(self.preload, messages, batch=True)
        before, began, own = cpu_seconds(roots), time.monotonic(), time.process_time()
        if preloaded:
            self._move_preloaded()
        else:
            self.publish(self.client, messages, self.side.batch_publish)
        own = time.process_time() - own
        seconds = self.wait_done() - began
        after = cpu_seconds(roots)
        cpu = {name: after[name] - before[name] for name in roots} | {"producer": 0.0 if preloaded else own}
        return figures(cpu, seconds, len(messages)) | {"events_seen": self.check_events()}

    def _move_preloaded(self) -> None:
        with redis.Redis.from_url(self.preload_url) as client:
            if not client.move(QUEUE, 0):
                raise RuntimeError("the queue was not empty")

    # Checks

    def events(self) -> dict[str, int]:
        """How many events of each type the consumer had."""
        return read_counts(self.counts)

    def check_events(self) -> dict[str, float]:
        """How many events of each type came a message, once the consumer has caught up."""
        wait_until(lambda: self.events().get("task-succeeded", 0) >= self.sent, 30, 0.1)
        return {name: round(count / self.sent, 3) for name, count in self.events().items() if name.startswith("task-")}

    def check_ran(self) -> None:
        """Raises unless the workers say that they ran as many messages as were sent."""
        answers: dict[str, Any] = self.client.control.inspect(timeout=20, limit=len(self.workers)).stats() or {}
        ran = sum(answer["total"].get(self.task, 0) for answer in answers.values())
        if ran != self.sent:
            raise RuntimeError(f"{self.side}: {self.sent} messages sent, {ran} run")

    def check_shop(self) -> None:
        """Raises unless each order was placed and the shop verifies."""
        placed = self.db.execute(
            "SELECT count(*) FROM shop.request_keys WHERE answer ->> 'status' = 'placed'"
        ).fetchone()
        found = self.db.execute("SELECT * FROM api.verify()").fetchall()
        if placed != (self.sent,) or found:
            raise RuntimeError(f"{self.side}: {self.sent} orders sent, {placed} placed; verify: {found}")

    def rss(self) -> float:
        """The resident memory of the largest worker, in MiB."""
        return max(rss_mb(pid) for pid in pids(self.workers))


def pids(children: list[Child] | list[Child | None]) -> list[int]:
    """The processes of these children."""
    return [child.process.pid for child in children if child and child.process]


def figures(cpu: dict[str, float], seconds: float, messages: int) -> dict[str, Any]:
    """Milliseconds of CPU a message by component, their total without the event consumer, and messages a second."""
    each = {name: round(1000 * spent / messages, 4) for name, spent in cpu.items()}
    watcher = each.pop("events")
    total = round(sum(each.values()), 4)
    return {
        "cpu_ms": each | {"total": total},
        "event_consumer_cpu_ms": watcher,
        "rate": round(messages / seconds, 1),
        "seconds": round(seconds, 3),
        "messages": messages,
    }


@contextmanager
def at_work(rig: Rig, side: Side, task: str) -> Iterator[Block]:
    """A warmed-up block of this side; afterwards nothing of it is left."""
    rig.redis.flushall()
    name = f"bench_{secrets.token_hex(4)}"
    url = rig.create(name)
    try:
        rig.admin.execute("CHECKPOINT")
        block = Block(rig, side, url, task)
        try:
            block.start()
            block.warm_up(arguments(task, WARM_UP, "w"))
            yield block
        finally:
            block.close()
    finally:
        rig.drop(name)


def arguments(task: str, count: int, prefix: str) -> list[list[Any]]:
    """The arguments of so many messages of this task."""
    if task == NOOP:
        return [[number] for number in range(count)]
    orders = Orders(prefix=prefix)
    return [[orders.request()] for _ in range(count)]


def run_block(rig: Rig, side: Side, task: str, messages: int) -> dict[str, Any]:
    """One block of this many messages: no-ops preloaded, orders published while they are placed."""
    with at_work(rig, side, task) as block:
        measured = block.run(arguments(task, messages, "b"), preloaded=task == NOOP)
        if task == NOOP:
            block.check_ran()
        else:
            block.check_shop()
    return {"side": side.name} | measured
