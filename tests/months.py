"""Old months for tests: what a shop has done is moved into the past, whole, so that `verify` finds nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import psycopg

from tests.shop import Shop, order
from workers import retiring
from workers.settings import Settings

TABLES = ("orders", "order_lines", "order_allocations", "order_status_history", "stock_movements", "events")
AGE = 20
NASTY = ["", 'it "broke",\nback\\N', "ünïcode 🚚", "NULL", " , "]
SHIFT = "overlay({0}::text PLACING left(shop.uuid7_floor(%(at)s)::text, 13) FROM 1 FOR 13)::uuid"


def month_ago(db: psycopg.Connection[Any], months: int) -> date:
    row = db.execute(
        "SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') - make_interval(months => %s))::date", [months]
    ).fetchone()
    assert row
    return row[0]


def make_month(db: psycopg.Connection[Any], month: date) -> None:
    """Its partitions, as `api.ensure_partitions` made them then."""
    for (table,) in db.execute("SELECT unnest(shop.partitioned_tables())").fetchall():
        db.execute(
            """DO $$ BEGIN
                EXECUTE format('CREATE TABLE shop.%1$I (LIKE shop.%2$I INCLUDING ALL)',
                    shop.month_part('{table}', '{month}'), '{table}');
                EXECUTE format('ALTER TABLE shop.%2$I ATTACH PARTITION shop.%1$I FOR VALUES FROM (%3$L) TO (%4$L)',
                    shop.month_part('{table}', '{month}'), '{table}',
                    shop.uuid7_floor(timestamp '{month}' AT TIME ZONE 'UTC'),
                    shop.uuid7_floor((timestamp '{month}' + interval '1 month') AT TIME ZONE 'UTC')); END $$""".replace(
                "{table}", table
            )
            .replace("{month}", str(month))
            .encode()
        )


def move_to(db: psycopg.Connection[Any], month: date, since: date | None = None) -> None:
    """Moves all orders, movements and events since then (default: this month) into that month, to its second day.

    The keys are old enough to have been pruned.
    """
    here = {"at": f"{month} 00:00:00+00"}
    row = db.execute("SELECT %(at)s::timestamptz + interval '1 day'", here).fetchone()
    assert row
    new = {"at": row[0], "since": since or month_ago(db, 0)}
    recent = "{0} >= shop.uuid7_floor(%(since)s::timestamp AT TIME ZONE 'UTC')"

    def run(statement: str) -> None:
        db.execute(statement.encode(), new)

    db.execute("ALTER TABLE shop.orders DISABLE TRIGGER USER")
    run(
        f"""INSERT INTO shop.orders (id, key, customer_id, pool_id, address_id, status, status_reason, currency,
               total_amount, ordered_at, created_at)
            SELECT {SHIFT.format("id")}, key, customer_id, pool_id, address_id, status, status_reason, currency,
               total_amount, %(at)s, %(at)s FROM shop.orders WHERE {recent.format("id")}"""
    )
    for table in ("order_lines", "order_allocations", "order_status_history"):
        line = f", line_id = {SHIFT.format('line_id')}" if table == "order_allocations" else ""
        run(
            f"UPDATE shop.{table} SET id = {SHIFT.format('id')}, order_id = {SHIFT.format('order_id')}{line}"
            f" WHERE {recent.format('id')}"
        )
    run(f"DELETE FROM shop.orders WHERE {recent.format('id')}")
    db.execute("ALTER TABLE shop.orders ENABLE TRIGGER USER")
    run(
        f"UPDATE shop.stock_movements SET id = {SHIFT.format('id')}, moved_at = %(at)s,"
        f" order_id = CASE WHEN {recent.format('order_id')} THEN {SHIFT.format('order_id')} ELSE order_id END"
        f" WHERE {recent.format('id')}"
    )
    run(f"UPDATE shop.events SET id = {SHIFT.format('id')}, created_at = %(at)s WHERE {recent.format('id')}")
    db.execute("DELETE FROM shop.request_keys WHERE status <> 'pending'")


def history(shop: Shop, age: int = AGE, cancelled: bool = True) -> date:
    """A month of long ago with orders, stock and events; its partitions are attached."""
    since = month_ago(shop.db, 0)
    shop.stock("A", "E1", 50)
    shop.stock("B", "E2", 9)
    placed = shop.place(*(order(None, ("A", 2), ("B", 1)) for _ in NASTY))
    for outcome in placed if cancelled else []:
        assert shop.cancel(outcome["order_id"])["status"] == "done"
    for reason, outcome in zip(NASTY, placed, strict=True):
        shop.db.execute(
            "UPDATE shop.order_status_history SET reason = %s WHERE order_id = %s AND to_status = 'cancelled'",
            [reason, outcome["order_id"]],
        )
    told(shop)
    month = month_ago(shop.db, age)
    make_month(shop.db, month)
    move_to(shop.db, month, since)
    return month


def told(shop: Shop) -> None:
    """Events have positions, and each consumer has them."""
    shop.db.execute("SELECT api.sequence_events(1000)")
    shop.db.execute("UPDATE shop.event_consumers SET position = (SELECT position FROM shop.event_head)")


def rows(db: psycopg.Connection[Any], table: str, schema: str = "shop") -> list[Any]:
    return db.execute(f"SELECT * FROM {schema}.{table} ORDER BY id".encode()).fetchall()


@contextmanager
def owner(url: str) -> Iterator[psycopg.Connection[Any]]:
    with retiring.owner_session(Settings(database_url=url)) as session:
        yield session


def attached(shop: Shop, month: date) -> int:
    return shop.value("SELECT coalesce(sum(parts), 0) FROM shop.attached_months() WHERE month = %s", month)
