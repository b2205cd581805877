"""What a refresh of each materialized view costs: milliseconds and rows, first and again after a few more orders.

    .venv/bin/python bench/views.py                   # 200,000 orders of two lines, 5,000 skus, 20,000 customers
    .venv/bin/python bench/views.py --orders 1000000

Uses DATABASE_URL (a scratch database is made there and dropped) or the embedded server. Orders are written by SQL, past
the routines, over the two months that have partitions, so `orders` is what lies within the windows; stock is not moved.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

from workers.database import connect
from workers.embedded import Servers, erase
from workers.migrate import migrate

CATALOG = """
INSERT INTO shop.categories (code, name) SELECT 'D' || n, 'D' || n FROM generate_series(1, 20) AS n;
INSERT INTO shop.categories (code, name, parent_id)
SELECT 'C' || n, 'C' || n, (SELECT id FROM shop.categories WHERE code = 'D' || (1 + n % 20))
FROM generate_series(1, 180) AS n;
INSERT INTO shop.pools (code, name, currency) SELECT 'P' || n, 'P' || n, 'USD' FROM generate_series(1, 4) AS n;
INSERT INTO shop.locations (code, name, pool_id) SELECT 'L' || id, 'L' || id, id FROM shop.pools;
INSERT INTO shop.products (code, category_id, title)
SELECT 'R' || n, (SELECT id FROM shop.categories WHERE code = 'C' || (1 + n % 180)), 'R'
FROM generate_series(1, 5000) AS n;
INSERT INTO shop.product_variants (product_id, sku, title, price_amount, currency)
SELECT id, code, '', 100 + id, 'USD' FROM shop.products;
INSERT INTO shop.customers (number) SELECT 'N' || n FROM generate_series(1, 20000) AS n;
INSERT INTO shop.stock_levels (variant_id, location_id, available)
SELECT v.id, l.id, 1000 FROM shop.product_variants AS v, shop.locations AS l;
"""
# Ids at even distances over the last month and this one.
ORDERS = """
SET session_replication_role = replica;
CREATE TEMP TABLE made AS
SELECT n, t.at,
    overlay(shop.new_order_id()::text PLACING left(shop.uuid7_floor(t.at)::text, 13) FROM 1 FOR 13)::uuid AS id
FROM generate_series(1, %(orders)s) AS n
CROSS JOIN LATERAL (SELECT m.start + (now() - m.start) * ((n - 1) / %(orders)s::float8) AS at
    FROM (SELECT date_trunc('month', now()) - interval '1 month' AS start) AS m) AS t;
INSERT INTO shop.orders (id, key, customer_id, pool_id, status, currency, total_amount, ordered_at, created_at)
SELECT id, 'k' || id, 1 + (n::bigint * 7919) %% 20000, 1 + n %% 4,
    CASE WHEN n %% 50 = 0 THEN 'cancelled' ELSE 'placed' END, 'USD', 300, at, at FROM made;
INSERT INTO shop.order_lines (id, order_id, line_no, variant_id, quantity, unit_amount, total_amount, currency)
SELECT shop.part_id(id, l), id, l, 1 + (n::bigint * 31 + l * 2477) %% 5000, l, 100, 100 * l, 'USD'
FROM made, generate_series(1, 2) AS l;
INSERT INTO shop.order_allocations (id, order_id, line_id, variant_id, location_id, quantity, state)
SELECT id, order_id, id, variant_id, 1 + variant_id %% 4, quantity, 'committed' FROM shop.order_lines AS l
WHERE order_id IN (SELECT id FROM made);
DROP TABLE made;
UPDATE shop.event_head SET position = position + %(orders)s;
UPDATE shop.stock_levels SET committed = committed + 1 WHERE variant_id <= 50;
SET session_replication_role = origin;
"""


@contextmanager
def fresh(server: str) -> Iterator[psycopg.Connection[Any]]:
    """A migrated database of its own with the catalog, dropped afterwards."""
    name = psycopg.sql.Identifier(f"ordermill_bench_{os.getpid()}")
    with connect(server) as admin:
        admin.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(name))
        try:
            url = make_url(server).set(database=name.as_string().strip('"')).render_as_string(hide_password=False)
            migrate(url)
            with connect(url) as shop:
                shop.execute(CATALOG.encode())
                yield shop
        finally:
            admin.execute(psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def add(shop: psycopg.Connection[Any], orders: int) -> None:
    """Writes so many more orders."""
    shop.execute((ORDERS % {"orders": orders}).encode())
    shop.execute("VACUUM ANALYZE")


def due(shop: psycopg.Connection[Any]) -> tuple[str, ...]:
    """The views that are due, and what asking costs."""
    began = time.monotonic()
    names = tuple(row[0] for row in shop.execute("SELECT view FROM api.stale_views()").fetchall())
    print(f"api.stale_views: {len(names)} due, {1000 * (time.monotonic() - began):.0f} ms", flush=True)
    return names


def refresh_all(shop: psycopg.Connection[Any]) -> None:
    """Refreshes each view, as the job does, and prints what it cost."""
    for (name,) in shop.execute("SELECT view FROM api.view_freshness").fetchall():
        _, outcome, rows, ms, _, error = shop.execute("SELECT * FROM api.refresh_view(%s)", [name]).fetchone() or ()
        print(f"  {name:<22} {outcome} {ms:8,} ms {rows or 0:9,} rows {error or ''}", flush=True)


def main() -> None:
    """Fills a shop, refreshes, adds 1,000 orders, and refreshes again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=200_000)
    orders = parser.parse_args().orders
    with tempfile.TemporaryDirectory() as home:
        try:
            with (
                Servers(Path(home), database_url=os.environ.get("DATABASE_URL"), redis_url="redis://unused") as servers,
                fresh(servers.database_url) as shop,
            ):
                for more in (orders, 1000):
                    add(shop, more)
                    print(f"{more:,} orders more")
                    shop.execute("UPDATE shop.view_freshness SET max_staleness = '1 second'")
                    due(shop)
                    refresh_all(shop)
                    due(shop)
        finally:
            erase(Path(home))


if __name__ == "__main__":
    main()
