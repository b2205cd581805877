"""The two ways in, as an application uses them: `app.send_task` by name, and `api.submit_orders` in a transaction."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from celery import Celery
from celery.result import AsyncResult

CELERY, SQL = "Celery", "SQL"
Request = dict[str, Any]


class CeleryDoor:
    """Enqueues by task name over one connection that is reused; results are kept only where they are asked for."""

    def __init__(self, app: Celery, producer: Any) -> None:
        self._app = app
        self._producer = producer
        self.results: dict[str, AsyncResult] = {}

    def one(self, request: Request, *, watch: bool = False) -> None:
        """Send one order as one message; with `watch`, keep its AsyncResult."""
        result = self._send("orders.place", request, watch)
        if watch:
            self.results[request["key"]] = result

    def many(self, requests: Sequence[Request]) -> None:
        """Send several orders as one message."""
        self._send("orders.place_many", list(requests), False)

    def _send(self, task: str, payload: object, watch: bool) -> AsyncResult:
        return self._app.send_task(task, args=[payload], ignore_result=not watch, producer=self._producer)


@contextmanager
def celery_door(app: Celery) -> Iterator[CeleryDoor]:
    """The Celery door over one producer of the application's pool."""
    with app.producer_pool.acquire(block=True, timeout=10) as producer:
        door = CeleryDoor(app, producer)
        try:
            yield door
        finally:
            door.results.clear()  # they unsubscribe from Redis, which must still be there


class SqlDoor:
    """Submits in the application's own transaction; `answers` keeps what was said to keys that were sent again."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self.answers: dict[str, dict[str, Any]] = {}

    def one(self, request: Request) -> dict[str, Any]:
        """Submit one order; the answer is its outcome so far."""
        with self._connection.transaction():
            row = self._connection.execute("SELECT api.submit_order(%s::jsonb)", [json.dumps(request)]).fetchone()
        assert row is not None  # noqa: S101 - a function that is not a set always gives a row
        answer: dict[str, Any] = row[0]
        return answer

    def again(self, request: Request) -> None:
        """Submit an order that was sent before, and keep the answer."""
        self.answers[request["key"]] = self.one(request)

    def many(self, requests: Sequence[Request]) -> None:
        """Submit several orders, all accepted or none."""
        with self._connection.transaction():
            self._connection.execute("SELECT api.submit_orders(%s::jsonb)", [json.dumps(list(requests))])


@contextmanager
def sql_door(url: str) -> Iterator[SqlDoor]:
    """The SQL door with no more rights than an application has, where the login may take that role."""
    with psycopg.connect(url, autocommit=True, application_name="ordermill demo: SQL door") as connection:
        row = connection.execute("SELECT pg_has_role('ordermill_app', 'MEMBER')").fetchone()
        if row and row[0]:
            connection.execute("SET ROLE ordermill_app")
        yield SqlDoor(connection)
