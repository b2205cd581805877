"""Bad input: a rejection with a code, a field and a sentence, the same through either door; the others are placed."""

import json
from typing import Any

import pytest

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
