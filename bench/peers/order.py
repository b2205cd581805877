"""What each peer's task does with an order: it checks it as Ordermill's door does and asks the routine for one order.

By a prepared statement on plain psycopg connections of its own, as the role of Ordermill's workers.
"""

import asyncio
import os
import sys
import threading
from typing import Any, Self

import psycopg
from psycopg.types.json import Jsonb

from tasks.payloads import OrderRequest
from workers.database import connect
from workers.settings import get_settings

PLACE = "SELECT api.place_order(%s)"  # psycopg prepares what it repeats
ROLE = "SET ROLE ordermill_worker"
READY = "bench: ready."
_here = threading.local()


def say_ready() -> None:
    """All sides are silent at their log level; the bench waits for this line."""
    print(READY, file=sys.stderr, flush=True)


def typed(order: dict[str, Any]) -> Jsonb:
    """The order as the routine takes it; raises `ValidationError` where it does not have its form, or no key."""
    return Jsonb(OrderRequest.model_validate(order).typed(default_key=""))


def place(order: dict[str, Any]) -> None:
    """Places one order in one transaction on this thread's connection."""
    if getattr(_here, "process", None) != os.getpid():  # never a parent's connection
        _here.process, _here.connection = os.getpid(), connect(get_settings().database_url)
        _here.connection.execute(ROLE)
    _here.connection.execute(PLACE, [typed(order)]).fetchone()


class Connections:
    """So many asynchronous connections, for the length of an `async with` block."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.free: asyncio.LifoQueue[psycopg.AsyncConnection[Any]] = asyncio.LifoQueue()

    async def __aenter__(self) -> Self:
        for _ in range(self.size):
            made = await psycopg.AsyncConnection.connect(get_settings().database_url, autocommit=True)
            await made.execute(ROLE)
            self.free.put_nowait(made)
        return self

    async def __aexit__(self, *_: object) -> None:
        while not self.free.empty():
            await self.free.get_nowait().close()

    async def place(self, order: dict[str, Any]) -> None:
        """Places one order in one transaction on a free connection, as soon as there is one."""
        request, connection = typed(order), await self.free.get()
        try:
            await (await connection.execute(PLACE, [request])).fetchone()
        finally:
            self.free.put_nowait(connection)
