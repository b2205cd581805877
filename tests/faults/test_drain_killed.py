"""Drains killed at each of their steps: the claim is swept back and each order behind the SQL door is placed once."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.shop import order
from tests.workers_fixtures import Mill, kill
from workers.child import Child, wait_until
from workers.database import connect

GATE = 4242


@pytest.fixture
def gate(mill: Mill) -> Iterator[None]:
    """Placing a claim waits for a lock of ours before its first effect: between the drain's two transactions."""
    mill.db.execute(
        f"""CREATE FUNCTION shop.gate() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_advisory_xact_lock({GATE}); RETURN old; END $$;
            CREATE TRIGGER gate BEFORE DELETE ON shop.claims FOR EACH ROW EXECUTE FUNCTION shop.gate()"""
    )
    yield
    mill.db.execute("DROP FUNCTION shop.gate() CASCADE")


def general(mill: Mill) -> Child:
    """A worker with a drain that looks for a while, then lets go."""
    for child in mill.children:
        if child.alive():
            return child
    return mill.general_worker()


def killed(mill: Mill, drain: Child, rolled_back: bool) -> None:
    backends = mill.wait_blocked()
    kill(drain)
    if rolled_back:
        mill.terminate(backends)


def swept_until_decided(mill: Mill, requests: list[dict[str, object]]) -> bool:
    """A new worker, and a sweep now and then, as beat would send it."""
    mill.general_worker()

    def sweep() -> bool:
        if not mill.broker.llen("maintenance"):
            mill.send("orders.sweep", queue="maintenance")
        return mill.all_decided(requests, 0.5)

    return wait_until(sweep, 30, 0.2)


@pytest.mark.usefixtures("gate")
def test_a_drain_killed_between_claiming_and_placing_loses_nothing(mill: Mill, sku: str) -> None:
    requests = [order(None, (sku, 1)) for _ in range(20)]
    drain, letters = general(mill), mill.shop.count("dead_letters")
    with connect(mill.database_url) as session:
        session.execute("SELECT pg_advisory_lock(%s)", [GATE])
        mill.shop.submit(*requests)
        mill.send("orders.drain", 20, queue="maintenance")
        killed(mill, drain, rolled_back=True)
    assert mill.shop.count("claims") == 1
    assert mill.shop.value("SELECT count(*) FROM shop.order_queue WHERE claim_id IS NOT NULL") == 20

    assert swept_until_decided(mill, requests)

    assert mill.orders_by_key(requests) == [1] * 10 + [0] * 10
    assert mill.shop.count("claims") == mill.shop.count("order_queue") == 0
    assert mill.shop.count("dead_letters") == letters


@pytest.mark.parametrize("rolled_back", [True, False], ids=["rolled back", "commits unheard"])
def test_a_drain_killed_while_it_places_loses_nothing(mill: Mill, rolled_back: bool) -> None:
    sku = f"SKU-{rolled_back}"
    mill.shop.stock(sku, "E1", 100)
    requests = [order(None, (sku, 1)) for _ in range(120)]
    drain, letters = general(mill), mill.shop.count("dead_letters")
    with mill.locked_stock(sku):
        mill.shop.submit(*requests)
        mill.send("orders.drain", 20, queue="maintenance")
        killed(mill, drain, rolled_back)

    assert swept_until_decided(mill, requests)

    # What was claimed waits for its lease to run out; the others do not wait for it.
    assert sum(mill.orders_by_key(requests)) == 100
    assert mill.shop.level(sku, "E1") == {"committed": 100}
    assert mill.shop.count("claims") == mill.shop.count("order_queue") == 0
    assert mill.shop.count("dead_letters") == letters


def test_a_drain_that_is_frozen_keeps_its_locks_and_yet_its_pools_are_served(mill: Mill, sku: str) -> None:
    """Its machine answers for it, so that the server never ends its session."""
    request = order(None, (sku, 1))
    drain = general(mill)
    assert drain.process is not None
    mill.send("orders.drain", 60, queue="maintenance")
    holders = "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_database AS d ON d.oid = database" + (
        " WHERE locktype = 'advisory' AND classid = 20301 AND datname = current_database()"
    )
    assert wait_until(lambda: mill.shop.value(holders) == 1, 30)
    os.killpg(drain.process.pid, signal.SIGSTOP)
    try:
        mill.shop.submit(request)
        mill.db.execute("UPDATE shop.order_queue SET received_at = now() - interval '31 s'")

        assert swept_until_decided(mill, [request])
        assert mill.shop.value(holders) == 1
    finally:
        kill(drain)

    assert mill.orders_by_key([request]) == [1]


def test_an_order_alone_is_dead_after_so_many_drains_that_died_with_it_and_its_neighbours_are_not(
    mill: Mill, sku: str
) -> None:
    for child in mill.children:
        if child.alive():
            kill(child)  # a drain that was called for help before may still be at work, and this claims by hand
    good, bad = [order(None, (sku, 1)) for _ in range(3)], order(None, (sku, 1))
    mill.shop.submit(good[0], bad, *good[1:])
    deaths = 0
    while claim := mill.shop.claim():
        keys = mill.shop.rows("SELECT key FROM shop.order_queue WHERE claim_id = %s", claim["claim_id"])
        if bad["key"] not in keys:
            mill.shop.place_claim(claim["claim_id"])
            continue
        deaths += len(keys) == 1
        mill.shop.expire_claims()
        mill.shop.sweep(attempts=3)

    assert deaths == 3
    assert [outcome and outcome["status"] for outcome in mill.outcomes([*good, bad])] == ["placed"] * 3 + ["dead"]
