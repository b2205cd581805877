"""Deliveries a second to two endpoints on this machine: what waits is sent by one worker, which also dispatches.

    .venv/bin/python bench/webhooks.py                # 10,000 events, so 20,000 deliveries
    .venv/bin/python bench/webhooks.py --events 2000

The receivers are processes of their own that read the request and answer 204, and verify nothing. Starts its own
servers, durable as they are by default.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.measuring import cpu_seconds
from tests.hooks import add
from tests.workers_fixtures import Mill
from workers.child import wait_until
from workers.database import connect
from workers.embedded import Servers, erase
from workers.migrate import migrate

ENDPOINTS = 2
RECEIVER = """
import asyncio
async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\\r\\n")[0]))
            writer.write(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""
WRITE = """INSERT INTO shop.events_inbox (id, stream, kind, payload)
    SELECT shop.uuid7(), 'order:' || shop.new_order_id(), 'order.placed', jsonb_build_object(
        'order_id', shop.new_order_id(), 'key', 'bench-' || n, 'customer_id', 1, 'pool_id', 1, 'from', 'new',
        'status', 'placed', 'reason', null, 'total_amount', 12345, 'currency', 'USD', 'ordered_at', now())
    FROM generate_series(1, %s) AS n"""
LEFT = "SELECT count(*) FROM shop.webhook_deliveries WHERE ended_at IS NULL"


def measured(mill: Mill, events: int) -> dict[str, Any]:
    """Lets so many events happen at once; gives how fast the consumer and then the endpoints have had them."""
    with connect(mill.database_url) as writer, writer.transaction():
        writer.execute(WRITE, [events])
    mill.shop.value("SELECT api.pause_webhook(name) FROM api.webhook_endpoints")
    started = time.monotonic()
    mill.send("events.dispatch", queue="events")
    reached(mill, f"SELECT count(*) = {events * ENDPOINTS} FROM shop.webhook_deliveries")  # noqa: S608 - a number
    given = time.monotonic() - started
    before = spent(mill)
    mill.shop.value("SELECT api.resume_webhook(name) FROM api.webhook_endpoints")
    started = time.monotonic()
    mill.send("webhooks.deliver", queue="events")
    reached(mill, f"SELECT ({LEFT}) = 0")
    took = time.monotonic() - started
    return {
        "events": events,
        "endpoints": ENDPOINTS,
        "consumed_events_per_second": round(events / given),
        "deliveries_per_second": round(events * ENDPOINTS / took),
        "worker_cpu_share": round((spent(mill) - before) / took, 2),
    }


def spent(mill: Mill) -> float:
    """Seconds of CPU of the worker."""
    return cpu_seconds({"worker": [child.process.pid for child in mill.children if child.process]})["worker"]


def reached(mill: Mill, question: str) -> None:
    """Waits until the answer is true."""
    if not wait_until(lambda: bool(mill.shop.value(question)), 600, 0.05):
        raise SystemExit("the deliverer does not get through: see the worker's log")


def main() -> None:
    """Runs what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000)
    asked = parser.parse_args()
    receivers = [subprocess.Popen([sys.executable, "-c", RECEIVER], stdout=subprocess.PIPE) for _ in range(ENDPOINTS)]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        try:
            with Servers(home) as servers:
                migrate(servers.database_url)
                (home / "mill").mkdir()
                mill = Mill(
                    servers.database_url, servers.redis_url, servers.redis_url.removesuffix("/0") + "/1", home / "mill"
                )
                mill.env |= {"ORDERMILL_DISPATCH_SECONDS": "10", "ORDERMILL_WEBHOOKS_ALLOW": "127.0.0.0/8"}
                try:
                    for number, receiver in enumerate(receivers):
                        add(mill.shop, f"bench{number}", f"http://127.0.0.1:{int(receiver.stdout.readline())}/")
                    mill.general_worker("-c", "2")
                    found = measured(mill, asked.events)
                finally:
                    mill.stop()
        finally:
            erase(home)
            for receiver in receivers:
                receiver.terminate()
    json.dump(found, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
