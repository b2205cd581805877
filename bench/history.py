"""A past for a shop: placed orders of three lines, as placing leaves them, over the months that have partitions.

Written set by set, without triggers and foreign keys (`session_replication_role = replica`), in the order of time;
`api.verify()` finds nothing in the result. The shop is that of `bench.orders`, all stock at its first location.
"""

import datetime
from collections.abc import Callable
from typing import Any

import psycopg

from bench.orders import CUSTOMERS, LINES, VARIANTS

CHUNK = 100_000
KEPT_DAYS = 89  # keys live for 90: none of these is pruned meanwhile
Connection = psycopg.Connection[Any]
# One row an order, and one a line. Lines of an order never share a sku: 7,919 has no factor in common with VARIANTS.
PAST = f"""
    CREATE TEMP TABLE past_orders AS
    SELECT n, at, 'h' || n AS key, shop.part_id(shop.uuid7(at), 0) AS id, 'C' || 1 + n %% {CUSTOMERS} AS customer
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
    CROSS JOIN LATERAL (SELECT %(start)s::timestamptz + n * %(step)s::interval AS at) AS t;
    CREATE TEMP TABLE past_lines AS
    SELECT o.n, o.at, o.key, o.id AS order_id, line, shop.part_id(o.id, line) AS id, v.id AS variant_id, v.sku,
        v.price_amount AS amount
    FROM past_orders AS o
    CROSS JOIN generate_series(1, {LINES}) AS line
    JOIN shop.product_variants AS v ON v.sku = 'S' || 1 + (o.n * {LINES} + line) * 7919 %% {VARIANTS};
    CREATE TEMP TABLE past_heads AS
    SELECT o.*, l.total, c.id AS customer_id, p.id AS pool_id, p.code AS pool, p.currency, l.skus, l.quantities
    FROM past_orders AS o
    JOIN (SELECT n, sum(amount) AS total, array_agg(sku ORDER BY line) AS skus, array_agg(1 ORDER BY line) AS quantities
        FROM past_lines GROUP BY n) AS l ON l.n = o.n
    JOIN shop.customers AS c ON c.number = o.customer
    JOIN shop.pools AS p ON p.code = 'P'
    ORDER BY o.n"""  # noqa: S608
WRITES = (
    """INSERT INTO shop.request_keys (key, kind, body_hash, status, answer, received_at, decided_at)
    SELECT key, 'order.place', shop.request_hash('order.place',
            ROW(key, customer, pool, NULL, NULL, NULL, skus, quantities)::shop.order_request),
        'placed', shop.outcome(key, 'placed', id, NULL, NULL, NULL), at, at + interval '10 ms' FROM past_heads""",
    """INSERT INTO shop.orders (id, key, customer_id, pool_id, status, currency, total_amount, ordered_at, created_at)
    SELECT id, key, customer_id, pool_id, 'placed', currency, total, at, at FROM past_heads""",
    """INSERT INTO shop.order_lines
        (id, order_id, line_no, variant_id, quantity, unit_amount, total_amount, currency)
    SELECT l.id, l.order_id, l.line, l.variant_id, 1, l.amount, l.amount, p.currency
    FROM past_lines AS l JOIN shop.pools AS p ON p.code = 'P' ORDER BY l.n, l.line""",
    """INSERT INTO shop.order_allocations (id, order_id, line_id, variant_id, location_id, quantity, state)
    SELECT l.id, l.order_id, l.id, l.variant_id, p.id, 1, 'committed'
    FROM past_lines AS l JOIN shop.locations AS p ON p.code = 'P1' ORDER BY l.n, l.line""",
    """INSERT INTO shop.stock_movements (id, variant_id, from_location_id, from_account, to_location_id, to_account,
        quantity, cause, order_id, request_key, moved_at)
    SELECT shop.uuid7(l.at), l.variant_id, p.id, 'available', p.id, 'committed', 1, 'order.placed', l.order_id, l.key,
        l.at
    FROM past_lines AS l JOIN shop.locations AS p ON p.code = 'P1' ORDER BY l.n, l.line""",
    """INSERT INTO shop.order_status_history (id, order_id, from_status, to_status, changed_at)
    SELECT shop.part_id(id, 1), id, 'new', 'placed', at FROM past_heads""",
    """INSERT INTO shop.events (position, id, stream, kind, payload, created_at, sequenced_at)
    SELECT %(position)s + row_number() OVER (ORDER BY h.n), shop.uuid7(h.at), 'order:' || o.id, 'order.placed',
        shop.order_event(o, 'new'), h.at, h.at
    FROM past_heads AS h JOIN shop.orders AS o ON o.id = h.id""",
    """UPDATE shop.stock_levels AS l SET available = l.available - s.sold, committed = l.committed + s.sold
    FROM (SELECT variant_id, count(*) AS sold FROM past_lines GROUP BY variant_id) AS s, shop.locations AS p
    WHERE p.code = 'P1' AND l.variant_id = s.variant_id AND l.location_id = p.id""",
    "UPDATE shop.event_head SET position = position + (SELECT count(*) FROM past_heads)",
    "UPDATE shop.event_consumers SET position = (SELECT position FROM shop.event_head)",
)


def load_past(db: Connection, orders: int, report: Callable[[int], None]) -> None:
    """Writes so many orders, `CHUNK` in one transaction, and vacuums; reports how many are there. Superusers only.

    From the oldest month with partitions, or as long as keys are kept, until now.
    """
    start, now = _span(db)
    step = (now - start) / (orders + 1)
    db.execute("SET session_replication_role = replica")
    db.execute("SET synchronous_commit = off")
    db.execute("SET work_mem = '128MB'")
    try:
        for first in range(1, orders + 1, CHUNK):
            last = min(orders, first + CHUNK - 1)
            _write(db, {"first": first, "last": last, "start": start, "step": step})
            report(last)
    finally:
        for name in ("session_replication_role", "synchronous_commit", "work_mem"):
            db.execute(f"RESET {name}".encode())
    db.execute("VACUUM ANALYZE")


def _span(db: Connection) -> tuple[datetime.datetime, datetime.datetime]:
    """From when until when: the earliest moment that has partitions and whose keys are kept, and now."""
    row = db.execute(
        """SELECT greatest(now() - make_interval(days => %s), min(to_timestamp(
                right(relid::regclass::text, 7), 'YYYY_MM')::timestamp AT TIME ZONE 'UTC')), now()
        FROM pg_partition_tree('shop.orders') WHERE isleaf""",
        [KEPT_DAYS],
    ).fetchone()
    if row is None:
        raise RuntimeError("shop.orders has no partition")
    return row[0], row[1]


def _write(db: Connection, part: dict[str, Any]) -> None:
    with db.transaction(), psycopg.ClientCursor(db) as cursor:
        cursor.execute(PAST.encode(), part)
        cursor.execute("ANALYZE past_orders; ANALYZE past_lines; ANALYZE past_heads")
        row = cursor.execute("SELECT position FROM shop.event_head FOR UPDATE").fetchone()
        for statement in WRITES:
            cursor.execute(statement.encode(), part | {"position": row[0] if row else 0})
        cursor.execute("DROP TABLE past_orders, past_lines, past_heads")
