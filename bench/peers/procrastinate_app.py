"""Procrastinate as a peer, in the database of the shop, one job an order.

    procrastinate --app bench.peers.procrastinate_app.app --log-level warning worker --concurrency 4

Its documented bulk way ("Batch defer multiple jobs"): many jobs deferred by one call. A worker fetches job by job, so
many at a time as its concurrency ("Launch a worker"), and calls a task once a job. Jobs are deleted as they succeed
("Delete finished jobs"), which keeps its table small; to listen for notifications or to poll is tuned. Its own pool is
apart from the connections of the tasks, of which there are BENCH_CONNECTIONS a process.
"""

import os
from typing import Any

import procrastinate

from bench.peers.order import Connections
from bench.peers.order import place as place_order
from workers.settings import get_settings

CONNECTIONS = int(os.environ.get("BENCH_CONNECTIONS", "4"))
app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=get_settings().database_url, min_size=2, max_size=CONNECTIONS + 2)
)
_orders: list[Connections] = []


@app.task(name="place", queue="orders")
async def place(order: dict[str, Any]) -> None:
    """Places one order, while others are placed."""
    if not _orders:
        _orders.append(Connections(CONNECTIONS))
        await _orders[0].__aenter__()
    await _orders[0].place(order)


@app.task(name="place_in_thread", queue="orders")
def place_in_thread(order: dict[str, Any]) -> None:
    """Places one order, in a thread of the pool."""
    place_order(order)
