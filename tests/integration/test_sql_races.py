"""Many sessions at once: the last unit, one key many times, and a real deadlock."""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from psycopg.types.json import Jsonb

from tests.shop import Outcome, Shop, fingerprint, order, typed
from tests.waiting import Step, at_once, waits_for_long
from tests.workers_fixtures import PATIENT
from workers import database
from workers.child import wait_until
from workers.database import connect
from workers.retry import classify
from workers.settings import get_settings

Connect = Callable[[str], psycopg.Connection[Any]]
BUYERS = 100
SESSIONS = 40
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


def place_as_batch(session: psycopg.Connection[Any], request: dict[str, Any]) -> Outcome:
    return session.execute("SELECT api.place_orders(%s)", [Jsonb([typed(request)])]).fetchall()[0][0]


def place_alone(session: psycopg.Connection[Any], request: dict[str, Any]) -> Outcome:
    return session.execute("SELECT api.place_order(%s)", [Jsonb(typed(request))]).fetchall()[0][0]


def submit(session: psycopg.Connection[Any], request: dict[str, Any]) -> Outcome:
    return session.execute("SELECT api.submit_order(%s)", [Jsonb(request)]).fetchall()[0][0]


def all_at_once(
    database_url: str, requests: list[dict[str, Any]], how: Callable[[psycopg.Connection[Any], dict[str, Any]], Outcome]
) -> list[Outcome]:
    """Each thread has a session of its own, and all begin when all are ready."""
    ready = threading.Barrier(min(SESSIONS, len(requests)))
    own = threading.local()
    with contextlib.ExitStack() as ends:
        free = [ends.enter_context(connect(database_url, connect_timeout=30)) for _ in range(ready.parties)]

        def work(number: int) -> Outcome:
            if not hasattr(own, "session"):
                own.session = free.pop()
                ready.wait(60)
            return how(own.session, requests[number])

        return at_once(len(requests), work, ready.parties)


@pytest.mark.parametrize("how", [place_as_batch, place_alone])
def test_of_100_buyers_of_the_last_unit_one_gets_an_order(
    shop: Shop, database_url: str, how: Callable[..., Outcome]
) -> None:
    shop.stock("A", "E1", 1)

    outcomes = all_at_once(database_url, [order(f"buyer-{n}", ("A", 1)) for n in range(BUYERS)], how)

    assert sorted(each["status"] for each in outcomes) == ["placed"] + ["rejected"] * 99
    assert {each["code"] for each in outcomes} == {None, "OM001"}
    assert shop.count("orders") == 1
    assert shop.level("A", "E1") == {"committed": 1}


def test_of_100_buyers_of_the_last_unit_through_the_queue_one_gets_an_order(shop: Shop, database_url: str) -> None:
    shop.stock("A", "E1", 1)

    taken = all_at_once(database_url, [order(f"buyer-{n}", ("A", 1)) for n in range(BUYERS)], submit)
    first = shop.value("SELECT key FROM shop.order_queue ORDER BY id LIMIT 1")
    pool_id = shop.pool_id()
    waits_for_long(shop, "await_earlier_claims", "claims_before")
    drained = at_once(4, lambda _: drain(database_url, pool_id))

    assert {each["status"] for each in taken} == {"accepted"}
    outcomes = [outcome for each in drained for outcome in each]
    assert sorted(each["status"] for each in outcomes) == ["placed"] + ["rejected"] * 99
    assert shop.count("orders") == 1
    assert (shop.outcome(first) or {})["status"] == "placed"


def drain(database_url: str, pool_id: int) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with connect(database_url) as session:
        while True:
            claim = session.execute("SELECT claim_id FROM api.claim_orders(%s, 7, 60)", [pool_id]).fetchone()
            if claim is None:
                return outcomes
            outcomes += [row[0] for row in session.execute("SELECT api.place_claim(%s)", claim).fetchall()]


@pytest.mark.parametrize("how", [place_as_batch, place_alone])
def test_the_same_key_50_times_at_once_is_one_order_and_equal_answers(
    shop: Shop, database_url: str, how: Callable[..., Outcome]
) -> None:
    shop.stock("A", "E1", 99)

    outcomes = all_at_once(database_url, [order("same", ("A", 1))] * 50, how)

    assert all(each == outcomes[0] for each in outcomes)
    assert outcomes[0]["status"] == "placed"
    assert shop.count("orders") == 1
    assert shop.level("A", "E1") == {"available": 98, "committed": 1}


def test_the_same_key_by_both_doors_at_once_is_one_order(shop: Shop, database_url: str) -> None:
    shop.stock("A", "E1", 99)
    ways = [place_as_batch, place_alone, submit]
    turns = iter(range(50))

    def either(session: psycopg.Connection[Any], request: dict[str, Any]) -> Outcome:
        return ways[next(turns) % 3](session, request)

    outcomes = all_at_once(database_url, [order("same", ("A", 1))] * 50, either)
    shop.drain()

    assert {each["status"] for each in outcomes} <= {"placed", "accepted"}
    assert len({each["order_id"] for each in outcomes if each["status"] == "placed"}) == 1
    assert shop.count("orders") == 1
    assert shop.count("order_queue") == 0


@pytest.mark.parametrize("how", [place_as_batch, place_alone, submit])
def test_the_same_key_with_another_body_is_om010_and_changes_nothing(shop: Shop, how: Callable[..., Outcome]) -> None:
    shop.stock("A", "E1", 9)
    shop.place(order("k", ("A", 1)))
    before = fingerprint(shop.db)

    outcome = how(shop.db, order("k", ("A", 2)))

    assert (outcome["status"], outcome["code"], outcome["field"]) == ("rejected", "OM010", "key")
    assert fingerprint(shop.db) == before
    assert (shop.outcome("k") or {})["status"] == "placed"


def test_two_batches_of_the_same_keys_in_opposite_orders_do_not_deadlock(shop: Shop, connect_as: Connect) -> None:
    shop.stock("A", "E1", 9)
    a, b = order("a", ("A", 1)), order("b", ("A", 1))
    first, second = connect_as("owner"), connect_as("owner")

    first.execute("BEGIN")
    first.execute("SELECT api.place_orders(%s)", [Jsonb([typed(a), typed(b)])])
    waiting = Step(second, "SELECT api.place_orders(%s)", [Jsonb([typed(b), typed(a)])]).waits(shop.db)
    first.execute("COMMIT")

    assert [row[0]["key"] for row in waiting.result()] == ["b", "a"]
    assert shop.count("orders") == 2


@pytest.fixture
def deadlock_seen_late(database_url: str, runtime: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL looks for a deadlock once in a wait: after five seconds here, and what else could end it is longer."""
    # Only a superuser may say so, and mostly one second is enough.
    with connect(database_url) as admin, contextlib.suppress(psycopg.errors.InsufficientPrivilege):
        admin.execute(SQL("ALTER DATABASE {} SET deadlock_timeout = '5s'").format(Identifier(admin.info.dbname)))
    for setting, value in (PATIENT | {"ORDERMILL_RETRY_SLOW_SECONDS": "60"}).items():
        monkeypatch.setenv(setting, value)
    get_settings.cache_clear()


@pytest.mark.usefixtures("deadlock_seen_late")
def test_a_real_deadlock_is_retried_and_the_stock_is_right(
    shop: Shop, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock("A", "E1", 9)
    shop.stock("B", "E1", 9)
    states: list[str | None] = []
    monkeypatch.setattr(database, "classify", lambda state, gone: states.append(state) or classify(state, gone))
    take = """SELECT FROM shop.stock_levels AS s JOIN shop.product_variants AS v ON v.id = s.variant_id WHERE v.sku = %s
        FOR NO KEY UPDATE OF s"""
    with connect(database_url) as hand, database.session() as own, ThreadPoolExecutor(1) as worker:
        # The worker's session is to see the deadlock first; only a superuser may say so, and mostly it does anyway.
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            hand.execute("SET deadlock_timeout = '60s'")
        pid = database.call_one("pg_backend_pid", on=own)
        own.close()  # back to the pool of the engine, which gives it to the next call

        hand.execute("BEGIN")
        hand.execute(take, ["B"])
        placing = worker.submit(database.call_one, "api.place_order", Jsonb(typed(order("k", ("A", 2), ("B", 3)))))
        assert wait_until(lambda: shop.value("SELECT cardinality(pg_blocking_pids(%s)) > 0", pid), 20)
        hand.execute(take, ["A"])
        hand.execute("COMMIT")
        outcome = placing.result(60)

    assert "40P01" in states
    assert wait_until(lambda: shop.value(DEADLOCKS) == 1, 20)
    assert outcome["status"] == "placed"
    assert shop.level("A", "E1") == {"available": 7, "committed": 2}
    assert shop.level("B", "E1") == {"available": 6, "committed": 3}
    assert shop.count("orders") == 1
