"""Replays and discards dead letters: an order goes into the queue behind the SQL door, a message to its own queue."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import kombu.exceptions
import psycopg
import redis
from celery import Celery

from workers.dead_letters import Letter, fetch, raw_item
from workers.errors import OrdermillError
from workers.settings import Settings

# What PostgreSQL does by itself: the routine, which gives whether it found such a letter, and in words what it did.
IN_DATABASE = {
    "event": ("api.replay_event", "its consumer has it again"),
    "mail": ("api.replay_mail", "it is sent again, without what is resolved"),
    "delivery": ("api.replay_delivery", "it is sent to its endpoint again"),
}
SECONDS = 5  # for the broker to answer a person


class Done(NamedTuple):
    """What became of a letter: whether what was asked is so now, and in words."""

    done: bool
    words: str


def publisher(settings: Settings) -> Celery:
    """A Celery client as any application has one."""
    client = Celery("ordermill-dead-letters", broker=settings.broker_url, set_as_current=False)
    options: dict[str, object] = {"socket_timeout": SECONDS, "socket_connect_timeout": SECONDS}
    if settings.sentinel_master:
        options["master_name"] = settings.sentinel_master
    client.conf.update(task_serializer="json", accept_content=["json"], broker_transport_options=options)
    return client


@contextmanager
def broker_of(client: Celery) -> Iterator[redis.Redis]:
    """Redis, by whatever way the client's transport has to it; raises OrdermillError where it does not answer."""
    try:
        with client.connection_for_write() as connection:
            yield connection.default_channel.client
    except (redis.RedisError, kombu.exceptions.OperationalError) as error:
        words = str(error).strip().partition("\n")[0] or type(error).__name__
        raise OrdermillError(f"Redis: {words}: check REDIS_URL and CELERY_BROKER_URL") from error


def discard(connection: psycopg.Connection[Any], letter_id: uuid.UUID) -> Done:
    """Closes a letter; nothing else changes."""
    if _settle(connection, letter_id, "discarded"):
        return Done(True, "discarded")
    return Done(True, _settled(fetch(connection, letter_id)))


def replay(connection: psycopg.Connection[Any], client: Callable[[], Celery], letter_id: uuid.UUID) -> Done:
    """Has a letter decided or delivered anew, and closes it; one that is closed is left alone.

    An order goes into its queue in one transaction with the closing, so exactly once. What goes to Redis is closed in
    a transaction that commits after Redis has it: if that fails, the letter is open and can be replayed again, which
    for a command is harmless, because its key stays the same.
    """
    letter = fetch(connection, letter_id)
    if letter.settled_at:
        return Done(True, _settled(letter))
    if letter.kind == "order":
        return _replay_order(connection, letter)
    if letter.kind in IN_DATABASE:
        return _replay_in_database(connection, letter)
    if letter.kind == "message" and not _can_be_sent(letter.payload["message"]):
        return Done(False, "not replayed: what this message carried could not be kept")
    with connection.transaction():
        if not _settle(connection, letter_id, "replayed"):
            return Done(True, _settled(fetch(connection, letter_id)))
        queue = str(letter.queue)
        with broker_of(client()) as broker:
            if letter.kind == "unread":
                broker.lpush(queue, raw_item(letter))
            else:
                message = letter.payload["message"]
                client().send_task(
                    letter.task, message["args"], message["kwargs"], task_id=letter.key, queue=queue, retry=False
                )
    return Done(True, f"replayed: it is in queue {queue} again")


def _replay_order(connection: psycopg.Connection[Any], letter: Letter) -> Done:
    row = connection.execute("SELECT api.replay_order(%s)", [letter.id]).fetchone()
    outcome = row[0] if row else None
    if outcome is None:
        again = fetch(connection, letter.id)
        return Done(True, _settled(again)) if again.settled_at else Done(False, "not replayed: it is no whole order")
    if outcome["code"] == "OM010":
        return Done(False, "not replayed: its key is another order's now (OM010); send it under a new key, or discard")
    if outcome["status"] == "accepted":
        return Done(True, "replayed: it waits behind the SQL door")
    reason = f": {outcome['code']}, {outcome['message']}" if outcome["code"] else ""
    return Done(True, f"replayed: {outcome['status']}{reason}")


def _replay_in_database(connection: psycopg.Connection[Any], letter: Letter) -> Done:
    routine, words = IN_DATABASE[letter.kind]
    try:
        row = connection.execute(f"SELECT {routine}(%s)".encode(), [letter.id]).fetchone()
    except psycopg.Error as error:
        return Done(False, f"not replayed: {str(error).partition(chr(10))[0]}")
    if row and row[0]:
        return Done(True, f"replayed: {words}")
    again = fetch(connection, letter.id)
    return Done(True, _settled(again)) if again.settled_at else Done(False, "not replayed: nobody can take it again")


def _can_be_sent(message: Any) -> bool:
    return (
        isinstance(message, dict) and isinstance(message.get("args"), list) and isinstance(message.get("kwargs"), dict)
    )


def _settle(connection: psycopg.Connection[Any], letter_id: uuid.UUID, settlement: str) -> bool:
    row = connection.execute("SELECT api.settle_letter(%s, %s)", [letter_id, settlement]).fetchone()
    return bool(row and row[0])


def _settled(letter: Letter) -> str:
    return f"{letter.settlement} already"
