"""taskiq as a peer, on the Redis stream broker, one message an order.

    taskiq worker bench.peers.taskiq_app:broker --workers 2 --max-async-tasks 8 --no-parse --log-level WARNING

The stream broker is the one of its documents that acknowledges ("Available brokers"): after the task, and 100 messages
are read at once (`xread_count`). Its documents ("Batching tasks") tell of `batch=True`, which no release up to 0.13.0
has, so a task is called once a message. Publishing: each `kiq` sends a message; many at once on one event loop. No
result backend, parameters not parsed a second time (`--no-parse`), uvloop. BENCH_CONNECTIONS is how many connections
a process has for its tasks.
"""

import os
from typing import Any

from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

from bench.peers.order import Connections, say_ready
from bench.peers.order import place as place_order
from workers.settings import get_settings

broker = RedisStreamBroker(get_settings().redis_url, queue_name="orders")
orders = Connections(int(os.environ.get("BENCH_CONNECTIONS", "4")))


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def _connect(_: TaskiqState) -> None:
    await orders.__aenter__()
    say_ready()


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def _close(_: TaskiqState) -> None:
    await orders.__aexit__()


@broker.task(task_name="place")
async def place(order: dict[str, Any]) -> None:
    """Places one order, while others are placed."""
    await orders.place(order)


@broker.task(task_name="place_in_thread")
def place_in_thread(order: dict[str, Any]) -> None:
    """Places one order, in a thread of the pool."""
    place_order(order)
