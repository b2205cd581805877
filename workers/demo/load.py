"""Fills an empty, migrated shop: catalog, customers, five pools of two locations, and opening stock.

Runs as the owner. Master data goes in with COPY; stock only through `shop.load_stock`, as movements from the supplier,
because a level that no movement explains is what `verify` is there to find.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import psycopg
from psycopg import sql

from workers.demo.baskets import POOLS, Journey, Product, Stock

CHUNK = 5_000
FLOOR, WAREHOUSE = 1, 2

# What is done, how far, and of how many.
Progress = Callable[[str, int, int], None]


def load_shop(connection: psycopg.Connection[Any], journey: Journey, progress: Progress) -> None:
    """Load all that the journey's baskets need, in one transaction a step; raises psycopg.Error."""
    products = journey.products()
    _load_catalog(connection, products, progress)
    _load_customers(connection, journey.households(), progress)
    _load_places(connection)
    _load_stock(connection, list(journey.stock()), progress)
    with connection.transaction():
        connection.execute(
            "ANALYZE shop.categories, shop.products, shop.product_variants, shop.customers, shop.stock_levels"
        )


def _load_catalog(connection: psycopg.Connection[Any], products: Sequence[Product], progress: Progress) -> None:
    categories: dict[str, tuple[str, str | None]] = {}
    for product in products:
        categories.setdefault(product.department, (product.department, None))
    for product in products:
        categories.setdefault(_category(product), (product.category, product.department))
    ids = {code: number for number, code in enumerate(categories, start=1)}
    category_rows = (
        (ids[code], code, name, ids[parent] if parent else None) for code, (name, parent) in categories.items()
    )
    with connection.transaction():
        _copy(connection, "categories", ("id", "code", "name", "parent_id"), category_rows)
        _copy(
            connection,
            "products",
            ("id", "code", "category_id", "title", "brand"),
            ((n, p.sku, ids[_category(p)], p.title, p.brand) for n, p in enumerate(products, start=1)),
        )
        _copy(
            connection,
            "product_variants",
            ("id", "product_id", "sku", "title", "price_amount", "currency"),
            ((n, n, p.sku, p.title, p.price, "USD") for n, p in enumerate(products, start=1)),
        )
    progress("products", len(products), len(products))


def _category(product: Product) -> str:
    return f"{product.department} > {product.category}"


def _load_customers(connection: psycopg.Connection[Any], households: Sequence[int], progress: Progress) -> None:
    rows = ((n, f"H-{h}", f"Household {h}") for n, h in enumerate(households, start=1))
    with connection.transaction():
        _copy(connection, "customers", ("id", "number", "name"), rows)
    progress("customers", len(households), len(households))


def _load_places(connection: psycopg.Connection[Any]) -> None:
    pools = [(n, code, f"{code.title()} region", "USD") for n, code in enumerate(POOLS, start=1)]
    locations = []
    for number, code in enumerate(POOLS, start=1):
        locations.append((_location(code, FLOOR), f"{code}-SHOP", f"{code.title()} shop floor", number, FLOOR))
        locations.append(
            (_location(code, WAREHOUSE), f"{code}-WAREHOUSE", f"{code.title()} warehouse", number, WAREHOUSE)
        )
    with connection.transaction():
        _copy(connection, "pools", ("id", "code", "name", "currency"), pools)
        _copy(connection, "locations", ("id", "code", "name", "pool_id", "priority"), locations)


def _location(pool: str, priority: int) -> int:
    return 2 * POOLS.index(pool) + priority


def _load_stock(connection: psycopg.Connection[Any], stock: Sequence[Stock], progress: Progress) -> None:
    found = connection.execute("SELECT sku, id FROM shop.product_variants").fetchall()
    variants = dict(found)
    rows = []
    for entry in stock:
        variant = variants[f"CJ-{entry.product_id}"]
        if entry.floor:
            rows.append((variant, _location(entry.pool, FLOOR), entry.floor, 0, 0))
        place = _location(entry.pool, WAREHOUSE)
        rows.append((variant, place, entry.warehouse, entry.oversell_cap, entry.low_threshold))
    for start in range(0, len(rows), CHUNK):
        columns = [list(column) for column in zip(*rows[start : start + CHUNK], strict=True)]
        with connection.transaction():
            connection.execute(
                "SELECT shop.load_stock(%s::bigint[], %s::int[], %s::bigint[], %s::bigint[], %s::bigint[])", columns
            )
        progress("stock levels", min(start + CHUNK, len(rows)), len(rows))


def _copy(
    connection: psycopg.Connection[Any], table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """COPY rows with their ids, then let the identity go on after the last of them."""
    name = sql.Identifier("shop", table)
    fields = sql.SQL(", ").join(map(sql.Identifier, columns))
    with connection.cursor() as cursor:
        with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(name, fields)) as copy:
            for row in rows:
                copy.write_row(row)
        cursor.execute(
            sql.SQL("SELECT setval(pg_get_serial_sequence({}, 'id'), max(id)) FROM {}").format(f"shop.{table}", name)
        )
