"""The drain behind the SQL door: in the order of the queue, one a pool, handing over to one successor."""

import json

import pytest

from tests.shop import order
from tests.workers_fixtures import Mill, Outcome
from workers.child import wait_until
from workers.database import connect

SESSIONS = """SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_database AS d ON d.oid = database
    WHERE locktype = 'advisory' AND classid = 20301 AND datname = current_database()"""


@pytest.fixture
def draining(mill: Mill) -> Mill:
    """A general worker with a single process, and a drain that hands over each second."""
    if not mill.children:
        # Its successor's message is good for as long; where a machine stands still longer, `draining_goes_on` is beat.
        mill.env |= {"ORDERMILL_DRAIN_SECONDS": "1"}
        mill.general_worker()
        mill.send("orders.drain", queue="maintenance")
    return mill


def draining_goes_on(mill: Mill) -> None:
    """Begins the chain again where it has ended, as beat would."""
    if mill.shop.value(SESSIONS) == 0 and there_are(mill) == 0:
        mill.send("orders.drain", queue="maintenance")


def there_are(mill: Mill) -> int:
    """Messages that wait or run, in one look."""
    with mill.broker.pipeline() as pipe:
        return sum(pipe.llen("maintenance").hlen("unacked").execute())


def decided(mill: Mill, requests: list[Outcome], seconds: float = 60) -> bool:
    return wait_until(lambda: draining_goes_on(mill) or mill.all_decided(requests, 0), seconds, 0.05)  # type: ignore[func-returns-value]


def handed_over(mill: Mill) -> int:
    return mill.children[0].log.read_text().count("orders.drain[")


def test_orders_are_decided_first_come_first_served(draining: Mill, sku: str) -> None:
    requests = [order(None, (sku, 1)) for _ in range(130)]

    draining.shop.submit(*requests)

    assert decided(draining, requests)
    statuses = [outcome and outcome["status"] for outcome in draining.outcomes(requests)]
    assert statuses == ["placed"] * 10 + ["rejected"] * 120


def test_what_is_submitted_in_a_transaction_is_placed_when_it_commits(draining: Mill, sku: str) -> None:
    request, other = order(None, (sku, 1)), order(None, (sku, 1))
    with draining.db.transaction():
        draining.shop.submit(request)
        assert draining.call("inventory.adjust", {}, queue="inventory")["status"] == "rejected"
        assert draining.shop.value("SELECT count(*) FROM shop.orders WHERE key = %s", request["key"]) == 0

    draining.shop.submit(other)
    assert decided(draining, [request, other], 10)


def test_a_row_below_the_floor_that_commits_late_is_found(draining: Mill, sku: str) -> None:
    late, early = order(None, (sku, 1)), order(None, (sku, 1))
    with connect(draining.database_url) as session, session.transaction():
        session.execute("SELECT api.submit_order(%s::text)", [json.dumps(late)])
        draining.shop.submit(early)
        assert decided(draining, [early], 10)

    assert decided(draining, [late], 10)


def test_it_hands_over_and_its_chain_does_not_multiply(draining: Mill) -> None:
    for _ in range(5):
        draining.send("orders.drain", queue="maintenance")
    before, seen = handed_over(draining), []

    def goes_on_for(turns: int) -> bool:
        draining_goes_on(draining)
        seen.append(there_are(draining))
        return handed_over(draining) > before + turns and seen[-1] <= 2

    assert wait_until(lambda: goes_on_for(12), 60, 0.05)
    seen.clear()
    assert wait_until(lambda: goes_on_for(20), 60, 0.05)

    # One message waits or runs: on a lone process five more would each have found the pools free, after one another.
    assert max(seen) <= 2
    assert draining.shop.value(SESSIONS) <= 1


def test_a_drain_that_was_started_for_some_seconds_has_no_successor(draining: Mill) -> None:
    draining.send("orders.drain", 0.1, queue="maintenance")

    assert wait_until(lambda: draining_goes_on(draining) or handed_over(draining) > 2, 30)  # type: ignore[func-returns-value]
