"""How much orders workers take at once: never more than the limit, whatever waits, and they share a backlog."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.door import at_rest, backlog, by_hand, compact, in_hand, node_of
from tests.shop import order
from tests.workers_fixtures import PATIENT, Mill, end, kill, ready
from workers.child import Child, wait_until

LIMIT = 10


def begin(mill: Mill) -> Child:
    return mill.start_worker("small", "orders", "-P", "solo", ORDERMILL_ORDERS_PREFETCH=str(LIMIT))


@pytest.fixture(scope="module")
def two(module_mill: Mill) -> list[Child]:
    """Two workers with a small limit; neither takes over what the other has in hand for long."""
    module_mill.env |= PATIENT | {"ORDERMILL_VISIBILITY_TIMEOUT": "60"}
    return [ready(child) for child in [begin(module_mill) for _ in range(2)]]


def done_by(mill: Mill, child: Child) -> int:
    stats = mill.client.control.inspect(destination=[node_of(child)], timeout=30).stats()
    return int(stats[node_of(child)]["total"].get("orders.place", 0))


def test_two_workers_share_a_backlog_and_neither_takes_more_than_its_limit(
    mill: Mill, two: list[Child], sku: str
) -> None:
    mill.shop.stock("MANY", "E1", 400)
    requests = [order(None, ("MANY", 1)) for _ in range(400)]
    before = [done_by(mill, child) for child in two]
    with mill.locked_stock("MANY"):
        mill.broker.lpush("orders", *(compact(by_hand(request, ignore_result=True)) for request in requests))
        mill.wait_blocked(2)
        assert 2 <= in_hand(mill) <= 2 * LIMIT
        assert in_hand(mill) + backlog(mill) == 400
    most = 0

    def decided() -> bool:
        nonlocal most
        most = max(most, in_hand(mill))
        return mill.all_decided(requests, 0)

    assert wait_until(decided, 60, 0.005)
    assert most <= 2 * LIMIT
    assert mill.orders_by_key(requests) == [1] * 400
    assert at_rest(mill)
    shares = [done_by(mill, child) - earlier for child, earlier in zip(two, before, strict=True)]
    assert sum(shares) == 400
    assert min(shares) >= 1


def test_messages_that_wait_for_their_time_do_not_keep_others_out(mill: Mill, two: list[Child], sku: str) -> None:
    """They stay in hand, more of them than the limit; a worker that stops gives them back as they came."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    later = [order(None, (sku, 1)) for _ in range(3 * LIMIT)]
    for request in later:
        mill.send("orders.place", request, eta=tomorrow)
    assert wait_until(lambda: in_hand(mill) == len(later), 30)

    assert mill.call("orders.place", order(None, (sku, 1)))["status"] == "placed"

    assert wait_until(lambda: in_hand(mill) == len(later), 30)
    assert end(two.pop()) == 0
    assert wait_until(lambda: in_hand(mill) == len(later), 30)  # the other has them all
    kill(two.pop())
    mill.broker.delete("orders.unacked", "orders.unacked_index")
    assert mill.outcomes(later) == [None] * len(later)
