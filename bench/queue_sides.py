"""Other queues as sides: Dramatiq and taskiq on Redis, PgQueuer and Procrastinate in the shop's own database.

How each is set, and which of its documented ways that is, is said in `bench/peers/<name>_app.py`. Here their workers
are started by their own commands, and orders are published by their own clients. `make bench` installs the libraries.
"""

import asyncio
import importlib
import json
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.block import READY_SECONDS, Block
from bench.peers.order import READY
from bench.sides import Side
from workers.child import wait_until
from workers.database import connect

TASK, TASK_IN_THREAD, QUEUE = "place", "place_in_thread", "orders"
AT_ONCE = 500  # orders that one call hands over, where one call can
KIQS_AT_ONCE = 32
REGISTERED = "SELECT count(*) FROM procrastinate_workers"
Order = dict[str, Any]


def parts(orders: list[Order], size: int) -> Iterator[list[Order]]:
    """The orders in lists of so many."""
    return (orders[at : at + size] for at in range(0, len(orders), size))


@dataclass(frozen=True)
class QueueSide(Side):
    """`processes` worker processes, each with so many orders at work at once: `concurrency` threads, or connections."""

    processes: int = 2
    concurrency: int = 4
    in_threads: bool = False  # a plain function in a thread of the library's pool, not a coroutine

    @property
    def setting(self) -> str:
        """Processes and what each does at once."""
        kind = "threads" if self.in_threads else "connections"
        return f"{self.processes} processes, {self.concurrency} {kind}"

    @property
    def task(self) -> str:
        """The name of the task that is asked for."""
        return TASK_IN_THREAD if self.in_threads else TASK

    @abstractmethod
    def open(self, block: Block) -> Any:
        """Makes its tables, where it has some, and its client."""

    def start(self, block: Block) -> None:
        """Opens the client, starts the workers and waits until each is at work."""
        block.held["client"] = self.open(block)
        self.start_workers(block)
        if not wait_until(lambda: self.ready(block), READY_SECONDS, 0.05):
            last = "\n".join(block.children["worker"][0].last_lines(20))
            raise RuntimeError(f"{self.name} is not ready:\n{last}")

    @abstractmethod
    def start_workers(self, block: Block) -> None:
        """Starts the processes, which find the servers in their environment."""

    def worker(self, block: Block, mark: str, *module: str, **env: str) -> None:
        """Starts `python -m …` as a worker; `mark` is one of its arguments."""
        block.child("worker", self.name.lower(), mark, *module, env={"BENCH_CONNECTIONS": str(self.concurrency), **env})

    def ready(self, block: Block) -> bool:
        """Whether each process has said that it is ready."""
        block.check_children()
        said = (child.log.read_text(errors="replace").count(READY) for child in block.children["worker"])
        return sum(said) >= self.processes


@dataclass(frozen=True)
class DramatiqSide(QueueSide):
    """One master with its processes; `prefetch` messages fetched at once by each."""

    in_threads: bool = True
    prefetch: int = 0  # Dramatiq's own: two for each thread
    idle_ms: int = 50  # its own is 1000: then the first order of a block may wait for a second

    @property
    def setting(self) -> str:
        """Also the messages fetched at once."""
        return f"{super().setting}, prefetch {self.prefetch or 2 * self.concurrency}"

    def open(self, block: Block) -> Any:
        """A broker without middleware: it only publishes."""
        redis = importlib.import_module("dramatiq.brokers.redis")
        return redis.RedisBroker(url=block.broker, middleware=[])

    def start_workers(self, block: Block) -> None:
        """By the command `dramatiq`."""
        app = "bench.peers.dramatiq_app"
        sizes = ["--processes", str(self.processes), "--threads", str(self.concurrency)]
        env = {"dramatiq_queue_prefetch": str(self.prefetch), "dramatiq_worker_timeout": str(self.idle_ms)}
        self.worker(block, app, "dramatiq", app, *sizes, "--queues", QUEUE, **env)

    def submit(self, block: Block, orders: list[Order]) -> None:
        """A group of messages, which it enqueues one by one."""
        dramatiq = importlib.import_module("dramatiq")
        for some in parts(orders, AT_ONCE):
            messages = [dramatiq.Message(QUEUE, TASK, (order,), {}, {}) for order in some]
            dramatiq.group(messages, broker=block.held["client"]).run()

    def stop(self, block: Block) -> None:
        """Closes the client."""
        if "client" in block.held:
            block.held["client"].close()
            block.held["client"].client.close()


@dataclass(frozen=True)
class TaskiqSide(QueueSide):
    """One master with its processes."""

    def open(self, block: Block) -> Any:
        """A broker, and an event loop to publish on."""
        loop = asyncio.Runner(loop_factory=importlib.import_module("uvloop").new_event_loop)
        broker = importlib.import_module("taskiq_redis").RedisStreamBroker(block.broker, queue_name=QUEUE)
        loop.run(broker.startup())
        return loop, broker

    def start_workers(self, block: Block) -> None:
        """By the command `taskiq worker`."""
        app = "bench.peers.taskiq_app:broker"
        limit = "--max-threadpool-threads" if self.in_threads else "--max-async-tasks"
        sizes = ["--workers", str(self.processes), limit, str(self.concurrency)]
        self.worker(block, app, "taskiq", "worker", app, *sizes, "--no-parse", "--log-level", "WARNING")

    def submit(self, block: Block, orders: list[Order]) -> None:
        """One `kiq` an order, many under way at once."""
        kicker = importlib.import_module("taskiq.kicker").AsyncKicker
        loop, broker = block.held["client"]

        async def publish() -> None:
            for some in parts(orders, KIQS_AT_ONCE):
                await asyncio.gather(*(kicker(self.task, broker, {}).kiq(order) for order in some))

        loop.run(publish())

    def stop(self, block: Block) -> None:
        """Closes the broker's connections and the event loop."""
        if "client" in block.held:
            loop, broker = block.held["client"]
            loop.run(broker.shutdown())
            loop.close()


@dataclass(frozen=True)
class PgQueuerSide(QueueSide):
    """Processes on their own; `batch` jobs dequeued at once."""

    batch: int = 100
    limited: bool = False  # each process takes at most two batches at once

    @property
    def setting(self) -> str:
        """Also the jobs dequeued at once."""
        return f"{super().setting}, batch size {self.batch}" + (", tasks limited" if self.limited else "")

    def open(self, block: Block) -> Any:
        """Its tables, and its synchronous client."""
        asyncio.run(importlib.import_module("bench.peers.pgqueuer_app").install(block.url))
        connection = connect(block.url)
        driver = importlib.import_module("pgqueuer.db").SyncPsycopgDriver(connection)
        return connection, importlib.import_module("pgqueuer.queries").SyncQueries(driver)

    def start_workers(self, block: Block) -> None:
        """By the peer's own module."""
        app, sizes = "bench.peers.pgqueuer_app", [self.batch, 2 * self.batch] if self.limited else [self.batch]
        for _ in range(self.processes):
            self.worker(block, app, app, *map(str, sizes))

    def submit(self, block: Block, orders: list[Order]) -> None:
        """Many jobs a call."""
        _, queries = block.held["client"]
        for some in parts(orders, AT_ONCE):
            queries.enqueue([TASK] * len(some), [json.dumps(order).encode() for order in some], [0] * len(some))

    def stop(self, block: Block) -> None:
        """Closes the client's connection."""
        if "client" in block.held:
            block.held["client"][0].close()


@dataclass(frozen=True)
class ProcrastinateSide(QueueSide):
    """Processes on their own; jobs come by notifications, or by polling."""

    listen: bool = True
    poll_seconds: float = 0.05

    @property
    def setting(self) -> str:
        """Also how it learns of jobs."""
        return f"{super().setting}, " + ("listening" if self.listen else f"polling each {self.poll_seconds:g} s")

    def open(self, block: Block) -> Any:
        """Its tables, and an application that only defers."""
        procrastinate = importlib.import_module("procrastinate")
        app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=block.url, max_size=4))
        app.open()
        app.schema_manager.apply_schema()
        return app

    def start_workers(self, block: Block) -> None:
        """By the command `procrastinate worker`."""
        app = "bench.peers.procrastinate_app.app"
        how = [] if self.listen else ["--no-listen-notify", "--fetch-job-polling-interval", str(self.poll_seconds)]
        options = ["--queues", QUEUE, "--concurrency", str(self.concurrency), "--delete-jobs", "successful", *how]
        for _ in range(self.processes):
            self.worker(block, app, "procrastinate", "--app", app, "--log-level", "warning", "worker", *options)

    def ready(self, block: Block) -> bool:
        """Whether each process has registered itself."""
        block.check_children()
        row = block.db.execute(REGISTERED).fetchone()
        return bool(row and row[0] >= self.processes)

    def submit(self, block: Block, orders: list[Order]) -> None:
        """Many jobs a call."""
        deferrer = block.held["client"].configure_task(self.task, queue=QUEUE)
        for some in parts(orders, AT_ONCE):
            deferrer.batch_defer(*({"order": order} for order in some))

    def stop(self, block: Block) -> None:
        """Closes the client's pool."""
        if "client" in block.held:
            block.held["client"].close()


DRAMATIQ = DramatiqSide("Dramatiq")
TASKIQ = TaskiqSide("taskiq")
PGQUEUER = PgQueuerSide("PgQueuer")
PROCRASTINATE = ProcrastinateSide("Procrastinate")
