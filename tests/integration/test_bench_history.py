"""The past that `bench.history` writes is one that placing could have left."""

import pytest
from psycopg.types.json import Jsonb

from bench import history
from bench.orders import CATALOG, Orders
from workers.database import connect

# A partition a month; in the first hours of a month all may be of the one before.
MONTHS = """
    SELECT count(DISTINCT tableoid) = count(DISTINCT date_trunc('month', ordered_at AT TIME ZONE 'UTC')),
        max(ordered_at) - min(ordered_at) > interval '27 days'
    FROM shop.orders"""
COUNTS = """
    SELECT (SELECT count(*) FROM shop.request_keys), (SELECT count(*) FROM shop.orders),
        (SELECT count(*) FROM shop.order_lines), (SELECT count(*) FROM shop.order_allocations),
        (SELECT count(*) FROM shop.stock_movements WHERE order_id IS NOT NULL),
        (SELECT count(*) FROM shop.order_status_history), (SELECT count(*) FROM shop.events),
        (SELECT sum(committed) FROM shop.stock_levels)"""
SHAPE = """
    SELECT to_jsonb(k) - '{key,body_hash,answer,received_at,decided_at}'::text[],
        to_jsonb(o) - '{id,key,customer_id,total_amount,ordered_at,created_at}'::text[],
        to_jsonb(h) - '{id,order_id,changed_at}'::text[],
        (SELECT array_agg(jsonb_build_array(m.from_account, m.to_account, m.from_location_id, m.to_location_id,
            m.quantity, m.cause, m.request_key = o.key, m.reason))
        FROM shop.stock_movements AS m WHERE m.order_id = o.id)
    FROM shop.orders AS o JOIN shop.request_keys AS k ON k.key = o.key
    JOIN shop.order_status_history AS h ON h.order_id = o.id WHERE o.key = %s"""


def test_a_loaded_past_verifies_spans_its_months_and_is_like_what_placing_leaves(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "CHUNK", 100)
    seen: list[int] = []
    with connect(database_url) as db:
        db.execute(CATALOG.encode())

        history.load_past(db, 250, seen.append)

        assert seen == [100, 200, 250]
        assert db.execute("SELECT * FROM api.verify()").fetchall() == []
        counted = db.execute(COUNTS).fetchone()
        assert counted == (250, 250, 750, 750, 750, 250, 250, 750)
        assert db.execute(MONTHS).fetchone() == (True, True)
        # A request of the past that comes again is known by its body, and gets the answer that it had.
        again = db.execute(
            "SELECT jsonb_build_object('key', o.key, 'customer', c.number, 'pool', 'P', 'skus', s.skus,"
            " 'quantities', s.quantities), o.id::text"
            " FROM shop.orders AS o JOIN shop.customers AS c ON c.id = o.customer_id"
            " CROSS JOIN LATERAL (SELECT array_agg(v.sku ORDER BY l.line_no) AS skus,"
            "  array_agg(l.quantity ORDER BY l.line_no) AS quantities FROM shop.order_lines AS l"
            "  JOIN shop.product_variants AS v ON v.id = l.variant_id WHERE l.order_id = o.id) AS s WHERE o.key = 'h7'"
        ).fetchone()
        new = Orders(prefix="new").typed()
        assert again is not None
        answers = [row[0] for row in db.execute("SELECT api.place_orders(%s)", [Jsonb([again[0], new])])]
        assert [answer["status"] for answer in answers] == ["placed", "placed"]
        assert answers[0]["order_id"] == again[1]
        db.execute("SELECT api.sequence_events(5000)")
        assert db.execute("SELECT * FROM api.verify()").fetchall() == []
        assert db.execute(SHAPE, ["h7"]).fetchone() == db.execute(SHAPE, ["new1"]).fetchone()
