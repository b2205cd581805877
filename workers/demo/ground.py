"""Where the demo may work: a home of its own by default, a database and queues of its own on servers that were given.

What a user already has is never dropped, purged or consumed.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis

from workers.queue_names import ALL_QUEUES
from workers.settings import Settings

DATABASE = "ordermill_demo"
MARK = "ordermill:demo"
OURS = ("unacked*", "orders.unacked*", "_kombu.binding.*")


class GroundTaken(Exception):
    """A given server holds something that the demo would disturb; the message says what to do."""


@contextmanager
def own_ground(settings: Settings) -> Iterator[Settings]:
    """The settings to run the demo with, its own room made on servers that were given; raises GroundTaken."""
    redis_given = "redis_url" in settings.model_fields_set or settings.broker_url != settings.redis_url
    with ExitStack() as rooms:
        if "database_url" in settings.model_fields_set:
            url = rooms.enter_context(_own_database(settings.database_url))
            settings = settings.model_copy(update={"database_url": url})
        if redis_given:
            rooms.enter_context(_own_queues(settings.broker_url))
        yield settings


@contextmanager
def _own_database(url: str) -> Iterator[str]:
    """A fresh database beside the one that was given, which stays; only for one demo at a time."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT pg_try_advisory_lock(hashtext(%s))", [DATABASE]).fetchone()
        if row != (True,):
            raise GroundTaken("Another demo runs on the server in DATABASE_URL: wait for its end, or stop it.")
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {DATABASE}")
        yield urlunsplit(urlsplit(url)._replace(path=f"/{DATABASE}"))


@contextmanager
def _own_queues(url: str) -> Iterator[None]:
    with redis.Redis.from_url(url, socket_timeout=5) as client:
        _take_redis(client)
        try:
            yield
        finally:
            _empty(client)
            client.delete(MARK)


def _take_redis(client: redis.Redis) -> None:
    """Mark the Redis as the demo's for now. What waits in it is somebody's, unless an earlier demo left its mark."""
    if client.exists(MARK):
        _empty(client)
    waiting = {queue: count for queue in ALL_QUEUES if (count := client.llen(queue))}
    if waiting:
        shown = ", ".join(f"{queue} ({count})" for queue, count in waiting.items())
        raise GroundTaken(
            f"The Redis that was given has messages waiting in: {shown}. The demo's workers would take them. "
            "Give it another database of that server, as in REDIS_URL=redis://host:6379/5, or unset REDIS_URL."
        )
    # A worker binds its queues there before it waits on them: it would take the demo's orders, and the demo its.
    if next(client.scan_iter(match="_kombu.binding.*", count=1_000), None) is not None:
        raise GroundTaken(
            "Celery works in the Redis that was given: the demo and its workers would take each other's messages. "
            "Give it another database of that server, as in REDIS_URL=redis://host:6379/5, or unset REDIS_URL."
        )
    client.set(MARK, "a demo runs here, or was killed here")


def _empty(client: redis.Redis) -> None:
    """Delete the queues, their priority steps and what was taken from them without being acknowledged."""
    for pattern in (*ALL_QUEUES, *(f"{queue}\x06\x16*" for queue in ALL_QUEUES), *OURS):
        for key in client.scan_iter(match=pattern, count=1_000):
            client.delete(key)
