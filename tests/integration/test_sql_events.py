"""Events: each step of an order tells itself once, and a level tells when it crosses its threshold or zero."""

from typing import Any

import pytest

from tests.shop import Shop, order


@pytest.fixture
def shop(scratch: Shop) -> Shop:
    scratch.stock("A", "E1", 10, cap=5, threshold=3)
    scratch.db.execute("DELETE FROM shop.events_inbox")  # that of the opening
    return scratch


def told(shop: Shop, kinds: str) -> list[str]:
    return shop.rows("SELECT kind FROM shop.events_inbox WHERE kind LIKE %s ORDER BY created_at, id", kinds)


def buy(shop: Shop, quantity: int) -> None:
    assert shop.place(order(None, ("A", quantity)))[0]["status"] == "placed"


def adjust(shop: Shop, key: str, quantity: int) -> None:
    assert shop.value("SELECT api.adjust_inventory(%s, 'A', 'E1', %s, 'count')", key, quantity)["status"] == "done"


def test_a_level_is_low_once_out_once_and_recovered_once(shop: Shop) -> None:
    steps: list[list[str]] = []

    def step(quantity: int) -> None:
        before = len(told(shop, "stock.%"))
        adjust(shop, f"step {len(steps)}", quantity)
        steps.append(told(shop, "stock.%")[before:])

    for quantity in (-6, -1, -1, -1, -1, -1, +2, +3, +1):
        step(quantity)

    # 10 -> 4 -> 3 -> 2 -> 1 -> 0 -> -1 -> 1 -> 4 -> 5
    assert steps == [[], ["stock.low"], [], [], ["stock.out"], [], [], ["stock.recovered"], []]


def test_a_level_that_falls_all_the_way_is_low_and_out(shop: Shop) -> None:
    buy(shop, 12)

    assert sorted(told(shop, "stock.%")) == ["stock.low", "stock.out"]
    payload = shop.value("SELECT payload FROM shop.events_inbox WHERE kind = 'stock.out'")
    assert (payload["available"], payload["before"], payload["threshold"]) == (-2, 10, 3)


def test_a_level_without_a_threshold_has_that_of_its_category(shop: Shop) -> None:
    shop.db.execute("UPDATE shop.categories SET low_stock_threshold = 5")
    shop.stock("B", "E1", 6)

    shop.place(order(None, ("B", 1)))

    assert told(shop, "stock.%")[-1] == "stock.low"


def test_each_step_of_an_order_is_one_event_of_its_stream(shop: Shop) -> None:
    [held] = shop.hold(order("k", ("A", 1)))
    shop.confirm(held["order_id"])
    shop.cancel(held["order_id"])
    shop.cancel(held["order_id"])

    events: list[dict[str, Any]] = shop.maps(
        "SELECT kind, payload FROM shop.events_inbox WHERE stream = %s ORDER BY created_at, id",
        f"order:{held['order_id']}",
    )
    assert [event["kind"] for event in events] == ["order.held", "order.placed", "order.cancelled"]
    assert [(event["payload"]["from"], event["payload"]["status"]) for event in events] == [
        ("new", "held"),
        ("held", "placed"),
        ("placed", "cancelled"),
    ]
    assert {event["payload"]["key"] for event in events} == {"k"}
    assert events[-1]["payload"]["reason"] == "changed their mind"


def test_an_update_that_changes_no_status_is_no_step(shop: Shop) -> None:
    buy(shop, 1)
    before = (shop.count("events_inbox"), shop.count("order_status_history"))

    shop.db.execute("UPDATE shop.orders SET status = status")

    assert (shop.count("events_inbox"), shop.count("order_status_history")) == before


def test_a_rejected_order_is_no_event(shop: Shop) -> None:
    shop.place(order(None, ("A", 99)))

    assert told(shop, "%") == []
