"""Remote control of an orders worker: what it tells of itself, revoked orders, rate limits, queues added and taken."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import uuid

from tests.door import Events, at_rest, heard_until_now, in_hand, listening, node_of
from tests.shop import order
from tests.workers_fixtures import Mill
from workers.child import wait_until

pytestmark = pytest.mark.usefixtures("patient")
ANSWERED = 30  # seconds in which a worker that is not in a batch answers
COUNTDOWN = 8.0  # four times the visibility timeout of tests


def ask(mill: Mill, question: str) -> Any:
    """What the orders worker answers to `inspect <question>`."""
    [worker] = mill.living(1)
    inspect = mill.client.control.inspect(destination=[node_of(worker)], timeout=ANSWERED)
    answers = getattr(inspect, question)()
    assert answers, f"no answer to {question}"
    return answers[node_of(worker)]


def order_it(mill: Mill, command: str, *arguments: Any) -> dict[str, Any]:
    """The orders worker's reply to a command."""
    [worker] = mill.living(1)
    send = getattr(mill.client.control, command)
    [reply] = send(*arguments, destination=[node_of(worker)], reply=True, timeout=ANSWERED)
    answer: dict[str, Any] = reply[node_of(worker)]
    return answer


# What it tells


def test_it_answers_a_ping(door: Mill) -> None:
    assert ask(door, "ping") == {"ok": "pong"}


def test_it_tells_its_one_queue(door: Mill) -> None:
    assert [queue["name"] for queue in ask(door, "active_queues")] == ["orders"]


def test_it_tells_its_tasks(door: Mill) -> None:
    named = {told.partition(" ")[0] for told in ask(door, "registered")}  # after a name its rate limit, if any
    assert {"orders.place", "orders.place_many", "orders.cancel"} <= named


def test_an_idle_worker_has_nothing_active_reserved_or_scheduled(door: Mill, sku: str) -> None:
    door.call("orders.place", order(None, (sku, 1)))

    assert [ask(door, question) for question in ("active", "reserved", "scheduled")] == [[], [], []]


def test_its_statistics_count_each_message(door: Mill, sku: str) -> None:
    before = ask(door, "stats")["total"].get("orders.place", 0)
    requests = [order(None, (sku, 1)) for _ in range(25)]
    with door.locked_stock(sku):
        for request in requests:
            door.send("orders.place", request)
        door.wait_blocked()
    assert door.all_decided(requests)
    assert at_rest(door)

    stats = ask(door, "stats")

    assert stats["total"]["orders.place"] == before + 25
    assert stats["prefetch_count"] == 100
    assert stats["pid"] == door.living(1)[0].process.pid  # type: ignore[union-attr]


def test_a_question_asked_in_the_middle_of_a_backlog_is_answered(door: Mill) -> None:
    door.shop.stock("BACKLOG", "E1", 600)
    requests = [order(None, ("BACKLOG", 1)) for _ in range(600)]
    for request in requests:
        door.send("orders.place", request, ignore_result=True)

    assert ask(door, "ping") == {"ok": "pong"}
    assert door.all_decided(requests)


# Revoked


def revoked(seen: Events, task_id: str) -> bool:
    return wait_until(lambda: seen.of(task_id)["task-revoked"] == 1, 30)


def test_an_order_that_is_revoked_before_it_comes_is_not_placed(door: Mill, sku: str) -> None:
    task_id = uuid()
    unwanted, wanted = order(None, (sku, 1)), order(None, (sku, 1))
    with listening(door.client) as seen:
        order_it(door, "revoke", task_id)

        result = door.send("orders.place", unwanted, task_id=task_id)
        door.call("orders.place", wanted)

        assert revoked(seen, task_id)
    assert wait_until(lambda: result.state == "REVOKED", 30)  # Celery tells of it first
    assert door.orders_by_key([unwanted, wanted]) == [0, 1]
    assert at_rest(door)


def test_an_order_that_is_revoked_while_the_worker_is_in_a_batch_is_left_out_of_the_next(door: Mill, sku: str) -> None:
    in_it, after_it = order(None, (sku, 1)), [order(None, (sku, 1)) for _ in range(5)]
    with listening(door.client) as seen:
        with door.locked_stock(sku):
            door.send("orders.place", in_it)
            door.wait_blocked()
            results = [door.send("orders.place", request) for request in after_it]
            door.client.control.revoke(results[2].id)

        assert revoked(seen, results[2].id)
    assert wait_until(lambda: results[2].state == "REVOKED", 30)
    assert door.all_decided([in_it, *after_it[:2], *after_it[3:]])
    assert at_rest(door)
    assert door.orders_by_key([in_it, *after_it]) == [1, 1, 1, 0, 1, 1]


def test_an_order_that_waits_for_its_time_can_be_revoked(door: Mill, sku: str) -> None:
    request = order(None, (sku, 1))
    with listening(door.client) as seen:
        result = door.send("orders.place", request, eta=datetime.now(UTC) + timedelta(seconds=10))
        assert wait_until(lambda: in_hand(door) == 1, 30)
        order_it(door, "revoke", result.id)

        assert revoked(seen, result.id)
    assert at_rest(door)
    assert door.shop.outcome(request["key"]) is None


def test_a_revoked_order_may_be_sent_again_under_its_key(door: Mill, sku: str) -> None:
    request, task_id = order(None, (sku, 1)), uuid()
    order_it(door, "revoke", task_id)
    door.send("orders.place", request, task_id=task_id)

    assert door.call("orders.place", request)["status"] == "placed"
    assert at_rest(door)
    assert door.orders_by_key([request]) == [1]


# Times


def test_a_countdown_longer_than_the_visibility_timeout_is_run_once_and_at_its_time(door: Mill, sku: str) -> None:
    request = order(None, (sku, 1))
    due = datetime.now(UTC) + timedelta(seconds=COUNTDOWN)
    with listening(door.client) as seen:
        result = door.send("orders.place", request, countdown=COUNTDOWN)
        assert wait_until(lambda: in_hand(door) == 1, 30)

        [entry] = ask(door, "scheduled")

        assert entry["request"]["id"] == result.id
        assert datetime.fromisoformat(entry["eta"]) >= due
        assert in_hand(door) == 1
        assert door.all_decided([request])
        heard_until_now(door, seen, sku)
    assert door.shop.value("SELECT decided_at FROM shop.request_keys WHERE key = %s", request["key"]) >= due
    assert seen.of(result.id) == {"task-received": 1, "task-started": 1, "task-succeeded": 1}
    assert door.orders_by_key([request]) == [1]
    assert at_rest(door)
    assert ask(door, "scheduled") == []


# Limits and queues


def test_a_rate_limit_holds_and_can_be_taken_off(door: Mill, sku: str) -> None:
    slow, quick = ([order(None, (sku, 1)) for _ in range(count)] for count in (6, 5))
    assert "ok" in order_it(door, "rate_limit", "orders.place", "4/s")
    try:
        for request in slow:
            door.send("orders.place", request)
        assert door.all_decided(slow)
    finally:
        assert "ok" in order_it(door, "rate_limit", "orders.place", 0)
    spread = "SELECT max(decided_at) - min(decided_at) FROM shop.request_keys WHERE key = ANY(%s)"

    # Six at four a second. Where the first is slow when let through, the second comes at once, and the last a
    # second after that. Exactly that on no machine, so a little less.
    assert door.shop.value(spread, [request["key"] for request in slow]) > timedelta(seconds=0.95)
    with door.locked_stock(sku):
        for request in quick:
            door.send("orders.place", request)
        door.wait_blocked()
    assert door.all_decided(quick)
    assert at_rest(door)


def test_a_second_queue_is_refused_and_the_worker_lives(door: Mill, sku: str) -> None:
    answer = order_it(door, "add_consumer", "inventory")

    assert "ok" not in answer
    assert "inventory" in answer["error"]
    assert [queue["name"] for queue in ask(door, "active_queues")] == ["orders"]
    assert door.call("orders.place", order(None, (sku, 1)))["status"] == "placed"
    assert at_rest(door)


def test_its_queue_can_be_taken_from_it_and_given_back(door: Mill, sku: str) -> None:
    requests = [order(None, (sku, 1)) for _ in range(5)]
    assert "ok" in order_it(door, "cancel_consumer", "orders")
    try:
        for step, request in zip((0, 0, 3, 6, 9), requests, strict=True):
            door.send("orders.place", request, priority=step)
        for _ in range(3):  # it has gone round its loop since they came
            assert ask(door, "ping") == {"ok": "pong"}
        assert door.outcomes(requests) == [None] * 5
    finally:
        assert "ok" in order_it(door, "add_consumer", "orders")

    assert door.all_decided(requests)
    assert door.orders_by_key(requests) == [1] * 5
    assert at_rest(door)


def test_a_queue_that_is_added_twice_is_consumed_once(door: Mill, sku: str) -> None:
    assert "ok" in order_it(door, "add_consumer", "orders")

    with listening(door.client) as seen:
        result = door.send("orders.place", order(None, (sku, 1)))
        result.get(timeout=ANSWERED)
        heard_until_now(door, seen, sku)

    assert seen.of(result.id)["task-received"] == 1
    assert at_rest(door)


@pytest.mark.parametrize("command", ["enable_events", "disable_events"])
def test_events_can_be_switched(door: Mill, sku: str, command: str) -> None:
    order_it(door, command)
    try:
        assert door.call("orders.place", order(None, (sku, 1)))["status"] == "placed"
    finally:
        order_it(door, "enable_events")
