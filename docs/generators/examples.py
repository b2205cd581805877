"""An example of each command for docs/tasks.md, over the sample shop of `make up`, and the form of outcomes.

The tests run each against a real database and compare what comes back.
"""

from dataclasses import dataclass
from typing import Any

ORDER_ID = "01968f3e-5a00-7abc-8def-0123456a0000"

OUTCOME: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["key", "status", "order_id", "code", "field", "message"],
    "properties": {
        "key": {
            "type": ["string", "null"],
            "description": "The request's key; null when it had none that can be stored",
        },
        "status": {
            "enum": ["accepted", "placed", "held", "done", "rejected", "refused", "dead"],
            "description": (
                "accepted: waits to be decided, behind the SQL door, or alone if its list ended its workers; ask for "
                "it by its key. placed, held, done: it took effect. "
                "rejected: it did not, see code. refused: it was not accepted, its key is unused; only where workers "
                "refuse what is sold out, or a pool has a limit. dead: it cannot be done, see api.dead_letters"
            ),
        },
        "order_id": {"type": ["string", "null"], "format": "uuid"},
        "code": {"type": ["string", "null"], "pattern": "^OM[0-9]{3}$"},
        "field": {"type": ["string", "null"], "description": "What is wrong, such as lines[0].sku"},
        "message": {"type": ["string", "null"], "description": "A sentence for people; do not compare it"},
    },
}


@dataclass(frozen=True)
class Example:
    """A payload, an outcome it may have, and the statuses that the task gives."""

    payload: Any
    outcome: Any
    statuses: tuple[str, ...]


def _outcome(key: str, status: str, order_id: str | None = None) -> dict[str, Any]:
    return {"key": key, "status": status, "order_id": order_id, "code": None, "field": None, "message": None}


def _order(key: str, sku: str, quantity: int) -> dict[str, Any]:
    return {
        "version": 1,
        "key": key,
        "customer": "C-1",
        "pool": "SAMPLE",
        "lines": [{"sku": sku, "quantity": quantity}],
    }


_DONE = ("done", "rejected")
_READ = ("read", "rejected")
_DECIDED = ("placed", "rejected", "refused", "dead")

EXAMPLES: dict[str, Example] = {
    "orders.place": Example(
        {**_order("web-1001", "TEA-100", 2), "currency": "USD", "ordered_at": "2026-01-31T10:00:00Z"},
        _outcome("web-1001", "placed", ORDER_ID),
        _DECIDED,
    ),
    "orders.place_many": Example(
        [_order("web-1002", "CUP-1", 4), _order("web-1003", "CUP-2", 1)],
        [
            _outcome("web-1002", "placed", ORDER_ID),
            _outcome("web-1003", "rejected")
            | {"code": "OM002", "field": "lines[0].sku", "message": "There is no sku CUP-2."},
        ],
        (*_DECIDED, "accepted"),
    ),
    "orders.cancel": Example(
        {"version": 1, "key": "cancel-web-1001", "order_id": ORDER_ID, "reason": "customer changed their mind"},
        _outcome("cancel-web-1001", "done", ORDER_ID),
        _DONE,
    ),
    "orders.complete": Example(
        {"version": 1, "key": "left-web-1001", "order_id": ORDER_ID},
        _outcome("left-web-1001", "done", ORDER_ID),
        _DONE,
    ),
    "inventory.adjust": Example(
        {
            "version": 1,
            "key": "count-2026-01-31-1",
            "sku": "CUP-1",
            "location": "SAMPLE-SHOP",
            "quantity": -1,
            "reason": "broken",
        },
        _outcome("count-2026-01-31-1", "done"),
        _DONE,
    ),
    "inventory.receive": Example(
        {
            "version": 1,
            "key": "delivery-77",
            "location": "SAMPLE-STORE",
            "lines": [{"sku": "TEA-100", "quantity": 500}, {"sku": "POT-1", "quantity": 20}],
        },
        _outcome("delivery-77", "done"),
        _DONE,
    ),
    "inventory.transfer": Example(
        {
            "version": 1,
            "key": "transfer-12",
            "sku": "TEA-100",
            "from": "SAMPLE-STORE",
            "to": "SAMPLE-SHOP",
            "quantity": 40,
        },
        _outcome("transfer-12", "done"),
        _DONE,
    ),
    "catalog.product": Example(
        {"version": 1, "codes": ["TEA-100", "TEA-200"]},
        {
            "status": "read",
            "items": [
                {
                    "code": "TEA-100",
                    "title": "Green tea, 100 g",
                    "brand": None,
                    "category": "SAMPLE",
                    "variants": [
                        {
                            "sku": "TEA-100",
                            "title": "Green tea, 100 g",
                            "price_amount": 650,
                            "currency": "USD",
                            "active": True,
                        }
                    ],
                },
                None,
            ],
        },
        _READ,
    ),
    "catalog.availability": Example(
        {"version": 1, "skus": ["POT-1"], "pool": "SAMPLE"},
        {
            "status": "read",
            "items": [
                {
                    "sku": "POT-1",
                    "pools": [{"pool": "SAMPLE", "available": 1020, "can_order": 1020, "low": False}],
                }
            ],
        },
        _READ,
    ),
    "catalog.category": Example(
        {"version": 1, "codes": ["SAMPLE"]},
        {
            "status": "read",
            "items": [
                {
                    "code": "SAMPLE",
                    "name": "Sample",
                    "parent": None,
                    "children": [],
                    "products": ["CUP-1", "POT-1", "TEA-100"],
                    "product_count": 3,
                }
            ],
        },
        _READ,
    ),
}
