"""The routines that `make bench` measures Ordermill beside keep the shop's promises too, or they would be no peers."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from bench.database_sides import PEERS
from tests.shop import Shop, order
from workers.database import connect

FILES, ROUTINES = ("by_hand.sql", "by_hand_guarded.sql"), ("place_by_hand", "place_guarded")


@pytest.fixture
def by_hand(shop: Shop, database_url: str) -> Shop:
    """The shop with the routines; at the end `shop` asks verify."""
    with connect(database_url) as session:
        session.execute("CREATE SCHEMA bench")
        for file in FILES:
            session.execute((PEERS / file).read_bytes())
    return shop


def place(session: psycopg.Connection[Any], routine: str, request: dict[str, Any]) -> dict[str, Any]:
    """Tried again as pgbench does."""
    while True:
        try:
            row = session.execute(f"SELECT bench.{routine}(%s)".encode(), [json.dumps(request)]).fetchone()
        except psycopg.errors.SerializationFailure:
            continue
        assert row
        return dict(row[0])


@pytest.mark.parametrize("routine", ROUTINES)
def test_four_buyers_at_once_buy_exactly_what_is_there(by_hand: Shop, database_url: str, routine: str) -> None:
    by_hand.stock("HOT", "E1", 25, threshold=5)
    requests = [order(None, ("HOT", 1)) for _ in range(40)]

    def buy(mine: list[dict[str, Any]]) -> list[str]:
        with connect(database_url) as session:
            return [place(session, routine, request)["status"] for request in mine]

    with ThreadPoolExecutor(4) as buyers:
        statuses = [status for some in buyers.map(buy, (requests[n::4] for n in range(4))) for status in some]

    assert sorted(statuses) == ["placed"] * 25 + ["rejected"] * 15
    assert by_hand.level("HOT", "E1") == {"committed": 25}
    assert by_hand.rows(
        "SELECT kind FROM shop.events_inbox WHERE kind IN ('stock.low', 'stock.out') ORDER BY kind"
    ) == [
        "stock.low",
        "stock.out",
    ]


@pytest.mark.parametrize("routine", ROUTINES)
def test_an_order_that_is_sent_twice_is_placed_once(by_hand: Shop, database_url: str, routine: str) -> None:
    by_hand.stock("A", "E1", 5)
    by_hand.stock("B", "E1", 5)
    request = order(None, ("B", 1), ("A", 2), ("B", 1))

    with connect(database_url) as session:
        first, again = place(session, routine, request), place(session, routine, request)
        conflict = place(session, routine, request | {"pool": "WEST"})

    assert first["status"] == "placed"
    assert again == first
    assert conflict["code"] == "OM010"
    assert by_hand.level("A", "E1") == {"available": 3, "committed": 2}
    assert by_hand.level("B", "E1") == {"available": 3, "committed": 2}


def test_place_by_hand_serves_a_line_from_where_the_door_would(by_hand: Shop, database_url: str) -> None:
    for sku in ("HAND", "DOOR"):
        by_hand.stock(sku, "E1", 2)
        by_hand.stock(sku, "E2", 3, cap=4)

    with connect(database_url) as session:
        for quantity in (4, 3, 9, 2):
            hand = place(session, "place_by_hand", order(None, ("HAND", quantity)))
            door = by_hand.place_one(order(None, ("DOOR", quantity)))
            assert (hand["status"], hand["code"]) == (door["status"], door["code"])
            assert [by_hand.level("HAND", place) for place in ("E1", "E2")] == [
                by_hand.level("DOOR", place) for place in ("E1", "E2")
            ]
    assert by_hand.rows("SELECT DISTINCT backordered FROM shop.order_lines ORDER BY 1") == [0, 2]
