"""Materialized views: their figures to the unit, by currency, pool and time."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from tests.market import FEBRUARY, JANUARY, at, open_market, refresh, sales, trade
from tests.shop import Shop, order


@pytest.fixture
def shop(scratch: Shop) -> Shop:
    return open_market(scratch)


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
