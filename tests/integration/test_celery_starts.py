"""Workers that somebody starts, by hand too, and stops: each test has a shop and a Redis to itself."""

import threading

from tests.shop import order
from tests.workers_fixtures import Mill, end


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


def test_a_warm_stop_of_an_idle_worker_is_quick_and_clean(fresh_mill: Mill) -> None:
    worker = fresh_mill.orders_worker()
    late = threading.Timer(30, worker.ask)
    late.start()

    assert end(worker) == 0

    late.cancel()
    assert not fresh_mill.broker.keys("*unacked*")
