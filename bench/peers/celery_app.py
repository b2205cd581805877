"""Stock Celery as a peer: plain Celery on its own Redis transport, one task an order, tuned.

    celery -A bench.peers.celery_app worker -Q orders

It checks a message as Ordermill's door does and asks the same routine, by a prepared statement on one plain connection
a process: nothing of Ordermill's runtime is in its way.
"""

import os
import sys
from functools import lru_cache
from typing import Any

import psycopg
from celery import Celery, Task
from celery.signals import worker_ready
from psycopg.types.json import Jsonb

from tasks.payloads import OrderRequest
from workers.database import connect
from workers.settings import get_settings

app = Celery("stock")
app.conf.update(
    broker_url=get_settings().broker_url,
    result_backend=get_settings().redis_url,
    result_expires=3600,
    accept_content=["json"],
    task_serializer="json",
    result_serializer="json",
    task_acks_late=True,
    worker_send_task_events=True,
    broker_connection_retry_on_startup=True,
)


@lru_cache(maxsize=1)
def connection_of(process: int) -> psycopg.Connection[Any]:
    """This process's connection, never a parent's; psycopg prepares what it repeats."""
    made = connect(get_settings().database_url)
    made.execute("SET ROLE ordermill_worker")
    return made


@app.task(name="bench.noop", ignore_result=True)  # type: ignore[untyped-decorator]
def noop(*_args: Any) -> None:
    """Does nothing."""


@app.task(name="orders.place", bind=True)  # type: ignore[untyped-decorator]
def place(self: Task, order: dict[str, Any]) -> Any:
    """Places one order in one transaction and gives its outcome."""
    request = OrderRequest.model_validate(order).typed(self.request.id)
    placed = connection_of(os.getpid()).execute("SELECT api.place_order(%s)", [Jsonb(request)]).fetchone()
    return placed[0] if placed else None


@worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
def _say_ready(**_: Any) -> None:
    """Both sides are silent at this log level; the bench waits for this line."""
    print("bench: ready.", file=sys.stderr, flush=True)
