"""The pictures of docs/journey.md: who says what to whom while an order goes through each door, and after it."""

from generators.drawings import sequence

CELERY = (
    "An order through the Celery door",
    ("application", "Redis", "orders worker", "PostgreSQL"),
    (
        ("application", "Redis", "orders.place {key, lines …}"),
        ("Redis", "orders worker", "up to 100 messages"),
        ("orders worker", "orders worker", "checks their form"),
        ("orders worker", "PostgreSQL", "api.place_orders([…])"),
        ("PostgreSQL", "PostgreSQL", "keys · stock locked · orders · events"),
        ("PostgreSQL", "orders worker", "committed: an outcome each"),
        ("orders worker", "Redis", "results; acknowledged"),
        ("Redis", "application", "{status: placed, order_id}"),
    ),
)
SQL = (
    "An order through the SQL door",
    ("application", "PostgreSQL", "orders.drain"),
    (
        ("application", "PostgreSQL", "BEGIN; its own rows"),
        ("application", "PostgreSQL", "api.submit_order({key, …})"),
        ("application", "PostgreSQL", "COMMIT: now it is accepted"),
        ("orders.drain", "PostgreSQL", "api.claim_orders: takes up to 100"),
        ("orders.drain", "PostgreSQL", "api.place_claim: all of them"),
        ("PostgreSQL", "PostgreSQL", "claim deleted · as at the other door"),
        ("application", "PostgreSQL", "api.order_outcome(key)"),
        ("PostgreSQL", "application", "{status: placed, order_id}"),
    ),
)
AFTER = (
    "What follows an order",
    ("PostgreSQL", "events.dispatch", "consumers", "the world"),
    (
        ("PostgreSQL", "PostgreSQL", "events_inbox, as it was committed"),
        ("events.dispatch", "PostgreSQL", "api.sequence_events: positions"),
        ("events.dispatch", "consumers", "api.dispatch_events, in order"),
        ("consumers", "consumers", "effect and cursor: one transaction"),
        ("consumers", "the world", "mail of low stock"),
        ("consumers", "the world", "webhooks: signed, in order"),
        ("consumers", "the world", "cached values deleted"),
    ),
)


def pictures() -> dict[str, str]:
    """Each by its file's name."""
    return {
        f"journey-{name}.svg": sequence(*drawn) for name, drawn in (("celery", CELERY), ("sql", SQL), ("after", AFTER))
    }
