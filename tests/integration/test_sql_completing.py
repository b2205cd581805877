"""Completing: a placed order has left, its stock is the customer's, once; and what is not there cannot leave."""

import pytest

from tests.shop import Shop, order


@pytest.fixture
def shop(scratch: Shop) -> Shop:
    """Ten of A: four at E1, six at E2, where five more may be owed."""
    scratch.stock("A", "E1", 4)
    scratch.stock("A", "E2", 6, cap=5)
    return scratch


def placed(shop: Shop, quantity: int) -> str:
    [outcome] = shop.place(order(None, ("A", quantity)))
    return str(outcome["order_id"])


def test_the_stock_of_a_completed_order_is_the_customers(shop: Shop) -> None:
    order_id = placed(shop, 7)

    done = shop.complete(order_id, "left")

    assert (done["status"], done["order_id"]) == ("done", order_id)
    assert shop.steps(order_id) == ["placed", "in_fulfilment", "completed"]
    assert (shop.level("A", "E1"), shop.level("A", "E2")) == ({}, {"available": 3})
    moved = shop.rows("SELECT quantity FROM shop.stock_movements WHERE to_account = 'customer' ORDER BY quantity")
    assert moved == [3, 4]
    assert shop.rows("SELECT DISTINCT state FROM shop.order_allocations") == ["fulfilled"]


def test_the_same_key_completes_once_and_another_is_told_that_it_is_completed(shop: Shop) -> None:
    order_id = placed(shop, 1)

    assert shop.complete(order_id, "left") == shop.complete(order_id, "left")

    again = shop.complete(order_id, "left again")
    assert (again["status"], again["code"], again["field"]) == ("rejected", "OM016", "order_id")
    assert shop.cancel(order_id)["code"] == "OM016"


def test_a_backorder_leaves_when_its_goods_are_there(shop: Shop) -> None:
    order_id = placed(shop, 12)
    assert shop.level("A", "E2") == {"available": -2, "committed": 8}

    early = shop.complete(order_id)
    assert (early["code"], early["field"]) == ("OM001", "order_id")
    assert shop.steps(order_id) == ["placed"]

    shop.value("SELECT api.receive_stock('goods', 'E2', '[{\"sku\": \"A\", \"quantity\": 2}]')")
    assert shop.complete(order_id)["status"] == "done"
    assert (shop.level("A", "E1"), shop.level("A", "E2")) == ({}, {})


@pytest.mark.parametrize("status", ["held", "cancelled"])
def test_only_a_placed_order_is_completed(shop: Shop, status: str) -> None:
    [held] = shop.hold(order(None, ("A", 1)))
    if status == "cancelled":
        shop.cancel(held["order_id"])

    assert shop.complete(held["order_id"])["code"] == "OM016"


def test_an_order_that_there_is_not_is_not_completed(shop: Shop) -> None:
    assert shop.complete("0190a2b3-0000-7000-8000-000000000000")["code"] == "OM015"
    assert shop.value("SELECT api.complete_order('none', NULL) ->> 'code'") == "OM015"
