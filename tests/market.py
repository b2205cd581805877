"""A shop with departments, two currencies and orders in two months, for the tests of materialized views."""

from datetime import UTC, datetime
from typing import Any

from tests.shop import Shop, order

ALL = (
    "sales_by_day", "sales_by_month", "sales_by_hour", "product_performance", "category_performance",
    "inventory_metrics", "customer_patterns",
)  # fmt: skip
JANUARY, FEBRUARY = "2026-01-31T23:30:00Z", "2026-02-01T00:30:00Z"


def open_market(scratch: Shop) -> Shop:
    """Departments, two currencies and two pools; lists of hours reach back as far as the orders below."""
    db = scratch.db
    db.execute(
        """INSERT INTO shop.categories (code, name, parent_id) VALUES
           ('FOOD', 'Food', (SELECT id FROM shop.categories WHERE code = 'CAT'))"""
    )
    scratch.pool("EURO", "EU1", currency="EUR")
    scratch.customer("C-2")
    scratch.variant("APPLE", price=100)
    scratch.variant("BREAD", price=300)
    scratch.variant("WINE", price=900, currency="EUR")
    db.execute(
        """UPDATE shop.products SET category_id = (SELECT id FROM shop.categories WHERE code = 'FOOD')
           WHERE code = 'APPLE'"""
    )
    for sku, location in (("APPLE", "E1"), ("APPLE", "W1"), ("BREAD", "E1"), ("WINE", "EU1")):
        scratch.stock(sku, location, 50, threshold=5)
    db.execute("UPDATE shop.view_freshness SET history = '3650 days' WHERE view = 'sales_by_hour'")
    return scratch


def trade(shop: Shop) -> dict[str, str]:
    """Orders in two months, two pools and two currencies; one cancelled, one on hold, one expired. Their ids."""
    requests = {
        "jan": order("jan", ("APPLE", 2), ("BREAD", 1), ordered_at=JANUARY),
        "feb": order("feb", ("APPLE", 3), ordered_at=FEBRUARY),
        "later": order("later", ("APPLE", 1), ordered_at="2026-02-01T00:59:59Z"),
        "west": order("west", ("APPLE", 4), ordered_at=FEBRUARY, pool="WEST", customer="C-2"),
        "euro": order("euro", ("WINE", 2), ordered_at=FEBRUARY, pool="EURO"),
        "off": order("off", ("BREAD", 5), ordered_at=FEBRUARY, customer="C-2"),
    }
    ids = {outcome["key"]: outcome["order_id"] for outcome in shop.place(*requests.values())}
    shop.cancel(ids["off"])
    for key in ("held", "gone"):
        [held] = shop.hold(order(key, ("APPLE", 7), ordered_at=FEBRUARY))
        ids[key] = held["order_id"]
    shop.db.execute(
        "UPDATE shop.order_allocations SET expires_at = now() - interval '1 s' WHERE order_id = %s", [ids["gone"]]
    )
    assert shop.value("SELECT api.expire_holds(10)") == 1
    return ids


def refresh(shop: Shop, *views: str) -> list[dict[str, Any]]:
    done = [shop.maps("SELECT * FROM api.refresh_view(%s)", view)[0] for view in views or ALL]
    assert {each["outcome"] for each in done} == {"refreshed"}, done
    return done


def due(shop: Shop) -> list[str]:
    return shop.rows("SELECT view FROM api.stale_views()")


def age(shop: Shop, *views: str) -> None:
    """As if these were refreshed a year ago."""
    shop.db.execute(
        "UPDATE shop.view_states SET refreshed_at = refreshed_at - interval '366 days' WHERE view = ANY (%s)",
        [list(views or ALL)],
    )


def sales(shop: Shop, unit: str) -> list[tuple[Any, ...]]:
    return shop.db.execute(
        f"""SELECT {unit}, pool, currency, orders, units, revenue, average_order_value, cancelled, cancelled_amount,
                cancelled_share FROM api.sales_by_{unit} ORDER BY 1, 2""".encode()
    ).fetchall()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
