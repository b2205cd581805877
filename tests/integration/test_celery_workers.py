"""Workers start as anyone expects, and each kind takes from Redis in its own way."""

import threading
import time
from typing import Any

from celery import Celery

from tests.shop import order
from tests.workers_fixtures import Mill, end
from workers.child import wait_until


def test_the_plain_command_starts_an_orders_worker(fresh_mill: Mill) -> None:
    fresh_mill.shop.stock("A", "E1", 1)
    worker = fresh_mill.start("plain", "worker", "-Q", "orders")

    outcome = fresh_mill.call("orders.place", order(None, ("A", 1)))

    assert outcome["status"] == "placed"
    assert end(worker) == 0


def test_the_plain_command_starts_a_worker_of_every_queue(fresh_mill: Mill) -> None:
    fresh_mill.shop.stock("A", "E1", 3)
    fresh_mill.start("plain", "worker", "--concurrency=1")

    fresh_mill.send("orders.sweep", queue="maintenance")
    adjusted = fresh_mill.call(
        "inventory.adjust", {"sku": "A", "location": "E1", "quantity": 1, "reason": "r"}, queue="inventory"
    )
    placed = [fresh_mill.call("orders.place", order(None, ("A", 1)), queue=queue) for queue in ("orders", None)]

    assert [outcome["status"] for outcome in (adjusted, *placed)] == ["done", "placed", "placed"]


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


def test_a_warm_stop_of_an_idle_worker_is_quick_and_clean(fresh_mill: Mill) -> None:
    worker = fresh_mill.orders_worker()
    late = threading.Timer(30, worker.ask)
    late.start()

    assert end(worker) == 0

    late.cancel()
    assert not fresh_mill.broker.keys("*unacked*")


def node_of(log: str) -> str:
    return next(line for line in log.splitlines() if line.endswith(" ready.")).split()[-2]
