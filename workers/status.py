"""The state of an Ordermill as plain values: which servers answer, what waits and since when, what the jobs did.

Asked by `ordermill status` and by the exporter of metrics. What of it is a problem is in `workers.problems`, how it is
shown in `workers.status_shown`.
"""

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

from beat_schedule import BEAT_SCHEDULE
from workers import queues
from workers.cache import stats
from workers.database import connect
from workers.driver_words import in_one_line
from workers.problems import problems_of
from workers.queue_names import ALL_QUEUES
from workers.settings import Settings
from workers.timetable import HEALTH, asked, judged

READER = "a login that is a member of ordermill_reader"
SERVER_SECONDS = 5  # for each server to answer
QUEUE_OF = {entry["task"]: entry["options"]["queue"] for entry in BEAT_SCHEDULE.values()}

ORDER_QUEUE = """SELECT pool, waiting, claimed, oldest,
            extract(epoch FROM clock_timestamp() - oldest)::float8 AS oldest_seconds,
            extract(epoch FROM max_wait)::float8 AS max_wait_seconds,
            extract(epoch FROM expected_wait)::float8 AS expected_wait_seconds
        FROM api.queue ORDER BY pool"""
# Only what `api` shows to any reader. Of connections a login that may not see other users' sees how many there are.
_QUESTIONS = {
    "order_queue": ORDER_QUEUE,
    "events": """SELECT waits_for, events, waits_since,
            extract(epoch FROM clock_timestamp() - waits_since)::float8 AS lag_seconds
        FROM api.event_backlog ORDER BY waits_for""",
    "dead_letters": """SELECT source, code, count(*) AS letters FROM api.dead_letters
        WHERE settled_at IS NULL GROUP BY source, code ORDER BY source, code""",
    "jobs": HEALTH,
    "partitions": "SELECT api.partitions_ahead() AS months_ahead",
    "connections": """SELECT coalesce(application_name, '') AS application, coalesce(state, 'unknown') AS state,
            count(*) AS connections
        FROM pg_stat_activity WHERE datname = current_database() GROUP BY 1, 2 ORDER BY 1, 2""",
    "connection_limit": """SELECT sum(numbackends)::int AS used, current_setting('max_connections')::int
            - current_setting('superuser_reserved_connections')::int AS usable,
            current_setting('max_connections')::int AS max_connections
        FROM pg_stat_database""",
    "old_orders": "SELECT EXISTS (SELECT FROM api.orders WHERE id < %(lately)s) AS found",
}
# Counted by the time in their id: the cost is a day's orders, however long the history. Not asked by a probe.
_THOROUGH = {
    "orders_last_day": """SELECT status, count(*) AS orders FROM api.orders
        WHERE id >= %(since)s GROUP BY status ORDER BY status""",
}
# What each part tells; None where it does not answer.
_TOLD = {
    "database": ("database", "alerts", *_QUESTIONS, *_THOROUGH),
    "redis": ("redis",),
    "broker": ("broker", "workers", "queues", "strays", "in_hand"),
    "cache": ("cache",),
}
# Where there are alerts.
_ALERTS = "SELECT level, count(*) AS alerts FROM api.alerts WHERE state <> 'resolved' GROUP BY level ORDER BY level"


def collect(
    database_url: str,
    redis_url: str,
    broker_url: str,
    master: str = "",
    *,
    thorough: bool = True,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """The state; a part that does not answer is None and its error is in `errors`, all that is wrong in `problems`.

    Without `thorough` what costs more than a probe may is left out.
    """
    return whole(
        of_database(database_url, SERVER_SECONDS, thorough=thorough),
        of_redis(redis_url, SERVER_SECONDS, master),
        of_broker(broker_url, SERVER_SECONDS, master, thorough=thorough),
        of_cache(settings),
    )


def whole(*parts: dict[str, Any]) -> dict[str, Any]:
    """The state that these parts make, with its problems."""
    state: dict[str, Any] = {"errors": [error for part in parts for error in part["errors"]]}
    for part in parts:
        state |= {name: value for name, value in part.items() if name != "errors"}
    return state | {"problems": problems_of(state)}


def of_database(url: str, seconds: int, *, thorough: bool = True) -> dict[str, Any]:
    """What PostgreSQL knows."""
    questions = _QUESTIONS | (_THOROUGH if thorough else {})
    state, now = untold("database"), time.time()
    wanted = {"since": _first_id(now - 86_400), "lately": _first_id(now - 600), **asked()}
    with (
        _noted(state, "database"),
        connect(url, connect_timeout=seconds, row_factory=dict_row, application_name="ordermill status") as connection,
    ):
        connection.execute("SELECT set_config('statement_timeout', %s, false)", [f"{seconds}s"])
        for name, question in questions.items():
            state[name] = connection.execute(question.encode(), wanted).fetchall()
        if _one(connection.execute("SELECT to_regclass('api.alerts') IS NOT NULL AS there").fetchall())["there"]:
            state["alerts"] = connection.execute(_ALERTS.encode()).fetchall()
        state["jobs"] = [job | {"queue": QUEUE_OF[job["job"]]} for job in judged(state["jobs"]).values()]
        state["connection_limit"] = _one(state["connection_limit"])
        state["database"] = connection.info.server_version  # last: it stands for a database that could be asked
    return state


def of_redis(url: str, seconds: int, master: str = "") -> dict[str, Any]:
    """Whether the Redis of results answers."""
    state = untold("redis")
    with _noted(state, "redis"), _redis(url, seconds, master) as client:
        state["redis"] = client.info("server")["redis_version"]
    return state


def of_broker(url: str, seconds: int, master: str = "", *, thorough: bool = True) -> dict[str, Any]:
    """What the Redis of the broker knows: queues, workers, messages in hand."""
    state = untold("broker")
    with _noted(state, "broker"), _redis(url, seconds, master) as client:
        living = queues.workers(client)
        state["queues"] = queues.look(client, ALL_QUEUES, living)
        state["in_hand"] = {name: client.hlen(key) for name, key in queues.UNACKNOWLEDGED.items()}
        state["strays"] = queues.strays(client, ALL_QUEUES) if thorough else None
        state["workers"] = living
        state["broker"] = client.info("server")["redis_version"]
    return state


def of_cache(settings: Settings | None = None) -> dict[str, Any]:
    """What the cache says of itself; that it is away is no error, for reads then go to PostgreSQL."""
    return untold("cache") | {"cache": stats(settings)}


def untold(part: str, *errors: str) -> dict[str, Any]:
    """What is known of a part that has not answered."""
    return {**dict.fromkeys(_TOLD[part]), "errors": list(errors)}


def _first_id(moment: float) -> uuid.UUID:
    return uuid.UUID(int=int(moment * 1000) << 80)  # the lowest UUIDv7 of that millisecond


def _one(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return rows[0]


@contextlib.contextmanager
def _redis(url: str, seconds: int, master: str) -> Iterator[Any]:
    options: dict[str, Any] = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    if url.startswith(("redis://", "rediss://")):
        with redis.Redis.from_url(url, retry=None, **options) as client:
            yield client
        return
    # Only kombu reads sentinel:// and redis+socket://.
    with Connection(url, transport_options=options | ({"master_name": master} if master else {})) as connection:
        yield connection.default_channel.client


@contextlib.contextmanager
def _noted(state: dict[str, Any], part: str) -> Iterator[None]:
    try:
        yield
    except (psycopg.Error, redis.RedisError, OperationalError, OSError) as error:
        words = str(error).strip().splitlines()
        line = in_one_line(error, READER) or (words[0] if words else type(error).__name__)
        state["errors"].append(f"{part}: {line}")
