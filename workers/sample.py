"""A shop of three products, so that `ordermill up` has something to sell on a new database."""

from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from workers.database import connect

POOL = "SAMPLE"
CUSTOMER = "C-1"
PRODUCTS = (("TEA-100", "Green tea, 100 g", 650), ("CUP-1", "Cup", 1200), ("POT-1", "Teapot", 3900))
LOCATIONS = (("SAMPLE-SHOP", "Shop", 1, 20), ("SAMPLE-STORE", "Warehouse", 2, 1_000))


def example_order(database_url: str) -> dict[str, Any]:
    """An order request that can be placed now; loads the sample first when the database has no product at all."""
    with connect(database_url) as connection, connection.transaction():
        # Two terminals may bring up workers on one new database.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('ordermill sample'))")
        if connection.execute("SELECT NOT EXISTS (SELECT FROM shop.product_variants)").fetchone() == (True,):
            _load(connection)
        found = connection.execute(
            """SELECT v.sku, p.code, (SELECT number FROM shop.customers ORDER BY id LIMIT 1)
               FROM shop.stock_levels s
               JOIN shop.product_variants v ON v.id = s.variant_id AND v.active
               JOIN shop.locations l ON l.id = s.location_id
               JOIN shop.pools p ON p.id = l.pool_id AND p.currency = v.currency
               WHERE s.available > 10
               LIMIT 1"""
        ).fetchone()
    sku, pool, customer = found or (PRODUCTS[0][0], POOL, CUSTOMER)
    return {"version": 1, "customer": customer or CUSTOMER, "pool": pool, "lines": [{"sku": sku, "quantity": 1}]}


def _load(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "INSERT INTO shop.categories (code, name, low_stock_threshold) VALUES ('SAMPLE', 'Sample', 5)"
        " ON CONFLICT (code) DO NOTHING"
    )
    connection.execute(
        "INSERT INTO shop.pools (code, name, currency) VALUES (%s, 'Sample', 'USD') ON CONFLICT (code) DO NOTHING",
        [POOL],
    )
    connection.execute(
        "INSERT INTO shop.customers (number, name) VALUES (%s, 'A sample customer') ON CONFLICT (number) DO NOTHING",
        [CUSTOMER],
    )
    for sku, title, price in PRODUCTS:
        connection.execute(
            """WITH product AS (
                   INSERT INTO shop.products (code, category_id, title)
                   SELECT %(sku)s, id, %(title)s FROM shop.categories WHERE code = 'SAMPLE' RETURNING id)
               INSERT INTO shop.product_variants (product_id, sku, title, price_amount, currency)
               SELECT id, %(sku)s, %(title)s, %(price)s, 'USD' FROM product""",
            {"sku": sku, "title": title, "price": price},
        )
    for code, name, priority, quantity in LOCATIONS:
        connection.execute(
            """INSERT INTO shop.locations (code, name, pool_id, priority)
               SELECT %s, %s, id, %s FROM shop.pools WHERE code = %s ON CONFLICT (code) DO NOTHING""",
            [code, name, priority, POOL],
        )
        lines = [{"sku": sku, "quantity": quantity} for sku, _title, _price in PRODUCTS]
        connection.execute("SELECT api.receive_stock(%s, %s, %s)", [f"sample stock {code}", code, Jsonb(lines)])
