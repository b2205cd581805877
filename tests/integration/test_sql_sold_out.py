"""What PostgreSQL says is sold out, and which keys are used: what a worker asks before it refuses."""

import random
from collections.abc import Callable
from typing import Any

import psycopg

from tests.shop import Shop, order


def sold_out(shop: Shop, *pairs: tuple[str, str]) -> list[tuple[str, str]]:
    pools, skus = [pool for pool, _ in pairs], [sku for _, sku in pairs]
    return shop.db.execute("SELECT pool, sku FROM api.sold_out(%s, %s) ORDER BY 1, 2", [pools, skus]).fetchall()


def test_sold_out_is_what_has_no_unit_in_its_pool_and_no_permitted_backorder(scratch: Shop) -> None:
    scratch.stock("GONE", "E1", 0)
    scratch.stock("GONE", "E2", 0)
    scratch.stock("FAR", "E1", 0)
    scratch.stock("FAR", "E3", 1)
    scratch.stock("LATER", "E1", 0, cap=1)
    scratch.stock("WEST", "W1", 1)
    scratch.stock("HELD", "E1", 1)
    scratch.hold(order(None, ("HELD", 1)))
    scratch.variant("NEVER")
    scratch.variant("OFF", active=False)

    skus = ("GONE", "FAR", "LATER", "WEST", "HELD", "NEVER", "OFF", "NONE")

    assert sold_out(scratch, *(("EAST", sku) for sku in skus), ("NOWHERE", "GONE")) == [
        ("EAST", "GONE"), ("EAST", "HELD"), ("EAST", "NEVER"), ("EAST", "WEST")
    ]  # fmt: skip


def test_what_is_sold_out_is_what_an_order_of_one_unit_is_rejected_for(scratch: Shop) -> None:
    chance = random.Random(11)
    skus = [f"R{number}" for number in range(40)]
    for sku in skus:
        scratch.variant(sku)
        for location in chance.sample(["E1", "E2", "W1"], chance.randint(0, 3)):
            scratch.stock(sku, location, chance.choice([0, 0, 1]), cap=chance.choice([0, 0, 0, 1]))
    pairs = [(pool, sku) for pool in ("EAST", "WEST") for sku in skus]

    said = sold_out(scratch, *pairs)

    outcomes = scratch.place(*(order(None, (sku, 1), pool=pool) for pool, sku in pairs))
    rejected = [pair for pair, outcome in zip(pairs, outcomes, strict=True) if outcome["code"] == "OM001"]
    assert said == sorted(rejected)
    assert 10 < len(said) < 70


def test_a_used_key_is_one_that_any_request_has_taken_decided_or_not(scratch: Shop) -> None:
    scratch.stock("A", "E1", 2)
    scratch.place(order("placed", ("A", 1)), order("rejected", ("A", 5)))
    scratch.submit(order("waits", ("A", 1)))
    [held] = scratch.hold(order("held", ("A", 1)))
    scratch.cancel(held["order_id"], "cancels")

    used = scratch.rows(
        "SELECT api.used_keys(%s)", ["placed", "rejected", "waits", "held", "cancels", "new", held["order_id"]]
    )

    assert sorted(used) == ["cancels", "held", "placed", "rejected", "waits"]


def test_an_application_may_ask_what_is_sold_out_before_it_submits(
    shop: Shop, connect_as: Callable[[str], psycopg.Connection[Any]]
) -> None:
    shop.stock("A", "E1", 0)

    assert sold_out(Shop(connect_as("ordermill_app")), ("EAST", "A")) == [("EAST", "A")]
