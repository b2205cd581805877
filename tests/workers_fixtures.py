"""Real Celery workers, beat and Flower for tests: processes over a database and a Redis of the test's own.

`mill` lives as long as its test module, because a worker takes seconds to start: its tests share a shop, never a sku or
a key. `fresh_mill` is for one test, where what it does would disturb others.
"""

import contextlib
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from celery import Celery

from tests.servers import Running, create_database, drop_database, prefix
from tests.shop import Shop
from workers.child import Child, wait_until
from workers.database import connect
from workers.queue_names import GENERAL_QUEUES

READY_SECONDS = 90
RESULT_SECONDS = 60
QUIET = ("-l", "INFO", "--without-gossip", "--without-mingle")
# A killed worker's messages come back, and a dead drain's claims are swept, within seconds.
IMPATIENT = {
    "ORDERMILL_VISIBILITY_TIMEOUT": "2",
    "ORDERMILL_CLAIM_LEASE_SECONDS": "3",
    "ORDERMILL_STATEMENT_TIMEOUT_MS": "2900",
    # Most tests have one process for all general queues: who keeps it must soon hand over.
    "ORDERMILL_DISPATCH_SECONDS": "1",
}
# Who holds a lock to look at a worker that waits for it may be slow: after the usual two seconds it goes on without.
PATIENT = {
    "ORDERMILL_LOCK_TIMEOUT_MS": "30000",
    "ORDERMILL_STATEMENT_TIMEOUT_MS": "35000",
    "ORDERMILL_CLAIM_LEASE_SECONDS": "60",
}
Outcome = dict[str, Any]


class Mill:
    """The processes over one database and one Redis; `env` is what all of them are told."""

    def __init__(self, database_url: str, redis_url: str, broker_url: str, folder: Path) -> None:
        self.database_url = database_url
        self.redis_url = redis_url
        self.broker_url = broker_url
        self.folder = folder
        self.env = IMPATIENT | {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "CELERY_BROKER_URL": broker_url,
            # Where one database is for all, the cache is in the next one by itself.
            "ORDERMILL_CACHE_URL": redis_url if redis_url != broker_url else "",
            "ORDERMILL_CACHE_TIMEOUT_MS": "5000",
            "ORDERMILL_HOME": str(folder),
        }
        self.children: list[Child] = []
        self.orders_workers: list[Child] = []
        # What an application elsewhere has: the addresses, and names of tasks. Nothing of Ordermill is imported by it.
        self.client = Celery("a-shop", broker=broker_url, backend=redis_url, set_as_current=False)
        self.client.conf.update(accept_content=["json"], task_serializer="json", broker_pool_limit=2)
        self.broker = redis.Redis.from_url(broker_url)
        self.db = connect(database_url)
        self.db.execute("SET ROLE ordermill_owner")
        self.shop = Shop(self.db)
        self.shop.open()

    # Processes

    def start(self, name: str, *arguments: str, app: str = "workers.app", **env: str) -> Child:
        """Starts a process of Celery's under this name; it is not ready yet."""
        return self.start_module(name, app, "celery", "-A", app, *arguments, **env)

    def start_module(self, name: str, mark: str, *module: str, **env: str) -> Child:
        """Starts `python -m …` under this name; `mark` is one of its arguments."""
        unique = f"{name}-{secrets.token_hex(3)}"
        child = Child(
            name=unique,
            command=[sys.executable, "-m", *module],
            mark=mark,
            log=self.folder / f"{unique}.log",
            pid_file=self.folder / f"{unique}.pid",
            env=clean_environment() | self.env | env,
            cwd=self.folder,
        )
        child.start()
        self.children.append(child)
        return child

    def start_worker(self, name: str, queues: str, *options: str, **env: str) -> Child:
        node = f"{name}-{secrets.token_hex(3)}@test"
        return self.start(name, "worker", "-Q", queues, "-n", node, *QUIET, *options, **env)

    def orders_worker(self) -> Child:
        """A new solo worker of the orders queue, when it is ready."""
        return ready(self.begin_orders_worker())

    def begin_orders_worker(self) -> Child:
        child = self.start_worker("orders", "orders", "-P", "solo")
        self.orders_workers.append(child)
        return child

    def general_worker(self, *options: str, **env: str) -> Child:
        """A new prefork worker of all other queues, when it is ready."""
        return ready(self.start_worker("general", ",".join(GENERAL_QUEUES), "-c", "1", *options, **env))

    def living(self, count: int) -> list[Child]:
        """So many orders workers: those that an earlier test of the module left alive, else new ones."""
        self.orders_workers = [child for child in self.orders_workers if child.alive()]
        for _ in range(count - len(self.orders_workers)):
            self.begin_orders_worker()
        for extra in self.orders_workers[count:]:
            end(extra)
        self.orders_workers = [ready(child) for child in self.orders_workers[:count]]
        return list(self.orders_workers)

    def beat(self, app: str = "workers.app") -> Child:
        schedule = self.folder / f"beat-{secrets.token_hex(3)}"
        return ready(
            self.start("beat", "beat", "-s", str(schedule), "--pidfile=", "-l", "INFO", app=app), "beat: Starting"
        )

    # The Celery door

    def send(self, task: str, *args: Any, queue: str | None = "orders", **options: Any) -> Any:
        """Sends a message by name, as any Celery client may; gives the AsyncResult."""
        named = {"queue": queue} if queue else {}
        return self.client.send_task(task, args=args, **named, **options)

    def call(self, task: str, *args: Any, queue: str | None = "orders", **options: Any) -> Any:
        """Sends a message and waits for its result."""
        return self.send(task, *args, queue=queue, **options).get(timeout=RESULT_SECONDS)

    def waiting(self, queue: str = "orders") -> int:
        return int(self.broker.llen(queue))

    # Looking

    def outcomes(self, requests: list[Outcome]) -> list[Outcome | None]:
        return [self.shop.outcome(request["key"]) for request in requests]

    def all_decided(self, requests: list[Outcome], seconds: float = 60) -> bool:
        """Whether each of these was decided within so many seconds."""
        keys = [request["key"] for request in requests]

        def decided() -> bool:
            return self.shop.value("SELECT count(answer) FROM shop.request_keys WHERE key = ANY(%s)", keys) == len(
                set(keys)
            )

        return wait_until(decided, seconds, 0.05)

    def orders_by_key(self, requests: list[Outcome]) -> list[int]:
        """How many orders each of these became."""
        keys = [request["key"] for request in requests]
        return self.shop.rows(
            "SELECT (SELECT count(*) FROM shop.orders WHERE key = k)"
            " FROM unnest(%s::text[]) WITH ORDINALITY AS u (k, n) ORDER BY n",
            keys,
        )

    def blocked(self) -> list[int]:
        """The backends of workers that wait for a lock."""
        return self.shop.rows(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'ordermill' AND datname = current_database()"
            " AND cardinality(pg_blocking_pids(pid)) > 0"
        )

    def wait_blocked(self, count: int = 1) -> list[int]:
        """Waits until so many backends of workers wait for a lock, and gives them."""
        found: list[int] = []

        def enough() -> bool:
            found[:] = self.blocked()
            return len(found) >= count

        assert wait_until(enough, 30)
        return found

    def terminate(self, pids: list[int]) -> None:
        """Ends sessions of this database, as an administrator would."""
        with connect(self.database_url) as admin:
            for pid in pids:
                admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    @contextlib.contextmanager
    def locked_stock(self, *skus: str) -> Iterator[psycopg.Connection[Any]]:
        """Holds the levels of these skus, so that a worker that places them is surely inside its transaction."""
        with connect(self.database_url) as session, session.transaction():
            lock_levels(session, *skus)
            yield session

    # The end

    def logs(self) -> str:
        parts = []
        for child in self.children:
            state = "runs" if child.alive() else f"exit {child.process.returncode if child.process else '?'}"
            parts.append(f"==== {child.name} ({state})\n" + "\n".join(child.last_lines(60)))
        return "\n".join(parts)

    def stop(self) -> None:
        """Kills every process by its own id: a warm stop has tests of its own and takes seconds."""
        for child in self.children:
            if child.alive():
                kill(child)
        self.client.close()
        self.broker.close()
        self.db.close()


def clean_environment() -> dict[str, str]:
    given = ("DATABASE_URL", "REDIS_URL", "CELERY_", "ORDERMILL_", "FLOWER_")
    return {name: value for name, value in os.environ.items() if not name.startswith(given)}


def ready(child: Child, words: str = " ready.") -> Child:
    """Waits for the line that says so, which costs nothing: `inspect ping` would take CPU seconds."""

    def said() -> bool:
        child.check()
        return words in child.log.read_text(errors="replace")

    assert wait_until(said, READY_SECONDS, 0.05), f"{child.name} is not ready:\n" + "\n".join(child.last_lines(40))
    return child


def kill(child: Child) -> None:
    """SIGKILL, to the forks too, as by the kernel when memory is short."""
    assert child.process is not None
    os.killpg(child.process.pid, signal.SIGKILL)
    child.process.wait()


def end(child: Child) -> int:
    """A warm stop; gives the exit code."""
    assert child.process is not None
    child.ask()
    return child.process.wait(60)


def lock_levels(session: psycopg.Connection[Any], *skus: str) -> None:
    session.execute(
        """SELECT FROM shop.stock_levels WHERE variant_id IN (SELECT id FROM shop.product_variants WHERE sku = ANY (%s))
           ORDER BY variant_id, location_id FOR UPDATE""",
        [list(skus)],
    )


def own_database(servers: Running) -> tuple[str, str]:
    name = f"{prefix(servers)}{secrets.token_hex(6)}"
    return name, create_database(servers, name, servers.template)


@contextlib.contextmanager
def mill_over(servers: Running, addresses: tuple[str, str], folder: Path) -> Iterator[Mill]:
    for url in addresses:
        with redis.Redis.from_url(url) as client:
            client.flushdb()
    name, database_url = own_database(servers)
    made = Mill(database_url, *addresses, folder)
    try:
        yield made
    finally:
        made.stop()
        drop_database(servers, name)
        for url in addresses:
            with redis.Redis.from_url(url) as client:
                client.flushdb()


@pytest.fixture(scope="module")
def module_mill(
    servers: Running, redis_numbers: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mill]:
    with mill_over(servers, redis_numbers, tmp_path_factory.mktemp("mill")) as made:
        yield made


@pytest.fixture
def patient(module_mill: Mill) -> None:
    """Workers of this module's mill wait for locks until they get them."""
    module_mill.env |= PATIENT


@pytest.fixture
def mill(module_mill: Mill, request: pytest.FixtureRequest) -> Iterator[Mill]:
    """The module's mill; after each test its shop must be clean. The workers' logs are shown where a test fails."""
    yield from watched(module_mill, request)


@pytest.fixture
def fresh_mill(
    servers: Running, redis_numbers: tuple[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Mill]:
    """A mill of this test's own; not beside `mill` in one module, which has the same Redis."""
    beside = [item for item in request.session.items if item.path == request.path]
    assert not any("module_mill" in getattr(item, "fixturenames", ()) for item in beside), "see above"
    with mill_over(servers, redis_numbers, tmp_path) as made:
        yield from watched(made, request)


@pytest.fixture
def at_work(mill: Mill) -> Mill:
    """The module's mill with one orders worker and one general worker."""
    if not mill.children:
        mill.begin_orders_worker()
        mill.general_worker()
    mill.living(1)
    return mill


@pytest.fixture
def door(mill: Mill) -> Mill:
    """The module's mill with one orders worker and no other: for what only that worker does."""
    mill.living(1)
    return mill


@pytest.fixture
def sku(mill: Mill) -> str:
    """A sku of this test's own, with ten units at E1."""
    name = f"SKU-{secrets.token_hex(4)}"
    mill.shop.stock(name, "E1", 10)
    return name


def watched(mill: Mill, request: pytest.FixtureRequest) -> Iterator[Mill]:
    report: dict[str, Callable[[], str]] = request.node.stash.setdefault(LOGS, {})
    report["processes"] = mill.logs
    yield mill
    assert mill.shop.verify() == []


LOGS = pytest.StashKey[dict[str, Callable[[], str]]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    report = yield
    if report.failed:
        for name, read in item.stash.get(LOGS, {}).items():
            report.sections.append((name, read()))
    return report
