"""Ten thousand items that nobody should send, straight into Redis among good orders: workers live, nothing vanishes.

Each item ends in exactly one way, and the sum of the ways is the number of items: *decided* (its key, else its task id,
has an outcome), *set aside* (it is in `<queue>.undecodable`), a *dead letter*, or *answered* only (it had no key under
which an outcome could be stored, or it had expired: the Celery result says so).
"""

import base64
import json
import os
import re
from collections import Counter
from typing import Any

from tests.fuzz import Fuzzer, Item
from tests.fuzz_messages import QUEUED, SKU
from tests.workers_fixtures import Mill, ready
from workers.child import wait_until

SEED = int(os.environ.get("FUZZ_SEED", "20261122"))
COUNT = int(os.environ.get("FUZZ_ITEMS", "10000"))
QUEUES = ("orders", "inventory", "celery")
MARKER = re.compile(r"[kt]-(\d{6}-[0-9a-f]{10})|\"marker\": ?\"(\d{6}-[0-9a-f]{10})")


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


def set_aside(mill: Mill) -> list[tuple[str, bytes]]:
    """The queue and the bytes of all that was set aside."""
    kept = []
    for queue in QUEUES:
        for raw in mill.broker.lrange(f"{queue}.undecodable", 0, -1):
            element = json.loads(raw)
            assert element["queue"] == queue
            assert element["code"] in {"OM092", "OM093", "OM094"}, element
            item = element["item"].encode(errors="surrogatepass") if "item" in element else None
            kept.append((queue, base64.b64decode(element["base64"]) if item is None else item))
    return kept


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
        found = [markers_in(raw.decode(errors="replace")) for _, raw in kept]
        self.aside = Counter(next(iter(markers), "") for markers in found)
        self.small = Counter(raw for (_, raw), markers in zip(kept, found, strict=True) if not markers)
        self.buried: set[str] = set()
        for key, payload in mill.db.execute("SELECT key, payload::text FROM shop.dead_letters").fetchall():
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
        """The kinds of items that vanished, or ended in two ways, or were good and were not placed."""
        found = []
        for item in self.items:
            ways = self.of(item)
            done = self.outcomes.get(f"k-{item.marker}")
            if len(ways) != 1 or (item.good and done not in {"placed", "done"}):
                found.append(
                    (f"{item.marker} {item.queue} {item.kind}", [*ways, str(self.results.get(item.marker))[:200]])
                )
        return found

    def totals(self) -> Counter[str]:
        return Counter(way for item in self.items for way in self.of(item))


def test_ten_thousand_fuzzed_items_are_each_decided_buried_or_set_aside(fresh_mill: Mill) -> None:
    mill, items = fresh_mill, Fuzzer(SEED).items(COUNT)
    mill.shop.stock(SKU, "E1", 1_000_000)
    workers = [
        mill.begin_orders_worker(),
        mill.begin_orders_worker(),
        mill.start_worker("general", "inventory,celery", "-c", "1"),
    ]
    pids = [ready(worker).process.pid for worker in workers]

    push(mill, items)

    emptied = wait_until(lambda: not left(mill) or not all(worker.alive() for worker in workers), 180, 0.25)
    ends = Ends(mill, items)
    report: dict[str, Any] = {"seed": SEED, "left": left(mill), "totals": ends.totals()}
    assert all(worker.alive() for worker in workers), report
    assert [worker.process and worker.process.pid for worker in workers] == pids
    wrong = ends.wrong()
    assert not wrong, "\n".join(map(str, [report, len(wrong), *wrong[:20]]))
    assert emptied, report
    assert sum(ends.totals().values()) == len(items)
    assert ends.small == Counter(item.raw for item in items if not item.marker)
    assert mill.shop.rows("SELECT key FROM shop.orders GROUP BY key HAVING count(*) > 1") == []
    print(report)
