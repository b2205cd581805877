"""The sequential model of placing: one order after another, in plain Python, by the rules that people are told."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Level:
    """What a location has of a sku; locations are kept in the order of their priority."""

    location: str
    available: int
    cap: int
    committed: int = 0


@dataclass(frozen=True)
class Wish:
    """An order of the model: pool and lines of (sku, quantity)."""

    pool: str
    lines: tuple[tuple[str, int], ...]
    customer: str = "C-1"


@dataclass
class Decision:
    """What came of it: a code and a field, or shares as (sku, location, quantity) and backorders by sku."""

    code: str | None = None
    field: str | None = None
    shares: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    backordered: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclass
class ModelShop:
    """Stock by (pool, sku)."""

    stock: dict[tuple[str, str], list[Level]]
    skus: frozenset[str]

    def place(self, wish: Wish) -> Decision:
        if wish.customer != "C-1":
            return Decision("OM003", "customer")
        asked: dict[str, int] = {}
        first: dict[str, int] = {}
        for number, (sku, quantity) in enumerate(wish.lines):
            asked[sku] = asked.get(sku, 0) + quantity
            first.setdefault(sku, number)
        for sku in asked:
            if sku not in self.skus:
                return Decision("OM002", f"lines[{first[sku]}].sku")
        for sku, quantity in asked.items():
            levels = self.stock.get((wish.pool, sku), [])
            if sum(level.available + level.cap for level in levels) < quantity:
                return Decision("OM001", f"lines[{first[sku]}].quantity")
        decision = Decision()
        for sku, quantity in asked.items():
            self._take(decision, sku, quantity, self.stock[wish.pool, sku])
        return decision

    def _take(self, decision: Decision, sku: str, quantity: int, levels: Sequence[Level]) -> None:
        for backorder in (False, True):
            for level in levels:
                room = level.available + level.cap if backorder else max(level.available, 0)
                share = min(quantity, room)
                if share <= 0:
                    continue
                quantity -= share
                level.available -= share
                level.committed += share
                place = (sku, level.location)
                decision.shares[place] = decision.shares.get(place, 0) + share
                if backorder:
                    decision.backordered[sku] = decision.backordered.get(sku, 0) + share
        assert quantity == 0

    def levels(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(available, committed) by (sku, location)."""
        return {
            (sku, level.location): (level.available, level.committed)
            for (_, sku), levels in self.stock.items()
            for level in levels
        }
