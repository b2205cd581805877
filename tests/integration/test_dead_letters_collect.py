"""Collecting what workers set aside in Redis: each entry becomes one letter, whatever is killed, and none is lost."""

import base64
import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from tests.shop import Shop
from tests.waiting import at_once
from tests.workers_fixtures import Mill
from workers.child import wait_until
from workers.dead_letters import Bury, bury_with, collect, fetch, raw_item, read_entry
from workers.errors import OrdermillError, OutageError
from workers.queue_names import ALL_QUEUES
from workers.replay import broker_of, publisher
from workers.settings import Settings
from workers.undecodable import record

Connect = Callable[[str], psycopg.Connection[Any]]
QUEUES = ALL_QUEUES


@pytest.fixture
def broker(broker_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(broker_url) as client:
        yield client


@pytest.fixture
def bury(connect_as: Connect) -> Bury:
    return bury_with(connect_as("ordermill_worker"))


def set_aside(broker: redis.Redis, *items: bytes | str, queue: str = "orders") -> None:
    for item in items:
        broker.lpush(f"{queue}.undecodable", record(queue, item, "OM092", "It is no message."))


def items(shop: Shop) -> list[bytes]:
    """The items of all letters, the oldest first."""
    found = shop.rows("SELECT id FROM api.dead_letters ORDER BY created_at")
    return [raw_item(fetch(shop.db, letter)) for letter in found]


def left(broker: redis.Redis, queue: str = "orders") -> int:
    return int(broker.llen(f"{queue}.undecodable"))  # type: ignore[arg-type]


def test_an_entry_becomes_a_letter_and_is_gone(shop: Shop, broker: redis.Redis, bury: Bury) -> None:
    set_aside(broker, b"not json")
    [element] = broker.lrange("orders.undecodable", 0, -1)  # type: ignore[misc]
    told = json.loads(element)

    assert collect(broker, QUEUES, bury) == {"collected": 1, "left": 0}

    [letter] = shop.maps("SELECT * FROM api.dead_letters")
    assert (str(letter["id"]), letter["code"], letter["reason"]) == (told["id"], "OM092", "It is no message.")
    assert letter["created_at"] == datetime.fromisoformat(told["at"])
    assert letter["payload"] == {"queue": "orders", "item": "not json"}
    assert not broker.exists("orders.undecodable")
    assert collect(broker, QUEUES, bury) == {"collected": 0, "left": 0}


def test_each_queue_is_collected_and_only_these_lists_are_touched(shop: Shop, broker: redis.Redis, bury: Bury) -> None:
    for queue in QUEUES:
        set_aside(broker, queue, queue=queue)
    broker.lpush("orders", "a message")
    broker.lpush("billing.undecodable", "another application's")

    assert collect(broker, QUEUES, bury)["collected"] == len(QUEUES)

    assert {item.decode() for item in items(shop)} == set(QUEUES)
    assert shop.rows("SELECT queue FROM api.dead_letters ORDER BY created_at") == list(QUEUES)
    assert set(broker.keys()) == {b"orders", b"billing.undecodable"}  # type: ignore[arg-type]


def test_a_collector_killed_between_burying_and_removing_leaves_one_letter(
    shop: Shop, broker: redis.Redis, bury: Bury
) -> None:
    set_aside(broker, "a", "b")
    entry = read_entry(broker.lindex("orders.undecodable", -1))  # type: ignore[arg-type]
    assert entry is not None
    bury(entry.id, entry.at, "orders", "a", False, entry.code, entry.reason)

    assert collect(broker, QUEUES, bury)["collected"] == 2
    assert items(shop) == [b"a", b"b"]
    assert left(broker) == 0


def test_a_collector_overtaken_by_another_in_the_middle_makes_no_letter_twice(
    shop: Shop, broker: redis.Redis, bury: Bury
) -> None:
    set_aside(broker, "a", "b", "c")

    def overtaken(*arguments: object) -> None:
        bury(*arguments)
        if shop.count("dead_letters") == 1:
            collect(broker, QUEUES, bury)
            set_aside(broker, "d", "e")  # and workers go on

    collect(broker, QUEUES, overtaken)

    assert items(shop) == [b"a", b"b", b"c", b"d", b"e"]
    assert left(broker) == 0


@pytest.mark.parametrize("by_workers", [True, False], ids=["entries", "what no worker wrote"])
def test_two_collectors_at_once_collect_each_entry_once(
    shop: Shop, broker: redis.Redis, broker_url: str, connect_as: Connect, by_workers: bool
) -> None:
    if by_workers:
        set_aside(broker, *(f"item {n}" for n in range(60)))
    else:
        broker.lpush("orders.undecodable", *["always the same"] * 60)
    sessions = [connect_as("ordermill_worker") for _ in range(3)]

    def work(number: int) -> None:
        with redis.Redis.from_url(broker_url) as client:
            collect(client, QUEUES, bury_with(sessions[number]))

    at_once(3, work)

    assert left(broker) == 0
    assert sorted(items(shop)) == sorted(f"item {n}".encode() if by_workers else b"always the same" for n in range(60))


ITEMS = {
    "empty": b"",
    "a megabyte": b'{"body": "' + b"x" * 1_000_000 + b'"}',
    "not UTF-8": b"\x80\x02}q\x00.",
    "a megabyte of bytes": bytes(range(256)) * 4_096,
    "a NUL": b'{"body": "a\x00b"}',
    "a NUL as JSON writes it": rb'{"headers": {"id": "a\u0000b"}}',
    "half a surrogate pair": rb'{"headers": {"task": "\ud800"}}',
    "nested deeply": b"[" * 100_000,
    "control characters": b"\x1b[31m\r\n\x7f",
    "another language": "Zürich, 東京, 🚲".encode(),
}


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)
def test_an_item_is_kept_byte_for_byte(shop: Shop, broker: redis.Redis, bury: Bury, item: bytes) -> None:
    set_aside(broker, item)

    assert collect(broker, QUEUES, bury) == {"collected": 1, "left": 0}
    assert items(shop) == [item]


GOOD = {"id": str(uuid.uuid4()), "at": "2026-01-31T10:00:00+00:00", "queue": "orders", "code": "OM092",
        "reason": "r", "item": "i"}  # fmt: skip
FOREIGN: dict[str, bytes] = {
    "nothing": b"",
    "not JSON": b"hello",
    "bytes": b"\xff\xfe",
    "a list": b"[]",
    "nested deeply": b"[" * 100_000,
    "no id": json.dumps({**GOOD, "id": None}).encode(),
    "an id that is none": json.dumps({**GOOD, "id": "1"}).encode(),
    "a time without its offset": json.dumps({**GOOD, "at": "2026-01-31T10:00:00"}).encode(),
    "a code of another version": json.dumps({**GOOD, "code": "OM999"}).encode(),
    "no item": json.dumps({name: value for name, value in GOOD.items() if name != "item"}).encode(),
    "two items": json.dumps({**GOOD, "base64": "aGk="}).encode(),
    "base64 that is none": json.dumps({**GOOD, "item": None, "base64": "%%%"}).encode(),
    "an item that is no text": json.dumps({**GOOD, "item": {}}).encode(),
}


@pytest.mark.parametrize("element", FOREIGN.values(), ids=FOREIGN)
def test_an_entry_that_no_worker_wrote_is_a_letter_with_an_id_of_its_own(
    shop: Shop, broker: redis.Redis, bury: Bury, element: bytes
) -> None:
    broker.lpush("orders.undecodable", element, element)

    assert collect(broker, QUEUES, bury) == {"collected": 2, "left": 0}

    assert items(shop) == [element, element]
    [reason] = set(shop.rows("SELECT reason FROM api.dead_letters WHERE code = 'OM092'"))
    assert reason == "No worker wrote this entry of orders.undecodable."
    assert left(broker) == 0


def test_a_reason_that_postgresql_cannot_hold_is_marked(shop: Shop, broker: redis.Redis, bury: Bury) -> None:
    broker.lpush("orders.undecodable", record("orders", "x", "OM094", "a\0b"))

    collect(broker, QUEUES, bury)

    assert shop.rows("SELECT reason FROM api.dead_letters") == ["a\ufdd0b"]


def test_an_entry_that_postgresql_refuses_stays_and_holds_up_none_of_the_others(
    shop: Shop, broker: redis.Redis, bury: Bury
) -> None:
    shop.db.execute("ALTER TABLE shop.dead_letters ADD CONSTRAINT no_poison CHECK (payload ->> 'item' <> 'poison')")
    set_aside(broker, "a", "poison", "b", "poison", "c")

    assert collect(broker, QUEUES, bury) == {"collected": 3, "left": 2}
    assert items(shop) == [b"a", b"b", b"c"]
    assert left(broker) == 2

    shop.db.execute("ALTER TABLE shop.dead_letters DROP CONSTRAINT no_poison")
    assert collect(broker, QUEUES, bury) == {"collected": 2, "left": 0}


def test_while_postgresql_is_away_everything_stays(shop: Shop, broker: redis.Redis, connect_as: Connect) -> None:
    set_aside(broker, "a", "b")
    session = connect_as("ordermill_worker")
    shop.db.execute("SET ROLE NONE")
    shop.db.execute("SELECT pg_terminate_backend(%s, 5000)", [session.info.backend_pid])

    with pytest.raises(OutageError):
        collect(broker, QUEUES, bury_with(session))

    assert left(broker) == 2
    shop.db.execute("SET ROLE ordermill_owner")


def test_a_redis_that_does_not_answer_is_said_in_one_line() -> None:
    with (
        pytest.raises(OrdermillError, match=r"^Redis: .*check REDIS_URL and CELERY_BROKER_URL$"),
        broker_of(publisher(Settings(broker_url="redis://127.0.0.1:1/0"))),
    ):
        raise AssertionError("unreachable: nothing listens there")


def test_a_thousand_entries_are_collected_in_one_run(shop: Shop, broker: redis.Redis, bury: Bury) -> None:
    broker.lpush("orders.undecodable", *(record("orders", str(n), "OM092", "no message") for n in range(1_000)))

    assert collect(broker, QUEUES, bury) == {"collected": 1_000, "left": 0}
    assert shop.count("dead_letters") == 1_000


def test_the_job_collects_what_real_workers_set_aside(fresh_mill: Mill, tmp_path: Path) -> None:
    fresh_mill.general_worker()
    before = datetime.now(UTC)
    fresh_mill.broker.lpush("inventory", "no message")
    sent = fresh_mill.send("inventory.guess", {"sku": "A"}, queue="inventory")
    assert wait_until(lambda: int(fresh_mill.broker.llen("inventory.undecodable")) == 2, 30)

    fresh_mill.send("maintenance.collect_undecodable", 10.0, queue="maintenance")

    assert wait_until(lambda: fresh_mill.shop.count("dead_letters") == 2, 30)
    assert wait_until(lambda: not fresh_mill.broker.exists("inventory.undecodable"), 10)
    found = fresh_mill.shop.maps("SELECT code, kind, queue, task, key FROM api.dead_letters ORDER BY code")
    assert found == [
        {"code": "OM092", "kind": "unread", "queue": "inventory", "task": None, "key": None},
        {"code": "OM093", "kind": "unread", "queue": "inventory", "task": "inventory.guess", "key": sent.id},
    ]
    assert fresh_mill.shop.value("SELECT min(created_at) FROM api.dead_letters") >= before
    assert wait_until(lambda: fresh_mill.shop.rows("SELECT state FROM api.job_runs") == ["succeeded"], 10)
    [done] = fresh_mill.shop.rows("SELECT result FROM api.job_runs")
    assert (done["collected"], done["left"]) == (2, 0)


def test_base64_is_what_a_letter_shows_of_bytes(shop: Shop, broker: redis.Redis, bury: Bury) -> None:
    set_aside(broker, b"\x80\x02.")
    collect(broker, QUEUES, bury)

    assert shop.rows("SELECT payload FROM api.dead_letters") == [
        {"queue": "orders", "base64": base64.b64encode(b"\x80\x02.").decode()}
    ]
