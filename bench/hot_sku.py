"""One sku that everybody wants: a shop for it, the sides that sell it, and their latency in an open loop.

Stock is for 0.9 of the orders, so the last tenth must be rejected. A block in which a unit more or less was sold than
was there, or in which the shop does not verify, has no figure.
"""

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.block import Block
from bench.database_sides import PgbenchSide, pgbench
from bench.latency import WATCH_SECONDS, Watcher, drops, first_seen, percentile
from bench.mixes import Connection, Mix
from bench.orders import CUSTOMERS

PRODUCERS, SHARE_IN_STOCK = 16, 0.9
CATALOG = f"""
    INSERT INTO shop.categories (code, name) VALUES ('bench', 'Bench');
    INSERT INTO shop.products (code, category_id, title) VALUES ('bench', 1, 'Bench');
    INSERT INTO shop.product_variants (product_id, sku, title, price_amount, currency)
    VALUES (1, 'HOT', 'HOT', 100, 'USD');
    INSERT INTO shop.customers (number) SELECT 'C' || i FROM generate_series(1, {CUSTOMERS}) AS i;
    INSERT INTO shop.pools (code, name, currency) VALUES ('P', 'P', 'USD');
    INSERT INTO shop.locations (code, name, pool_id, priority) VALUES ('P1', 'P1', 1, 1);
"""  # noqa: S608
RECEIVE = "SELECT shop.load_stock('{1}', '{1}', ARRAY[%s]::bigint[], '{0}', '{5}')"
SOLD = """
    SELECT l.available, l.committed, (SELECT count(*) FROM shop.orders),
        (SELECT sum(quantity)::bigint FROM shop.stock_movements WHERE from_account = 'supplier')
    FROM shop.stock_levels AS l
"""


def _load(connection: Connection) -> None:
    connection.execute(CATALOG.encode())


def _requests(count: int, prefix: str) -> list[dict[str, Any]]:
    customers = random.Random(7)  # noqa: S311
    return [
        {"version": 1, "key": f"{prefix}{number}", "customer": f"C{customers.randint(1, CUSTOMERS)}", "pool": "P"}
        | {"lines": [{"sku": "HOT", "quantity": 1}]}
        for number in range(count)
    ]


HOT_SKU = Mix("one sku", _load, _requests)


@dataclass(frozen=True)
class HotSkuSide(PgbenchSide):
    """One order of one unit a call."""

    clients: int = PRODUCERS

    def prepare(self, block: Block, orders: list[dict[str, Any]]) -> None:
        """Also has the stock come in."""
        super().prepare(block, orders)
        block.db.execute(RECEIVE, [int(len(orders) * SHARE_IN_STOCK)])

    def check(self, block: Block) -> None:
        """Also: exactly what came in is sold."""
        super().check(block)
        left, committed, placed, received = block.db.execute(SOLD).fetchone() or (None, None, None, None)
        if left != 0 or not received == committed == placed:
            raise RuntimeError(f"{self.name}: {received} units, {committed} sold in {placed} orders, {left} left")


DOOR = HotSkuSide("Ordermill, SQL door", drain=True)
FOR_UPDATE = HotSkuSide("SELECT … FOR UPDATE, by hand", "bench.place_by_hand")
GUARDED = HotSkuSide("guarded UPDATE, by hand", "bench.place_guarded")


def open_loop(block: Block, orders: list[dict[str, Any]], rate: float, seed: int) -> dict[str, Any]:
    """Has these sent at so many a second, as independent customers come; percentiles from the scheduled moment until
    the decision is committed, and how many were sent or decided too late."""
    side = block.side
    if not isinstance(side, PgbenchSide):
        raise TypeError(f"{side.name} is not sent by pgbench")
    side.prepare(block, orders)
    prefix = block.rig.home / "pgbench_log"
    with Watcher(block.url) as watcher:
        time.sleep(WATCH_SECONDS / 2)  # until it notes
        block.sent += len(orders)
        options = (f"--rate={rate}", f"--random-seed={seed}", "--log", f"--log-prefix={prefix}")
        pgbench(block, side.script(), side.clients, len(orders), *options, a_call=1)
        side.wait(block, len(orders))
        time.sleep(WATCH_SECONDS / 10)  # the last one is shown
    due, began = scheduled(prefix, side.clients, len(orders))
    rows = block.db.execute(
        "SELECT key, xmin::text::bigint FROM shop.request_keys WHERE key = ANY(%s)", [[each["key"] for each in orders]]
    ).fetchall()
    by_key, seen = dict(rows), first_seen(watcher.snapshots, (row[1] for row in rows))
    latencies = [seen[by_key[order["key"]]] - at for order, at in zip(orders, due, strict=True)]
    ordered = sorted(1000 * each for each in latencies)
    return {
        "p50_ms": round(percentile(ordered, 0.5), 2),
        "p99_ms": round(percentile(ordered, 0.99), 2),
        "max_ms": round(ordered[-1], 2),
        "drops": drops(due, began, latencies),
    }


def scheduled(prefix: Path, clients: int, orders: int) -> tuple[list[float], list[float]]:
    """When each order was to be sent, and when it was, in seconds of the epoch, from pgbench's log."""
    due, began = [0.0] * orders, [0.0] * orders
    for file in prefix.parent.glob(f"{prefix.name}.*"):
        for line in file.read_text().splitlines():
            # Its time counts from the scheduled moment, of which the lag is a part.
            client, call, took, _script, seconds, micros, lag = (int(word) for word in line.split()[:7])
            number = (call - 1) * clients + client  # it counts calls from 1
            if number < orders:  # else it had nothing left to send
                due[number] = seconds + (micros - took) / 1e6
                began[number] = due[number] + lag / 1e6
        file.unlink()
    if not all(due):
        raise RuntimeError(f"pgbench's log has no line for {due.count(0.0)} orders")
    return due, began
