"""Stock commands: adjust, receive and transfer, each once per key."""

from collections.abc import Callable

import pytest
from psycopg.types.json import Jsonb

from tests.shop import Outcome, Shop, fingerprint, order

Command = Callable[[Shop, str], Outcome]


@pytest.fixture
def stocked(scratch: Shop) -> Shop:
    scratch.stock("A", "E1", 10, cap=2)
    scratch.stock("B", "E1", 0)
    return scratch


def adjust(
    shop: Shop, key: str, quantity: int | None = -1, account: str = "available", *, sku: str = "A", place: str = "E1"
) -> Outcome:
    return shop.value("SELECT api.adjust_inventory(%s, %s, %s, %s, 'count', %s)", key, sku, place, quantity, account)


def receive(
    shop: Shop, key: str, *lines: tuple[str, int], place: str = "E2", source: str = "supplier", to: str = "available"
) -> Outcome:
    wanted = [{"sku": sku, "quantity": quantity} for sku, quantity in lines or [("A", 3)]]
    return shop.value("SELECT api.receive_stock(%s, %s, %s, %s, %s)", key, place, Jsonb(wanted), source, to)


def transfer(
    shop: Shop,
    key: str,
    quantity: int = 4,
    *,
    source: str = "E1",
    to: str = "E2",
    in_transit: bool = False,
    sku: str = "A",
) -> Outcome:
    arguments = (key, sku, source, to, quantity, in_transit)
    return shop.value("SELECT api.transfer_stock(%s, %s, %s, %s, %s, %s)", *arguments)


COMMANDS: dict[str, tuple[Command, Command]] = {
    "adjust": (adjust, lambda shop, key: adjust(shop, key, -2)),
    "receive": (receive, lambda shop, key: receive(shop, key, ("A", 4))),
    "transfer": (transfer, lambda shop, key: transfer(shop, key, 5)),
    "cancel": (lambda shop, key: shop.cancel(sold(shop), key), lambda shop, key: shop.cancel(sold(shop), key, "other")),
}


def sold(shop: Shop) -> str:
    return str(shop.place(order("sold", ("A", 1)))[0]["order_id"])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_done_once_per_key(stocked: Shop, name: str) -> None:
    command, other = COMMANDS[name]
    first = command(stocked, "k")
    before = fingerprint(stocked.db)

    assert first["status"] == "done"
    assert command(stocked, "k") == first
    assert other(stocked, "k")["code"] == "OM010"
    assert fingerprint(stocked.db) == before
    assert stocked.outcome("k") == first


@pytest.mark.parametrize("name", COMMANDS)
def test_a_key_of_an_order_cannot_be_that_of_a_command(stocked: Shop, name: str) -> None:
    sold(stocked)
    before = fingerprint(stocked.db)

    assert COMMANDS[name][0](stocked, "sold")["code"] == "OM010"
    assert fingerprint(stocked.db) == before


@pytest.mark.parametrize("key", [None, "", "k" * 201, "\x01"])
def test_a_command_without_a_usable_key_is_not_done(stocked: Shop, key: str) -> None:
    before = fingerprint(stocked.db)

    assert [adjust(stocked, key)["code"], receive(stocked, key)["code"], transfer(stocked, key)["code"]] == [
        "OM013"
    ] * 3
    assert fingerprint(stocked.db) == before


def test_an_adjustment_goes_down_to_the_backorder_cap_and_no_further(stocked: Shop) -> None:
    assert adjust(stocked, "a", -12)["status"] == "done"
    assert stocked.level("A", "E1") == {"available": -2}

    refused = adjust(stocked, "b", -1)

    assert (refused["code"], refused["field"]) == ("OM001", "quantity")
    assert stocked.level("A", "E1") == {"available": -2}


def test_unavailable_stock_is_adjusted_apart(stocked: Shop) -> None:
    adjust(stocked, "a", 3, "unavailable")

    assert stocked.level("A", "E1") == {"available": 10, "unavailable": 3}
    assert adjust(stocked, "b", -4, "unavailable")["code"] == "OM001"


def test_goods_are_announced_then_received(stocked: Shop) -> None:
    receive(stocked, "a", ("A", 3), ("A", 2), to="incoming")
    assert stocked.level("A", "E2") == {"incoming": 5}
    assert stocked.place(order(None, ("A", 13)))[0]["code"] == "OM001"

    assert receive(stocked, "b", ("A", 6), source="incoming")["code"] == "OM001"
    assert receive(stocked, "c", ("A", 4), source="incoming")["status"] == "done"
    assert stocked.level("A", "E2") == {"available": 4, "incoming": 1}


def test_a_transfer_is_at_once_or_by_way_of_in_transit(stocked: Shop) -> None:
    transfer(stocked, "a", 4)
    transfer(stocked, "b", 5, in_transit=True)
    assert stocked.level("A", "E2") == {"available": 4, "in_transit": 5}

    assert receive(stocked, "c", ("A", 6), source="in_transit")["code"] == "OM001"
    assert receive(stocked, "d", ("A", 5), source="in_transit", to="unavailable")["status"] == "done"
    assert stocked.level("A", "E2") == {"available": 4, "unavailable": 5}


def test_a_transfer_takes_only_goods_that_are_there(stocked: Shop) -> None:
    refused = transfer(stocked, "a", 11)

    assert (refused["code"], refused["field"]) == ("OM001", "quantity")
    assert stocked.level("A", "E1") == {"available": 10}


REFUSED: dict[str, tuple[Command, str, str]] = {
    "adjust by nothing": (lambda s, k: adjust(s, k, 0), "OM007", "quantity"),
    "adjust by null": (lambda s, k: adjust(s, k, None), "OM007", "quantity"),
    "adjust by too much": (lambda s, k: adjust(s, k, 10**9 + 1), "OM007", "quantity"),
    "adjust held": (lambda s, k: adjust(s, k, 1, "held"), "OM011", "account"),
    "adjust unknown sku": (lambda s, k: adjust(s, k, sku="X"), "OM002", "sku"),
    "adjust unknown location": (lambda s, k: adjust(s, k, place="X"), "OM017", "location"),
    "receive nothing": (lambda s, k: receive(s, k, ("A", 0)), "OM007", "lines[0].quantity"),
    "receive unknown sku": (lambda s, k: receive(s, k, ("A", 1), ("X", 1)), "OM002", "lines[1].sku"),
    "receive at unknown location": (lambda s, k: receive(s, k, place="X"), "OM017", "location"),
    "receive from customers": (lambda s, k: receive(s, k, source="customer"), "OM011", "from"),
    "receive to held": (lambda s, k: receive(s, k, to="held"), "OM011", "to"),
    "announce a transfer": (lambda s, k: receive(s, k, source="in_transit", to="incoming"), "OM011", "to"),
    "transfer backwards": (lambda s, k: transfer(s, k, -1), "OM007", "quantity"),
    "transfer to itself": (lambda s, k: transfer(s, k, 1, to="E1"), "OM011", "to"),
    "transfer from unknown": (lambda s, k: transfer(s, k, 1, source="X"), "OM017", "from"),
    "transfer to unknown": (lambda s, k: transfer(s, k, 1, to="X"), "OM017", "to"),
    "transfer unknown sku": (lambda s, k: transfer(s, k, 1, sku="X"), "OM002", "sku"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_command_is_refused_with_code_and_field_and_changes_only_its_key(stocked: Shop, name: str) -> None:
    command, code, field = REFUSED[name]
    before = fingerprint(stocked.db)

    refused = command(stocked, "k")

    assert (refused["status"], refused["code"], refused["field"]) == ("rejected", code, field)
    assert refused["message"].endswith(".")
    after = fingerprint(stocked.db)
    assert {table for table in after if after[table] != before[table]} == {"request_keys"}
    assert command(stocked, "k") == refused
