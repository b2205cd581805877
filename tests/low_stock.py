"""Low stock in a few words, for tests in SQL: sell, receive, have the consumer follow, and look at what came of it."""

from typing import Any

import psycopg
import pytest

from tests.shop import Shop, order


def stocked(shop: Shop) -> Shop:
    """Ten of A at E1, low from five down."""
    shop.stock("A", "E1", 10, threshold=5)
    follow(shop)
    return shop


def follow(shop: Shop) -> int:
    """Gives the consumer all that happened; gives how many events it had."""
    count = 0
    while shop.value("SELECT api.sequence_events(1000)"):
        pass
    while given := shop.value("SELECT api.dispatch_events('alerts', 1000)"):
        count += given
    return count


def sell(shop: Shop, quantity: int, sku: str = "A", follows: bool = True) -> str:
    [outcome] = shop.place(order(None, (sku, quantity)))
    assert outcome["status"] == "placed"
    if follows:
        follow(shop)
    return str(outcome["order_id"])


def receive(shop: Shop, quantity: int, follows: bool = True) -> None:
    shop.value("SELECT api.adjust_inventory(gen_random_uuid()::text, 'A', 'E1', %s, 'counted')", quantity)
    if follows:
        follow(shop)


def alerts(shop: Shop) -> list[tuple[str, str, str, int]]:
    return shop.db.execute("SELECT sku, level, state, escalation FROM api.alerts ORDER BY id").fetchall()


def one(shop: Shop) -> int:
    return int(shop.value("SELECT max(id) FROM api.alerts"))


def kinds(shop: Shop) -> list[str]:
    """What was written to the streams of alerts."""
    follow(shop)
    return shop.rows("SELECT kind FROM api.events WHERE stream LIKE 'alert:%%' ORDER BY position")


def age(shop: Shop, minutes: int) -> None:
    """As if nobody had looked for so long."""
    shop.db.execute("UPDATE shop.alerts SET waits_since = waits_since - make_interval(mins => %s)", [minutes])


def escalate(shop: Shop) -> int:
    return int(shop.value("SELECT api.escalate_alerts('60 min', '240 min')"))


def recipient(shop: Shop, address: str, escalation: int = 0, pool: str | None = None, category: Any = None) -> int:
    return int(shop.value("SELECT api.add_alert_recipient(%s, %s, %s, %s)", address, escalation, pool, category))


def notices(shop: Shop) -> dict[str | None, list[int]]:
    """The alerts that each address (None: the log) is to be told of."""
    return dict(shop.db.execute("SELECT address, alert_ids FROM shop.alert_notices WHERE sent_at IS NULL").fetchall())


def claim(shop: Shop, mail: bool = True, gather: str = "0", budget: int = 3) -> dict[str, Any] | None:
    rows = shop.maps("SELECT * FROM api.claim_alert_notice(%s, %s, '1 min', %s, 2)", mail, gather, budget)
    return rows[0] if rows else None


def refused(shop: Shop, query: str, *arguments: object) -> str | None:
    with pytest.raises(psycopg.Error) as caught, shop.db.transaction():
        shop.value(query, *arguments)
    return caught.value.sqlstate


def scan(shop: Shop, limit: int = 1000) -> tuple[int, int]:
    """All batches: how many there were, and how many alerts changed."""
    after, batches, changed = (0, 0), 0, 0
    while rows := shop.maps("SELECT * FROM api.scan_low_stock(%s, %s, %s)", *after, limit):
        after = (rows[0]["variant_id"], rows[0]["location_id"])
        batches, changed = batches + 1, changed + rows[0]["changed"]
    return batches, changed
