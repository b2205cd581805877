"""What the shop looks like after the demo, read back from PostgreSQL; nothing here is remembered from submitting."""

from typing import Any, LiteralString

import psycopg
from rich.console import Console
from rich.table import Table
from rich.text import Text

from workers.demo.baskets import REASONS, Exclusion

TOTALS = """
SELECT count(*), coalesce(sum(total_amount), 0)::bigint,
       (SELECT count(*) FROM shop.order_lines),
       (SELECT count(*) FROM (SELECT FROM shop.order_allocations GROUP BY line_id HAVING count(*) > 1) split),
       (SELECT count(*) FROM shop.order_lines WHERE backordered > 0),
       (SELECT count(*) FROM shop.stock_movements)
FROM shop.orders"""

DEPARTMENTS = """
SELECT coalesce(d.name, c.name), count(DISTINCT l.order_id), sum(l.quantity)::bigint, sum(l.total_amount)::bigint
FROM shop.order_lines l
JOIN shop.product_variants v ON v.id = l.variant_id
JOIN shop.products p ON p.id = v.product_id
JOIN shop.categories c ON c.id = p.category_id
LEFT JOIN shop.categories d ON d.id = c.parent_id
GROUP BY 1 ORDER BY 4 DESC"""

TOP_PRODUCTS = """
SELECT v.sku, v.title, sum(l.quantity)::bigint, sum(l.total_amount)::bigint
FROM shop.order_lines l JOIN shop.product_variants v ON v.id = l.variant_id
GROUP BY v.id ORDER BY 3 DESC, v.id LIMIT 8"""

REJECTED = """
SELECT answer->>'code', count(*), min(key), (array_agg(answer->>'message' ORDER BY key))[1]
FROM shop.request_keys WHERE status = 'rejected' GROUP BY 1 ORDER BY 2 DESC"""

STOCK_BY_POOL = """
WITH products AS (
    SELECT l.pool_id, sum(s.available) AS available, sum(coalesce(s.low_stock_threshold, 0)) AS threshold
    FROM shop.stock_levels s JOIN shop.locations l ON l.id = s.location_id
    GROUP BY l.pool_id, s.variant_id
)
SELECT p.code, count(*), count(*) FILTER (WHERE available > 0 AND available <= threshold),
       count(*) FILTER (WHERE available <= 0), coalesce(-sum(available) FILTER (WHERE available < 0), 0)::bigint
FROM products JOIN shop.pools p ON p.id = pool_id GROUP BY p.code ORDER BY p.code"""

SOLD_OUT = """
SELECT v.sku, v.title, p.code, sum(s.available)::bigint, sum(s.committed)::bigint
FROM shop.stock_levels s
JOIN shop.locations l ON l.id = s.location_id
JOIN shop.pools p ON p.id = l.pool_id
JOIN shop.product_variants v ON v.id = s.variant_id
GROUP BY v.id, p.code HAVING sum(s.available) <= 0 ORDER BY 5 DESC, v.id LIMIT 6"""

SHOWN_DEPARTMENTS = 10


def print_summary(
    console: Console,
    connection: psycopg.Connection[Any],
    excluded: list[Exclusion],
    pools: list[tuple[str, int, int]],
) -> None:
    """Print the tables: departments, products, rejections, what is low, and what was left out."""

    def rows(query: LiteralString) -> list[Any]:
        return connection.execute(query).fetchall()

    orders, revenue, lines, split, backordered, movements = rows(TOTALS)[0]
    console.print(
        Text.assemble(
            (f"{orders:,} orders", "bold"),
            f" of {lines:,} lines worth ",
            (dollars(revenue), "bold"),
            f"; {split:,} lines split over two locations, {backordered:,} backordered; {movements:,} stock movements.",
        )
    )
    console.print(departments(rows(DEPARTMENTS)))
    console.print(products("Top products", ("units", "revenue"), rows(TOP_PRODUCTS)))
    console.print(rejections(rows(REJECTED)))
    console.print(stock(rows(STOCK_BY_POOL), {pool: stores for pool, stores, _ in pools}))
    console.print(sold_out(rows(SOLD_OUT)))
    console.print(exclusions(excluded))


def table(title: str, *columns: str, numbers: int = 1) -> Table:
    """A table whose last columns are numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", border_style="dim", expand=True)
    for index, column in enumerate(columns):
        is_number = index >= len(columns) - numbers
        made.add_column(column, justify="right" if is_number else "left", no_wrap=index > 0, ratio=None if index else 1)
    return made


def departments(found: list[Any]) -> Table:
    """Units and revenue by department, the small ones together."""
    made = table("Departments", "department", "orders", "units", "revenue", numbers=3)
    for name, orders, units, revenue in found[:SHOWN_DEPARTMENTS]:
        made.add_row(name, f"{orders:,}", f"{units:,}", dollars(revenue))
    rest = found[SHOWN_DEPARTMENTS:]
    if rest:
        units, revenue = sum(r[2] for r in rest), sum(r[3] for r in rest)
        made.add_row(f"{len(rest)} others", "", f"{units:,}", dollars(revenue), style="dim")
    return made


def products(title: str, columns: tuple[str, str], found: list[Any]) -> Table:
    """Products with two numbers."""
    made = table(title, "product", "sku", *columns, numbers=2)
    for sku, name, units, revenue in found:
        made.add_row(name, sku, f"{units:,}", dollars(revenue))
    return made


def rejections(found: list[Any]) -> Table:
    """What was rejected and why, with one order of each reason."""
    made = table("Rejected", "why", "for example", "orders")
    for code, count, key, message in found:
        made.add_row(f"{code}: {message}", key, f"{count:,}")
    if not found:
        made.add_row("nothing", "", "0")
    return made


def stock(found: list[Any], stores: dict[str, int]) -> Table:
    """What is low and what is sold out in each pool."""
    made = table("Stock now, in products", "pool", "stores", "sold here", "low", "sold out", "units owed", numbers=5)
    for pool, count, low, out, owed in found:
        made.add_row(pool, f"{stores[pool]}", f"{count:,}", f"{low:,}", f"{out:,}", f"{owed:,}")
    return made


def sold_out(found: list[Any]) -> Table:
    """The sold-out products that sold most."""
    made = table("Sold out, the best sellers", "product", "pool", "available", "committed", numbers=2)
    for _, name, pool, available, committed in found:
        made.add_row(name, pool, f"{available:,}", f"{committed:,}")
    if not found:
        made.add_row("nothing", "", "", "")
    return made


def exclusions(found: list[Exclusion]) -> Table:
    """Baskets that were left out, by reason."""
    made = table("Baskets left out", "why", "for example", "baskets")
    for entry in found:
        made.add_row(REASONS[entry.reason], str(entry.example), f"{entry.baskets:,}")
    made.add_row("together", "", f"{sum(e.baskets for e in found):,}", style="bold")
    return made


def dollars(cents: int) -> str:
    """An amount of US cents as people write it."""
    return f"${cents / 100:,.2f}"
