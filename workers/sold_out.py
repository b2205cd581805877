"""Which skus a worker knows to be sold out, so that it refuses orders for them before they are accepted.

Nothing is written for an order that is refused, and its key stays unused: sent again under it, the order is placed once
there is stock. What is known is at most a second old, and learned from rejections: what sells costs nothing.
"""

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from workers.database import call

Outcome = dict[str, Any]
TRUSTED_SECONDS = 1.0  # how long a look at the stock is believed; docs/operations.md promises it
AGAIN_SECONDS = (
    0.5  # when the next may be: early, so that none ends to be believed within a batch. Chosen, not measured.
)
MOST = 500  # pairs in a look, the newest: 2 ms of PostgreSQL. Measured in November 2026.
LINE = re.compile(r"lines\[(\d+)\]")


class SoldOut:
    """What one process knows of (pool, sku) pairs: those that were short, and which of them have no unit left."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.short: dict[tuple[str, str], None] = {}  # the oldest first
        self.gone: dict[str, set[str]] = {}  # skus by pool, as of the last look
        self.looked = float("-inf")

    def note(self, requests: Sequence[Outcome], outcomes: Sequence[Outcome]) -> None:
        """Notes which pairs these orders (typed values) were rejected for."""
        for request, outcome in zip(requests, outcomes, strict=True):
            line = LINE.match(outcome["field"] or "") if outcome["code"] == "OM001" else None
            # A stored answer may be of another body.
            if line and int(line[1]) < len(request["skus"]):
                self.short.setdefault((request["pool"], request["skus"][int(line[1])]))
        while len(self.short) > MOST:
            del self.short[next(iter(self.short))]

    def refuse(self, requests: Sequence[Outcome], patience: float) -> list[Outcome | None]:
        """The outcome of each of these orders (typed values) that needs a sku of which no unit is left; else None.

        An order whose key was used before is not refused: it has, or gets, its stored answer.
        """
        refused: list[Outcome | None] = [None] * len(requests)
        if not self.short:
            return refused
        if self.clock() - self.looked > AGAIN_SECONDS:
            if not any((each["pool"], sku) in self.short for each in requests for sku in each["skus"]):
                return refused
            self.look(patience)
        places = [place for place, each in enumerate(requests) if self.has_gone(each)]
        if not places:
            return refused
        # After the look, so that an order placed meanwhile under its key is seen.
        used = set(call("api.used_keys", [requests[place]["key"] for place in places], patience=patience))
        # Asked last: PostgreSQL may have taken its time.
        if self.clock() - self.looked <= TRUSTED_SECONDS:
            for place in places:
                if requests[place]["key"] not in used:
                    refused[place] = self.refusal(requests[place])
        return refused

    def has_gone(self, request: Outcome) -> bool:
        """Whether an order needs a sku of which no unit is left."""
        gone = self.gone.get(request["pool"])
        return gone is not None and not gone.isdisjoint(request["skus"])

    def look(self, patience: float) -> None:
        """Reads which of the pairs that were short have no unit left, and forgets the others."""
        # By when it began: PostgreSQL cannot have looked before.
        began = self.clock()
        pools, skus = [pool for pool, _ in self.short], [sku for _, sku in self.short]
        found = {(row["pool"], row["sku"]) for row in call("api.sold_out", pools, skus, patience=patience)}
        self.short = {pair: None for pair in self.short if pair in found}
        self.gone = {}
        for pool, sku in self.short:
            self.gone.setdefault(pool, set()).add(sku)
        self.looked = began

    def refusal(self, request: Outcome) -> Outcome:
        """The outcome of an order that is refused, for its first line that cannot be had."""
        pool, gone = request["pool"], self.gone[request["pool"]]
        line, sku = next((line, sku) for line, sku in enumerate(request["skus"]) if sku in gone)
        return {
            "key": request["key"],
            "status": "refused",
            "order_id": None,
            "code": "OM024",
            "field": f"lines[{line}].quantity",
            "message": f"Sku {sku} is sold out in pool {pool}; send it again under this key when there is stock.",
        }


known = SoldOut()
