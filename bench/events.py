"""From the commit of what happened to its consumer: delay at a steady rate, and the most a second. One dispatcher.

    .venv/bin/python bench/events.py                       # 1,000 events/s for 20 s
    .venv/bin/python bench/events.py --rate 5000
    .venv/bin/python bench/events.py --backlog 100000      # how fast so many that wait are given to all consumers

Events come in transactions of ten. A consumer of the bench's own notes when it was given each, beside those that
Ordermill has. Starts its own servers, durable as they are by default, and one general worker.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.measuring import cpu_seconds
from tests.noted import add_noted
from tests.workers_fixtures import Mill
from workers.child import wait_until
from workers.database import connect
from workers.embedded import Servers, erase
from workers.migrate import migrate

A_TRANSACTION = 10
WRITE = """INSERT INTO shop.events_inbox (id, stream, kind, payload)
    SELECT shop.uuid7(), 'order:' || shop.new_order_id(), 'order.placed', jsonb_build_object(
        'order_id', shop.new_order_id(), 'key', 'bench-' || n, 'customer_id', 1, 'pool_id', 1, 'from', 'new',
        'status', 'placed', 'reason', null, 'total_amount', 12345, 'currency', 'USD', 'ordered_at', now())
    FROM generate_series(1, %s) AS n"""
DELAYS = """SELECT count(*), percentile_cont(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (
    ORDER BY extract(epoch FROM delay) * 1000) FROM shop.noted"""


def steady(mill: Mill, rate: int, seconds: float) -> dict[str, Any]:
    """Writes at this rate and gives the delays in ms."""
    before = cpu_seconds({"worker": [child.process.pid for child in mill.children if child.process]})
    with connect(mill.database_url) as writer:
        started = time.monotonic()
        written = 0
        while (now := time.monotonic() - started) < seconds:
            if written < rate * now:
                writer.execute(WRITE, [A_TRANSACTION])
                written += A_TRANSACTION
            else:
                time.sleep(0.001)
    took = time.monotonic() - started
    everything_given(mill)
    spent = cpu_seconds({"worker": [child.process.pid for child in mill.children if child.process]})
    row = mill.db.execute(DELAYS).fetchone() or (0, [0, 0, 0])
    p50, p99, most = row[1]
    return {
        "events": row[0], "events_per_second": round(written / took), "p50_ms": round(p50, 1), "p99_ms": round(p99, 1),
        "most_ms": round(most, 1), "worker_cpu_share": round((spent["worker"] - before["worker"]) / took, 3),
    }  # fmt: skip


def backlog(mill: Mill, events: int) -> dict[str, Any]:
    """Lets so many events wait, then gives how fast all consumers have had them."""
    with connect(mill.database_url) as writer, writer.transaction():
        writer.execute(WRITE, [events])
    started = time.monotonic()
    everything_given(mill)
    took = time.monotonic() - started
    return {"events": events, "seconds": round(took, 1), "events_per_second": round(events / took)}


def everything_given(mill: Mill) -> None:
    """Waits until nothing is in the inbox and no consumer is behind."""
    waits = "SELECT sum(events) FROM api.event_backlog"
    if not wait_until(lambda: mill.shop.value(waits) == 0, 600, 0.05):
        raise SystemExit("the dispatcher does not get through: see the worker's log")


def main() -> None:
    """Runs what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--backlog", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        try:
            with Servers(home) as servers:
                migrate(servers.database_url)
                (home / "mill").mkdir()
                broker = f"{servers.redis_url.removesuffix('/0')}/1"
                mill = Mill(servers.database_url, servers.redis_url, broker, home / "mill")
                mill.env["ORDERMILL_DISPATCH_SECONDS"] = "10"
                try:
                    add_noted(mill.shop)
                    mill.general_worker("-c", "2")
                    mill.send("events.dispatch", queue="events")
                    found = backlog(mill, asked.backlog) if asked.backlog else steady(mill, asked.rate, asked.seconds)
                finally:
                    mill.stop()
        finally:
            erase(home)
    json.dump(found, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
