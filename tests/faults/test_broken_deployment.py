"""A missing routine, right or partition is not the orders' fault: they wait, and are placed once it is there."""

from collections.abc import Callable, Iterator

import pytest

from tests.shop import order
from tests.workers_fixtures import Mill
from workers.child import wait_until

Mend = Callable[[], object]
PLACING = "api.place_order(jsonb), api.place_orders(jsonb), api.place_claim(uuid)"


@pytest.fixture
def without_a_right(at_work: Mill) -> Iterator[Mend]:
    at_work.db.execute(f"REVOKE EXECUTE ON FUNCTION {PLACING} FROM ordermill_worker")

    def mend() -> None:
        at_work.db.execute(f"GRANT EXECUTE ON FUNCTION {PLACING} TO ordermill_worker")

    yield mend
    mend()


@pytest.fixture
def without_a_partition(at_work: Mill, sku: str) -> Mend:
    """The partition of this month's movements is away: no row can be written, and no constraint is violated."""
    partition, bounds = at_work.db.execute(
        """SELECT c.oid::regclass::text, pg_get_expr(c.relpartbound, c.oid) FROM pg_class AS c
           WHERE c.oid = (SELECT tableoid FROM shop.stock_movements ORDER BY id DESC LIMIT 1)"""
    ).fetchone()
    at_work.db.execute(f"ALTER TABLE shop.stock_movements DETACH PARTITION {partition}")
    return lambda: at_work.db.execute(f"ALTER TABLE shop.stock_movements ATTACH PARTITION {partition} {bounds}")


@pytest.mark.parametrize("broken", ["without_a_right", "without_a_partition"])
def test_orders_of_both_doors_wait_until_a_broken_deployment_is_mended_and_are_then_placed(
    at_work: Mill, sku: str, broken: str, request: pytest.FixtureRequest
) -> None:
    mill, mend = at_work, request.getfixturevalue(broken)
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

    assert wait_until(lambda: "back to the queue" in mill.logs(), 30)
    assert "Traceback" not in mill.logs()
    mend()
    mill.send("orders.drain", 3, queue="maintenance")

    assert [result.get(timeout=60)["status"] for result in results] == ["placed"] * 3
    assert wait_until(lambda: mill.all_decided(by_sql), 30)
    assert mill.orders_by_key(by_celery + by_sql) == [1] * 6
    assert mill.shop.value("SELECT count(*) FROM shop.dead_letters WHERE key = ANY (%s)",
                           [each["key"] for each in by_celery + by_sql]) == 0  # fmt: skip
