"""A drain that lost its session while it placed gives its claim back by itself, and nothing is placed twice by that.

The lease is ten minutes in all of these: no sweep helps.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.faults.storm.proxy import Proxy
from tests.faults.test_database_away import postgres
from tests.shop import Shop, order
from tests.workers_fixtures import lock_levels
from workers import database, drain
from workers.child import wait_until
from workers.database import connect
from workers.embedded import EmbeddedPostgres
from workers.migrate import migrate
from workers.settings import get_settings

__all__ = ["postgres"]

Connect = Callable[[str], psycopg.Connection[Any]]
LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS = 20_000, 25_000  # neither ends in these tests
PLACING = """SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%api.place_claim%%' AND wait_event_type = 'Lock'
    AND datname = current_database()"""
CANCEL = PLACING.replace("count(*)", "pg_cancel_backend(pid)")
GIVING_BACK = PLACING.replace("place_claim", "return_claim")
# Kills the PostgreSQL process that is about to write a line of this sku; COPY is the superuser's, whose function it is.
DEADLY = """
CREATE FUNCTION shop.die() RETURNS void LANGUAGE sql SECURITY DEFINER
AS $$ COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID' $$;
GRANT EXECUTE ON FUNCTION shop.die() TO PUBLIC;
CREATE FUNCTION shop.deadly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF new.variant_id = (SELECT id FROM shop.product_variants WHERE sku = 'DEADLY') THEN PERFORM shop.die(); END IF;
    RETURN new; END $$;
CREATE TRIGGER deadly BEFORE INSERT ON shop.order_lines FOR EACH ROW EXECUTE FUNCTION shop.deadly()"""


@pytest.fixture
def at(runtime: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`at(url)`: there the drain of this process works."""

    def settle(url: str) -> None:
        monkeypatch.setenv("DATABASE_URL", url)
        monkeypatch.setenv("ORDERMILL_CLAIM_LEASE_SECONDS", "600")
        monkeypatch.setenv("ORDERMILL_LOCK_TIMEOUT_MS", str(LOCK_TIMEOUT_MS))
        monkeypatch.setenv("ORDERMILL_STATEMENT_TIMEOUT_MS", str(STATEMENT_TIMEOUT_MS))
        database.forget()
        get_settings.cache_clear()

    return settle


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    made = Proxy(database_url).start()
    yield made
    made.stop()


@pytest.fixture
def blocked(
    shop: Shop, proxy: Proxy, connect_as: Connect, at: Callable[[str], None]
) -> Iterator[tuple[psycopg.Connection[Any], "Future[Any]", list[dict[str, Any]]]]:
    """A drain whose connection has just been cut, while PostgreSQL goes on placing its four orders behind our lock."""
    shop.stock("A", "E1", 3)
    at(proxy.url)
    requests = [order(None, ("A", 1)) for _ in range(4)]
    shop.submit(*requests)
    blocker = connect_as("owner")
    with ThreadPoolExecutor(1) as pool:
        blocker.execute("BEGIN")
        lock_levels(blocker, "A")
        done = pool.submit(drain.drain, get_settings(), 20, until_empty=True)
        assert wait_until(lambda: shop.value(PLACING) == 1, 20, 0.01)
        assert proxy.reset() > 0
        yield blocker, done, requests
        if blocker.info.transaction_status.name == "INTRANS":
            blocker.execute("ROLLBACK")


Blocked = tuple[psycopg.Connection[Any], "Future[Any]", list[dict[str, Any]]]


def once(shop: Shop, requests: list[dict[str, Any]]) -> bool:
    """Three are placed, for as many units there were, and one is rejected; nothing is left."""
    keys = [request["key"] for request in requests]
    outcomes = sorted((shop.outcome(key) or {})["status"] for key in keys)
    orders = shop.value("SELECT count(*) FROM shop.orders WHERE key = ANY (%s)", keys)
    left = shop.count("claims") + shop.count("order_queue") + shop.count("dead_letters")
    return (outcomes, orders, left) == (["placed"] * 3 + ["rejected"], 3, 0) and shop.level("A", "E1") == {
        "committed": 3
    }


def test_giving_back_waits_for_a_backend_that_outlived_its_connection_and_nothing_is_placed_twice(
    shop: Shop, blocked: Blocked
) -> None:
    blocker, done, requests = blocked
    assert wait_until(lambda: shop.value(GIVING_BACK) == 1, 20, 0.01)  # it waits for whoever places

    blocker.execute("COMMIT")

    assert done.result(30)["returned"] == 0  # it was gone
    assert wait_until(lambda: shop.count("claims") == 0, 10)
    drain.drain(get_settings(), 5, until_empty=True)
    assert once(shop, requests)


def test_a_claim_whose_backend_rolled_back_is_given_back_in_halves_long_before_its_lease_ends(
    shop: Shop, blocked: Blocked, database_url: str
) -> None:
    blocker, done, requests = blocked
    assert wait_until(lambda: shop.value(GIVING_BACK) == 1, 20, 0.01)
    with connect(database_url) as admin:
        admin.execute(CANCEL)  # as its own lock timeout would

    assert done.result(30)["returned"] == 1
    claims = shop.maps("SELECT cardinality(queue_ids) AS orders, leased_until, attempt FROM shop.claims")
    assert claims == [{"orders": 2, "leased_until": None, "attempt": 1}] * 2

    blocker.execute("COMMIT")
    drain.drain(get_settings(), 5, until_empty=True)
    assert once(shop, requests)


def test_an_order_that_kills_its_backend_is_dead_after_its_attempts_and_its_neighbours_are_placed(
    postgres: EmbeddedPostgres, at: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.drain.STOPPED_SECONDS", 60.0)  # recovery from WAL takes as long as it takes
    migrate(postgres.url)
    with connect(postgres.url) as session:
        shop = Shop(session)
        shop.open()
        for sku in ("A", "DEADLY"):
            shop.stock(sku, "E1", 10)
        session.execute(DEADLY)
        requests = [order(None, (sku, 1)) for sku in ("A", "DEADLY", "A")]
        shop.submit(*requests)
    at(postgres.url)
    runs = 0

    def decided() -> bool:
        nonlocal runs
        runs += 1
        drain.drain(get_settings(), 5, until_empty=True)
        with connect(postgres.url) as session:
            return Shop(session).count("order_queue") == 0

    assert wait_until(decided, 200, 0)
    with connect(postgres.url) as session:
        shop = Shop(session)
        statuses = [(shop.outcome(request["key"]) or {})["status"] for request in requests]
        assert statuses == ["placed", "dead", "placed"]
        [letter] = shop.maps("SELECT key, code, attempts, reason FROM shop.dead_letters")
        assert (letter["key"], letter["code"], letter["attempts"]) == (requests[1]["key"], "OM090", 3)
        assert letter["reason"] == drain.UNHEARD
        assert shop.verify() == []
    assert runs <= 6  # with three, with two of them, three times alone, and one that finds nothing
