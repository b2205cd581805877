"""What each message of a batch leaves behind: a result, events, a stored outcome; as if it had come alone."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery, uuid

from tests.door import Events, at_rest, by_hand, heard_until_now, listening, node_of, push
from tests.shop import order
from tests.workers_fixtures import RESULT_SECONDS, Mill

pytestmark = pytest.mark.usefixtures("patient")
HOUR = 3600
EACH_ONCE = {"task-received": 1, "task-started": 1, "task-succeeded": 1}


def in_one_batch(mill: Mill, sku: str, requests: list[Any], **options: Any) -> list[Any]:
    """Sends all while the worker is inside a batch, so that its next fetch brings them together."""
    with mill.locked_stock(sku):
        mill.send("orders.place", order(None, (sku, 1)), ignore_result=True)
        mill.wait_blocked()
        return [mill.send("orders.place", request, **options) for request in requests]


def stored(mill: Mill, task_id: str) -> dict[str, Any]:
    """What the result backend holds of a task."""
    meta: dict[str, Any] = json.loads(mill.client.backend.client.get(f"celery-task-meta-{task_id}"))
    return meta


# Results


def test_each_message_of_a_batch_has_its_own_result_for_an_hour(door: Mill, sku: str) -> None:
    requests = [order(None, (sku, 1)) for _ in range(12)]

    results = in_one_batch(door, sku, requests)

    outcomes = [result.get(timeout=RESULT_SECONDS) for result in results]
    assert [result.state for result in results] == ["SUCCESS"] * 12
    assert outcomes == door.outcomes(requests)
    assert [outcome["status"] for outcome in outcomes] == ["placed"] * 9 + ["rejected"] * 3
    for result in results:
        assert HOUR - 120 < door.client.backend.client.ttl(f"celery-task-meta-{result.id}") <= HOUR


def test_a_result_has_all_that_celery_stores_with_one(door: Mill, sku: str) -> None:
    """A message with a far expiry goes Celery's own way: the batch's result has the same fields."""
    [plain] = in_one_batch(door, sku, [order(None, (sku, 1))])
    alone = door.send("orders.place", order(None, (sku, 1)), expires=600)
    for result in (plain, alone):
        assert result.get(timeout=RESULT_SECONDS)["status"] == "placed"

    batched, own_way = stored(door, plain.id), stored(door, alone.id)

    assert set(batched) == set(own_way)
    assert {name: type(value) for name, value in batched.items()} == {n: type(v) for n, v in own_way.items()}
    assert batched["task_id"] == plain.id
    assert plain.date_done is not None
    assert plain.successful()
    assert (plain.traceback, plain.children) == (alone.traceback, alone.children)


def test_a_message_that_wants_no_result_has_none_and_the_others_of_its_batch_do(door: Mill, sku: str) -> None:
    quiet, heard = order(None, (sku, 1)), order(None, (sku, 1))
    with door.locked_stock(sku):
        door.send("orders.place", order(None, (sku, 1)))
        door.wait_blocked()
        unwanted = door.send("orders.place", quiet, ignore_result=True)
        wanted = door.send("orders.place", heard)

    assert wanted.get(timeout=RESULT_SECONDS)["status"] == "placed"
    assert door.all_decided([quiet])
    assert at_rest(door)
    assert not door.client.backend.client.exists(f"celery-task-meta-{unwanted.id}")


def test_who_waits_is_woken_by_redis_and_need_not_poll(door: Mill, sku: str) -> None:
    task_ids = [uuid() for _ in range(3)]
    with redis.Redis.from_url(door.redis_url) as client, client.pubsub() as channel:
        channel.subscribe(*(f"celery-task-meta-{task_id}" for task_id in task_ids))
        for _ in task_ids:
            assert channel.get_message(timeout=10)["type"] == "subscribe"  # type: ignore[index]

        with door.locked_stock(sku):
            for task_id in task_ids:
                door.send("orders.place", order(None, (sku, 1)), task_id=task_id)
            door.wait_blocked()
        told = [json.loads(channel.get_message(timeout=30)["data"]) for _ in task_ids]  # type: ignore[index]

    assert {each["task_id"] for each in told} == set(task_ids)
    assert [each["status"] for each in told] == ["SUCCESS"] * 3


def test_another_client_gets_the_same_by_the_tasks_id_alone(door: Mill, sku: str) -> None:
    result = door.send("orders.place", order(None, (sku, 1)))
    outcome = result.get(timeout=RESULT_SECONDS)

    other = Celery("an-office", backend=door.redis_url, set_as_current=False)

    assert other.AsyncResult(result.id).get(timeout=10) == outcome
    other.close()


def test_the_outcome_is_found_by_its_key_also_without_a_result(door: Mill, sku: str) -> None:
    keyed = order(None, (sku, 1))
    bare = {name: value for name, value in order(None, (sku, 1)).items() if name != "key"}
    task_id = uuid()

    in_one_batch(door, sku, [keyed], ignore_result=True)
    door.send("orders.place", bare, task_id=task_id, ignore_result=True)

    assert door.all_decided([keyed, {"key": task_id}])
    for key in (keyed["key"], task_id):
        outcome = door.shop.value("SELECT api.order_outcome(%s)", key)
        assert (outcome["key"], outcome["status"]) == (key, "placed")


def test_the_same_key_twice_in_one_batch_is_one_order_and_the_same_answer(door: Mill, sku: str) -> None:
    request = order(None, (sku, 1))

    results = in_one_batch(door, sku, [request, request])

    first, second = (result.get(timeout=RESULT_SECONDS) for result in results)
    assert first == second == door.shop.outcome(request["key"])
    assert door.orders_by_key([request]) == [1]


def test_the_same_message_twice_is_one_order(door: Mill, sku: str) -> None:
    """A client that was not sure whether it had published: the same task id, the same body."""
    request, task_id = order(None, (sku, 1)), uuid()
    with door.locked_stock(sku):
        door.send("orders.place", order(None, (sku, 1)))
        door.wait_blocked()
        for _ in range(3):
            push(door, by_hand(request, task_id))

    assert door.client.AsyncResult(task_id).get(timeout=RESULT_SECONDS) == door.shop.outcome(request["key"])
    assert at_rest(door)
    assert door.orders_by_key([request]) == [1]


# Failures


@pytest.fixture
def poisoned(door: Mill, sku: str) -> Iterator[str]:
    """A sku whose lines the database cannot take, as by a fault in it."""
    name, function = f"BAD-{sku}", f"shop.poison_{secrets.token_hex(4)}"
    door.shop.stock(name, "E1", 10)
    variant = door.shop.value("SELECT id FROM shop.product_variants WHERE sku = %s", name)
    door.db.execute(
        f"""CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE EXCEPTION 'this row is poison' USING ERRCODE = 'XX000'; END $$;
            CREATE TRIGGER poison BEFORE INSERT ON shop.order_lines FOR EACH ROW
            WHEN (new.variant_id = {variant}) EXECUTE FUNCTION {function}()"""
    )
    yield name
    door.db.execute(f"DROP FUNCTION {function}() CASCADE")


def test_an_order_that_breaks_the_batch_leaves_the_others_placed(door: Mill, sku: str, poisoned: str) -> None:
    requests: list[Any] = [order(None, (sku, 1)) for _ in range(6)]
    requests[2] = order(None, (poisoned, 1))
    requests[4] = order(None, (sku, "two"))
    requests.append("no order at all")
    with listening(door.client) as seen:
        results = in_one_batch(door, sku, requests)
        outcomes = [result.get(timeout=RESULT_SECONDS) for result in results]
        told_each_once(door, seen, sku, results)

    assert [outcome["status"] for outcome in outcomes] == [
        "placed", "placed", "dead", "placed", "rejected", "placed", "rejected"
    ]  # fmt: skip
    assert [outcomes[place]["code"] for place in (2, 4, 6)] == ["OM090", "OM007", "OM011"]
    assert [result.state for result in results] == ["SUCCESS"] * 7
    assert door.shop.level(sku, "E1")["committed"] == 6  # four, the one before them and the one after
    assert at_rest(door)


# Events


def told_each_once(mill: Mill, seen: Events, sku: str, results: list[Any]) -> None:
    heard_until_now(mill, seen, sku)
    told = seen.by_task()
    assert [told[result.id] for result in results] == [EACH_ONCE] * len(results)


def test_each_message_of_a_backlog_is_told_of_once(door: Mill, sku: str) -> None:
    requests = [order(None, (sku, 1)) for _ in range(150)]
    with listening(door.client) as seen:
        results = in_one_batch(door, sku, requests, ignore_result=True)
        assert door.all_decided(requests)
        told_each_once(door, seen, sku, results)

    ids = [result.id for result in results]
    assert [task_id for task_id in seen.order_of("task-received") if task_id in set(ids)] == ids


def test_events_say_what_flower_shows(door: Mill, sku: str) -> None:
    request = order(None, (sku, 1))
    with listening(door.client) as seen:
        [result] = in_one_batch(door, sku, [request])
        told_each_once(door, seen, sku, [result])

    received, started, succeeded = (
        next(event for event in seen.all if event.get("uuid") == result.id and event["type"] == kind)
        for kind in EACH_ONCE
    )
    assert received["name"] == "orders.place"
    assert request["key"] in received["args"]
    assert "placed" in succeeded["result"]
    assert succeeded["runtime"] >= 0
    assert received["timestamp"] <= started["timestamp"] <= succeeded["timestamp"]
    assert {event["hostname"] for event in (received, started, succeeded)} == {node_of(door.living(1)[0])}
