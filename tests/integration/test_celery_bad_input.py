"""Bad input: a rejection with a code, a field and a sentence, the same through either door; the others are placed."""

import json
from typing import Any

import pytest
from celery import uuid

from tests.bad_orders import BAD, Bad, spoiled
from tests.shop import order
from tests.workers_fixtures import Mill

WORST = pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)


def decided(outcome: dict[str, Any]) -> tuple[str, str | None, str | None]:
    return outcome["status"], outcome["code"], outcome["field"]


def submit(mill: Mill, *requests: Any) -> list[dict[str, Any]]:
    """Through the SQL door as text, for jsonb cannot hold all that is bad; with what they came to in the end."""
    texts = [json.dumps(request) for request in requests]
    accepted = mill.shop.rows("SELECT api.submit_orders(%s::text[])", texts)
    mill.shop.drain()
    return [mill.shop.outcome(each["key"]) if each["status"] == "accepted" else each for each in accepted]


@WORST
def test_bad_input_is_the_same_rejection_through_either_door(at_work: Mill, sku: str, bad: Bad) -> None:
    by_celery = at_work.call("orders.place", spoiled(bad, sku))
    [by_sql] = submit(at_work, spoiled(bad, sku))

    assert decided(by_celery) == decided(by_sql) == ("rejected", bad.code, bad.field)
    assert by_celery["message"] == by_sql["message"]
    assert by_celery["message"].endswith((".", "}"))
    if bad.found:
        assert at_work.shop.outcome(by_celery["key"]) == by_celery
        assert at_work.shop.outcome(by_sql["key"]) == by_sql
    assert at_work.shop.level(sku, "E1") == {"available": 10}


def test_of_a_batch_with_all_that_is_bad_the_good_ones_are_placed(at_work: Mill, sku: str) -> None:
    good = [order(None, (sku, 1)) for _ in range(10)]
    requests = [*good[:5], *(spoiled(bad, sku) for bad in BAD), *good[5:]]
    expected = [("placed", None, None)] * 5 + [("rejected", bad.code, bad.field) for bad in BAD]
    expected += [("placed", None, None)] * 5

    outcomes = at_work.call("orders.place_many", requests)

    assert [decided(outcome) for outcome in outcomes] == expected
    assert at_work.shop.level(sku, "E1") == {"committed": 10}


def test_the_same_batch_through_the_sql_door_comes_to_the_same(at_work: Mill, sku: str) -> None:
    good = [order(None, (sku, 1)) for _ in range(10)]
    expected = [("placed", None, None)] * 5 + [("rejected", bad.code, bad.field) for bad in BAD]
    expected += [("placed", None, None)] * 5

    outcomes = submit(at_work, *good[:5], *(spoiled(bad, sku) for bad in BAD), *good[5:])

    assert [decided(outcome) for outcome in outcomes] == expected
    assert at_work.shop.level(sku, "E1") == {"committed": 10}


@pytest.mark.parametrize("door", ["celery", "sql"])
def test_a_key_that_comes_back_with_another_body_is_refused_at_both_doors(at_work: Mill, sku: str, door: str) -> None:
    first = order(None, (sku, 1))
    placed = at_work.call("orders.place", first) if door == "celery" else submit(at_work, first)[0]
    other = first | {"lines": [{"sku": sku, "quantity": 2}]}

    assert decided(at_work.call("orders.place", other)) == ("rejected", "OM010", "key")
    assert decided(at_work.call("orders.place_many", [other])[0]) == ("rejected", "OM010", "key")
    assert decided(submit(at_work, other)[0]) == ("rejected", "OM010", "key")
    assert at_work.call("orders.place", first) == submit(at_work, first)[0] == placed
    assert at_work.shop.level(sku, "E1")["committed"] == 1


def test_a_rejection_is_the_answer_of_its_key_at_both_doors(at_work: Mill, sku: str) -> None:
    bad = order(None, (sku, 1), customer="C\0-1", colour="red")

    by_celery = at_work.call("orders.place", bad)

    assert submit(at_work, bad) == [by_celery]
    assert at_work.call("orders.place", bad) == by_celery


# What psycopg itself refuses to send, and a text that no `key` may be.
NO_KEYS = pytest.mark.parametrize("no_key", ["a\0b", "a\nb", "\ud800", "x" * 201], ids=ascii)
ADJUST = {"location": "E1", "quantity": 1, "reason": "found"}


@NO_KEYS
def test_a_command_with_a_key_that_cannot_be_held_is_refused_under_the_tasks_id(
    at_work: Mill, sku: str, no_key: str
) -> None:
    task_id, payload = uuid(), {"version": 2, "key": no_key, "sku": sku, **ADJUST}

    outcome = at_work.call("inventory.adjust", payload, queue="inventory", task_id=task_id)

    assert decided(outcome) == ("rejected", "OM020", "version")
    assert at_work.shop.outcome(task_id) == outcome
    assert decided(at_work.call("inventory.adjust", payload | {"version": 1}, queue="inventory"))[1:] == (
        "OM013",
        "key",
    )


def test_an_unknown_field_whose_name_cannot_be_held_is_refused_and_named(at_work: Mill, sku: str) -> None:
    task_id = uuid()

    outcome = at_work.call("inventory.adjust", {"sku": sku, **ADJUST, "a\0b": 1}, queue="inventory", task_id=task_id)

    assert decided(outcome) == ("rejected", "OM012", "a\ufdd0b")
    assert at_work.shop.outcome(task_id) == outcome


@NO_KEYS
def test_a_task_id_that_cannot_be_a_key_is_refused_at_each_task(at_work: Mill, sku: str, no_key: str) -> None:
    no_key = no_key.replace("\ud800", "\x7f")  # no message can carry half a surrogate pair in its id
    request = order(None, (sku, 1))
    request.pop("key")

    def called(task: str, payload: Any, queue: str = "orders") -> Any:
        return at_work.call(task, payload, queue=queue, task_id=f"{task}{no_key}")

    refused = [
        called("orders.place", request),
        *called("orders.place_many", [request, request]),
        called("inventory.adjust", {"sku": sku, **ADJUST}, "inventory"),
        called("orders.cancel", {}),
    ]

    assert [decided(outcome) for outcome in refused] == [("rejected", "OM013", "key")] * 5
    assert at_work.call("orders.place_many", {}, task_id=f"not a list {no_key}")[0]["code"] == "OM013"
    keyed = order(None, (sku, 1))
    assert at_work.call("orders.place", keyed, task_id=f"keyed {no_key}")["status"] == "placed"
    assert at_work.shop.value("SELECT count(*) FROM shop.dead_letters") == 0


def test_the_place_in_a_list_must_fit_into_the_default_key_too(at_work: Mill, sku: str) -> None:
    request = order(None, (sku, 1))
    request.pop("key")

    outcomes = at_work.call("orders.place_many", [request] * 11, task_id="x" * 198)

    assert [outcome["status"] for outcome in outcomes] == ["placed"] * 10 + ["rejected"]
    assert decided(outcomes[10])[1:] == ("OM013", "key")
