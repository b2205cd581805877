"""What an orders worker has in hand stays its own while it lives, however long that takes, and is nowhere lost."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.door import UNACKED, at_rest, backlog, by_hand, compact, in_hand, listening, node_of
from tests.shop import order
from tests.workers_fixtures import PATIENT, Mill
from workers.child import wait_until

# Each order takes a second: a worker's half of them takes longer than this visibility timeout, with room on both sides.
LONG = PATIENT | {"ORDERMILL_VISIBILITY_TIMEOUT": "6"}
SLOWLY = """
CREATE FUNCTION shop.slowly() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NEW; END';
CREATE TRIGGER slowly BEFORE INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.slowly()
"""
DEPTHS = [*range(90, 850, 95), *range(900, 1010, 3)]


def test_messages_that_are_run_alone_for_long_are_run_once_and_shared(fresh_mill: Mill) -> None:
    mill = fresh_mill
    mill.shop.stock("A", "E1", 20)
    mill.db.execute(SLOWLY)
    mill.env |= LONG
    mill.living(2)
    requests = [order(None, ("A", 1)) for _ in range(16)]
    with listening(mill.client) as seen:
        results = [mill.send("orders.place_many", [request]) for request in requests]
        assert mill.all_decided(requests, 120)
        assert wait_until(lambda: sum(seen.of(result.id)["task-succeeded"] for result in results) == 16, 20)
        assert [seen.of(result.id)["task-started"] for result in results] == [1] * 16

    assert mill.orders_by_key(requests) == [1] * 16
    assert at_rest(mill)


def test_what_waits_for_its_time_is_not_taken_from_a_worker_that_does_not_consume(fresh_mill: Mill) -> None:
    mill = fresh_mill
    mill.shop.stock("A", "E1", 20)
    mill.env["ORDERMILL_VISIBILITY_TIMEOUT"] = "4"  # what waits is touched each second, and its time is far beyond it
    [first] = mill.living(1)
    requests = [order(None, ("A", 1)) for _ in range(3)]
    with listening(mill.client) as seen:
        due = datetime.now(UTC) + timedelta(seconds=14)
        results = [mill.send("orders.place", request, eta=due) for request in requests]
        assert wait_until(lambda: in_hand(mill) == 3, 30)
        mill.client.control.cancel_consumer("orders", destination=[node_of(first)], reply=True, timeout=30)
        mill.living(2)

        assert mill.all_decided(requests, 60)
        assert [seen.of(result.id)["task-received"] for result in results] == [1] * 3

    assert mill.orders_by_key(requests) == [1] * 3
    assert at_rest(mill)


def test_nothing_is_taken_while_the_set_of_what_is_taken_is_another_kind_of_key(fresh_mill: Mill) -> None:
    mill = fresh_mill
    mill.shop.stock("A", "E1", 20)
    mill.broker.set(UNACKED, "not a hash")
    [worker] = mill.living(1)
    requests = [order(None, ("A", 1)) for _ in range(3)]
    for request in requests:
        mill.send("orders.place", request)
    assert wait_until(lambda: "server:ResponseError" in worker.log.read_text(), 30)
    assert backlog(mill) == 3

    mill.broker.delete(UNACKED)

    assert mill.all_decided(requests)
    assert at_rest(mill)


@pytest.mark.parametrize("queue", ["orders", "inventory"])
def test_no_depth_of_nesting_in_a_message_ends_a_worker(fresh_mill: Mill, queue: str) -> None:
    mill = fresh_mill
    mill.shop.stock("A", "E1", 20)
    [orders_worker] = mill.living(1)
    worker = orders_worker if queue == "orders" else mill.general_worker()
    for depth in DEPTHS:
        for task in ("orders.place", "no.such.task"):
            inside = compact(by_hand(order(None, ("A", 1)), task=task, deep="HERE"))
            beside = compact(by_hand(order(None, ("A", 1)), task=task) | {"deep": "HERE"})
            for message in (inside, beside):
                mill.broker.lpush(queue, message.replace(b'"HERE"', b"[" * depth + b"]" * depth))
    last = order(None, ("A", 1))
    mill.broker.lpush(queue, compact(by_hand(last)))

    assert mill.all_decided([last])
    assert wait_until(lambda: not mill.waiting(queue) and not in_hand(mill) and not mill.broker.hlen("unacked"), 30)
    assert worker.alive()
    set_aside = mill.broker.llen(f"{queue}.undecodable")
    deep = sum(depth > 97 for depth in DEPTHS)
    assert 4 * deep <= set_aside <= 4 * len(DEPTHS)
