"""Acknowledgements go with the next fetch: also where Redis refuses them or none follows; and what was refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kombu import Connection, Queue
from redis import Redis

from tests.nursery import Nursery
from tests.shop import order
from tests.workers_fixtures import Mill
from workers.child import wait_until
from workers.embedded import EmbeddedValkey
from workers.transport import Transport
from workers.undecodable import Transport as GuardedTransport

UNACKED, INDEX = "orders.unacked", "orders.unacked_index"
OPTIONS = {"unacked_key": UNACKED, "unacked_index_key": INDEX, "visibility_timeout": 60}


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path_factory.mktemp("acknowledging"), fresh=True) as server:
        yield server


@pytest.fixture
def redis(valkey: EmbeddedValkey) -> Iterator[Any]:
    with Redis.from_url(valkey.url) as client:
        client.flushall()
        yield client


@contextmanager
def taking(valkey: EmbeddedValkey, transport: Any) -> Iterator[tuple[Connection, list[Any]]]:
    """A connection that consumes `orders`, and the messages that it has; three of them were sent."""
    messages: list[Any] = []
    with Connection(valkey.url, transport=transport, transport_options=OPTIONS) as connection:
        with connection.SimpleQueue("orders") as queue:
            for number in range(3):
                queue.put(number)
        with connection.Consumer(Queue("orders"), callbacks=[lambda _body, message: messages.append(message)]):
            while len(messages) < 3:
                connection.drain_events(timeout=10)
            yield connection, messages


@pytest.fixture
def taken(valkey: EmbeddedValkey, redis: Any) -> Iterator[tuple[Connection, list[Any]]]:
    with taking(valkey, Transport) as both:
        assert redis.hlen(UNACKED) == redis.zcard(INDEX) == 3
        yield both


def fetch(connection: Connection) -> None:
    """One that finds nothing."""
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.5)


def test_they_go_with_the_next_fetch(taken: tuple[Connection, list[Any]], redis: Any) -> None:
    connection, messages = taken
    for message in messages:
        message.ack()
    assert redis.hlen(UNACKED) == 3

    fetch(connection)
    assert redis.hlen(UNACKED) == redis.zcard(INDEX) == 0


def test_where_there_is_no_fetch_they_go_with_the_touch(taken: tuple[Connection, list[Any]], redis: Any) -> None:
    _, messages = taken
    for message in messages:
        message.ack()

    messages[0].channel.qos.restore_visible()

    assert redis.hlen(UNACKED) == redis.zcard(INDEX) == redis.llen("orders") == 0


def test_what_redis_refuses_is_sent_again(taken: tuple[Connection, list[Any]], redis: Any) -> None:
    connection, messages = taken
    redis.execute_command("ACL", "SETUSER", "default", "-hdel")
    for message in messages:
        message.ack()
    with pytest.raises(Exception, match="permissions"):
        connection.drain_events(timeout=10)
    redis.execute_command("ACL", "SETUSER", "default", "+hdel")

    fetch(connection)
    assert redis.hlen(UNACKED) == redis.zcard(INDEX) == 0


DIES_BEFORE_IT_TELLS = """
import os
import signal

from workers.app import app
from workers.batching import Batch, is_refused

store = Batch.store


def told(batch, pairs):
    if any(is_refused(result) for _, result in pairs):
        os.kill(os.getpid(), signal.SIGKILL)
    store(batch, pairs)


Batch.store = told
"""


def test_what_is_refused_does_not_come_again_when_it_may_have_been_told(fresh_mill: Mill) -> None:
    mill = fresh_mill
    mill.env["ORDERMILL_REFUSE_SOLD_OUT"] = "on"
    (mill.folder / "dying_app.py").write_text(DIES_BEFORE_IT_TELLS)
    mill.shop.stock("A", "E1", 0)
    requests = []
    with Nursery(mill, "dying_app") as nursery:
        worker = nursery.begin().ready()
        while worker.alive():  # rejected, until it knows that the sku is sold out
            requests.append(order(None, ("A", 1)))
            mill.send("orders.place", requests[-1])
            assert wait_until(lambda: mill.all_decided(requests, 0) or not worker.alive(), 30)

    assert mill.shop.outcome(requests[-1]["key"]) is None
    assert (mill.waiting(), mill.broker.hlen(UNACKED), mill.broker.zcard(INDEX)) == (0, 0, 0)


@pytest.mark.parametrize("kind", [GuardedTransport, Transport], ids=["others", "orders"])
def test_what_is_decided_after_its_channel_was_closed_ends_no_worker(
    valkey: EmbeddedValkey, redis: Any, kind: Any
) -> None:
    """As when Redis was killed and a task ended meanwhile; only what was requeued is left, and comes again."""
    with taking(valkey, kind) as (_connection, messages):
        channel, transport = messages[0].channel, messages[0].channel.connection
        channel.connection = None  # as kombu leaves a closed channel
        messages[0].ack()
        messages[1].reject(requeue=True)
        messages[2].reject()
        channel.connection = transport

        channel.qos.restore_visible()

        assert redis.hlen(UNACKED) == redis.zcard(INDEX) == 1
