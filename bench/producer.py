"""An application that orders, in a process of its own: as quickly as it can, or at the moments of a schedule.

    python -m bench.producer JOB.json

It reads the job, connects, writes JOB.ready and begins at SIGUSR1, so that its start is not measured. When all is sent
it writes JOB.done and stays until it is ended, so that its CPU can still be read.
"""

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery
from psycopg.types.json import Jsonb

from workers.database import connect

Order = dict[str, Any]
Send = Callable[[list[Order]], list[str]]  # gives the status of each order


def by_sql(one: bool) -> Send:
    """The SQL door, one transaction a call: `submit_order` for single orders, else `submit_orders`."""
    db = connect(os.environ["DATABASE_URL"])
    statement = "SELECT api.submit_order(%s::text)" if one else "SELECT api.submit_orders(%s::text[])"

    def send(orders: list[Order]) -> list[str]:
        texts = [json.dumps(order) for order in orders]
        return [row[0]["status"] for row in db.execute(statement, [texts[0] if one else texts])]

    return send


def by_placing() -> Send:
    """What a worker does with a batch: `place_orders`, by its role."""
    db = connect(os.environ["DATABASE_URL"])
    db.execute("SET ROLE ordermill_worker")

    def send(orders: list[Order]) -> list[str]:
        requests = Jsonb([typed(order) for order in orders])
        return [row[0]["status"] for row in db.execute("SELECT api.place_orders(%s)", [requests])]

    return send


def typed(order: Order) -> Order:
    """The order as the placing routines take it."""
    lines = order["lines"]
    values = {"skus": [line["sku"] for line in lines], "quantities": [line["quantity"] for line in lines]}
    return {name: order[name] for name in ("key", "customer", "pool")} | values


def by_celery() -> Send:
    """The Celery door: a message an order, each sent alone."""
    broker = os.environ["CELERY_BROKER_URL"]
    client = Celery("a-shop", broker=broker, set_as_current=False)
    client.connection_for_write().ensure_connection(max_retries=3)

    def send(orders: list[Order]) -> list[str]:
        for order in orders:
            client.send_task("orders.place", args=[order], queue="orders")
        return ["sent"] * len(orders)

    return send


def run(send: Send, calls: list[list[Order]], due: list[float] | None) -> dict[str, Any]:
    """Makes these calls, each at its moment where there is a schedule; gives when each began and returned."""
    statuses, began_at, returned_at = Counter[str](), [], []
    start, start_monotonic = time.time(), time.monotonic()
    for number, orders in enumerate(calls):
        if due is not None:
            time.sleep(max(0.0, start + due[number] - time.time()))
        began_at.append(time.time() - start)
        statuses.update(send(orders))
        returned_at.append(time.time() - start)
    ended = time.monotonic()
    return {
        "start": start,  # by the clock that PostgreSQL has too
        "start_monotonic": start_monotonic,
        "ended_monotonic": ended,
        "began_at": began_at,
        "returned_at": returned_at,
        "statuses": statuses,
    }


def main(job_file: Path) -> None:
    """Does the job, then waits to be ended."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    job = json.loads(job_file.read_text())
    orders, size = job["orders"], job["per_call"]
    calls = [orders[at : at + size] for at in range(0, len(orders), size)]
    doors: dict[str, Callable[[], Send]] = {
        "sql": lambda: by_sql(size == 1),
        "place": by_placing,
        "celery": by_celery,
    }
    send = doors[job["door"]]()
    job_file.with_suffix(".ready").touch()
    signal.sigwait({signal.SIGUSR1})
    done = run(send, calls, job["due"])
    unfinished = job_file.with_suffix(".new")
    unfinished.write_text(json.dumps(done))
    unfinished.replace(job_file.with_suffix(".done"))
    signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
