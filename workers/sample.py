"""A shop of three products, so that what `ordermill up` prints and the README's examples can be ordered."""

from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from workers.database import connect

POOL = "SAMPLE"
CUSTOMER = "C-1"
PRODUCTS = (("TEA-100", "Green tea, 100 g", 650), ("CUP-1", "Cup", 1200), ("POT-1", "Teapot", 3900))
LOCATIONS = (("SAMPLE-SHOP", "Shop", 1, 20), ("SAMPLE-STORE", "Warehouse", 2, 1_000))


def example_order(database_url: str) -> dict[str, Any]:
    """An order request of the sample shop, which is loaded first where it is not yet, beside whatever else is sold."""
    with connect(database_url) as connection, connection.transaction():
        # Two terminals may bring up workers on one new database.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('ordermill sample'))")
        known = connection.execute("SELECT FROM shop.product_variants WHERE sku = %s", [PRODUCTS[0][0]]).fetchone()
        if known is None:
            _load(connection)
    return {"version": 1, "customer": CUSTOMER, "pool": POOL, "lines": [{"sku": PRODUCTS[0][0], "quantity": 1}]}


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
