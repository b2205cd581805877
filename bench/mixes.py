"""What is ordered: seeded orders of three lines, and the real baskets of the Complete Journey; a shop for each.

The same mix gives the same orders to each side. The shop of three lines has plenty of everything; that of the journey
has the demo's stock, so that some baskets are rejected.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import psycopg

from bench.orders import CATALOG, Orders
from workers.demo.baskets import Journey
from workers.demo.load import load_shop

JOURNEY_BASKETS = 8_000
Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Mix:
    """A shop, and so many orders for it, whose keys begin with a prefix."""

    name: str
    load: Callable[[Connection], None]
    requests: Callable[[int, str], list[dict[str, Any]]]


def _load_three_lines(connection: Connection) -> None:
    connection.execute(CATALOG.encode())


def _three_lines(count: int, prefix: str) -> list[dict[str, Any]]:
    orders = Orders(prefix=prefix)
    return [orders.request() for _ in range(count)]


@lru_cache(maxsize=1)
def _journey() -> Journey:
    return Journey(JOURNEY_BASKETS)


def _load_journey(connection: Connection) -> None:
    load_shop(connection, _journey(), lambda *_: None)


def _baskets(count: int, prefix: str) -> list[dict[str, Any]]:
    baskets = _journey().baskets()
    if count > len(baskets):
        raise ValueError(f"the journey's mix has {len(baskets)} baskets, not {count}: ask for fewer orders")
    return [basket.request(prefix) for basket in baskets[:count]]


THREE_LINES = Mix("3 lines", _load_three_lines, _three_lines)
JOURNEY = Mix("Complete Journey", _load_journey, _baskets)
