"""What became of the items of `tests.fuzz`: each ends in exactly one way, and the sum of the ways is their number.

*Decided*: its key, else its task id, has an outcome. *Set aside*: it is in `<queue>.undecodable`, or was collected from
there. A *dead letter*: of an order or a task. *Answered* only: it had no key under which an outcome could be stored, or
it had expired; the Celery result says so.
"""

import base64
import json
import re
from collections import Counter
from typing import Any

from tests.fuzz import Item
from tests.fuzz_messages import QUEUED
from tests.workers_fixtures import Mill
from workers.dead_letters import bury_with, collect

QUEUES = ("orders", "inventory", "celery")
MARKER = re.compile(r"[kt]-(\d{6}-[0-9a-f]{10})|\"marker\": ?\"(\d{6}-[0-9a-f]{10})")
UNREAD = ("OM092", "OM093", "OM094")


def push(mill: Mill, items: list[Item]) -> None:
    """Straight into the lists, while workers take from them."""
    for at in range(0, len(items), 100):
        with mill.broker.pipeline(transaction=False) as pipe:
            for item in items[at : at + 100]:
                pipe.lpush(item.queue, item.raw)
            pipe.execute()


def left(mill: Mill) -> dict[str, int]:
    """What waits, or was taken and not acknowledged."""
    lists = [queue + step for queue in QUEUES for step in ("", *(f"{QUEUED}{n}" for n in (3, 6, 9)))]
    counts = {name: int(mill.broker.llen(name)) for name in lists}
    counts |= {name: int(mill.broker.hlen(name)) for name in ("orders.unacked", "unacked")}
    counts |= {name: int(mill.broker.zcard(name)) for name in ("orders.unacked_index", "unacked_index")}
    return {name: count for name, count in counts.items() if count}


def item_of(element: dict[str, Any]) -> bytes:
    """The bytes that lay in the queue, of what was set aside."""
    if "base64" in element:
        return base64.b64decode(element["base64"])
    return str(element["item"]).encode(errors="surrogatepass")


def set_aside(mill: Mill) -> list[bytes]:
    """The bytes of all that was set aside."""
    collect(mill.broker, QUEUES, bury_with(mill.db))  # as a job does now and then
    kept = []
    for queue in QUEUES:
        for raw in mill.broker.lrange(f"{queue}.undecodable", 0, -1):
            element = json.loads(raw)
            assert element["queue"] == queue
            assert element["code"] in UNREAD, element
            kept.append(item_of(element))
    letters = mill.shop.rows("SELECT payload FROM shop.dead_letters WHERE code = ANY(%s)", list(UNREAD))
    return kept + [item_of(payload) for payload in letters]


def markers_in(text: str) -> set[str]:
    return {first or second for first, second in MARKER.findall(text)}


class Ends:
    """How each item ended."""

    def __init__(self, mill: Mill, items: list[Item]) -> None:
        self.items = items
        rows = mill.db.execute(
            "SELECT key, answer->>'status' FROM shop.request_keys WHERE answer IS NOT NULL"
        ).fetchall()
        self.outcomes: dict[str, str] = dict(rows)
        kept = set_aside(mill)
        found = [markers_in(raw.decode(errors="replace")) for raw in kept]
        self.aside = Counter(next(iter(markers), "") for markers in found)
        self.small = Counter(raw for raw, markers in zip(kept, found, strict=True) if not markers)
        self.buried: set[str] = set()
        letters = "SELECT key, payload::text FROM shop.dead_letters WHERE code <> ALL (%s)"
        for key, payload in mill.db.execute(letters, [list(UNREAD)]).fetchall():
            self.buried |= markers_in(f"{key} {payload}")
        marked = [item.marker for item in items if item.marker]
        metas = mill.client.backend.mget([f"celery-task-meta-t-{marker}" for marker in marked])
        self.results = {m: json.loads(meta) for m, meta in zip(marked, metas, strict=True) if meta}

    def of(self, item: Item) -> list[str]:
        """All the ways in which an item ended; one, if all is well."""
        if not item.marker:
            return ["set aside"] if self.small[item.raw] else []
        ways = []
        decided = self.outcomes.get(f"k-{item.marker}") or self.outcomes.get(f"t-{item.marker}")
        if decided:
            ways.append("dead letter" if decided == "dead" else "decided")
        ways += ["set aside"] * self.aside[item.marker]
        if item.marker in self.buried and "dead letter" not in ways:
            ways.append("dead letter")
        if not ways and self.results.get(item.marker, {}).get("status") in {"SUCCESS", "REVOKED"}:
            ways.append("answered")
        return ways

    def wrong(self) -> list[tuple[str, list[str]]]:
        """The items that vanished, or ended in two ways, or were good and were not placed."""
        found = []
        for item in self.items:
            ways = self.of(item)
            done = self.outcomes.get(f"k-{item.marker}")
            if len(ways) != 1 or (item.good and done not in {"placed", "done"}):
                found.append(
                    (f"{item.marker} {item.queue} {item.kind}", [*ways, str(self.results.get(item.marker))[:200]])
                )
        return found
