"""Events in SQL: positions are in the order of commits, and a consumer's effect and its cursor are one."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.shop import Shop, order

Connect = Callable[[str], psycopg.Connection[Any]]
NOTE = """CREATE FUNCTION shop.consume_noted(p_events shop.events[]) RETURNS integer LANGUAGE sql AS $$
    INSERT INTO shop.noted (position, kind) SELECT e.position, e.kind FROM unnest(p_events) AS e
    RETURNING 1 $$"""


@pytest.fixture
def noted(shop: Shop) -> Shop:
    """A shop with a consumer of its own, which notes each event as often as it is given."""
    shop.db.execute("CREATE TABLE shop.noted (position bigint CHECK (position <> 13), kind text)")
    shop.db.execute(NOTE)
    shop.db.execute("INSERT INTO shop.event_consumers (consumer) VALUES ('noted')")
    shop.stock("A", "E1", 1000)
    return shop


def place(shop: Shop, count: int) -> None:
    shop.place(*(order(None, ("A", 1)) for _ in range(count)))


def sequence(shop: Shop, limit: int = 1000) -> int:
    return int(shop.value("SELECT api.sequence_events(%s)", limit))


def dispatch(shop: Shop, limit: int = 500) -> int:
    return int(shop.value("SELECT api.dispatch_events('noted', %s)", limit))


def seen(shop: Shop) -> list[int]:
    return shop.rows("SELECT position FROM shop.noted ORDER BY ctid")


def test_events_have_positions_without_a_gap_and_leave_the_inbox(noted: Shop) -> None:
    place(noted, 7)

    assert [sequence(noted, 5), sequence(noted, 5), sequence(noted, 5)] == [5, 2, 0]

    assert noted.rows("SELECT position FROM api.events ORDER BY position") == list(range(1, 8))
    assert noted.count("events_inbox") == 0
    assert noted.value("SELECT behind FROM api.event_consumers WHERE consumer = 'noted'") == 7


def test_a_consumer_has_each_event_once_and_in_order(noted: Shop) -> None:
    place(noted, 7)
    sequence(noted)

    assert [dispatch(noted, 4), dispatch(noted, 4), dispatch(noted, 4)] == [4, 3, 0]

    assert seen(noted) == list(range(1, 8))
