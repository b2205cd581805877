"""Webhook deliveries for tests of the routines: claimed, their answers written down, due, as a deliverer does it."""

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from tests.shop import Shop

Row = dict[str, Any]
Connect = Callable[[str], psycopg.Connection[Any]]
URL = "https://hooks.example/x"


def claim(shop: Shop, name: str = "a", streams: int = 100, events: int = 10, lease: float = 60.0) -> list[Row]:
    return shop.maps(
        "SELECT c.* FROM shop.webhook_endpoints AS w, api.claim_deliveries(ARRAY[w.id], ARRAY[%s], %s, %s) AS c"
        " WHERE w.name = %s",
        streams, events, lease, name,
    )  # fmt: skip


def result(rows: list[Row], status: int | None = 200, **more: Any) -> list[Row]:
    """What a deliverer would say of these: each was answered with this status; where it failed, only the first."""
    found: dict[str, Row] = {}
    for row in rows:
        each = found.setdefault(
            row["stream"],
            {"lease": str(row["lease"]), "endpoint_id": row["endpoint_id"], "stream": row["stream"], "sent": []},
        )
        ok = status is not None and 200 <= status < 300
        if ok or not each["sent"]:
            error = None if ok else f"it answered {status}"
            each["sent"].append(
                {"position": row["position"], "ok": ok, "status": status, "error": error, "ms": 5} | more
            )
    return list(found.values())


def record(shop: Shop, results: list[Row], attempts: int = 3, first: float = 60.0, most: float = 3600.0) -> int:
    return int(
        shop.value(
            "SELECT api.record_deliveries(%s, %s, %s, %s, 120)", Jsonb(results), attempts, float(first), float(most)
        )
    )


def due_in(shop: Shop, stream: str = "test:1") -> float:
    wait = "SELECT extract(epoch FROM due_at - clock_timestamp()) FROM shop.delivery_streams WHERE stream = %s"
    return float(shop.value(wait, stream))


def be_due(shop: Shop) -> None:
    """As if all waits and leases had ended."""
    shop.db.execute("UPDATE shop.delivery_streams SET due_at = now() - interval '1 s'")
    shop.db.execute("UPDATE shop.webhook_endpoints SET rests_until = NULL")


def health(shop: Shop) -> Row:
    return shop.maps("SELECT * FROM api.webhook_endpoints WHERE name = 'a'")[0]
