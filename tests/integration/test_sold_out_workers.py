"""Refusing what is sold out over the wire: real workers with ORDERMILL_REFUSE_SOLD_OUT=on, and what they leave."""

import secrets
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from tests.door import at_rest, by_hand, listening, push
from tests.scrape import exporting
from tests.shop import Outcome, new_key, order
from tests.workers_fixtures import RESULT_SECONDS, Mill, end
from workers.child import wait_until
from workers.sold_out import AGAIN_SECONDS

# Ordermill, but that a look at the stock is believed for a minute: a machine that stands still for a second makes it
# decide what these tests want refused.
TRUSTING_APP = """
import workers.sold_out
from workers.app import app

workers.sold_out.TRUSTED_SECONDS = 60.0
"""


@pytest.fixture
def mill(module_mill: Mill, mill: Mill) -> Mill:
    """The module's mill, whose workers refuse, and count."""
    module_mill.env |= {
        "ORDERMILL_REFUSE_SOLD_OUT": "on",
        "ORDERMILL_METRICS_DIR": str(module_mill.folder / "metrics"),
    }
    return mill


@pytest.fixture
def door(mill: Mill, request: pytest.FixtureRequest) -> Mill:
    """One orders worker, of `trusting_app` unless a test names another app, and no other worker."""
    app = getattr(request, "param", "trusting_app")
    (mill.folder / "trusting_app.py").write_text(TRUSTING_APP)
    for child in mill.orders_workers:
        if child.alive() and child.mark != app:
            end(child)
    if not any(child.alive() for child in mill.orders_workers):
        mill.orders_workers.append(mill.start_worker("orders", "orders", "-P", "solo", app=app))
    mill.living(1)
    return mill


@pytest.fixture
def gone(door: Mill) -> Iterator[str]:
    """A sku of this test's own without a unit, which the worker knows to be sold out."""
    sku = f"GONE-{secrets.token_hex(4)}"
    door.shop.stock(sku, "E1", 0)
    assert wait_until(lambda: door.call("orders.place", order(None, (sku, 1)))["status"] == "refused", 60)
    yield sku
    assert at_rest(door)


def in_one_fetch(mill: Mill, sku: str, requests: list[Outcome], first: Outcome | None = None) -> list[Outcome]:
    """Sends all while the worker is inside the transaction of the first, so that they come together; their outcomes."""
    with mill.locked_stock(sku):
        mill.send("orders.place", first or order(None, (sku, 1)), ignore_result=True)
        mill.wait_blocked()
        results = [mill.send("orders.place", request) for request in requests]
    return [result.get(timeout=RESULT_SECONDS) for result in results]


def receive(mill: Mill, sku: str, quantity: int) -> None:
    lines = Jsonb([{"sku": sku, "quantity": quantity}])
    assert mill.shop.value("SELECT api.receive_stock(%s, 'E1', %s)", new_key(), lines)["status"] == "done"


def test_a_flash_sale_sells_each_unit_once_and_refuses_the_rest_until_there_is_more(door: Mill, sku: str) -> None:
    first, *requests = [order(None, (sku, 1)) for _ in range(401)]
    time.sleep(AGAIN_SECONDS)  # the worker may have looked for another test a moment ago, and looks no more often

    outcomes = in_one_fetch(door, sku, requests, first)

    counted = Counter(outcome["status"] for outcome in outcomes)
    # Where sending takes longer than the first may wait for its lock, it goes behind all others.
    assert counted["placed"] + sum(door.orders_by_key([first])) == 10
    assert counted["placed"] + counted["rejected"] + counted["refused"] == 400
    assert counted["refused"] > 200
    refused = [request for request, outcome in zip(requests, outcomes, strict=True) if outcome["status"] == "refused"]
    assert door.outcomes(refused) == [None] * len(refused)
    assert door.orders_by_key(refused) == [0] * len(refused)

    assert at_rest(door)  # the first, where it went behind, is not to take of what comes
    receive(door, sku, 5)
    again = refused[:5]
    assert wait_until(lambda: door.call("orders.place", again[0])["status"] == "placed", 60)
    assert [door.call("orders.place", request)["status"] for request in again] == ["placed"] * 5
    assert door.orders_by_key(again) == [1] * 5
    assert door.shop.level(sku, "E1") == {"committed": 15}


@pytest.mark.parametrize("door", ["workers.app"], indirect=True)
def test_no_order_sent_more_than_a_second_after_stock_came_back_is_refused(door: Mill, gone: str) -> None:
    assert wait_until(lambda: door.call("orders.place", order(None, (gone, 1)))["status"] == "refused", 60)
    receive(door, gone, 1)
    back = time.monotonic()
    sent: list[tuple[float, str]] = []

    def placed() -> bool:
        after = time.monotonic() - back
        sent.append((after, door.call("orders.place", order(None, (gone, 1)))["status"]))
        return sent[-1][1] == "placed"

    assert wait_until(placed, 60)
    assert all(after <= 1.0 for after, status in sent if status == "refused"), sent


def test_a_batch_gets_each_its_own_answer_and_the_stored_ones_win(door: Mill, sku: str, gone: str) -> None:
    before = order(None, (sku, 1))
    placed = door.call("orders.place", before)
    requests: list[Any] = [
        order(None, (gone, 1)),
        before,
        order(None, (sku, 1), (gone, 1)),
        order(None, ("NONE", 1)),
        order(None, (sku, 1)),
        order(None, (gone, "two")),
    ]

    outcomes = in_one_fetch(door, sku, requests)

    assert [(each["status"], each["code"], each["field"]) for each in outcomes] == [
        ("refused", "OM024", "lines[0].quantity"),
        ("placed", None, None),
        ("refused", "OM024", "lines[1].quantity"),
        ("rejected", "OM002", "lines[0].sku"),
        ("placed", None, None),
        ("rejected", "OM007", "lines[0].quantity"),
    ]
    assert outcomes[1] == placed
    assert door.shop.level(sku, "E1")["committed"] == 3


def test_a_refused_message_succeeds_is_told_of_and_is_acknowledged(door: Mill, gone: str) -> None:
    with listening(door.client) as seen:
        result = door.send("orders.place", order(None, (gone, 1)))
        assert result.get(timeout=RESULT_SECONDS)["status"] == "refused"
        told = {"task-received": 1, "task-started": 1, "task-succeeded": 1}
        assert wait_until(lambda: seen.of(result.id) == told, 30)

    assert result.state == "SUCCESS"


def test_place_many_refuses_each_alone(door: Mill, sku: str, gone: str) -> None:
    outcomes = door.call("orders.place_many", [order(None, (gone if n % 2 else sku, 1)) for n in range(20)])

    assert [each["status"] for each in outcomes] == ["placed", "refused"] * 10


@pytest.mark.parametrize("options", [{"expires": 600}, {"priority": 3}], ids=["alone", "together"])
def test_an_order_is_refused_however_its_message_is_run(door: Mill, gone: str, options: dict[str, int]) -> None:
    assert door.call("orders.place", order(None, (gone, 1)), **options)["status"] == "refused"


def test_a_message_that_a_worker_died_with_is_decided_and_not_refused(door: Mill, gone: str) -> None:
    request = order(None, (gone, 1))
    message = by_hand(request)
    message["properties"]["delivery_info"]["redelivered"] = True

    push(door, message)

    assert door.all_decided([request])
    assert (door.shop.outcome(request["key"]) or {})["status"] == "rejected"


def test_what_is_refused_is_counted_and_logged(door: Mill, gone: str) -> None:
    folder = door.folder / "metrics"
    with exporting(door.database_url, door.redis_url, door.broker_url, folder) as scrape:
        before = scrape.value("ordermill_requests_total", task="orders.place", outcome="refused")
        request = order(None, (gone, 1))
        door.call("orders.place", request)

        def counted() -> bool:
            now = scrape.value("ordermill_requests_total", task="orders.place", outcome="refused")
            return now == before + 1

        assert wait_until(counted, 30, 0.2)

    def logged() -> list[str]:
        return [line for line in door.living(1)[0].log.read_text().splitlines() if request["key"] in line]

    assert wait_until(lambda: bool(logged()), 30)
    line = logged()[0]
    assert "order refused" in line
    assert "code=OM024" in line
