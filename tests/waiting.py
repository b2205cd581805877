"""Steps of sessions that wait for one another: a step runs in a thread, and a test goes on when it is seen to wait."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
import pytest

from tests.shop import Shop
from workers.cache_store import REST_SECONDS, Store
from workers.child import wait_until

T = TypeVar("T")


class Step:
    """One statement of a named session, begun while others go on."""

    def __init__(self, session: psycopg.Connection[Any], statement: str, arguments: Iterable[object] = ()) -> None:
        self.session = session
        self._threads = ThreadPoolExecutor(1)
        self._done: Future[list[Any]] = self._threads.submit(self._run, statement, tuple(arguments))

    def _run(self, statement: str, arguments: tuple[object, ...]) -> list[Any]:
        cursor = self.session.execute(statement.encode(), arguments)
        return cursor.fetchall() if cursor.description else []

    def waits(self, observer: psycopg.Connection[Any]) -> "Step":
        """Comes back when the statement is seen to wait for a lock; fails when it ends or does not wait."""
        pid = self.session.info.backend_pid

        def blocked() -> bool:
            return observer.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [pid]).fetchone() == (True,)

        assert wait_until(lambda: self._done.done() or blocked(), 20)
        assert not self._done.done(), f"ended instead of waiting: {self._done}"
        return self

    def result(self) -> list[Any]:
        """The rows, or the statement's error."""
        try:
            return self._done.result(30)
        finally:
            self._threads.shutdown()


def at_once(count: int, work: Callable[[int], T], threads: int | None = None) -> list[T]:
    """The results of work(0) … work(count - 1), run by so many threads; the first error is raised."""
    with ThreadPoolExecutor(threads or count) as pool:
        return list(pool.map(work, range(count)))


def waits_for_long(shop: Shop, *routines: str) -> None:
    """In this database a claim waits a minute for an earlier one, not half a second: a busy machine may halt for that.

    docs/decisions/0006 has the half second.
    """
    for routine in routines:
        source = shop.value("SELECT pg_get_functiondef(%s::regproc)", f"shop.{routine}")
        assert "interval '0.5 s'" in source
        shop.db.execute(source.replace("interval '0.5 s'", "interval '60 s'"))


@pytest.fixture
def ticks() -> Iterator[list[int]]:
    """Grows by one each 50 ms that this process runs: what a busy machine halts it for is not counted."""
    made, ends = [0], threading.Event()

    def tick() -> None:
        while not ends.wait(0.05):
            made.append(1)

    threading.Thread(target=tick, daemon=True).start()
    yield made
    ends.set()


@contextmanager
def waiting_once_a_second(store: Store | None) -> Iterator[None]:
    """Fails when Redis was waited for in its rest: each wait is an error, and what was counted may be told as often."""
    assert store is not None
    before, started = store.errors, time.monotonic()
    yield
    assert store.errors - before <= 1 + 2 * (time.monotonic() - started) / REST_SECONDS
