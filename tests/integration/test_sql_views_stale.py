"""Materialized views: when they are stale, what is recorded of a refresh, and what becomes of one that fails."""

from datetime import timedelta

import psycopg
import pytest

from tests.market import ALL, JANUARY, age, due, open_market, refresh, sales, trade
from tests.shop import Shop, fingerprint, order


@pytest.fixture
def shop(scratch: Shop) -> Shop:
    return open_market(scratch)


def test_a_view_that_was_never_refreshed_is_empty_readable_and_due(shop: Shop) -> None:
    trade(shop)

    assert due(shop) == list(ALL)
    for view in ALL:
        assert shop.value(f"SELECT count(*) FROM api.{view}") == 0


def test_a_view_without_a_window_reads_no_order_so_a_big_shop_migrates_quickly(shop: Shop) -> None:
    trade(shop)
    definitions = shop.rows("SELECT rtrim(definition, ';') FROM pg_matviews WHERE schemaname = 'shop'")
    assert len(definitions) == len(ALL)
    for definition in definitions:
        plan = "\n".join(shop.rows(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {definition}"))
        read = [line for line in plan.splitlines() if "_20" in line and "Scan" in line and "never executed" not in line]
        assert not read, plan


def test_a_fresh_view_is_not_due_though_something_happened(shop: Shop) -> None:
    refresh(shop)
    trade(shop)

    assert due(shop) == []


def test_an_old_view_is_not_due_while_nothing_happens(shop: Shop) -> None:
    trade(shop)
    refresh(shop)
    age(shop)
    refresh(shop, "sales_by_month", "category_performance")  # their sources' times were moved

    assert due(shop) == []
    shop.value("SELECT api.sequence_events()")
    assert due(shop) == []  # the events got positions; they are the same ones
    shop.db.execute("SET LOCAL timezone = 'Pacific/Kiritimati'")
    shop.db.execute("SET LOCAL datestyle = 'German'")
    assert due(shop) == []


def test_an_old_view_is_due_when_an_order_came_and_what_is_built_from_it_after_that(shop: Shop) -> None:
    refresh(shop)
    age(shop)
    refresh(shop, "sales_by_month", "category_performance")
    age(shop, "sales_by_month", "category_performance")
    trade(shop)

    assert due(shop) == [view for view in ALL if view not in {"sales_by_month", "category_performance"}]
    refresh(shop, "sales_by_day")
    assert due(shop)[0] == "sales_by_month"
    refresh(shop, "product_performance")
    assert "category_performance" in due(shop)


def test_stock_that_moves_without_an_event_makes_only_the_inventory_due(shop: Shop) -> None:
    trade(shop)
    refresh(shop)
    age(shop)
    refresh(shop, "sales_by_month", "category_performance")
    before = shop.value("SELECT count(*) FROM shop.events_inbox")
    shop.db.execute(
        """SELECT shop.apply_movements(array_agg(ROW(s.variant_id, NULL, 'supplier', s.location_id, 'available', 1,
               'receive', NULL, NULL, NULL)::shop.stock_move))
           FROM shop.stock_levels AS s JOIN shop.product_variants AS v ON v.id = s.variant_id
           JOIN shop.locations AS l ON l.id = s.location_id WHERE v.sku = 'BREAD' AND l.code = 'E1'"""
    )

    assert shop.value("SELECT count(*) FROM shop.events_inbox") == before
    assert due(shop) == ["inventory_metrics"]


def test_a_view_is_due_when_its_window_has_moved(shop: Shop) -> None:
    trade(shop)
    refresh(shop)
    age(shop)
    refresh(shop, "sales_by_month", "category_performance")

    shop.value("SELECT api.set_view_freshness('product_performance', p_history => '89 days')")  # as a day later

    assert due(shop) == ["product_performance"]


def test_freshness_is_set_in_one_table_and_a_view_can_be_turned_off(shop: Shop) -> None:
    refresh(shop)
    trade(shop)
    age(shop)
    shop.value("SELECT api.set_view_freshness('sales_by_day', p_enabled => false)")
    shop.value("SELECT api.set_view_freshness('sales_by_hour', '366 days', '30 s')")
    shop.db.execute(
        "UPDATE shop.view_states SET refreshed_at = now() - interval '365 days' WHERE view = 'sales_by_hour'"
    )

    assert not {"sales_by_day", "sales_by_hour"} & set(due(shop))
    shop.value("SELECT api.set_view_freshness('sales_by_hour', '364 days')")
    assert ("sales_by_hour", 30_000) in shop.db.execute("SELECT view, deadline_ms FROM api.stale_views()").fetchall()


@pytest.mark.parametrize(
    "arguments",
    ["'sales_by_day', '0 s'", "'sales_by_day', p_deadline => '1 hour'", "'sales_by_day', p_history => '1 hour'",
     "'sales_by_month', p_history => '9 days'", "'sales_by_month', p_all_history => true",
     "'sales_by_day', '-1 day'"],
)  # fmt: skip
def test_a_senseless_freshness_is_om011_and_changes_nothing(shop: Shop, arguments: str) -> None:
    before = fingerprint(shop.db)
    with pytest.raises(psycopg.Error) as caught, shop.db.transaction():
        shop.db.execute(f"SELECT api.set_view_freshness({arguments})".encode())

    assert caught.value.sqlstate == "OM011"
    assert fingerprint(shop.db) == before


@pytest.mark.parametrize("call", ["api.refresh_view(%s)", "api.set_view_freshness(%s)"])
@pytest.mark.parametrize("name", ["orders", "sales_by_day; DROP TABLE shop.orders", None])
def test_a_view_that_there_is_not_is_om038_and_changes_nothing(shop: Shop, call: str, name: str | None) -> None:
    before = fingerprint(shop.db)
    with pytest.raises(psycopg.Error) as caught, shop.db.transaction():
        shop.value(f"SELECT {call}", name)

    assert caught.value.sqlstate == "OM038"
    assert fingerprint(shop.db) == before


# What is recorded


def test_each_refresh_is_a_row_with_its_rows_its_time_and_how_stale_the_view_was(shop: Shop) -> None:
    trade(shop)
    first = refresh(shop, "sales_by_day")[0]
    age(shop, "sales_by_day")
    second = refresh(shop, "sales_by_day")[0]

    rows = shop.maps("SELECT view, rows, ms, staleness_before, error FROM api.view_refreshes ORDER BY id")
    assert [row["rows"] for row in rows] == [4, 4]
    assert rows[0]["staleness_before"] is first["staleness_before"] is None
    assert rows[1]["staleness_before"] == second["staleness_before"]
    assert timedelta(days=366) <= second["staleness_before"] < timedelta(days=367)
    assert all(row["ms"] >= 0 and row["error"] is None for row in rows)
    shown = shop.maps(
        "SELECT rows, failures, last_error, staleness FROM api.view_freshness WHERE view = 'sales_by_day'"
    )
    assert shown[0].pop("staleness") < timedelta(minutes=5)
    assert shown == [{"rows": 4, "failures": 0, "last_error": None}]


def test_refreshes_of_over_thirty_days_ago_are_deleted_by_the_next(shop: Shop) -> None:
    refresh(shop, "sales_by_day", "sales_by_hour")
    for days in (29, 31, 60):
        shop.db.execute(
            """INSERT INTO shop.view_refreshes (id, view, started_at, ms, rows)
               SELECT shop.uuid7(t), 'sales_by_day', t, 1, 1
               FROM (SELECT now() - make_interval(days => %s) AS t) AS s""",
            [days],
        )
    refresh(shop, "sales_by_day")

    assert shop.rows("SELECT count(*) FROM shop.view_refreshes GROUP BY view ORDER BY view") == [3, 1]


def test_a_refresh_that_fails_is_recorded_leaves_the_data_and_is_waited_for_longer_each_time(shop: Shop) -> None:
    trade(shop)
    refresh(shop)
    before = sales(shop, "day")
    trade_more(shop)
    age(shop)
    shop.db.execute("DROP INDEX shop.sales_by_day_once")  # REFRESH … CONCURRENTLY cannot do without
    waits = []
    for _ in range(8):
        [done] = shop.maps("SELECT * FROM api.refresh_view('sales_by_day')")
        assert done["outcome"] == "failed"
        assert done["error"].endswith("(55000)")
        waits.append(
            shop.value("SELECT retry_at - clock_timestamp() FROM shop.view_states WHERE view = 'sales_by_day'")
        )

    minutes = [round(wait.total_seconds() / 60) for wait in waits]
    assert minutes == [10, 20, 40, 60, 60, 60, 60, 60]
    assert sales(shop, "day") == before
    assert "sales_by_day" not in due(shop)
    assert "sales_by_hour" in due(shop)
    assert shop.value("SELECT count(*) FROM api.view_refreshes WHERE error IS NOT NULL") == 8
    shop.value("SELECT api.set_view_freshness('sales_by_day')")  # mended: it need not be waited for
    shop.db.execute("CREATE UNIQUE INDEX sales_by_day_once ON shop.sales_by_day (day, pool_id, currency)")
    assert "sales_by_day" in due(shop)
    refresh(shop, "sales_by_day")
    assert shop.maps("SELECT failures, retry_at FROM shop.view_states WHERE view = 'sales_by_day'") == [
        {"failures": 0, "retry_at": None}
    ]
    assert sales(shop, "day") != before


def trade_more(shop: Shop) -> None:
    assert shop.place(order("more", ("APPLE", 1), ordered_at=JANUARY))[0]["status"] == "placed"


def test_a_view_that_a_hand_has_emptied_is_filled(shop: Shop) -> None:
    trade(shop)
    refresh(shop)
    before = sales(shop, "day")
    shop.db.execute("REFRESH MATERIALIZED VIEW shop.sales_by_day WITH NO DATA")

    refresh(shop, "sales_by_day")

    assert sales(shop, "day") == before


def test_each_index_of_a_view_has_a_query_that_uses_it(shop: Shop) -> None:
    shop.db.execute(
        """INSERT INTO shop.view_refreshes (id, view, started_at, ms, rows)
           SELECT shop.uuid7(now() - make_interval(mins => n)), v.view, now(), 1, 1
           FROM generate_series(1, 1000) AS n, shop.view_freshness AS v"""
    )
    shop.db.execute("ANALYZE shop.view_refreshes")
    query = "SELECT r.id FROM shop.view_refreshes AS r WHERE r.view = 'sales_by_day' ORDER BY r.id DESC LIMIT 1"
    plan = "\n".join(shop.rows(f"EXPLAIN {query}"))
    assert "view_refreshes_by_view" in plan, plan
    shop.db.execute("SET LOCAL enable_seqscan = off")  # a small view is scanned
    for view, condition in {
        "sales_by_day": "day > '2026-01-01'", "sales_by_month": "month > '2026-01-01'", "sales_by_hour": "hour > now()",
        "product_performance": "variant_id = 1", "category_performance": "category_id = 1",
        "inventory_metrics": "variant_id = 1", "customer_patterns": "customer_id = 1",
    }.items():  # fmt: skip
        plan = "\n".join(shop.rows(f"EXPLAIN SELECT * FROM shop.{view} WHERE {condition}"))
        assert f"{view}_once" in plan, plan
