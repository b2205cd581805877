"""For each constraint of the shop one statement that it refuses: what a mistake in a routine could come to write."""

A = "(SELECT id FROM shop.product_variants WHERE sku = 'A')"
E1 = "(SELECT id FROM shop.locations WHERE code = 'E1')"
EAST = "(SELECT id FROM shop.pools WHERE code = 'EAST')"
LEVEL = f"WHERE variant_id = {A} AND location_id = {E1}"
SOME_ID = "'0190a2b3-0000-7000-8000-000000000000'"


def _again(table: str, columns: str, values: str = "") -> str:
    """A second row under the id of the first."""
    return (
        f"INSERT INTO shop.{table} (id{', ' + columns if columns else ''}) OVERRIDING SYSTEM VALUE"
        f" SELECT id{', ' + (values or columns) if columns else ''} FROM shop.{table} LIMIT 1"
    )


def _order(changes: str, columns: str) -> str:
    return (
        f"INSERT INTO shop.orders (id, key, customer_id, pool_id, status, currency, total_amount,"
        f" ordered_at, address_id)"
        f" SELECT {columns} FROM (SELECT shop.new_order_id() AS id, 'new' AS key, customer_id, pool_id,"
        f" status, currency,"
        f" total_amount, ordered_at, address_id FROM shop.orders WHERE key = 'placed') AS o {changes}"
    )


def _line(**changes: str) -> str:
    columns = [
        "id",
        "order_id",
        "line_no",
        "variant_id",
        "quantity",
        "backordered",
        "unit_amount",
        "total_amount",
        "currency",
    ]
    values = {column: column for column in columns} | {"id": "shop.part_id(order_id, 77)"} | changes
    return (
        f"INSERT INTO shop.order_lines ({', '.join(columns)}) SELECT {', '.join(values.values())}"
        " FROM shop.order_lines LIMIT 1"
    )


def _allocation(**changes: str) -> str:
    columns = ["id", "order_id", "line_id", "variant_id", "location_id", "quantity", "state", "expires_at"]
    values = {column: column for column in columns} | {"id": "shop.part_id(order_id, 77)"} | changes
    return (
        f"INSERT INTO shop.order_allocations ({', '.join(columns)}) SELECT {', '.join(values.values())}"
        " FROM shop.order_allocations WHERE state = 'committed' LIMIT 1"
    )


def _move(source: str, target: str, quantity: int = 1, new_id: str = "shop.uuid7()") -> str:
    return (
        "INSERT INTO shop.stock_movements (id, variant_id, from_account, from_location_id, to_account, to_location_id,"
        f" quantity, cause) VALUES ({new_id}, {A}, {source}, {target}, {quantity}, 'bug')"
    )


_KEY = "INSERT INTO shop.request_keys (key, kind, body_hash) VALUES ({key}, 'order.place', '')"
_QUEUE = (
    "INSERT INTO shop.order_queue (pool_id, key, customer, pool, skus, quantities)"
    " SELECT {pool}, {key}, customer, pool, skus, {quantities} FROM shop.order_queue"
)
_CLAIM = "INSERT INTO shop.claims (id, pool_id, queue_ids, attempt) VALUES ({id}, {pool}, {ids}, {attempt})"
_LETTER = (
    "INSERT INTO shop.dead_letters (id, source, payload, code, reason, attempts)"
    " VALUES ({id}, {source}, '{{}}', 'X', 'x', {n})"
)
_EVENT = (
    "INSERT INTO shop.events (position, id, stream, kind, payload, created_at)"
    " SELECT {position}, {id}, stream, kind, payload, created_at FROM shop.events LIMIT 1"
)
_ALERT = (
    "INSERT INTO shop.alerts ({id}variant_id, location_id, level, state, resolved_at, recovered_at)"
    " OVERRIDING SYSTEM VALUE SELECT {id}{variant}, {location}, level, 'resolved', now(), now()"
    " FROM shop.alerts LIMIT 1"
)
_RECIPIENT = "INSERT INTO shop.alert_recipients (address, min_escalation, pool_id, category_id) VALUES ({})"
_COUNTED = "INSERT INTO shop.message_attempts (message, attempts) VALUES ({message}, {attempts})"
_JOB = "INSERT INTO shop.job_runs (job, slot, state, leased_until, finished_at) VALUES ({job}, {slot}, {rest})"

_ENDPOINT = (
    "INSERT INTO shop.webhook_endpoints (name, url, kinds, secret, timeout_ms) SELECT {name}, {url}, {kinds}, {secret},"
    " {timeout} FROM shop.webhook_endpoints"
)


def _endpoint(**changes: str) -> str:
    values = {"name": "'other'", "url": "url", "kinds": "kinds", "secret": "secret", "timeout": "timeout_ms"} | changes
    return _ENDPOINT.format(**values)


WEBHOOKS = {
    "webhook_endpoints_pkey": _again("webhook_endpoints", "name, url, kinds, secret", "'other', url, kinds, secret"),
    "endpoint_name_is_unique": _endpoint(name="name"),
    "endpoint_name_is_readable": _endpoint(name="'No name'"),
    "endpoint_url_is_plain": _endpoint(url="'https://user:word@hooks.example/'"),
    "endpoint_wants_something": _endpoint(kinds="'{}'"),
    "secret_has_32_bytes": _endpoint(secret="'whsec_short'"),
    "endpoint_timeout_in_range": _endpoint(timeout="0"),
    "previous_secret_runs_out": "UPDATE shop.webhook_endpoints SET previous_secret = secret",
    "a_disabled_endpoint_says_why": "UPDATE shop.webhook_endpoints SET disabled_at = now()",
    "endpoint_failures_not_negative": "UPDATE shop.webhook_endpoints SET failures = -1",
    "a_replay_has_an_end": "UPDATE shop.webhook_endpoints SET replay_position = 1",
    "webhook_deliveries_pkey": "INSERT INTO shop.webhook_deliveries SELECT * FROM shop.webhook_deliveries LIMIT 1",
    "delivery_has_an_endpoint": "UPDATE shop.webhook_deliveries SET endpoint_id = 0",
    "delivery_attempts_not_negative": "UPDATE shop.webhook_deliveries SET attempts = -1",
    "only_an_ended_delivery_is_dead": "UPDATE shop.webhook_deliveries SET letter_id = gen_random_uuid()",
    "delivery_streams_pkey": "INSERT INTO shop.delivery_streams SELECT * FROM shop.delivery_streams LIMIT 1",
    "stream_has_an_endpoint": "UPDATE shop.delivery_streams SET endpoint_id = 0",
}
CATALOG = {
    "currencies_pkey": "INSERT INTO shop.currencies VALUES ('USD', 2)",
    "currency_code_is_iso_4217": "INSERT INTO shop.currencies VALUES ('usd', 2)",
    "minor_units_in_range": "INSERT INTO shop.currencies VALUES ('XTS', 5)",
    "categories_pkey": _again("categories", "code, name", "'other', name"),
    "category_code_is_unique": "INSERT INTO shop.categories (code, name) VALUES ('CAT', 'Again')",
    "category_has_a_known_parent": "UPDATE shop.categories SET parent_id = 0",
    "category_is_not_its_own_parent": "UPDATE shop.categories SET parent_id = id",
    "category_threshold_not_negative": "UPDATE shop.categories SET low_stock_threshold = -1",
    "products_pkey": _again("products", "code, category_id, title", "'other', category_id, title"),
    "product_code_is_unique": "INSERT INTO shop.products (code, category_id, title) SELECT code, category_id, title"
    " FROM shop.products LIMIT 1",
    "product_has_a_category": "UPDATE shop.products SET category_id = 0",
    "product_variants_pkey": _again(
        "product_variants",
        "product_id, sku, title, price_amount, currency",
        "product_id, 'other', title, price_amount, currency",
    ),
    "variant_has_a_product": "UPDATE shop.product_variants SET product_id = 0",
    "sku_is_unique": "UPDATE shop.product_variants SET sku = 'A'",
    "sku_is_readable": "UPDATE shop.product_variants SET sku = '' WHERE sku = 'A'",
    "price_has_a_known_currency": "UPDATE shop.product_variants SET currency = 'XXX'",
    "price_in_range": "UPDATE shop.product_variants SET price_amount = -1",
    "customers_pkey": _again("customers", "number", "'other'"),
    "customer_number_is_unique": "INSERT INTO shop.customers (number) VALUES ('C-1')",
    "customer_number_is_readable": "INSERT INTO shop.customers (number) VALUES ('')",
    "addresses_pkey": _again(
        "addresses",
        "customer_id, code, recipient, street, city, country",
        "customer_id, 'other', recipient, street, city, country",
    ),
    "address_has_a_customer": "UPDATE shop.addresses SET customer_id = 0",
    "address_code_is_unique_per_customer": "INSERT INTO shop.addresses (customer_id, code, recipient,"
    " street, city, country)"
    " SELECT customer_id, code, recipient, street, city, country FROM shop.addresses LIMIT 1",
    "country_is_iso_3166": "UPDATE shop.addresses SET country = 'USA'",
    "pools_pkey": _again("pools", "code, name, currency", "'other', name, currency"),
    "pool_code_is_unique": "INSERT INTO shop.pools (code, name, currency) VALUES ('EAST', 'Again', 'USD')",
    "pool_has_a_known_currency": "UPDATE shop.pools SET currency = 'XXX'",
    "locations_pkey": _again("locations", "code, name, pool_id, priority", "'other', name, pool_id, 50"),
    "location_code_is_unique": "UPDATE shop.locations SET code = 'E1'",
    "location_is_in_one_pool": "UPDATE shop.locations SET pool_id = 0 WHERE code = 'E3'",
    "priority_is_unique_in_its_pool": "UPDATE shop.locations SET priority = 1 WHERE code = 'E2'",
    "priority_in_range": "UPDATE shop.locations SET priority = 0 WHERE code = 'E1'",
}
STOCK = {
    "stock_levels_pkey": f"INSERT INTO shop.stock_levels (variant_id, location_id) VALUES ({A}, {E1})",
    "level_has_a_variant": f"INSERT INTO shop.stock_levels (variant_id, location_id) VALUES (0, {E1})",
    "level_has_a_location": f"INSERT INTO shop.stock_levels (variant_id, location_id) VALUES ({A}, 0)",
    "never_oversold": f"UPDATE shop.stock_levels SET available = -1 - oversell_cap {LEVEL}",
    "oversell_cap_in_range": f"UPDATE shop.stock_levels SET oversell_cap = -1 {LEVEL}",
    "held_not_negative": f"UPDATE shop.stock_levels SET held = -1 {LEVEL}",
    "committed_not_negative": f"UPDATE shop.stock_levels SET committed = -1 {LEVEL}",
    "unavailable_not_negative": f"UPDATE shop.stock_levels SET unavailable = -1 {LEVEL}",
    "incoming_not_negative": f"UPDATE shop.stock_levels SET incoming = -1 {LEVEL}",
    "in_transit_not_negative": f"UPDATE shop.stock_levels SET in_transit = -1 {LEVEL}",
    "level_threshold_not_negative": f"UPDATE shop.stock_levels SET low_stock_threshold = -1 {LEVEL}",
    "stock_movements_pkey": _move(
        "'supplier', NULL", f"'available', {E1}", new_id="(SELECT id FROM shop.stock_movements LIMIT 1)"
    ),
    "movement_moves_something": _move("'supplier', NULL", f"'available', {E1}", quantity=0),
    "movement_goes_somewhere": _move(f"'available', {E1}", f"'available', {E1}"),
    "from_account_is_at_its_place": _move("'available', NULL", f"'held', {E1}"),
    "to_account_is_at_its_place": _move(f"'available', {E1}", "'held', NULL"),
}
REQUESTS = {
    "request_keys_pkey": _KEY.format(key="'placed'"),
    "key_is_readable": _KEY.format(key="''"),
    "key_status_is_known": "UPDATE shop.request_keys SET status = 'lost' WHERE key = 'placed'",
    "a_decided_key_has_its_answer": "UPDATE shop.request_keys SET answer = NULL WHERE key = 'placed'",
    "a_decided_key_has_its_time": "UPDATE shop.request_keys SET decided_at = NULL WHERE key = 'placed'",
    "order_queue_pkey": "INSERT INTO shop.order_queue (id, pool_id, key, customer, pool, skus, quantities)"
    " OVERRIDING SYSTEM VALUE SELECT id, pool_id, 'other', customer, pool, skus, quantities FROM shop.order_queue",
    "queued_order_has_a_pool": _QUEUE.format(pool="0", key="'other'", quantities="quantities"),
    "key_is_queued_once": _QUEUE.format(pool="pool_id", key="key", quantities="quantities"),
    "queued_lines_have_quantities": _QUEUE.format(pool="pool_id", key="'other'", quantities="'{}'"),
    "claims_pkey": _CLAIM.format(id="(SELECT id FROM shop.claims)", pool=EAST, ids="'{1}'", attempt="1"),
    "claim_has_a_pool": _CLAIM.format(id=SOME_ID, pool="0", ids="'{1}'", attempt="1"),
    "claim_is_not_empty": _CLAIM.format(id=SOME_ID, pool=EAST, ids="'{}'", attempt="1"),
    "attempt_in_range": _CLAIM.format(id=SOME_ID, pool=EAST, ids="'{1}'", attempt="0"),
    "events_inbox_pkey": "INSERT INTO shop.events_inbox (seq, id, stream, kind, payload) OVERRIDING SYSTEM VALUE"
    " SELECT seq, id, stream, kind, payload FROM shop.events_inbox LIMIT 1",
    "events_pkey": _EVENT.format(position="position + 1", id="id"),
    "position_from_one": _EVENT.format(position="0", id="shop.uuid7()"),
    "event_head_pkey": "INSERT INTO shop.event_head DEFAULT VALUES",
    "there_is_one_head": "INSERT INTO shop.event_head (only_one) VALUES (false)",
    "head_not_negative": "UPDATE shop.event_head SET position = -1",
    "event_consumers_pkey": "INSERT INTO shop.event_consumers SELECT * FROM shop.event_consumers",
    "consumer_can_name_a_routine": "INSERT INTO shop.event_consumers (consumer) VALUES ('x; DROP')",
    "cursor_not_negative": "UPDATE shop.event_consumers SET position = -1",
    "dead_letters_pkey": _LETTER.format(id="(SELECT id FROM shop.dead_letters)", source="'sql'", n="1"),
    "dead_letter_source_is_known": _LETTER.format(id=SOME_ID, source="'rumour'", n="1"),
    "attempts_not_negative": _LETTER.format(id=SOME_ID, source="'sql'", n="-1"),
    "settlement_is_known": "UPDATE shop.dead_letters SET settlement = 'lost', settled_at = now()",
    "a_settled_letter_says_how": "UPDATE shop.dead_letters SET settled_at = now()",
    "message_attempts_pkey": _COUNTED.format(message="'counted'", attempts="1"),
    "counted_at_least_once": _COUNTED.format(message="'x'", attempts="0"),
    "job_runs_pkey": "INSERT INTO shop.job_runs SELECT * FROM shop.job_runs",
    "job_state_is_known": _JOB.format(job="'x'", slot="now()", rest="'asleep', NULL, now()"),
    "only_a_running_job_is_leased": _JOB.format(job="'x'", slot="now()", rest="'failed', now(), now()"),
    "a_finished_job_has_its_time": _JOB.format(job="'x'", slot="now()", rest="'failed', NULL, NULL"),
}
_COLUMNS = "id, key, customer_id, pool_id, status, currency, total_amount, ordered_at, address_id"
ORDERS = {
    # The history's primary key would refuse the twin too; without it only this one is left.
    "orders_pkey": "DELETE FROM shop.order_status_history;"
    + _order("", f"(SELECT min(id::text)::uuid FROM shop.orders){_COLUMNS[2:]}".replace("currency", "'EUR'")),
    "order_has_a_customer": _order("", _COLUMNS.replace("customer_id", "0")),
    "order_has_a_pool": _order("", _COLUMNS.replace("pool_id", "0")),
    "order_has_a_known_address": _order("", _COLUMNS.replace("address_id", "0")),
    "order_has_a_known_currency": _order("", _COLUMNS.replace("currency", "'XXX'")),
    "total_not_negative": _order("", _COLUMNS.replace("total_amount", "-1")),
    "order_lines_pkey": _line(id="id"),
    "line_has_a_variant": _line(variant_id="0"),
    "line_has_its_order_and_currency": _line(currency="'EUR'"),
    "line_quantity_in_range": _line(quantity="0", total_amount="0"),
    "backordered_within_quantity": _line(backordered="quantity + 1"),
    "line_total_is_price_times_quantity": _line(total_amount="total_amount + 1"),
    "unit_amount_not_negative": _line(unit_amount="-1", total_amount="-quantity"),
    "line_no_in_range": _line(line_no="501"),
    "order_allocations_pkey": _allocation(id="id"),
    "allocation_is_something": _allocation(quantity="0"),
    "allocation_state_is_known": _allocation(state="'lost'"),
    "only_a_hold_expires": _allocation(expires_at="now()"),
    "allowed_transitions_pkey": "INSERT INTO shop.allowed_transitions VALUES ('new', 'held')",
    "a_transition_changes_something": "INSERT INTO shop.allowed_transitions VALUES ('held', 'held')",
    "order_status_history_pkey": "INSERT INTO shop.order_status_history (id, order_id, from_status, to_status)"
    " SELECT id, order_id, from_status, to_status FROM shop.order_status_history LIMIT 1",
    "step_is_allowed": "UPDATE shop.orders SET status = 'held' WHERE key = 'placed'",
}  # fmt: skip
_RETIRED = "INSERT INTO shop.retirements (month, events_through) VALUES ({month}, {through});"
_POLICY = "INSERT INTO shop.retention_policies (kind, keep) VALUES ({kind}, {keep})"
_BALANCE = "INSERT INTO shop.opening_balances SELECT {variant}, {location}, 0, 0, 0, 0, 0, 0"
_ARCHIVE = (
    "INSERT INTO shop.archives (table_name, month, file, rows, digest, sha256, bytes)"
    " VALUES ('orders', {month}, 'orders.parquet', {rows}, 0, {sha}, 0)"
)
_SHA = "repeat('0', 64)"
_FINDING = (
    "INSERT INTO shop.upkeep_findings (report, object, severity, detail) VALUES ('r', {object}, {severity}, '{{}}')"
)
_SIZE = "INSERT INTO shop.table_sizes (table_name, day, bytes) VALUES ('orders', '2020-01-01', 1)"
_OLD = "'2020-01-01'"
KEPT = (
    _RETIRED.format(month="'2019-12-01'", through="0"),
    _RETIRED.format(month=_OLD, through="0"),
    _BALANCE.format(variant=A, location=E1),
    _ARCHIVE.format(month=_OLD, rows="1", sha=_SHA),
    _FINDING.format(object="'o'", severity="'note'"),
    _SIZE,
)
UPKEEP = {
    "retention_policies_pkey": _POLICY.format(kind="'job_runs'", keep="'7 days'"),
    "kept_for_a_day_at_least": _POLICY.format(kind="'new'", keep="'1 hour'"),
    "months_kept_leave_room_ahead": "UPDATE shop.retention_policies SET keep = '17 months' WHERE kind = 'partitions'",
    "retirements_pkey": _RETIRED.format(month=_OLD, through="0"),
    "retired_by_whole_months": _RETIRED.format(month="'2020-02-02'", through="0"),
    "events_through_not_negative": _RETIRED.format(month="'2020-02-01'", through="-1"),
    "opening_balances_pkey": _BALANCE.format(variant=A, location=E1),
    "balance_has_a_variant": _BALANCE.format(variant="0", location=E1),
    "balance_has_a_location": _BALANCE.format(variant=A, location="0"),
    "archives_pkey": _ARCHIVE.format(month=_OLD, rows="1", sha=_SHA),
    "archive_is_of_a_retired_month": _ARCHIVE.format(month="'2020-02-01'", rows="1", sha=_SHA),
    "archived_rows_not_negative": _ARCHIVE.format(month="'2019-12-01'", rows="-1", sha=_SHA),
    "sha256_is_hex": _ARCHIVE.format(month="'2019-12-01'", rows="1", sha="'none'"),
    "upkeep_findings_pkey": _FINDING.format(object="'o'", severity="'note'"),
    "severity_is_known": _FINDING.format(object="'other'", severity="'fatal'"),
    "table_sizes_pkey": _SIZE,
}
_REFRESH = "INSERT INTO shop.view_refreshes (id, view, started_at, ms, rows, error) VALUES ({values})"
_FRESHNESS = (
    "INSERT INTO shop.view_freshness (view, turn, max_staleness, deadline)"
    " VALUES ({view}, {turn}, interval '1 min', interval '1 min')"
)
VIEWS = {
    "view_freshness_pkey": _FRESHNESS.format(view="'sales_by_day'", turn="99"),
    "views_have_different_turns": _FRESHNESS.format(view="'x'", turn="1"),
    "view_is_built_from_a_known_one": "UPDATE shop.view_freshness SET built_from = 'x' WHERE view = 'sales_by_day'",
    "view_is_not_built_from_itself": "UPDATE shop.view_freshness SET built_from = view",
    "freshness_in_range": "UPDATE shop.view_freshness SET max_staleness = '0 s'",
    "deadline_in_range": "UPDATE shop.view_freshness SET deadline = '1 hour'",
    "history_in_range": "UPDATE shop.view_freshness SET history = '1 hour'",
    "view_states_pkey": "INSERT INTO shop.view_states (view) VALUES ('sales_by_day')",
    "state_is_of_a_known_view": "INSERT INTO shop.view_states (view) VALUES ('x')",
    "failures_not_negative": "UPDATE shop.view_states SET failures = -1",
    "only_a_failure_is_retried": "UPDATE shop.view_states SET failures = 1",
    "data_has_its_window": "UPDATE shop.view_states SET refreshed_at = now(), from_id = NULL, from_at = now()",
    "view_refreshes_pkey": "INSERT INTO shop.view_refreshes SELECT * FROM shop.view_refreshes",
    "refresh_is_of_a_known_view": _REFRESH.format(values=f"{SOME_ID}, 'x', now(), 1, 1, NULL"),
    "refresh_took_time": _REFRESH.format(values=f"{SOME_ID}, 'sales_by_day', now(), -1, 1, NULL"),
    "a_refresh_has_rows_or_an_error": _REFRESH.format(values=f"{SOME_ID}, 'sales_by_day', now(), 1, NULL, NULL"),
}
ALERTS = {
    "alerts_pkey": _ALERT.format(id="id, ", variant="variant_id", location="location_id"),
    "alert_has_a_variant": _ALERT.format(id="", variant="0", location="location_id"),
    "alert_has_a_location": _ALERT.format(id="", variant="variant_id", location="0"),
    "alert_level_is_known": "UPDATE shop.alerts SET level = 'high'",
    "alert_state_is_known": "UPDATE shop.alerts SET state = 'lost'",
    "escalation_in_range": "UPDATE shop.alerts SET escalation = 3",
    "a_resolved_alert_has_its_time": "UPDATE shop.alerts SET state = 'resolved'",
    "only_a_resolved_alert_has_recovered": "UPDATE shop.alerts SET recovered_at = now()",
    "alert_recipients_pkey": _again("alert_recipients", "address", "'b@x.example'"),
    "recipient_is_listed_once": _RECIPIENT.format("'a@x.example', 1, NULL, NULL"),
    "recipient_can_be_mailed": _RECIPIENT.format("E'b@x.example\\nBcc: c@x.example', 0, NULL, NULL"),
    "min_escalation_in_range": _RECIPIENT.format("'b@x.example', 3, NULL, NULL"),
    "recipient_has_a_known_pool": _RECIPIENT.format("'b@x.example', 0, 0, NULL"),
    "recipient_has_a_known_category": _RECIPIENT.format("'b@x.example', 0, NULL, 0"),
    "alert_notices_pkey": "INSERT INTO shop.alert_notices (id, address, alert_ids)"
    " SELECT id, 'b@x.example', alert_ids FROM shop.alert_notices LIMIT 1",
    "notice_is_about_something": "UPDATE shop.alert_notices SET alert_ids = '{}'",
    "notice_attempts_not_negative": "UPDATE shop.alert_notices SET attempts = -1",
    "a_sent_notice_is_not_leased": "UPDATE shop.alert_notices SET sent_at = now(), leased_until = now()",
}


_LOOK = "INSERT INTO shop.queue_looks (pool_id, waiting, taken, rate) VALUES ({pool}, {waiting}, {taken}, {rate})"
LIMITS = {
    "max_wait_in_range": "UPDATE shop.pools SET max_wait = '0 s'",
    "queue_looks_pkey": f"{_LOOK.format(pool=EAST, waiting=0, taken=0, rate=1)};" * 2,
    "look_is_at_a_pool": _LOOK.format(pool=0, waiting=0, taken=0, rate=1),
    "waiting_not_negative": _LOOK.format(pool=EAST, waiting=-1, taken=0, rate=1),
    "taken_not_negative": _LOOK.format(pool=EAST, waiting=0, taken=-1, rate=1),
    "rate_above_zero": _LOOK.format(pool=EAST, waiting=0, taken=0, rate=0),
}
REFUSED = LIMITS | WEBHOOKS | CATALOG | STOCK | REQUESTS | ORDERS | UPKEEP | VIEWS | ALERTS

EXEMPT = {
    "order_has_one_currency": "the target of line_has_its_order_and_currency; orders_pkey is narrower",
    "schema_version_pkc": "Alembic's own table",
}
