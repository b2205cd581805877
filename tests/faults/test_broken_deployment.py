"""A routine or a right that is missing is not the orders' fault: they wait, and are placed once it is there."""

from collections.abc import Iterator

import pytest

from tests.shop import order
from tests.workers_fixtures import Mill
from workers.child import wait_until

PLACING = "api.place_order(jsonb), api.place_orders(jsonb), api.place_claim(uuid)"


@pytest.fixture
def without_a_right(at_work: Mill) -> Iterator[Mill]:
    at_work.db.execute(f"REVOKE EXECUTE ON FUNCTION {PLACING} FROM ordermill_worker")
    yield at_work
    at_work.db.execute(f"GRANT EXECUTE ON FUNCTION {PLACING} TO ordermill_worker")


def test_orders_of_both_doors_wait_for_a_missing_right_and_are_then_placed(without_a_right: Mill, sku: str) -> None:
    mill = without_a_right
    by_celery, by_sql = ([order(None, (sku, 1)) for _ in range(3)] for _ in range(2))

    mill.shop.submit(*by_sql)
    results = [mill.send("orders.place", request) for request in by_celery]
    mill.send("orders.drain", 1, queue="maintenance")
    # The claim is tried and comes back: nobody has it, and no attempt of its orders is counted.
    assert wait_until(lambda: mill.shop.rows("SELECT leased_until IS NULL FROM shop.claims") == [True], 30)
    decided = mill.shop.value("SELECT count(*) FROM shop.request_keys WHERE key = ANY (%s) AND answer IS NOT NULL",
                              [each["key"] for each in by_celery + by_sql])  # fmt: skip
    assert (mill.shop.rows("SELECT attempt FROM shop.claims"), decided) == ([1], 0)
    assert not any(result.ready() for result in results)

    mill.db.execute(f"GRANT EXECUTE ON FUNCTION {PLACING} TO ordermill_worker")
    mill.send("orders.drain", 3, queue="maintenance")

    assert [result.get(timeout=60)["status"] for result in results] == ["placed"] * 3
    assert wait_until(lambda: mill.all_decided(by_sql), 30)
    assert mill.orders_by_key(by_celery + by_sql) == [1] * 6
    assert mill.shop.value("SELECT count(*) FROM shop.dead_letters WHERE key = ANY (%s)",
                           [each["key"] for each in by_celery + by_sql]) == 0  # fmt: skip
