"""Celery's compositions at the door, from a client that has only names: callbacks, chains, groups, chords."""

from typing import Any

from celery import chain, chord, group, uuid

from tests.door import at_rest, push
from tests.door import by_hand as message_of
from tests.shop import order
from tests.workers_fixtures import RESULT_SECONDS, Mill
from workers.child import wait_until


def placing(mill: Mill, request: dict[str, Any], **options: Any) -> Any:
    """A signature that takes nothing from the task before it."""
    return mill.client.signature("orders.place", args=(request,), immutable=True, queue="orders", **options)


def ordered(*skus: str) -> list[dict[str, Any]]:
    return [order(None, (sku, 1)) for sku in skus]


def test_a_callback_of_its_own_queue_is_run_after_the_order(door: Mill, sku: str) -> None:
    first, then = ordered(sku, sku)

    result = door.send("orders.place", first, link=placing(door, then))

    assert result.get(timeout=RESULT_SECONDS)["status"] == "placed"
    assert door.all_decided([then])
    assert door.orders_by_key([first, then]) == [1, 1]


def test_a_callback_gets_the_outcome_of_the_order(door: Mill, sku: str) -> None:
    """`orders.cancel` takes the placed order's outcome as its payload, whose key is the order's: another command."""
    task_id = uuid()
    cancel = door.client.signature("orders.cancel", queue="orders", task_id=task_id)

    placed = door.send("orders.place", order(None, (sku, 1)), link=cancel).get(timeout=RESULT_SECONDS)
    answer = door.client.AsyncResult(task_id).get(timeout=RESULT_SECONDS)

    assert (answer["key"], answer["status"]) == (placed["key"], "rejected")
    assert door.shop.status(placed["order_id"]) == "placed"


def test_callbacks_of_each_of_a_backlog_are_all_run(door: Mill, sku: str) -> None:
    firsts, thens = [ordered(*[sku] * 4) for _ in range(2)]
    with door.locked_stock(sku):
        door.send("orders.place", order(None, (sku, 1)))
        door.wait_blocked()
        for first, then in zip(firsts, thens, strict=True):
            door.send("orders.place", first, link=placing(door, then))

    assert door.all_decided([*firsts, *thens])
    assert door.orders_by_key([*firsts, *thens]) == [1] * 8


def test_an_error_callback_is_left_alone_by_an_order_that_is_decided(door: Mill, sku: str) -> None:
    rejected, never, last = order(None, (sku, 11)), *ordered(sku, sku)

    result = door.send("orders.place", rejected, link_error=placing(door, never))

    assert result.get(timeout=RESULT_SECONDS)["status"] == "rejected"
    assert door.call("orders.place", last)["status"] == "placed"
    assert door.shop.outcome(never["key"]) is None


def test_an_error_callback_is_run_when_a_task_fails(door: Mill, sku: str) -> None:
    """Only a bug fails a task: here a trigger that refuses the movements of a cancellation."""
    placed = door.call("orders.place", order(None, (sku, 1)))
    then = order(None, (sku, 1))
    door.db.execute(
        """CREATE FUNCTION shop.poisoned() RETURNS trigger LANGUAGE plpgsql AS
           $$BEGIN RAISE EXCEPTION 'this row is poison' USING ERRCODE = 'XX000'; END$$;
           CREATE TRIGGER poisoned BEFORE INSERT ON shop.stock_movements FOR EACH ROW
           WHEN (NEW.cause = 'order.cancelled') EXECUTE FUNCTION shop.poisoned()"""
    )
    try:
        cancel = {"key": f"cancel-{placed['key']}", "order_id": placed["order_id"], "reason": "a test"}
        result = door.send("orders.cancel", cancel, link_error=placing(door, then))
        assert wait_until(lambda: result.state == "FAILURE", 30)
        assert door.all_decided([then])  # before the trigger goes, with which it could get into a deadlock
    finally:
        door.db.execute("DROP FUNCTION shop.poisoned() CASCADE")

    assert door.orders_by_key([then]) == [1]


def test_a_chain_runs_its_orders_one_after_the_other(door: Mill, sku: str) -> None:
    requests = ordered(*[sku] * 4)

    result = chain(placing(door, request) for request in requests).apply_async()

    last = result.get(timeout=RESULT_SECONDS)
    assert last == door.shop.outcome(requests[-1]["key"])
    links = [result]
    while links[-1].parent:
        links.append(links[-1].parent)
    assert [link.get(timeout=RESULT_SECONDS)["key"] for link in reversed(links)] == [
        request["key"] for request in requests
    ]


def test_a_group_gives_each_outcome_in_its_place(door: Mill, sku: str) -> None:
    requests = ordered(*[sku] * 12)

    outcomes = group(placing(door, request) for request in requests).apply_async().get(timeout=RESULT_SECONDS)

    assert outcomes == door.outcomes(requests)
    assert [outcome["status"] for outcome in outcomes] == ["placed"] * 10 + ["rejected"] * 2


def test_a_chord_ends_with_its_body_once(door: Mill, sku: str) -> None:
    heads, body = ordered(*[sku] * 5), order(None, (sku, 1))

    result = chord([placing(door, request) for request in heads], placing(door, body)).apply_async()

    assert result.get(timeout=RESULT_SECONDS) == door.shop.outcome(body["key"])
    assert [head.get(timeout=RESULT_SECONDS) for head in result.parent.results] == door.outcomes(heads)
    assert door.orders_by_key([*heads, body]) == [1] * 6


def test_a_chords_body_gets_the_outcomes_of_its_heads(door: Mill, sku: str) -> None:
    """`orders.place_many` takes them as a list of orders, which they are not: so many rejections."""
    heads = [placing(door, request) for request in ordered(*[sku] * 3)]
    body = door.client.signature("orders.place_many", queue="orders")

    outcomes = chord(heads, body).apply_async().get(timeout=RESULT_SECONDS)

    assert [outcome["status"] for outcome in outcomes] == ["rejected"] * 3
    assert door.shop.level(sku, "E1") == {"available": 7, "committed": 3}


def test_a_chain_with_a_group_in_it_and_plain_messages_between_are_all_decided(door: Mill, sku: str) -> None:
    first, last, *middle = ordered(*[sku] * 5)
    plain = ordered(*[sku] * 5)
    with door.locked_stock(sku):
        result = chain(
            placing(door, first), group(placing(door, each) for each in middle), placing(door, last)
        ).apply_async()
        door.wait_blocked()
        for request in plain:
            push(door, message_of(request))

    assert result.get(timeout=RESULT_SECONDS)["status"] == "placed"
    assert door.all_decided([first, *middle, last, *plain])
    assert door.orders_by_key([first, *middle, last, *plain]) == [1] * 10
    assert at_rest(door)
