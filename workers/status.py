"""What `ordermill status` shows: whether the servers answer, what waits, what was decided, what the jobs did."""

import contextlib
import time
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import redis
from kombu import Connection
from kombu.exceptions import OperationalError
from psycopg.rows import dict_row
from rich.console import Console
from rich.table import Table

from workers.database import connect
from workers.processes import GENERAL_QUEUES

_PRIORITY_KEYS = ("", "\x06\x163", "\x06\x166", "\x06\x169")  # kombu keeps a list for each of its four priority steps

# Only the public views, so that any reader may ask. Orders are counted over a day by the time in their id, so that the
# question costs the same however long the history.
_QUESTIONS = {
    "orders_last_day": """SELECT status, count(*) AS orders FROM api.orders
        WHERE id >= %(since)s GROUP BY status ORDER BY status""",
    "order_queue": "SELECT pool, waiting, claimed, oldest FROM api.queue ORDER BY pool",
    "dead_letters": """SELECT source, code, count(*) AS letters FROM api.dead_letters
        WHERE settled_at IS NULL GROUP BY source, code ORDER BY source, code""",
    "jobs": "SELECT job, state, attempt, slot, started_at, finished_at FROM api.job_runs ORDER BY job",
    "partitions": "SELECT api.partitions_ahead() AS months_ahead",
}


def collect(database_url: str, redis_url: str, broker_url: str, master: str = "") -> dict[str, Any]:
    """The state as plain values; a part that does not answer is None and its error is in `errors`."""
    state: dict[str, Any] = {"database": None, "redis": None, "queues": None, "undecodable": None, "errors": []}
    state.update(dict.fromkeys(_QUESTIONS))
    with contextlib.ExitStack() as stack:
        stack.enter_context(_noted(state, "database"))
        connection = stack.enter_context(connect(database_url, connect_timeout=5, row_factory=dict_row))
        state["database"] = connection.info.server_version
        since = uuid.UUID(int=int((time.time() - 86_400) * 1000) << 80)  # the lowest UUIDv7 of that millisecond
        for name, question in _QUESTIONS.items():
            state[name] = connection.execute(question.encode(), {"since": since}).fetchall()
    with _noted(state, "redis"), _redis(redis_url, master) as client:
        state["redis"] = client.info("server")["redis_version"]
    with _noted(state, "broker"), _redis(broker_url, master) as client:
        names = ("orders", *GENERAL_QUEUES)
        state["queues"] = {name: sum(client.llen(name + step) for step in _PRIORITY_KEYS) for name in names}
        state["undecodable"] = {name: client.llen(f"{name}.undecodable") for name in names}
    return state


@contextlib.contextmanager
def _redis(url: str, master: str) -> Iterator[Any]:
    if url.startswith(("redis://", "rediss://")):
        with redis.Redis.from_url(url, socket_timeout=5, retry=None) as client:
            yield client
        return
    options: dict[str, Any] = {"socket_timeout": 5, "socket_connect_timeout": 5}
    # Only kombu reads sentinel:// and redis+socket://.
    with Connection(url, transport_options=options | ({"master_name": master} if master else {})) as connection:
        yield connection.default_channel.client


@contextlib.contextmanager
def _noted(state: dict[str, Any], part: str) -> Any:
    try:
        yield
    except (psycopg.Error, redis.RedisError, OperationalError) as error:
        words = str(error).strip().splitlines()
        state["errors"].append(f"{part}: {words[0] if words else type(error).__name__}")


def show(state: dict[str, Any], console: Console) -> None:
    """The same as tables."""
    servers = Table("server", "answers", title="Servers", title_justify="left")
    version = state["database"]
    servers.add_row("PostgreSQL", f"{version // 10000}.{version % 10000}" if version else "[red]no[/]")
    servers.add_row("Redis", state["redis"] or "[red]no[/]")
    console.print(servers)
    for problem in state["errors"]:
        console.print(f"[red]{problem}[/]", soft_wrap=True)
    if state["queues"] is not None:
        queues = Table("queue", "waiting", "undecodable", title="Celery queues", title_justify="left")
        for name, depth in state["queues"].items():
            queues.add_row(name, str(depth), str(state["undecodable"][name]))
        console.print(queues)
    for title, name in (
        ("Waiting behind the SQL door", "order_queue"),
        ("Orders of the last day", "orders_last_day"),
        ("Open dead letters", "dead_letters"),
        ("Last job runs", "jobs"),
        ("Partitions", "partitions"),
    ):
        if state[name]:
            _table(console, title, state[name])
        elif state[name] is not None:
            console.print(f"{title}: none")


def _table(console: Console, title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(rows[0]):
        table.add_column(name, no_wrap=place == 0)  # what a row is about is never cut
    for row in rows:
        table.add_row(
            *(
                f"{value:%m-%d %H:%M:%S}" if hasattr(value, "hour") else "-" if value is None else str(value)
                for value in row.values()
            )
        )
    console.print(table)
