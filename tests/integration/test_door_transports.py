"""Stock Celery is one setting away, the two transports take over each other's messages, what cannot be is refused."""

from typing import Any

import pytest

from tests.door import UNACKED, at_rest, by_hand, compact, in_hand
from tests.shop import order
from tests.workers_fixtures import Mill, end, kill, ready
from workers.child import Child, wait_until

pytestmark = pytest.mark.usefixtures("patient")
TRANSPORTS = ("batch", "stock")
# An application of somebody who adds to ours, in a module of their own.
OTHERS = """
from workers.app import app

app.conf.broker_transport_options = app.conf.broker_transport_options | {"global_keyprefix": "shop."}
"""


def begin(mill: Mill, transport: str) -> Child:
    return mill.start_worker(transport, "orders", "-P", "solo", ORDERMILL_ORDERS_TRANSPORT=transport)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_either_transport_places_orders(mill: Mill, sku: str, transport: str) -> None:
    worker = ready(begin(mill, transport))
    requests = [order(None, (sku, 1)) for _ in range(12)]

    results = [mill.send("orders.place", request, priority=place % 10) for place, request in enumerate(requests)]

    assert sorted(result.get(timeout=60)["status"] for result in results) == ["placed"] * 10 + ["rejected"] * 2
    assert at_rest(mill)
    assert transport_of(mill, worker) == transport
    assert end(worker) == 0


def transport_of(mill: Mill, worker: Child) -> str:
    """By what it takes at once while it is inside a transaction: all that waits, or no more than was fetched before."""
    mill.shop.stock(f"PROBE-{worker.name}", "E1", 50)
    requests = [order(None, (f"PROBE-{worker.name}", 1)) for _ in range(50)]
    with mill.locked_stock(f"PROBE-{worker.name}"):
        mill.broker.lpush("orders", *(compact(by_hand(request)) for request in requests))
        mill.wait_blocked()
        taken = in_hand(mill)
    assert mill.all_decided(requests)
    assert mill.orders_by_key(requests) == [1] * 50
    assert at_rest(mill)
    return "batch" if taken == 50 else "stock"


@pytest.mark.parametrize(("dies", "survives"), [TRANSPORTS, TRANSPORTS[::-1]], ids=["batch to stock", "stock to batch"])
def test_what_one_transport_left_behind_the_other_takes_over(mill: Mill, sku: str, dies: str, survives: str) -> None:
    worker = ready(begin(mill, dies))
    # With an exchange, as Python clients send them, and without one, as others do.
    requests = [order(None, (sku, 1)) for _ in range(8)]
    with mill.locked_stock(sku):
        for place, request in enumerate(requests):
            if place % 2:
                mill.send("orders.place", request, priority=(0, 3, 6, 9)[place // 2], ignore_result=True)
            else:
                mill.broker.lpush("orders", compact(by_hand(request, ignore_result=True)))
        backends = mill.wait_blocked()
        kill(worker)
        mill.terminate(backends)
    assert mill.broker.exists(UNACKED)

    heir = ready(begin(mill, survives))

    assert mill.all_decided(requests)
    assert mill.orders_by_key(requests) == [1] * 8
    assert at_rest(mill)
    assert end(heir) == 0


def refused(child: Child) -> str:
    """The one line that a process says which does not start."""
    assert wait_until(lambda: not child.alive(), 60)
    assert child.process is not None
    assert child.process.returncode == 1
    lines = [line for line in child.log.read_text().splitlines() if line]
    assert len(lines) == 1, lines
    return lines[0]


def test_what_an_orders_worker_cannot_work_with_is_refused_in_one_line(mill: Mill) -> None:
    (mill.folder / "others.py").write_text(OTHERS)
    command: tuple[Any, ...] = ("worker", "-Q", "orders", "-P", "solo")
    two = f"{mill.broker_url};{mill.broker_url}"

    prefixed = mill.start("prefixed", *command, app="others")
    several = mill.start("several", *command, CELERY_BROKER_URL=two)
    second = mill.start("second", "worker", "-Q", "orders,inventory", "-P", "solo")
    unknown = mill.start("unknown", *command, ORDERMILL_ORDERS_TRANSPORT="quick")

    assert "a global key prefix" in refused(prefixed)
    assert "no second queue" in refused(second)
    assert "several broker URLs" in refused(several)
    assert "ORDERMILL_ORDERS_TRANSPORT" in refused(unknown)


def test_with_the_stock_transport_they_are_not_refused(mill: Mill, sku: str) -> None:
    two = f"{mill.broker_url};{mill.broker_url}"
    worker = mill.start_worker(
        "several", "orders", "-P", "solo", CELERY_BROKER_URL=two, ORDERMILL_ORDERS_TRANSPORT="stock"
    )

    assert mill.call("orders.place", order(None, (sku, 1)))["status"] == "placed"
    assert end(worker) == 0


def test_a_worker_of_orders_and_a_second_queue_serves_both_with_the_stock_transport(mill: Mill, sku: str) -> None:
    worker = mill.start_worker("both", "orders,inventory", "-P", "solo", ORDERMILL_ORDERS_TRANSPORT="stock")

    adjust = {"sku": sku, "location": "E1", "quantity": 1, "reason": "found"}
    assert mill.call("inventory.adjust", adjust, queue="inventory")["status"] == "done"
    assert mill.call("orders.place", order(None, (sku, 1)))["status"] == "placed"
    assert end(worker) == 0
