"""Workers start as anyone expects, and each kind takes from Redis in its own way."""

import time
from typing import Any

from celery import Celery

from tests.shop import order
from tests.workers_fixtures import Mill
from workers.child import wait_until


def settings_of(client: Celery, node: str) -> dict[str, Any]:
    [answer] = client.control.inspect(destination=[node], timeout=10).conf().values()
    return answer["broker_transport_options"]


def test_an_orders_worker_has_its_own_unacknowledged_set_and_a_short_timeout(at_work: Mill, sku: str) -> None:
    with at_work.locked_stock(sku):
        at_work.send("orders.place", order(None, (sku, 1)))
        at_work.wait_blocked()

        assert at_work.broker.hlen("orders.unacked") == at_work.broker.zcard("orders.unacked_index") == 1
        assert not at_work.broker.exists("unacked", "unacked_index")
    assert wait_until(lambda: not at_work.broker.exists("orders.unacked"), 10)


def test_a_general_worker_has_the_shared_set(at_work: Mill, sku: str) -> None:
    with at_work.locked_stock(sku):
        request = {"sku": sku, "location": "E1", "quantity": 1, "reason": "r"}
        result = at_work.send("inventory.adjust", request, queue="inventory")
        at_work.wait_blocked()

        assert at_work.broker.hlen("unacked") == at_work.broker.zcard("unacked_index") == 1
        assert not at_work.broker.exists("orders.unacked", "orders.unacked_index")
    assert result.get(timeout=30)["status"] == "done"


def test_only_an_orders_worker_redelivers_within_seconds(at_work: Mill) -> None:
    nodes = {child.name.partition("-")[0]: node_of(child.log.read_text()) for child in at_work.children}

    orders, general = (settings_of(at_work.client, nodes[name]) for name in ("orders", "general"))

    assert orders["visibility_timeout"] == 2
    assert general["visibility_timeout"] >= 60


def test_another_workers_long_task_is_not_run_twice(at_work: Mill, sku: str) -> None:
    """A general worker at work for longer than the orders workers' timeout keeps its message."""
    request = {"sku": sku, "location": "E1", "quantity": 1, "reason": "r"}
    with at_work.locked_stock(sku):
        result = at_work.send("inventory.adjust", request, queue="inventory")
        at_work.wait_blocked()
        started = time.monotonic()
        assert wait_until(lambda: time.monotonic() - started > 3.5, 10)
        assert at_work.broker.hlen("unacked") == 1
    assert result.get(timeout=30)["status"] == "done"
    assert at_work.shop.level(sku, "E1") == {"available": 11}


def node_of(log: str) -> str:
    return next(line for line in log.splitlines() if line.endswith(" ready.")).split()[-2]
