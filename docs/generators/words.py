"""What the catalog cannot say for docs/schema.md: areas, what each table and index is for, links without a foreign key.

A table or an index that is not named here, and has no COMMENT, stops the generator: nothing is left undescribed.
"""

AREAS: dict[str, dict[str, str]] = {
    "Catalog": {
        "currencies": "What an amount can be in. Amounts are whole minor units: 1234 with 2 minor units is 12.34.",
        "categories": "Departments and the categories below them, with their default threshold of low stock.",
        "products": "What is sold, apart from its variants.",
        "product_variants": "What has a sku, a price and stock. An inactive variant cannot be ordered.",
    },
    "Customers": {
        "customers": "Who orders. Requests name a customer by `number`.",
        "addresses": "Where to ship; `code` is the customer's own name for it, such as `home`.",
    },
    "Stock": {
        "pools": (
            "A group of locations that serves orders together. An order names one pool. `max_wait` is set by "
            "`api.set_queue_limit`."
        ),
        "locations": "Where stock is. Each is in exactly one pool; the lowest `priority` serves first.",
        "stock_levels": (
            "How much of a variant a location has, in disjoint accounts. On hand = available + held + committed + "
            "unavailable. `oversell_cap` is how far `available` may go below zero (backorders). Always the sum of the "
            "movements; only `shop.apply_movements` writes it."
        ),
        "stock_movements": (
            "The double entry behind the levels: each takes a quantity out of one account and puts it into another. "
            "`supplier`, `customer` and `adjustment` are outside the shop and have no location. Never changed."
        ),
    },
    "Requests": {
        "request_keys": (
            "One row a key: the hash of the body it came with and, once decided, the outcome that every repetition "
            "gets. Kept for `ORDERMILL_KEYS_KEPT_DAYS`."
        ),
        "order_queue": "Orders accepted by the SQL door and not yet decided. Rows are deleted when decided.",
        "queue_looks": (
            "What the drain of a pool with a limit (`pools.max_wait`) saw when it last looked: how many wait, how fast "
            "they are taken, and so how long a new order would wait. Submitting reads it and locks nothing."
        ),
        "claims": "Which queued orders a drain has taken, until when, and which attempt it is.",
    },
    "Orders": {
        "orders": "Orders that took effect. A rejected request has no order, only its key's answer.",
        "order_lines": "One line a variant; duplicates in the request are added up. The price is the catalog's then.",
        "order_allocations": "Which location serves how much of a line: held, committed, released or fulfilled.",
        "order_status_history": "Each step of each order, written by triggers only.",
        "allowed_transitions": "The steps an order may take.",
    },
    "Low-stock alerts": {
        "alerts": (
            "One row per variant and location from when it falls to its threshold until it recovers, also when a "
            "person resolved it before. Nobody has it while `open`; `escalation` rises by age."
        ),
        "alert_recipients": "Who gets mail, of what, from which escalation on.",
        "alert_notices": (
            "What is to be told: a mail to `address`, or lines in the log (NULL). It gathers alerts until its first "
            "attempt; then it is sent, with the same id each time, or becomes a dead letter."
        ),
    },
    "Webhooks": {
        "webhook_endpoints": "Who is told what, and how it went lately. Secrets are here and in no view.",
        "webhook_deliveries": (
            "One row an event and endpoint that wants it, with its attempts. Kept for `ORDERMILL_WEBHOOKS_KEPT_DAYS` "
            "after it has ended: delivered, or dead with its `letter_id`. What is told is the event."
        ),
        "delivery_streams": (
            "The streams with something waiting. Whoever leases one sends its events, in order; `due_at` is the next "
            "attempt, or the end of the lease."
        ),
    },
    "Events and operation": {
        "events_inbox": "What happened, in the transaction in which it happened, until the sequencer has it.",
        "events": "What happened, in positions that have no gap; within a stream in the order in which it happened.",
        "event_head": "The position that was given last; one row.",
        "event_consumers": (
            "Who is given events, and the last position whose effect each has. The effect and the cursor are one "
            "transaction, but for consumers `outside` the database."
        ),
        "dead_letters": (
            "What could not be done, with its payload and reason: an order has neither `task` nor `queue`, the message "
            "of a task that failed its `task`, an item that no worker could read its `queue`. Open until `settled_at`."
        ),
        "message_attempts": (
            "How often a message was tried that came back from a dead worker; its row goes when it is decided."
        ),
        "job_runs": "The runs of maintenance jobs: one successful run a slot.",
    },
    "Upkeep": {
        "retention_policies": (
            "How long rows of a kind are kept, and months of partitions. The owner may change `keep`. Request keys and "
            "settled letters go by `ORDERMILL_KEYS_KEPT_DAYS`."
        ),
        "retirements": (
            "The months whose partitions are retired, or being retired (`finished_at` NULL). `api.verify` starts "
            "behind the last of them, at its anchors: `opening_balances` and `events_through`."
        ),
        "opening_balances": "The sum of the movements of all retired months.",
        "archives": "The Parquet file of each retired partition, and what makes sure that it is whole.",
        "upkeep_findings": "What the last run of each report found, and since when it is so.",
        "table_sizes": "The size of each table by day, indexes included.",
    },
    "Materialized views": {
        "view_freshness": (
            "How stale each view may be, the deadline of its refresh, how far it looks back (`history`; NULL: as far "
            "as the shop), what it is built from, and its turn. Set by `api.set_view_freshness`."
        ),
        "view_states": (
            "What the data of each view is of: when it was read, its window, and the evidence of what it saw; how "
            "often its refresh has failed since. A view reads its window here."
        ),
        "view_refreshes": "One row a refresh, for 30 days: its time, rows and staleness before, or why it failed.",
    },
}

INDEXES: dict[str, str] = {
    "webhook_deliveries_waiting": "`api.claim_deliveries`: what waits in a stream, in order.",
    "webhook_deliveries_by_end": "`api.prune_deliveries`: what ended longest ago.",
    "delivery_streams_by_due": "`api.claim_deliveries`: what is due at an endpoint, the oldest first.",
    "variants_by_product": "`api.read_products`: the variants of a product.",
    "products_by_category": "`api.read_categories`: the products of a category, by code.",
    "categories_by_parent": "`api.read_categories`: the categories below one.",
    "request_keys_by_age": "`api.prune`: the oldest keys.",
    "order_queue_by_pool": "`api.claim_orders`: the next orders of a pool.",
    "claims_that_came_back": "`api.claim_orders`: what is to be tried again; empty when all goes well.",
    "events_by_position": "`api.dispatch_events`: what comes after a consumer's cursor.",
    "events_by_stream": "`api.events`: the story of one order or stock level.",
    "alerts_not_recovered": "`shop.judge_levels`: the alert of a level; and there is one.",
    "alerts_unattended": "`api.escalate_alerts`: what waits longest.",
    "alerts_by_recovery": "`api.prune_alerts`: the oldest alerts that are over.",
    "alert_notices_gathering": "`shop.gather_notices`: the notice that gathers for an address; there is one.",
    "alert_notices_due": "`api.claim_alert_notice`: what is to be sent.",
    "alert_notices_by_age": "`api.prune_alerts`: the oldest that were sent.",
    "order_allocations_by_expiry": "`api.expire_holds`: the holds that ran out.",
    "view_refreshes_by_view": "`api.view_freshness`: a view's last refresh.",
}

ROLES: dict[str, str] = {
    "ordermill_owner": "Owns every object. No process runs as it; `ordermill migrate` takes it.",
    "ordermill_worker": "What workers are: places orders, runs commands and maintenance.",
    "ordermill_app": "What applications are: the SQL door, and the views.",
    "ordermill_reader": "Analysts and dashboards: the views and `api.verify`.",
    "ordermill_maintainer": "Operators and scheduled maintenance by hand.",
}

# (from, to, label): kept by routines and checked by `api.verify`, not by a foreign key.
LINKS: tuple[tuple[str, str, str], ...] = (
    ("webhook_deliveries", "events", "event_id"),
    ("webhook_deliveries", "delivery_streams", "endpoint, stream"),
    ("orders", "request_keys", "key"),
    ("order_queue", "request_keys", "key"),
    ("order_queue", "claims", "claim_id"),
    ("dead_letters", "request_keys", "key"),
    ("order_allocations", "order_lines", "line_id"),
    ("order_allocations", "stock_levels", "variant, location"),
    ("stock_movements", "stock_levels", "variant, location"),
    ("stock_movements", "orders", "order_id"),
    ("order_status_history", "orders", "order_id"),
)

# Everything with an amount refers to it, or nothing refers to it: they would only hide the rest of the picture.
NOT_DRAWN = (
    *("currencies", "allowed_transitions", "job_runs", "message_attempts"),
    *("events_inbox", "events", "event_head", "event_consumers"),
    *("retention_policies", "retirements", "opening_balances", "archives", "upkeep_findings", "table_sizes"),
)

PARTITIONED = (
    "Partitioned by month of the id (`RANGE (id)`; an id is a UUIDv7, which begins with its time). "
    "`api.ensure_partitions` makes six months ahead; there is no default partition."
)

INTRODUCTION = """\
Tables are in schema `shop` and belong to `ordermill_owner`; nobody else has any right on them. Everything others may
use is in schema `api`: routines, which run with the owner's rights, and views. So only routines write.

A constraint is named for the fact it keeps; when one is violated, PostgreSQL's message names the fact. Ids of orders,
lines, allocations, history, movements and events are UUIDv7. An order's lines, allocations and history have the order's
id with the last 16 bits counted up: one primary-key range finds an order with its parts, in one partition."""

DIAGRAM_NOTE = (
    "Solid: a foreign key. Dashed: kept by the routines and checked by `api.verify`. Only keys are shown, and not "
    f"{', '.join(f'`{name}`' for name in NOT_DRAWN[:-1])} and `{NOT_DRAWN[-1]}`."
)
