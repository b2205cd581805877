"""Fixtures of all tests: the servers of the run, a database of its own for each test, sessions of each role, a shop."""

import atexit
import os
import secrets
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from types import FrameType
from typing import Any

import psycopg
import pytest
import redis
from psycopg.sql import SQL, Identifier

from tests.servers import Running, create_database, drop_database, prefix, start
from tests.shop import Shop
from workers.child import signals_held
from workers.database import CONNECTING, connect, forget
from workers.settings import get_settings

# Of this process alone: a machine that stands still for five seconds must not fail whichever test connects then.
CONNECTING["connect_timeout"] = 60
Database = psycopg.Connection[Any]
SERVERS = pytest.StashKey[Running]()
STACK = pytest.StashKey[ExitStack]()
ROLES = ("ordermill_worker", "ordermill_app", "ordermill_reader", "ordermill_maintainer")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "breaks_the_shop: damages the shop on purpose, so verify is not asked at the end"
    )
    # Started in the background of a script it is ignored, and so it would be by each program that a test interrupts.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[STACK] = ExitStack()
    if not hasattr(config, "workerinput"):
        _end_servers_on_termination()
        # Interrupted at some moments pytest leaves without its last hook.
        atexit.register(_stop_servers, config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One deployment for the tests of containers, not one a process: with pytest 9 `xdist_group` does nothing."""
    from xdist.scheduler import LoadGroupScheduling

    class Together(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "compose" if nodeid.startswith("tests/deploy/test_compose") else super()._split_scope(nodeid)

    return Together(config, log) if config.getoption("dist") == "loadgroup" else None


def _end_servers_on_termination() -> None:
    def leave(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, leave)


def _servers_of(config: pytest.Config) -> Running:
    if hasattr(config, "workerinput"):
        return Running(**config.workerinput["ordermill_servers"])
    if SERVERS not in config.stash:
        config.stash[SERVERS] = start(config.stash[STACK])
    return config.stash[SERVERS]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Where nothing may be missing, as in CI, a skipped test has failed; with `faults`, one of a fault."""
    report = yield
    strict = os.environ.get("ORDERMILL_TEST_SKIPS")
    strict_here = strict == "fail" or (strict == "faults" and report.nodeid.startswith("tests/faults/"))
    if report.skipped and not hasattr(report, "wasxfail") and strict_here:
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure here: {report.longrepr}"
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """In the controller of pytest-xdist: the same servers for each of its workers."""
    node.workerinput["ordermill_servers"] = asdict(_servers_of(node.config))


def pytest_unconfigure(config: pytest.Config) -> None:
    _stop_servers(config)


def _stop_servers(config: pytest.Config) -> None:
    with signals_held():
        config.stash[STACK].close()


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Running:
    return _servers_of(pytestconfig)


@contextmanager
def _databases(servers: Running) -> Iterator[Callable[[bool], str]]:
    names: list[str] = []

    def make(migrated: bool) -> str:
        names.append(f"{prefix(servers)}{secrets.token_hex(6)}")
        return create_database(servers, names[-1], servers.template if migrated else None)

    try:
        yield make
    finally:
        for name in names:
            drop_database(servers, name)


@pytest.fixture
def new_database(servers: Running) -> Iterator[Callable[[bool], str]]:
    """Makes databases: `new_database(True)` a migrated one, `new_database(False)` an empty one."""
    with _databases(servers) as make:
        yield make


@pytest.fixture
def database_url(new_database: Callable[[bool], str]) -> str:
    """A migrated database of this test's own; the login is the owner's."""
    return new_database(True)


@pytest.fixture
def empty_database_url(new_database: Callable[[bool], str]) -> str:
    return new_database(False)


@pytest.fixture
def connect_as(database_url: str) -> Iterator[Callable[[str], Database]]:
    """Opens sessions, in autocommit: `connect_as("ordermill_app")`; the owner of the tables for "owner"."""
    with ExitStack() as stack:

        def opened(role: str) -> Database:
            session = stack.enter_context(connect(database_url))
            name = "ordermill_owner" if role == "owner" else role
            session.execute(SQL("SET ROLE {}").format(Identifier(name)))
            return session

        yield opened


@pytest.fixture
def db(connect_as: Callable[[str], Database]) -> Database:
    """A session of the owner of the tables."""
    return connect_as("owner")


@pytest.fixture
def shop(db: Database, request: pytest.FixtureRequest) -> Iterator[Shop]:
    """A shop with two pools and no stock; at the end of the test it must be clean."""
    shop = Shop(db)
    shop.open()
    yield shop
    if not request.node.get_closest_marker("breaks_the_shop"):
        assert shop.verify() == []


@pytest.fixture(scope="module")
def _module_shop(servers: Running) -> Iterator[Shop]:
    with _databases(servers) as make, connect(make(True)) as session:
        session.execute("SET ROLE ordermill_owner")
        shop = Shop(session)
        shop.open()
        yield shop


@pytest.fixture
def scratch(_module_shop: Shop, request: pytest.FixtureRequest) -> Iterator[Shop]:
    """The same shop, for tests of one session: all that a test does is rolled back, which is quicker than a
    database."""
    with _module_shop.db.transaction(force_rollback=True):
        yield _module_shop
        if not request.node.get_closest_marker("breaks_the_shop"):
            assert _module_shop.verify() == []


@pytest.fixture
def runtime(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`workers.database.call` works on this test's database, as ordermill_worker."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    forget()
    get_settings.cache_clear()
    yield
    forget()
    get_settings.cache_clear()


def _worker_number() -> int:
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


@pytest.fixture(scope="session")
def redis_numbers(servers: Running) -> tuple[str, str]:
    """Addresses of the two logical databases of this pytest worker, counted down from 15: away from a user's own."""
    if _worker_number() > 6:
        raise RuntimeError("Redis has 16 logical databases, two for each pytest worker: use at most -n 7")
    base = servers.redis_url.rpartition("/")[0] if servers.redis_url.count("/") > 2 else servers.redis_url
    first, second = (f"{base}/{15 - 2 * _worker_number() - more}" for more in (0, 1))
    for url in (first, second):
        if servers.given_redis and redis.Redis.from_url(url).dbsize():
            raise RuntimeError(f"{url} is not empty: flush it if nobody needs it, or give another REDIS_URL")
    return first, second


def _flushed(url: str) -> Iterator[str]:
    client = redis.Redis.from_url(url)
    client.flushdb()
    yield url
    client.flushdb()
    client.close()


@pytest.fixture
def redis_url(redis_numbers: tuple[str, str]) -> Iterator[str]:
    """An empty logical database, for results and cache."""
    yield from _flushed(redis_numbers[0])


@pytest.fixture
def broker_url(redis_numbers: tuple[str, str]) -> Iterator[str]:
    """Another one, for the broker."""
    yield from _flushed(redis_numbers[1])
