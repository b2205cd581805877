"""Many at once over two workers: a real deadlock, the last unit, and one key from every side."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.shop import new_key, order
from tests.waiting import at_once
from tests.workers_fixtures import RESULT_SECONDS, Mill, lock_levels
from workers.child import wait_until
from workers.database import connect

# A worker looks for deadlocks after four seconds, not one, so that our session surely waits by then, and has time left.
SLOW = {
    "ORDERMILL_LOCK_TIMEOUT_MS": "8000",
    "ORDERMILL_STATEMENT_TIMEOUT_MS": "9000",
    "ORDERMILL_CLAIM_LEASE_SECONDS": "30",
    "ORDERMILL_VISIBILITY_TIMEOUT": "30",
}


@pytest.fixture
def two_workers(mill: Mill) -> Mill:
    if not mill.children:
        mill.env |= SLOW
        with connect(mill.database_url) as admin:
            name = psycopg.sql.Identifier(admin.info.dbname)
            admin.execute(psycopg.sql.SQL("ALTER DATABASE {} SET deadlock_timeout = '4s'").format(name))
    mill.living(2)
    return mill


def general_worker(mill: Mill) -> None:
    if not any(child.name.startswith("general") and child.alive() for child in mill.children):
        mill.general_worker()


def deadlocks(mill: Mill) -> int:
    with connect(mill.database_url) as session:
        session.execute("SELECT pg_stat_clear_snapshot()")
        return int(
            session.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()[0]
        )


def told(mill: Mill) -> int:
    """How often a worker said that it was a victim."""
    return sum(child.log.read_text().count("(40P01)") for child in mill.orders_workers)


def crossed(mill: Mill, victim: str) -> tuple[Any, bool]:
    """A worker holds A's level and waits for B's, our session the other way round; says whether ours was ended."""
    first, second = f"A-{victim}", f"B-{victim}"
    for sku in (first, second):
        mill.shop.stock(sku, "E1", 5)
    ours_ended = False
    with connect(mill.database_url) as session:
        # Who looks first is the victim: a worker after four seconds, ours much earlier or much later.
        session.execute(f"SET deadlock_timeout = '{'60s' if victim == 'worker' else '10ms'}'")
        try:
            with session.transaction():
                lock_levels(session, second)
                result = mill.send("orders.place", order(None, (second, 2), (first, 2)))
                mill.wait_blocked()
                lock_levels(session, first)
        except psycopg.errors.DeadlockDetected:
            ours_ended = True
    return result, ours_ended


@pytest.mark.parametrize("victim", ["worker", "session"])
def test_after_a_real_deadlock_the_order_is_placed_once_and_stock_is_right(two_workers: Mill, victim: str) -> None:
    before, said = deadlocks(two_workers), told(two_workers)

    result, ours_ended = crossed(two_workers, victim)

    assert ours_ended == (victim == "session")
    assert result.get(timeout=RESULT_SECONDS)["status"] == "placed"
    # Under load our session may be so late to take what it waits for that the worker is a victim again.
    victims = told(two_workers) - said if victim == "worker" else 1
    assert victims >= 1
    assert wait_until(lambda: deadlocks(two_workers) == before + victims, 30)  # an idle session tells after ten seconds
    for sku in (f"A-{victim}", f"B-{victim}"):
        assert two_workers.shop.level(sku, "E1") == {"available": 3, "committed": 2}


def test_after_a_real_deadlock_the_drain_goes_on_with_its_claim(two_workers: Mill) -> None:
    """No beat and no sweep is at work here: the drain itself tries again."""
    for sku in ("A-drain", "B-drain"):
        two_workers.shop.stock(sku, "E1", 5)
    request, before = order(None, ("A-drain", 1), ("B-drain", 1)), deadlocks(two_workers)
    general_worker(two_workers)
    with connect(two_workers.database_url) as session, session.transaction():
        session.execute("SET deadlock_timeout = '60s'")
        lock_levels(session, "B-drain")
        two_workers.shop.submit(request)
        two_workers.send("orders.drain", 30, queue="maintenance")  # long enough to be a victim some times
        two_workers.wait_blocked()
        lock_levels(session, "A-drain")

    assert two_workers.all_decided([request], 60)
    assert two_workers.orders_by_key([request]) == [1]
    # Under load our session may be so late to take what it waits for that the drain is a victim again.
    assert wait_until(lambda: deadlocks(two_workers) > before, 30)
    assert two_workers.shop.count("claims") == 0


def test_baskets_in_opposite_order_over_two_workers_do_not_deadlock(two_workers: Mill) -> None:
    skus = [f"SHARED-{n}" for n in range(30)]
    for sku in skus:
        two_workers.shop.stock(sku, "E1", 1000)
    before = deadlocks(two_workers)
    lines = [(sku, 1) for sku in skus]
    results = [two_workers.send("orders.place", order(None, *lines[:: 1 if n % 2 else -1])) for n in range(100)]

    assert all(result.get(timeout=RESULT_SECONDS)["status"] == "placed" for result in results)
    assert deadlocks(two_workers) == before
    assert {two_workers.shop.level(sku, "E1")["committed"] for sku in skus} == {100}


def test_of_a_hundred_buyers_of_the_last_unit_one_gets_it(two_workers: Mill) -> None:
    two_workers.shop.stock("LAST", "E2", 1)
    with two_workers.locked_stock("LAST"):  # both workers have a buyer before either may decide
        results = [two_workers.send("orders.place", order(None, ("LAST", 1))) for _ in range(100)]
        two_workers.wait_blocked(2)

    outcomes = [result.get(timeout=RESULT_SECONDS) for result in results]
    assert sorted(outcome["status"] for outcome in outcomes) == ["placed"] + ["rejected"] * 99
    assert {outcome["code"] for outcome in outcomes} == {None, "OM001"}
    assert two_workers.shop.level("LAST", "E2") == {"committed": 1}


def test_one_key_fifty_times_at_once_through_both_doors_is_one_order(two_workers: Mill, sku: str) -> None:
    request = order(new_key(), (sku, 1))
    general_worker(two_workers)
    two_workers.send("orders.drain", 20, queue="maintenance")

    def buy(number: int) -> dict[str, Any]:
        if number % 2:
            with connect(two_workers.database_url) as session:
                return dict(session.execute("SELECT api.submit_order(%s::jsonb)", [json.dumps(request)]).fetchone()[0])
        return dict(two_workers.call("orders.place", request))

    outcomes = at_once(50, buy, threads=16)

    assert two_workers.all_decided([request])
    answer = two_workers.shop.outcome(request["key"])
    assert answer is not None
    assert answer["status"] == "placed"
    accepted = answer | {"status": "accepted", "order_id": None}
    assert all(outcome == answer for outcome in outcomes[::2])
    assert all(outcome in (answer, accepted) for outcome in outcomes[1::2])
    assert two_workers.orders_by_key([request]) == [1]
    assert two_workers.shop.level(sku, "E1") == {"available": 9, "committed": 1}
    assert wait_until(lambda: two_workers.shop.count("order_queue") == 0, 20)


def test_workers_and_drain_share_scarce_stock_without_overselling(two_workers: Mill) -> None:
    two_workers.shop.stock("SCARCE", "E1", 25)
    two_workers.shop.stock("SCARCE", "E2", 25, cap=10)
    by_celery = [order(None, ("SCARCE", 1)) for _ in range(60)]
    by_sql = [order(None, ("SCARCE", 1)) for _ in range(60)]
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        sent = pool.submit(lambda: [two_workers.send("orders.place", each) for each in by_celery])
        two_workers.shop.submit(*by_sql)
        two_workers.send("orders.drain", 10, queue="maintenance")
        sent.result()

    general_worker(two_workers)
    assert two_workers.all_decided(by_celery + by_sql), time.monotonic() - started
    assert sum(two_workers.orders_by_key(by_celery + by_sql)) == 60
    assert two_workers.shop.level("SCARCE", "E2") == {"available": -10, "committed": 35}
