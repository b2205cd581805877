"""What placing writes: one order seen from each side, splits, backorders, currencies and addresses."""

from typing import Any

import pytest
from psycopg.types.json import Jsonb

from tests.shop import Shop, fingerprint, order, typed


@pytest.fixture
def shop(scratch: Shop) -> Shop:
    return scratch


def test_a_placed_order_has_its_lines_allocations_movements_history_event_and_key(shop: Shop) -> None:
    shop.stock("A", "E1", 5)
    shop.stock("B", "E1", 5)

    [outcome] = shop.place(order("k", ("A", 2), ("B", 1), ordered_at="2026-01-01T10:00:00Z", ship_to="home"))

    order_id = outcome["order_id"]
    assert outcome == {
        "key": "k",
        "status": "placed",
        "order_id": order_id,
        "code": None,
        "field": None,
        "message": None,
    }
    [head] = shop.maps("SELECT *, ordered_at AT TIME ZONE 'UTC' AS day FROM shop.orders")
    assert (str(head["id"]), head["status"], head["total_amount"], head["currency"]) == (order_id, "placed", 300, "USD")
    assert head["day"].isoformat() == "2026-01-01T10:00:00"
    assert head["address_id"] is not None
    lines = shop.maps(
        "SELECT line_no, quantity, backordered, unit_amount, total_amount FROM shop.order_lines ORDER BY id"
    )
    assert [tuple(line.values()) for line in lines] == [(1, 2, 0, 100, 200), (2, 1, 0, 100, 100)]
    assert shop.rows("SELECT state FROM shop.order_allocations") == ["committed", "committed"]
    assert shop.level("A", "E1") == {"available": 3, "committed": 2}
    assert shop.steps(order_id) == ["placed"]
    assert shop.rows("SELECT kind FROM shop.events_inbox WHERE stream = %s", f"order:{order_id}") == ["order.placed"]
    assert shop.outcome("k") == outcome


def test_the_id_of_an_order_tells_when_and_its_parts_follow_it(shop: Shop) -> None:
    shop.stock("A", "E1", 5)

    shop.place(order("k", ("A", 1)))

    assert shop.value(
        "SELECT id BETWEEN shop.uuid7_floor(now() - interval '60 s') AND shop.uuid7_floor(now() + interval '60 s')"
        " FROM shop.orders"
    )
    ids = shop.rows("SELECT id::text FROM shop.orders UNION SELECT id::text FROM shop.order_lines ORDER BY 1")
    assert (ids[0][-4:], ids[1][-4:]) == ("0000", "0001")
    assert ids[0][:-4] == ids[1][:-4]
    assert ids[0][14] == "7"


def test_a_line_is_split_by_priority_and_backordered_last(shop: Shop) -> None:
    shop.stock("A", "E2", 3, cap=4)
    shop.stock("A", "E1", 2)
    shop.stock("A", "E3", 1, cap=9)

    shop.place(order("k", ("A", 8)))

    taken = {name: shop.level("A", name) for name in ("E1", "E2", "E3")}
    assert taken == {
        "E1": {"committed": 2},
        "E2": {"available": -2, "committed": 5},
        "E3": {"committed": 1},
    }
    assert shop.value("SELECT backordered FROM shop.order_lines") == 2


def test_a_backordered_level_takes_only_what_its_cap_still_allows(shop: Shop) -> None:
    shop.stock("A", "E1", 1, cap=3)

    first, second, third = shop.place(order("a", ("A", 3)), order("b", ("A", 2)), order("c", ("A", 1)))

    assert [first["status"], second["code"], third["status"]] == ["placed", "OM001", "placed"]
    assert shop.level("A", "E1") == {"available": -3, "committed": 4}


def test_an_order_is_served_from_its_own_pool_only(shop: Shop) -> None:
    shop.stock("A", "E1", 1)
    shop.stock("A", "W1", 9)
    before = shop.level("A", "W1")

    [outcome] = shop.place(order("k", ("A", 2)))

    assert (outcome["code"], outcome["field"]) == ("OM001", "lines[0].quantity")
    assert outcome["message"] == "Only 1 of the 2 asked of sku A can be had in pool EAST; ask for fewer."
    assert shop.level("A", "W1") == before


def test_duplicate_lines_of_a_variant_are_one_line_where_the_first_stood(shop: Shop) -> None:
    shop.stock("A", "E1", 9)
    shop.stock("B", "E1", 9)

    shop.place(order("k", ("B", 1), ("A", 2), ("B", 3)))

    lines = shop.maps(
        "SELECT v.sku, l.line_no, l.quantity FROM shop.order_lines AS l JOIN shop.product_variants AS v"
        " ON v.id = l.variant_id ORDER BY l.line_no"
    )
    assert [tuple(line.values()) for line in lines] == [("B", 1, 4), ("A", 2, 2)]


def test_the_units_of_a_rejected_order_serve_those_behind_it(shop: Shop) -> None:
    shop.stock("A", "E1", 3)

    outcomes = shop.place(*(order(str(n), ("A", quantity)) for n, quantity in enumerate([2, 2, 1, 1])))

    assert [outcome["status"] for outcome in outcomes] == ["placed", "rejected", "placed", "rejected"]
    assert outcomes[3]["message"] == "Sku A is sold out in pool EAST."


@pytest.mark.parametrize(
    ("quantities", "code"),
    [([], "OM008"), (None, "OM008"), ([1, 1], "OM008"), ([0], "OM007"), ([-1], "OM007"), ([None], "OM007")],
)
def test_typed_values_that_no_door_would_let_through_become_no_order(
    shop: Shop, quantities: list[Any] | None, code: str
) -> None:
    shop.stock("A", "E1", 3)
    skus = ["A"] if quantities else quantities
    bad, twin = ({**typed(order(None, ("A", 1))), "skus": skus, "quantities": quantities} for _ in range(2))
    good = typed(order(None, ("A", 1)))

    outcomes = shop.rows("SELECT api.place_orders(%s)", Jsonb([bad, good]))

    assert [(outcome["status"], outcome["code"]) for outcome in outcomes] == [("rejected", code), ("placed", None)]
    assert shop.value("SELECT api.place_order(%s)", Jsonb(twin))["code"] == code
    assert shop.verify() == []


def test_a_rejected_order_writes_nothing_but_its_key(shop: Shop) -> None:
    shop.stock("A", "E1", 3)
    shop.variant("GONE", active=False)
    shop.variant("YEN", currency="JPY")
    before = fingerprint(shop.db)

    for lines, code, field in (
        ([("A", 4)], "OM001", "lines[0].quantity"),
        ([("A", 1), ("NONE", 1)], "OM002", "lines[1].sku"),
        ([("A", 1), ("GONE", 1)], "OM014", "lines[1].sku"),
        ([("YEN", 1)], "OM006", "currency"),
    ):
        both = (shop.place(order(None, *lines))[0], shop.place_one(order(None, *lines)))
        assert [(each["code"], each["field"], each["order_id"]) for each in both] == [(code, field, None)] * 2
        assert both[0]["message"] == both[1]["message"]

    changed = {name for name, digest in fingerprint(shop.db).items() if digest != before[name]}
    assert changed == {"request_keys"}


def test_a_batch_gives_an_outcome_each_in_order_for_twins_and_conflicts_too(shop: Shop) -> None:
    shop.stock("A", "E1", 9)
    first = order("a", ("A", 1))

    outcomes = shop.place(first, order("b", ("NONE", 1)), first, order("a", ("A", 2)), order("c", ("A", 1)))

    assert [(each["key"], each["status"], each["code"]) for each in outcomes] == [
        ("a", "placed", None),
        ("b", "rejected", "OM002"),
        ("a", "placed", None),
        ("a", "rejected", "OM010"),
        ("c", "placed", None),
    ]
    assert outcomes[2] == outcomes[0]
    assert shop.count("orders") == 2


def test_an_empty_batch_is_no_error(shop: Shop) -> None:
    assert shop.place() == []
    assert shop.submit() == []
    assert shop.hold() == []
    assert shop.rows("SELECT api.submit_orders(NULL::text[])") == []


def test_the_largest_order_is_placed(shop: Shop) -> None:
    shop.variant("A", price=10_000_000_000)
    shop.db.execute(
        """INSERT INTO shop.product_variants (product_id, sku, title, price_amount, currency)
           SELECT product_id, 'BIG-' || n, title, price_amount, currency
           FROM shop.product_variants, generate_series(1, 500) AS n WHERE sku = 'A'"""
    )
    shop.db.execute(
        """SELECT shop.load_stock(array_agg(v.id), array_agg(l.id), array_agg(1000000::bigint), array_agg(0::bigint),
               array_agg(0::bigint))
           FROM shop.product_variants AS v JOIN shop.locations AS l ON l.code = 'E1' WHERE v.sku LIKE 'BIG-%'"""
    )

    [outcome] = shop.place(order("k", *((f"BIG-{n}", 1_000_000) for n in range(1, 501))))

    assert outcome["status"] == "placed"
    assert shop.value("SELECT total_amount FROM shop.orders") == 500 * 10_000_000_000 * 1_000_000
