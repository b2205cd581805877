"""Materialized views: their figures to the unit, when they are stale, what becomes of a refresh that fails."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests.shop import Shop, fingerprint, order

ALL = (
    "sales_by_day", "sales_by_month", "sales_by_hour", "product_performance", "category_performance",
    "inventory_metrics", "customer_patterns",
)  # fmt: skip
JANUARY, FEBRUARY = "2026-01-31T23:30:00Z", "2026-02-01T00:30:00Z"


@pytest.fixture
def shop(scratch: Shop) -> Shop:
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


def test_sales_by_month_day_and_hour_to_the_unit_by_pool_and_currency(shop: Shop) -> None:
    trade(shop)
    refresh(shop)
    jan = ("EAST", "USD", 1, 3, 500, Decimal("500.00"), 0, 0, Decimal(0))
    feb = [
        ("EAST", "USD", 2, 4, 400, Decimal("200.00"), 1, 1500, Decimal("0.3333")),
        ("EURO", "EUR", 1, 2, 1800, Decimal("1800.00"), 0, 0, Decimal(0)),
        ("WEST", "USD", 1, 4, 400, Decimal("400.00"), 0, 0, Decimal(0)),
    ]

    assert sales(shop, "month") == [(date(2026, 1, 1), *jan), *((date(2026, 2, 1), *row) for row in feb)]
    assert sales(shop, "day") == [(date(2026, 1, 31), *jan), *((date(2026, 2, 1), *row) for row in feb)]
    assert sales(shop, "hour") == [
        (at("2026-01-31T23:00:00Z"), *jan),
        *((at("2026-02-01T00:00:00Z"), *row) for row in feb),
    ]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/St_Johns"])
def test_days_and_hours_are_of_utc_in_any_time_zone(shop: Shop, zone: str) -> None:
    trade(shop)
    shop.db.execute("SELECT set_config('timezone', %s, true)", [zone])
    refresh(shop)

    assert {row[0] for row in sales(shop, "day")} == {date(2026, 1, 31), date(2026, 2, 1)}
    assert {row[0] for row in sales(shop, "month")} == {date(2026, 1, 1), date(2026, 2, 1)}
    assert {row[0] for row in sales(shop, "hour")} == {at("2026-01-31T23:00:00Z"), at("2026-02-01T00:00:00Z")}


def test_the_sums_of_the_views_are_those_of_the_orders(shop: Shop) -> None:
    trade(shop)
    refresh(shop)
    orders = shop.maps(
        """SELECT currency, count(*) FILTER (WHERE status <> 'cancelled') AS orders,
               sum(total_amount) FILTER (WHERE status <> 'cancelled') AS revenue,
               count(*) FILTER (WHERE status = 'cancelled') AS cancelled
           FROM shop.orders WHERE status IN ('placed', 'in_fulfilment', 'completed', 'cancelled')
           GROUP BY 1 ORDER BY 1"""
    )
    summed = "currency, sum(orders)::bigint AS orders, sum(revenue) AS revenue, sum(cancelled)::bigint AS cancelled"
    for view in ("sales_by_hour", "sales_by_day", "sales_by_month", "customer_patterns"):
        found = shop.maps(f"SELECT {summed} FROM api.{view} GROUP BY 1 ORDER BY 1")
        if view == "customer_patterns":  # all that C-2 ever cancelled and bought is in one currency
            assert found[1]["cancelled"] == orders[1]["cancelled"]
        assert found == orders, view
    for view, revenue in (("product_performance", "revenue"), ("category_performance", "own_revenue")):
        assert shop.maps(f"SELECT currency, sum({revenue}) AS revenue FROM api.{view} GROUP BY 1 ORDER BY 1") == [
            {"currency": row["currency"], "revenue": row["revenue"]} for row in orders
        ]
    assert shop.rows("SELECT units_sold::bigint FROM api.inventory_metrics ORDER BY sku, location") == [6, 4, 1, 2]


def test_products_to_the_unit_with_stock_against_the_rate_of_sale(shop: Shop) -> None:
    trade(shop)
    refresh(shop)
    found = shop.db.execute(
        """SELECT sku, category, currency, orders, units, revenue, average_price, cancelled_units, cancelled_share,
               units_per_day, available, days_of_cover FROM api.product_performance ORDER BY sku"""
    ).fetchall()

    # In the catalog since this moment, so the rate is of one day; 7 apples are on hold and no sale yet.
    assert found == [
        ("APPLE", "FOOD", "USD", 4, 10, 1000, Decimal("100.00"), 0, 0, 10, 83, Decimal("8.3")),
        ("BREAD", "CAT", "USD", 1, 1, 300, Decimal("300.00"), 5, Decimal("0.8333"), 1, 49, Decimal("49.0")),
        ("WINE", "CAT", "EUR", 1, 2, 1800, Decimal("900.00"), 0, 0, 2, 48, Decimal("24.0")),
    ]


def test_the_rate_of_sale_is_over_the_window_for_what_is_in_the_catalog_that_long(shop: Shop) -> None:
    trade(shop)
    shop.db.execute("UPDATE shop.product_variants SET created_at = now() - interval '2 years'")
    shop.value("SELECT api.set_view_freshness('inventory_metrics', p_history => '9 days')")
    refresh(shop)

    [(units, per_day, turns)] = shop.db.execute(
        "SELECT units_sold, units_per_day, turns_per_year FROM api.inventory_metrics WHERE sku = 'WINE'"
    ).fetchall()
    assert units == 2
    assert Decimal("0.2") <= per_day <= Decimal("0.2223")  # nine days and what there is of today
    assert turns == round(365 * per_day / 50, 2)


def test_a_department_has_its_own_sums_and_those_of_all_below_it(shop: Shop) -> None:
    trade(shop)
    refresh(shop)
    found = shop.db.execute(
        """SELECT category, parent, currency, own_units, own_revenue, variants_sold, units, revenue, cancelled_units
           FROM api.category_performance ORDER BY category, currency"""
    ).fetchall()

    assert found == [
        ("CAT", None, "EUR", 2, 1800, 1, 2, 1800, 0),
        ("CAT", None, "USD", 1, 300, 2, 11, 1300, 5),
        ("FOOD", "CAT", "USD", 10, 1000, 1, 10, 1000, 0),
    ]


def test_a_ring_of_parents_ends(shop: Shop) -> None:
    trade(shop)
    shop.db.execute(
        """UPDATE shop.categories SET parent_id = (SELECT id FROM shop.categories WHERE code = 'FOOD')
           WHERE code = 'CAT'"""
    )

    refresh(shop)

    assert shop.rows("SELECT revenue FROM api.category_performance WHERE currency = 'USD'") == [1300, 1300]


def test_customers_to_the_unit_with_recency_frequency_and_monetary_value(shop: Shop) -> None:
    trade(shop)
    refresh(shop)
    found = shop.db.execute(
        """SELECT customer, currency, orders, cancelled, units, revenue, average_order_value, average_basket_units,
               average_basket_lines, first_order_at, last_order_at, days_between_orders, orders_per_month,
               favourite_category, recency_score, frequency_score, monetary_score
           FROM api.customer_patterns ORDER BY customer, currency"""
    ).fetchall()

    feb, last = at(FEBRUARY), at("2026-02-01T00:59:59Z")
    assert found == [
        ("C-1", "EUR", 1, 0, 2, 1800, 1800, 2, 1, feb, feb, None, 1, "CAT", 1, 1, 1),
        ("C-1", "USD", 3, 0, 7, 900, 300, Decimal("2.33"), Decimal("1.33"), at(JANUARY), last, 0, 3, "FOOD", 2, 2, 2),
        ("C-2", "USD", 1, 1, 4, 400, 400, 4, 1, feb, feb, None, 1, "FOOD", 1, 1, 1),
    ]
    days = shop.rows("SELECT days_since_last_order FROM api.customer_patterns WHERE currency = 'EUR'")
    assert days == [(datetime.now(UTC) - feb).days]


def test_the_best_fifth_of_customers_has_the_highest_scores(shop: Shop) -> None:
    shop.stock("PEAR", "E1", 100)
    for n in range(10):
        shop.customer(f"N{n}")
        shop.place(order(f"n{n}", ("PEAR", n + 1), customer=f"N{n}", ordered_at=f"2026-03-{n + 1:02}T12:00:00Z"))
    refresh(shop, "customer_patterns")

    scores = "SELECT recency_score, monetary_score FROM api.customer_patterns ORDER BY revenue"
    assert shop.db.execute(scores.encode()).fetchall() == [(1 + n // 2, 1 + n // 2) for n in range(10)]


def test_inventory_to_the_unit_with_its_flags_and_value(shop: Shop) -> None:
    trade(shop)
    shop.stock("EMPTY", "E2", 0, threshold=0)
    shop.value("SELECT api.adjust_inventory('adj', 'BREAD', 'E1', -45, 'counted', 'available')")
    refresh(shop)
    found = shop.db.execute(
        """SELECT sku, location, pool, on_hand, available, held, committed, low, is_out, units_sold, days_of_cover,
               value_at_list_price, currency FROM api.inventory_metrics ORDER BY sku, location"""
    ).fetchall()

    assert found == [
        ("APPLE", "E1", "EAST", 50, 37, 7, 6, False, False, 6, Decimal("6.2"), 5000, "USD"),
        ("APPLE", "W1", "WEST", 50, 46, 0, 4, False, False, 4, Decimal("11.5"), 5000, "USD"),
        ("BREAD", "E1", "EAST", 5, 4, 0, 1, True, False, 1, Decimal("4.0"), 1500, "USD"),
        ("EMPTY", "E2", "EAST", 0, 0, 0, 0, True, True, 0, None, 0, "USD"),
        ("WINE", "EU1", "EURO", 50, 48, 0, 2, False, False, 2, Decimal("24.0"), 45000, "EUR"),
    ]


def test_hours_reach_back_from_the_last_day_of_trading_so_a_replay_of_long_ago_has_them_too(shop: Shop) -> None:
    shop.value("SELECT api.set_view_freshness('sales_by_hour', p_history => '2 days')")
    for day in (1, 8, 9, 10):
        shop.place(order(f"d{day}", ("APPLE", 1), ordered_at=f"2017-05-{day:02}T10:15:00Z"))
    refresh(shop)

    assert [row[0].day for row in sales(shop, "hour")] == [8, 9, 10]
    assert len(sales(shop, "day")) == 4
    assert shop.value("SELECT covers_from FROM api.view_freshness WHERE view = 'sales_by_hour'") == at(
        "2017-05-08T00:00:00Z"
    )


def test_sums_too_large_for_a_bigint_do_not_stop_a_view(shop: Shop) -> None:
    shop.variant("YACHT", price=10**10)
    shop.stock("YACHT", "E1", 10**9)
    for n in range(2):
        assert shop.place(order(f"y{n}", *(("YACHT", 10**6),)))[0]["status"] == "placed"
    shop.db.execute("UPDATE shop.orders SET total_amount = 9000000000000000000 WHERE key IN ('y0', 'y1')")
    refresh(shop)
    assert shop.value("SELECT sum(revenue) FROM api.sales_by_day") == 18 * 10**18
    shop.db.execute("UPDATE shop.orders SET total_amount = 10000000000000000 WHERE key IN ('y0', 'y1')")


# When a view is stale


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
    shop.value("SELECT api.adjust_inventory('adj', 'BREAD', 'E1', 1, 'counted', 'available')")

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
