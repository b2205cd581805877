"""What comes through the Celery door as any client may send it: priorities, other languages' JSON, times, headers."""

import base64
import json
import secrets
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from celery import uuid

from tests.door import (
    INDEX,
    STEPS,
    UNACKED,
    at_rest,
    by_hand,
    compact,
    in_base64,
    in_hand,
    list_of,
    listening,
    push,
)
from tests.shop import order
from tests.workers_fixtures import RESULT_SECONDS, Mill
from workers.child import wait_until

pytestmark = pytest.mark.usefixtures("patient")


def scarce(mill: Mill, units: int = 1) -> str:
    name = f"SCARCE-{secrets.token_hex(4)}"
    mill.shop.stock(name, "E1", units)
    return name


def statuses(mill: Mill, requests: list[dict[str, Any]]) -> list[str]:
    return [(outcome or {}).get("status", "undecided") for outcome in mill.outcomes(requests)]


def test_a_lone_orders_events_are_sent_together_when_it_is_decided_and_not_before(door: Mill, sku: str) -> None:
    assert door.call("orders.place", order(None, (sku, 1)))["status"] == "placed"
    sent: list[list[str]] = []
    with door.broker.pubsub() as channel:
        channel.psubscribe("*celeryev/task.multi")
        for _ in range(8):
            result = door.send("orders.place", order(None, (sku, 1)))

            def told(wanted: str = result.id) -> bool:
                message = channel.get_message(ignore_subscribe_messages=True, timeout=1)
                if not message:
                    return False
                events = json.loads(base64.b64decode(json.loads(message["data"])["body"]))
                sent.append([event["type"] for event in events if event["uuid"] == wanted])
                return "task-succeeded" in sent[-1]

            assert wait_until(told, RESULT_SECONDS)

    assert [each for each in sent if each] == [["task-received", "task-started", "task-succeeded"]] * 8


# Priorities


@pytest.mark.parametrize("step", STEPS)
def test_an_idle_worker_takes_a_message_of_each_priority(door: Mill, sku: str, step: int) -> None:
    assert door.call("orders.place", order(None, (sku, 1)), priority=step)["status"] == "placed"
    assert at_rest(door)


def test_a_priority_between_two_steps_waits_in_the_lower_ones_list(door: Mill, sku: str) -> None:
    outcomes = [door.call("orders.place", order(None, (sku, 1)), priority=given) for given in (1, 5, 8, 255)]

    assert [outcome["status"] for outcome in outcomes] == ["placed"] * 4


def test_a_backlog_is_decided_in_the_order_of_its_priorities(door: Mill, sku: str) -> None:
    """Each two neighbouring priorities want the last unit of something; the later sent wins by its priority."""
    blocker = order(None, (sku, 1))
    pairs = [(low, high, scarce(door)) for high, low in pairwise(STEPS)]
    winners = [order(None, (wanted, 1)) for _, _, wanted in pairs]
    losers = [order(None, (wanted, 1)) for _, _, wanted in pairs]
    with door.locked_stock(sku):
        door.send("orders.place", blocker)
        door.wait_blocked()
        for (low, _, _), request in zip(pairs, losers, strict=True):
            door.send("orders.place", request, priority=low, ignore_result=True)
        for (_, high, _), request in zip(pairs, winners, strict=True):
            door.send("orders.place", request, priority=high, ignore_result=True)

    assert door.all_decided([blocker, *winners, *losers])
    assert statuses(door, winners) == ["placed"] * 3
    assert statuses(door, losers) == ["rejected"] * 3


def test_the_last_urgent_message_overtakes_a_backlog_of_more_than_one_fetch(door: Mill, sku: str) -> None:
    wanted = scarce(door, 3)
    patient = [order(None, (wanted, 1)) for _ in range(150)]
    urgent = order(None, (wanted, 3))
    with door.locked_stock(sku):
        door.send("orders.place", order(None, (sku, 1)))
        door.wait_blocked()
        # At once: the worker does not stay inside for long.
        door.broker.lpush(list_of(9), *(compact(by_hand(request, step=9, ignore_result=True)) for request in patient))
        door.send("orders.place", urgent, priority=0)

    assert door.all_decided([urgent, *patient])
    assert statuses(door, [urgent]) == ["placed"]
    assert set(statuses(door, patient)) == {"rejected"}


def test_within_one_priority_the_first_sent_is_the_first_served(door: Mill, sku: str) -> None:
    wanted = scarce(door, 5)
    requests = [order(None, (wanted, 1)) for _ in range(12)]
    with door.locked_stock(sku):
        door.send("orders.place", order(None, (sku, 1)))
        door.wait_blocked()
        for request in requests:
            door.send("orders.place", request, ignore_result=True)

    assert door.all_decided(requests)
    assert statuses(door, requests) == ["placed"] * 5 + ["rejected"] * 7


# Other writers' JSON


def outcome_of(mill: Mill, task_id: str) -> dict[str, Any]:
    result = mill.client.AsyncResult(task_id)
    outcome: dict[str, Any] = result.get(timeout=RESULT_SECONDS)
    return outcome


@pytest.mark.parametrize("step", STEPS)
def test_compact_json_with_text_as_it_is_is_understood(door: Mill, step: int) -> None:
    name, key = f"кофе-☕-{secrets.token_hex(3)}", f"clé-😀-{secrets.token_hex(3)}"
    door.shop.stock(name, "E1", 1)
    message = by_hand(order(key, (name, 1)), step=step, argsrepr=f"[«{name}»]", origin="café")

    outcome = outcome_of(door, push(door, message, step))

    assert (outcome["key"], outcome["status"]) == (key, "placed")
    assert at_rest(door)


def test_a_message_of_a_go_client_in_protocol_one_is_placed(door: Mill, sku: str) -> None:
    """As gocelery writes it: no headers at all, the task in the body, priority a number."""
    request, task_id = order(None, (sku, 1)), uuid()
    message = by_hand(request, task_id)
    del message["headers"]
    call = {"id": task_id, "task": "orders.place", "args": [request], "kwargs": {}, "retries": 0}
    message["body"] = in_base64({**call, "eta": None, "expires": None})

    assert outcome_of(door, push(door, message)) == door.shop.outcome(request["key"])
    assert at_rest(door)


def test_a_body_that_is_not_in_base64_is_understood(door: Mill, sku: str) -> None:
    message = by_hand(order(None, (sku, 1)))
    message["body"] = compact([[order(None, (sku, 2))], {}, {}]).decode()
    del message["properties"]["body_encoding"]

    assert outcome_of(door, push(door, message))["status"] == "placed"


def test_a_message_without_a_priority_or_an_exchange_is_understood(door: Mill, sku: str) -> None:
    message = by_hand(order(None, (sku, 1)))
    message["properties"]["delivery_info"] = {"routing_key": "orders"}

    assert outcome_of(door, push(door, message))["status"] == "placed"
    assert at_rest(door)


def test_a_message_in_hand_is_whole_and_in_kombus_own_form(door: Mill, sku: str) -> None:
    """What a re-encoding would spoil is still there: empty lists, large integers, 1.0, nothing, text."""
    request = order(None, (sku, 1))
    odd = {"empty": [], "none": None, "large": 2**60 + 1, "one": 1.0, "deep": {"a": [{}, [[]]]}, "text": "☕\u2028\\/"}
    message = by_hand(request, odd=odd, timelimit=[None, None], retries=0, argsrepr="[]")
    with door.locked_stock(sku):
        push(door, message)
        door.wait_blocked()
        taken = door.broker.hgetall(UNACKED)
        indexed = door.broker.zrange(INDEX, 0, -1)

    [(tag, held)] = taken.items()
    payload, exchange, routing_key = json.loads(held)
    assert indexed == [tag]
    assert (exchange, routing_key) == ("", "orders")
    for each in (payload, message):
        each["properties"].pop("delivery_tag")
    assert payload == message
    assert isinstance(payload["headers"]["odd"]["one"], float)
    assert door.all_decided([request])


def test_two_messages_with_the_same_delivery_tag_are_both_decided(door: Mill, sku: str) -> None:
    first, second = order(None, (sku, 1)), order(None, (sku, 1))
    messages = [by_hand(first), by_hand(second)]
    messages[1]["properties"]["delivery_tag"] = messages[0]["properties"]["delivery_tag"]
    with door.locked_stock(sku):
        door.send("orders.place", order(None, (sku, 1)))
        door.wait_blocked()
        for message in messages:
            push(door, message)

    assert door.all_decided([first, second])
    assert door.orders_by_key([first, second]) == [1, 1]
    assert at_rest(door)


# Times and headers


def test_a_message_that_expired_in_the_queue_is_not_placed(door: Mill, sku: str) -> None:
    late, in_time = order(None, (sku, 1)), order(None, (sku, 1))

    expired = door.send("orders.place", late, expires=datetime.now(UTC) - timedelta(seconds=1))
    alive = door.call("orders.place", in_time, expires=600)

    assert alive["status"] == "placed"
    assert wait_until(lambda: expired.state == "REVOKED", 30)
    assert at_rest(door)
    assert door.shop.outcome(late["key"]) is None


def test_an_expired_one_among_others_that_wait_is_left_out(door: Mill, sku: str) -> None:
    requests = [order(None, (sku, 1)) for _ in range(5)]
    with door.locked_stock(sku):
        door.send("orders.place", order(None, (sku, 1)))
        door.wait_blocked()
        for place, request in enumerate(requests):
            door.send("orders.place", request, expires=datetime.now(UTC) if place == 2 else None)

    assert door.all_decided([request for place, request in enumerate(requests) if place != 2])
    assert at_rest(door)
    assert door.orders_by_key(requests) == [1, 1, 0, 1, 1]


def test_an_eta_in_the_past_is_now(door: Mill, sku: str) -> None:
    outcome = door.call("orders.place", order(None, (sku, 1)), eta=datetime.now(UTC) - timedelta(hours=1))

    assert outcome["status"] == "placed"


def test_a_message_that_was_retried_by_its_sender_is_placed(door: Mill, sku: str) -> None:
    assert door.call("orders.place", order(None, (sku, 1)), retries=3)["status"] == "placed"


def test_time_limits_stamps_and_a_shadow_name_do_no_harm(door: Mill, sku: str) -> None:
    with listening(door.client) as seen:
        limited = door.send("orders.place", order(None, (sku, 1)), time_limit=60, soft_time_limit=50)
        shadowed = door.send("orders.place", order(None, (sku, 1)), shadow="a-name-for-flower")
        stamped = door.send(
            "orders.place", order(None, (sku, 1)), headers={"stamped_headers": ["shop"], "stamps": {"shop": ["7"]}}
        )
        for result in (limited, shadowed, stamped):
            assert result.get(timeout=RESULT_SECONDS)["status"] == "placed"
            assert wait_until(lambda result=result: seen.of(result.id)["task-succeeded"] == 1, 30)  # type: ignore[misc]

    names = {event["uuid"]: event["name"] for event in seen.all if event["type"] == "task-received"}
    assert names[limited.id] == "orders.place"
    assert names[shadowed.id] == "a-name-for-flower"


def test_a_compressed_message_is_placed(door: Mill, sku: str) -> None:
    assert door.call("orders.place", order(None, (sku, 1)), compression="gzip")["status"] == "placed"


# Many at once


def test_a_thousand_orders_published_in_batches_are_each_decided_once(door: Mill) -> None:
    wanted = scarce(door, 2_000)
    requests = [order(None, (wanted, 1)) for _ in range(1_000)]

    with door.client.producer_pool.acquire(block=True) as producer, producer.batch(max_size=100):
        for request in requests:
            door.send("orders.place", request, ignore_result=True, producer=producer)

    assert door.all_decided(requests)
    assert door.orders_by_key(requests) == [1] * 1_000
    assert door.shop.level(wanted, "E1") == {"available": 1_000, "committed": 1_000}
    assert at_rest(door)


def test_place_many_takes_five_hundred_orders_and_not_one_more(door: Mill) -> None:
    wanted = scarce(door, 600)
    requests = [order(None, (wanted, 1)) for _ in range(500)]

    outcomes = door.call("orders.place_many", requests)
    [refused] = door.call("orders.place_many", [*requests, order(None, (wanted, 1))])

    assert [(each["key"], each["status"]) for each in outcomes] == [(each["key"], "placed") for each in requests]
    assert (refused["status"], refused["code"], refused["field"]) == ("rejected", "OM009", "orders")
    assert door.shop.level(wanted, "E1") == {"available": 100, "committed": 500}


def test_messages_of_all_kinds_in_one_backlog_are_all_decided(door: Mill, sku: str) -> None:
    wanted = scarce(door, 100)
    plain, single, many = ([order(None, (wanted, 1)) for _ in range(8)] for _ in range(3))
    with door.locked_stock(sku):
        door.send("orders.place", order(None, (sku, 1)))
        door.wait_blocked()
        for request, other in zip(plain, single, strict=True):
            door.send("orders.place", request)
            door.send("orders.place", other, expires=600, priority=3)
        door.send("orders.place_many", many)

    assert door.all_decided([*plain, *single, *many])
    assert door.shop.level(wanted, "E1") == {"available": 76, "committed": 24}
    assert at_rest(door)
    assert in_hand(door) == 0
    assert not any(door.broker.exists(list_of(step)) for step in STEPS)
