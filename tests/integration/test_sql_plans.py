"""Plans: a look-up touches one partition and uses the key; queue, expiry and pruning use the index made for them."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.shop import Shop, order
from workers.child import wait_until

PART = "id BETWEEN $1 AND shop.part_id($1, 65535)"
LOOK_UPS = {
    "an order": ("SELECT * FROM shop.orders WHERE id = $1", "orders"),
    "its lines": (f"SELECT * FROM shop.order_lines WHERE order_id = $1 AND {PART}", "order_lines"),
    "its allocations": (f"SELECT * FROM shop.order_allocations WHERE order_id = $1 AND {PART}", "order_allocations"),
    "its history": (f"SELECT * FROM shop.order_status_history WHERE order_id = $1 AND {PART}", "order_status_history"),
    "its view": ("SELECT * FROM api.orders WHERE id = $1", "orders"),
}


@pytest.fixture
def shop(scratch: Shop) -> Shop:
    """A shop with a history: thousands of orders, over several months."""
    scratch.stock("A", "E1", 1_000_000)
    for batch in range(3):
        scratch.place(*(order(f"k{batch}-{n}", ("A", 1)) for n in range(100)))
    scratch.db.execute(
        """CREATE TEMP TABLE made ON COMMIT DROP AS
           SELECT m, n, overlay(shop.new_order_id()::text PLACING left(shop.uuid7_floor(now() +
           make_interval(months => m))::text, 13)
               FROM 1 FOR 13)::uuid AS id FROM generate_series(1, 4) AS m, generate_series(1, 700) AS n"""
    )
    scratch.db.execute(
        """INSERT INTO shop.orders (id, key, customer_id, pool_id, status, currency, total_amount, ordered_at)
           SELECT m.id, 'm' || m.m || '-' || m.n, o.customer_id, o.pool_id, 'placed', 'USD', 100, now()
           FROM made AS m, (SELECT * FROM shop.orders LIMIT 1) AS o"""
    )
    scratch.db.execute(
        """INSERT INTO shop.order_lines (id, order_id, line_no, variant_id, quantity, unit_amount,
        total_amount, currency)
           SELECT shop.part_id(m.id, 1), m.id, 1, v.id, 1, 100, 100, 'USD' FROM made AS m, shop.product_variants AS v"""
    )
    scratch.db.execute(
        """INSERT INTO shop.order_allocations (id, order_id, line_id, variant_id, location_id, quantity, state)
           SELECT shop.part_id(m.id, 1), m.id, shop.part_id(m.id, 1), v.id, l.id, 1, 'released'
           FROM made AS m, shop.product_variants AS v, shop.locations AS l WHERE l.code = 'E1'"""
    )
    for table in ("orders", "order_lines", "order_allocations", "order_status_history"):
        scratch.db.execute(f"ANALYZE shop.{table}".encode())
    return scratch


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def scans(shop: Shop, statement: str) -> list[tuple[str, str, str | None]]:
    """(relation, kind of scan, index) of what was really run."""
    text = shop.value(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
    plan = text if isinstance(text, list) else json.loads(text)
    found = [
        (node.get("Relation Name", ""), node["Node Type"], node.get("Index Name"))
        for node in nodes(plan[0]["Plan"])
        if "Scan" in node["Node Type"] and node.get("Actual Loops", 0) > 0
    ]
    return [each for each in found if each[0] or each[2]]


@pytest.mark.breaks_the_shop
@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("name", LOOK_UPS)
def test_a_look_up_by_id_touches_one_partition_by_its_primary_key(shop: Shop, name: str, mode: str) -> None:
    statement, table = LOOK_UPS[name]
    order_id = shop.value("SELECT id FROM made WHERE m = 2 LIMIT 1")
    shop.db.execute(f"PREPARE look_up (uuid) AS {statement}".encode())
    shop.db.execute(f"SET LOCAL plan_cache_mode = {mode}".encode())
    try:
        used = scans(shop, f"EXECUTE look_up ('{order_id}')")
    finally:
        shop.db.execute("DEALLOCATE look_up")

    of_table = [each for each in used if each[0].startswith(f"{table}_2") or (each[2] or "").startswith(f"{table}_2")]
    assert len({each[0] for each in of_table if each[0]}) == 1, used
    # The unique key (id, currency) starts with the id too, so either serves.
    assert all(
        (index or "").endswith(("_pkey", "_id_currency_key"))
        for _, kind, index in of_table
        if kind != "Bitmap Heap Scan"
    ), used


INDEXES = {
    "the next orders of a pool": (
        "SELECT q.id FROM shop.order_queue AS q WHERE q.pool_id = 1 AND q.id > 0 AND q.claim_id IS NULL"
        " ORDER BY q.id LIMIT 50 FOR UPDATE SKIP LOCKED",
        "order_queue_by_pool",
    ),
    "holds that ran out": (
        "SELECT a.order_id FROM shop.order_allocations AS a WHERE a.state = 'held' AND a.expires_at <="
        " clock_timestamp()"
        " GROUP BY a.order_id ORDER BY min(a.expires_at) LIMIT 100",
        "expires_at",
    ),
    "keys to prune": (
        "SELECT key FROM shop.request_keys WHERE received_at < now() - interval '90 days' AND status <> 'pending'"
        " AND decided_at < now() - interval '90 days' ORDER BY received_at LIMIT 1000 FOR UPDATE SKIP LOCKED",
        "request_keys_by_age",
    ),
    "a key": ("SELECT answer FROM shop.request_keys WHERE key = 'q100'", "request_keys_pkey"),
    "a queued key": ("SELECT id FROM shop.order_queue WHERE key = 'q100'", "key_is_queued_once"),
    "a sku": ("SELECT id FROM shop.product_variants WHERE sku = 'V100'", "sku_is_unique"),
    "a customer": ("SELECT id FROM shop.customers WHERE number = 'N100'", "customer_number_is_unique"),
    "a job's slot": ("SELECT state FROM shop.job_runs WHERE job = 'j' AND slot = now()", "job_runs_pkey"),
    "the variants of a product": (
        "SELECT * FROM shop.product_variants AS a WHERE a.product_id = -1 ORDER BY a.id LIMIT 500",
        "variants_by_product",
    ),
    "the products of a category": (
        "SELECT * FROM shop.products AS c WHERE c.category_id = -1 ORDER BY c.code LIMIT 1000",
        "products_by_category",
    ),
    "the categories below one": (
        "SELECT * FROM shop.categories AS c WHERE c.parent_id = -1 ORDER BY c.code LIMIT 1000",
        "categories_by_parent",
    ),
    "a level": (
        "SELECT available FROM shop.stock_levels WHERE variant_id = 5 AND location_id = 1",
        "stock_levels_pkey",
    ),
    "what a consumer has next": (
        "SELECT e.* FROM shop.events AS e WHERE e.position > 4000 ORDER BY e.position LIMIT 500",
        "_position_idx",
    ),
    "the story of an order": (
        "SELECT position, kind FROM api.events WHERE stream = 'order:77' ORDER BY position",
        "_stream_position_idx",
    ),
    "what the sequencer has next": (
        "SELECT i.seq FROM shop.events_inbox AS i ORDER BY i.seq LIMIT 1000",
        "events_inbox_pkey",
    ),
}


def _happen(db: psycopg.Connection[Any]) -> None:
    """Thousands of events, in positions and in the inbox."""
    db.execute(
        """INSERT INTO shop.events (position, id, stream, kind, payload, created_at)
           SELECT n, shop.uuid7(), 'order:' || n / 3, 'order.placed', '{}', now() FROM generate_series(1, 5000) AS n"""
    )
    db.execute(
        """INSERT INTO shop.events_inbox (id, stream, kind, payload)
           SELECT shop.uuid7(), 'order:' || n, 'order.placed', '{}' FROM generate_series(1, 5000) AS n"""
    )


@pytest.mark.breaks_the_shop
def test_each_index_has_a_query_that_uses_it(scratch: Shop) -> None:
    db = scratch.db
    scratch.stock("A", "E1", 10)
    db.execute(
        """INSERT INTO shop.request_keys (key, kind, body_hash, status, answer, decided_at, received_at)
           SELECT 'q' || n, 'order.place', '', 'rejected', '{}', now(), now() - make_interval(mins => 30 * n)
           FROM generate_series(1, 5000) AS n"""
    )
    db.execute(
        """INSERT INTO shop.order_queue (pool_id, key, customer, pool, skus, quantities, claim_id)
           SELECT (SELECT id FROM shop.pools WHERE code = CASE n % 50 WHEN 0 THEN 'EAST' ELSE 'WEST' END), 'q'
           || n, 'C-1',
               'EAST', '{A}', '{1}', NULL FROM generate_series(1, 5000) AS n"""
    )
    db.execute("INSERT INTO shop.customers (number) SELECT 'N' || n FROM generate_series(1, 2000) AS n")
    db.execute(
        """INSERT INTO shop.product_variants (product_id, sku, title, price_amount, currency)
           SELECT product_id, 'V' || n, '', 1, 'USD' FROM shop.product_variants, generate_series(1, 2000) AS n"""
    )
    db.execute("INSERT INTO shop.stock_levels (variant_id, location_id) SELECT v.id, l.id FROM"
    " shop.product_variants AS v,"
               " shop.locations AS l ON CONFLICT DO NOTHING")  # fmt: skip
    db.execute(
        """INSERT INTO shop.order_allocations (id, order_id, line_id, variant_id, location_id, quantity, state,
        expires_at)
           SELECT shop.uuid7(), shop.uuid7(), shop.uuid7(), 1, 1, 1, CASE WHEN n % 50 = 0 THEN 'held' ELSE
           'released' END,
               CASE WHEN n % 50 = 0 THEN now() + make_interval(secs => n) END FROM generate_series(1, 5000) AS n"""
    )
    db.execute(
        """INSERT INTO shop.job_runs (job, slot, state, finished_at)
           SELECT 'j', now() - make_interval(mins => n), 'succeeded', now() FROM generate_series(1, 2000) AS n"""
    )
    db.execute(
        """INSERT INTO shop.categories (code, name, parent_id)
           SELECT 'C' || n, 'C', c.id FROM generate_series(1, 2000) AS n, shop.categories AS c"""
    )
    db.execute(
        """INSERT INTO shop.products (code, category_id, title)
           SELECT 'P' || c.code, c.id, 'P' FROM shop.categories AS c"""
    )
    _happen(db)
    for table in ("request_keys", "order_queue", "customers", "product_variants", "stock_levels", "order_allocations",
                  "job_runs", "events", "events_inbox", "products", "categories"):  # fmt: skip
        db.execute(f"ANALYZE shop.{table}".encode())

    used = {name: scans(scratch, statement.replace("q.pool_id = 1", f"q.pool_id = {scratch.pool_id()}"))
            for name, (statement, _) in INDEXES.items()}  # fmt: skip

    for name, (_, index) in INDEXES.items():
        assert any(index in (each[2] or "") for each in used[name]), (name, used[name])
        assert not any(kind == "Seq Scan" for relation, kind, _ in used[name] if "_20" not in relation), (
            name,
            used[name],
        )


def test_the_statements_of_the_plans_are_those_of_the_routines(scratch: Shop) -> None:
    """The queries above are copies; this fails when a routine's own differs."""
    sources = " ".join(scratch.rows("SELECT regexp_replace(prosrc, '\\s+', ' ', 'g') FROM pg_proc WHERE proname IN"
                                    " ('claim_orders', 'expire_holds', 'prune', 'move_allocations', 'sequence_events',"
                                    " 'next_events', 'read_products', 'read_categories')"))  # fmt: skip
    for words in (
        "q.pool_id = p_pool_id AND q.id > p_floor AND q.claim_id IS NULL ORDER BY q.id LIMIT p_limit FOR"
        " UPDATE SKIP LOCKED",
        "a.state = 'held' AND a.expires_at <= clock_timestamp() GROUP BY a.order_id"
        " ORDER BY min(a.expires_at) LIMIT p_limit",
        "WHERE k.received_at < now() - p_keep AND k.status <> 'pending' AND k.decided_at < now() - p_keep",
        "ORDER BY k.received_at LIMIT p_limit FOR UPDATE SKIP LOCKED",
        "a.order_id = o.id AND a.id BETWEEN o.id AND shop.part_id(o.id, 65535)",
        "SELECT i.seq FROM events_inbox AS i ORDER BY i.seq LIMIT p_limit",
        "SELECT e.* FROM events AS e WHERE e.position > p_after ORDER BY e.position LIMIT p_limit",
        "FROM product_variants AS a WHERE a.product_id = p.id ORDER BY a.id LIMIT 500",
        "FROM categories AS c WHERE c.parent_id = g.id ORDER BY c.code LIMIT 1000",
        "FROM products AS c WHERE c.category_id = g.id ORDER BY c.code LIMIT 1000",
    ):
        assert words in sources, words


@pytest.mark.timeout(600)  # it waits for its neighbours
def test_nearly_all_updates_of_levels_are_hot(shop_of_its_own: Shop) -> None:
    shop = shop_of_its_own
    shop.stock("A", "E1", 1_000)
    shop.db.execute(
        """INSERT INTO shop.product_variants (product_id, sku, title, price_amount, currency)
           SELECT product_id, 'S' || n, '', 1, 'USD' FROM shop.product_variants, generate_series(0, 1999) AS n"""
    )
    shop.db.execute(
        """SELECT shop.load_stock(array_agg(v.id), array_agg(l.id), array_agg(1000::bigint), array_agg(0::bigint),
               array_agg(0::bigint)) FROM shop.product_variants AS v JOIN shop.locations AS l ON l.code = 'E1'"""
    )
    shop.db.execute("VACUUM shop.stock_levels")
    before = level_updates(shop)
    for batch in range(30):
        no_neighbour_holds_versions(shop)
        shop.place(*(order(f"{batch}-{n}", (f"S{(batch * 61 + n * 37) % 2000}", 1), (f"S{n}", 1)) for n in range(20)))

    after = level_updates(shop)
    assert after["all"] - before["all"] >= 600
    assert (after["hot"] - before["hot"]) / (after["all"] - before["all"]) > 0.8  # with an index on a quantity: none


@pytest.mark.timeout(600)  # it waits for its neighbours
def test_95_of_100_updates_of_levels_are_hot_while_nobody_vacuums(shop_of_its_own: Shop) -> None:
    shop = shop_of_its_own
    shop.variant(*(f"S{n}" for n in range(200)))
    shop.db.execute(
        """SELECT shop.load_stock(array_agg(v.id), array_agg(l.id), array_agg(10000::bigint), array_agg(0::bigint),
               array_agg(0::bigint))
           FROM shop.product_variants AS v JOIN shop.locations AS l ON l.code IN ('E1', 'E2')"""
    )
    shop.db.execute("VACUUM shop.stock_levels")  # opening stock is written once
    shop.db.execute("ALTER TABLE shop.stock_levels SET (autovacuum_enabled = false)")
    before = level_updates(shop)
    for batch in range(60):
        no_neighbour_holds_versions(shop)
        shop.place(*(order(f"{batch}-{n}", (f"S{(batch + n * 7) % 200}", 1), (f"S{n % 5}", 1)) for n in range(50)))

    after = level_updates(shop)
    assert after["all"] - before["all"] >= 60 * 50
    assert (after["hot"] - before["hot"]) / (after["all"] - before["all"]) >= 0.95


def no_neighbour_holds_versions(shop: Shop) -> None:
    """Waits for other tests' transactions: while one is open, in any database of the server, no page is pruned.

    Nor while autovacuum analyzes in this one.
    """
    held = """SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
        AND (backend_type = 'client backend' OR (backend_type = 'autovacuum worker' AND datname = current_database()))
        AND xact_start < clock_timestamp() - interval '20 ms'"""
    assert wait_until(lambda: shop.value(held) == 0, 120, 0.02)


def level_updates(shop: Shop) -> dict[str, int]:
    shop.db.execute("SELECT pg_stat_force_next_flush()")
    shop.db.execute("SELECT pg_stat_clear_snapshot()")
    return shop.maps(
        "SELECT n_tup_upd AS all, n_tup_hot_upd AS hot FROM pg_stat_user_tables WHERE relname = 'stock_levels'"
    )[0]


@pytest.fixture
def shop_of_its_own(request: pytest.FixtureRequest) -> Shop:
    """Not rolled back: statistics are of what was committed."""
    db = request.getfixturevalue("db")
    shop = Shop(db)
    shop.open()
    return shop


def shape(plan: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(node["Node Type"], node.get("Alias", ""), node.get("Index Name", "")) for node in nodes(plan)]


def plans_of(shop: Shop, requests: list[dict[str, Any]]) -> dict[str, list[list[tuple[str, str, str]]]]:
    """By statement, each plan that placing these orders in one call used, down to triggers and foreign keys."""
    found: dict[str, list[list[tuple[str, str, str]]]] = {}

    def seen(notice: psycopg.errors.Diagnostic) -> None:
        _, _, explained = (notice.message_primary or "").partition("plan:\n")
        if explained:
            told = json.loads(explained)
            plans = found.setdefault(told["Query Text"], [])
            if shape(told["Plan"]) not in plans:
                plans.append(shape(told["Plan"]))

    shop.db.execute("SET LOCAL ROLE NONE")
    try:
        shop.db.execute("LOAD 'auto_explain'")
    except psycopg.errors.InsufficientPrivilege:
        pytest.skip("only a superuser can see the plans of statements within routines")
    for setting in ("log_min_duration = 0", "log_nested_statements = on", "log_format = json", "log_level = notice"):
        shop.db.execute(f"SET LOCAL auto_explain.{setting}".encode())
    shop.db.execute("SET LOCAL client_min_messages = notice")
    shop.db.add_notice_handler(seen)
    try:
        assert {outcome["status"] for outcome in shop.place(*requests)} == {"placed"}
    finally:
        shop.db.remove_notice_handler(seen)
        shop.db.execute("SET LOCAL auto_explain.log_min_duration = -1")
        shop.db.execute("SET LOCAL ROLE ordermill_owner")
    return found


@pytest.mark.parametrize("analysed", [False, True], ids=["never analysed", "analysed"])
def test_each_statement_of_placing_has_one_plan_from_1_order_to_500(scratch: Shop, analysed: bool) -> None:
    for n in range(40):
        scratch.stock(f"S{n}", "E1", 1_000_000)
    if analysed:
        scratch.place(*(order(f"old-{n}", (f"S{n % 40}", 1)) for n in range(300)))
        scratch.db.execute("ANALYZE")

    of_one = plans_of(scratch, [order("one", ("S1", 1), ("S2", 1), ("S3", 1))])
    of_many = plans_of(scratch, [order(f"many-{n}", (f"S{n % 40}", 1), (f"S{(n + 7) % 40}", 1)) for n in range(500)])

    within = {text: plans for text, plans in of_many.items() if "api.place_orders" not in text}
    assert len(within) > 20
    assert {text: of_one.get(text) for text in within} == within
    for text, plans in within.items():
        assert len(plans) == 1, text
        assert not [node for node in plans[0] if node[0] == "Seq Scan"], text
