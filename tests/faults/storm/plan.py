"""What the load intends. A seed and a number give always the same intent: any process can go on from any number.

200 a second over 20 SKUs and both doors; of a hundred 5 repeat an earlier key, 2 are bad, 3 cancel and 2 restock
(by the Celery door: applications may not book goods in).
"""

import random
from dataclasses import dataclass, field
from typing import Any

SKUS = tuple(f"STORM-{number:02}" for number in range(1, 21))
SCARCE = SKUS[:4]  # these sell out, so that refusals for want of stock are among the answers
PLENTY, FEW = 1_000_000, 60
DOORS = ("celery", "sql")
POOL, LOCATION, CUSTOMER = "EAST", "E1", "C-1"
REPEATED, BAD, CANCELLED, RESTOCKED = 0.05, 0.02, 0.03, 0.02
FARTHEST = 200  # how far back the key that is repeated may be
BADS: tuple[dict[str, Any], ...] = (
    {"customer": "C-NOBODY"},
    {"pool": "NOWHERE"},
    {"lines": []},
    {"lines": [{"sku": "STORM-NONE", "quantity": 1}]},
    {"lines": [{"sku": SKUS[5], "quantity": 0}]},
    {"lines": [{"sku": SKUS[6], "quantity": "1.5"}]},
    {"no_such_field": True},
)


@dataclass(frozen=True)
class Intent:
    """One wish: `kind` is place, bad, cancel or restock; `body` is what is sent, all but the order of a cancel."""

    n: int
    door: str
    kind: str
    key: str
    body: dict[str, Any] = field(default_factory=dict)
    repeats: int | None = None


def order(key: str, lines: list[tuple[str, int]], **fields: Any) -> dict[str, Any]:
    """An order as applications send it."""
    asked = [{"sku": sku, "quantity": quantity} for sku, quantity in lines]
    return {"version": 1, "key": key, "customer": CUSTOMER, "pool": POOL, "lines": asked} | fields


def intent(seed: str, n: int) -> Intent:
    """The intent of this number."""
    chance = random.Random(f"{seed}:{n}")
    door, dice = chance.choice(DOORS), chance.random()
    if dice < REPEATED and n > 0:
        earlier = intent(seed, n - chance.randint(1, min(n, FARTHEST)))
        if earlier.kind in {"place", "bad"}:
            return Intent(n, door, earlier.kind, earlier.key, earlier.body, earlier.repeats or earlier.n)
    key = f"{seed}:{n}"
    dice -= REPEATED
    if 0 <= dice < BAD:
        return Intent(n, door, "bad", key, order(key, [(chance.choice(SKUS), 1)]) | chance.choice(BADS))
    dice -= BAD
    if 0 <= dice < CANCELLED:
        return Intent(n, door, "cancel", key, {"key": key, "reason": "changed their mind"})
    dice -= CANCELLED
    if 0 <= dice < RESTOCKED:
        lines = [{"sku": chance.choice(SKUS), "quantity": chance.randint(1, 9)}]
        return Intent(n, "celery", "restock", key, {"key": key, "location": LOCATION, "lines": lines})
    wanted = chance.sample(SKUS, chance.randint(1, 3))
    return Intent(n, door, "place", key, order(key, [(sku, chance.randint(1, 3)) for sku in wanted]))
