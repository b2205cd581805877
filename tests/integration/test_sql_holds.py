"""Holds: reserved for a while, then confirmed, cancelled or expired, and only one of them."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.shop import Shop, fingerprint, order
from tests.waiting import Step

Connect = Callable[[str], psycopg.Connection[Any]]


@pytest.fixture
def stocked(scratch: Shop) -> Shop:
    scratch.stock("A", "E1", 2)
    scratch.stock("A", "E2", 3, cap=1)
    return scratch


def held(shop: Shop, quantity: int = 4) -> str:
    [outcome] = shop.hold(order(None, ("A", quantity)))
    assert outcome["status"] == "held", outcome
    return str(outcome["order_id"])


def run_out(shop: Shop) -> None:
    """As if time had passed: a hold is asked for seconds at least, and a test does not wait."""
    shop.db.execute(
        "UPDATE shop.order_allocations SET expires_at = clock_timestamp() - interval '1 s' WHERE state = 'held'"
    )


def levels(shop: Shop) -> list[dict[str, int]]:
    return [shop.level("A", "E1"), shop.level("A", "E2")]


def test_a_hold_reserves_and_its_confirmation_commits(stocked: Shop) -> None:
    order_id = held(stocked)
    assert levels(stocked) == [{"held": 2}, {"available": 1, "held": 2}]
    assert stocked.value("SELECT min(expires_at) > now() + interval '14 min' FROM shop.order_allocations")

    done = stocked.confirm(order_id)

    assert (done["status"], done["order_id"]) == ("done", order_id)
    assert levels(stocked) == [{"committed": 2}, {"available": 1, "committed": 2}]
    assert stocked.steps(order_id) == ["held", "placed"]
    assert stocked.value("SELECT count(*) FROM shop.order_allocations WHERE expires_at IS NOT NULL") == 0


def test_a_confirmation_is_given_again_under_its_key_and_refused_under_another(stocked: Shop) -> None:
    order_id = held(stocked)
    first = stocked.confirm(order_id, "c")
    before = fingerprint(stocked.db)

    assert stocked.confirm(order_id, "c") == first
    assert fingerprint(stocked.db) == before
    assert stocked.confirm(order_id, "d")["code"] == "OM016"
    assert stocked.steps(order_id) == ["held", "placed"]


def test_a_hold_that_ran_out_cannot_be_confirmed(stocked: Shop) -> None:
    order_id = held(stocked)
    run_out(stocked)
    before = fingerprint(stocked.db) | {"request_keys": ""}

    refused = stocked.confirm(order_id, "c")

    assert (refused["code"], refused["field"]) == ("OM021", "order_id")
    assert fingerprint(stocked.db) | {"request_keys": ""} == before


def test_expiry_gives_the_stock_back_once(stocked: Shop) -> None:
    order_id, later = held(stocked, 3), held(stocked, 2)
    stocked.db.execute(
        "UPDATE shop.order_allocations SET expires_at = clock_timestamp() - interval '1 s' WHERE order_id = %s",
        [order_id],
    )

    assert stocked.value("SELECT api.expire_holds()") == 1
    assert stocked.value("SELECT api.expire_holds()") == 0
    assert (stocked.status(order_id), stocked.status(later)) == ("expired", "held")
    assert levels(stocked) == [{"available": 2}, {"available": 1, "held": 2}]
    assert stocked.confirm(order_id)["code"] == "OM021"
    assert stocked.cancel(order_id)["code"] == "OM016"


def test_a_cancelled_hold_gives_its_stock_and_backorders_back(stocked: Shop) -> None:
    order_id = held(stocked, 6)
    assert levels(stocked) == [{"held": 2}, {"available": -1, "held": 4}]

    assert stocked.cancel(order_id)["status"] == "done"

    assert levels(stocked) == [{"available": 2}, {"available": 3}]
    assert stocked.steps(order_id) == ["held", "cancelled"]
    assert stocked.value("SELECT status_reason FROM shop.orders") == "changed their mind"


def test_what_is_held_cannot_be_sold(stocked: Shop) -> None:
    held(stocked, 5)

    assert stocked.place(order(None, ("A", 2)))[0]["code"] == "OM001"
    assert stocked.place(order(None, ("A", 1)))[0]["status"] == "placed"


def test_an_unknown_order_is_om015_and_a_placed_one_is_no_hold(stocked: Shop) -> None:
    nobody = "01900000-0000-7000-8000-000000000000"
    [placed] = stocked.place(order(None, ("A", 1)))

    assert stocked.confirm(nobody)["code"] == "OM015"
    assert stocked.cancel(nobody)["code"] == "OM015"
    assert stocked.confirm(placed["order_id"])["code"] == "OM016"
    assert stocked.cancel(placed["order_id"], reason="\x07")["code"] == "OM013"


def test_expiry_works_in_bounded_batches(stocked: Shop) -> None:
    for _ in range(3):
        held(stocked, 1)
    run_out(stocked)

    assert [stocked.value("SELECT api.expire_holds(2)") for _ in range(3)] == [2, 1, 0]


def test_expiry_skips_an_order_that_is_being_confirmed(shop: Shop, connect_as: Connect) -> None:
    shop.stock("A", "E1", 3)
    confirmed, due = held(shop, 1), held(shop, 1)
    customer = connect_as("owner")

    customer.execute("BEGIN")
    customer.execute("SELECT FROM shop.orders WHERE id = %s FOR NO KEY UPDATE", [confirmed])
    run_out(shop)
    assert shop.value("SELECT api.expire_holds()") == 1
    assert (shop.status(confirmed), shop.status(due)) == ("held", "expired")
    customer.execute("COMMIT")

    assert shop.value("SELECT api.expire_holds()") == 1
    assert shop.level("A", "E1") == {"available": 3}


def test_a_confirmation_waits_for_an_expiry_under_way_and_then_is_refused(shop: Shop, connect_as: Connect) -> None:
    shop.stock("A", "E1", 3)
    order_id = held(shop, 1)
    run_out(shop)
    sweeper, customer = connect_as("ordermill_maintainer"), connect_as("ordermill_app")

    sweeper.execute("BEGIN")
    assert sweeper.execute("SELECT api.expire_holds()").fetchone() == (1,)
    confirming = Step(customer, "SELECT api.confirm_order('c', %s)", [order_id]).waits(shop.db)
    sweeper.execute("COMMIT")

    assert confirming.result()[0][0]["code"] == "OM021"
    assert shop.status(order_id) == "expired"
    assert shop.level("A", "E1") == {"available": 3}
