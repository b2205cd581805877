"""The consumer `cache`: deletes what an event made stale, after the commit that the event tells of.

At least once, and in any order: to delete twice is to delete. While Redis is away the events wait.
"""

from collections.abc import Iterable
from typing import Any

from workers.cache import cache
from workers.database import call_one

# What changes how much can be ordered. A held order that becomes placed took its stock before; a fulfilled one too.
TOOK_OR_GAVE = {"order.held", "order.expired", "order.cancelled"}


def handle(events: list[dict[str, Any]]) -> None:
    """Deletes the cached values that these events are about; raises where that cannot be done now."""
    changes = [event["payload"] for event in events if event["kind"] == "catalog.changed"]
    if any(change.get("everything") for change in changes):
        cache().clear()
        return
    orders = {event["payload"].get("order_id") for event in events if takes_or_gives(event)} - {None}
    skus = set(_named(changes, "skus"))
    if orders and cache().store:
        skus |= set(call_one("api.ordered_skus", sorted(orders)))
    cache().delete(
        {
            "availability": skus,
            "product": set(_named(changes, "products")),
            "category": set(_named(changes, "categories")),
        }
    )


def takes_or_gives(event: dict[str, Any]) -> bool:
    """Whether an event says that an order took stock, or gave it back."""
    placed_at_once = event["kind"] == "order.placed" and event["payload"].get("from") == "new"
    return placed_at_once or event["kind"] in TOOK_OR_GAVE


def _named(changes: list[dict[str, Any]], what: str) -> Iterable[str]:
    return (name for change in changes for name in change.get(what) or ())
