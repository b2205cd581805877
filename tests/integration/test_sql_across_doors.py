"""One key at both doors, in odd orders and odd shapes: still one order, one answer, and nothing forgotten."""

import json

from psycopg.types.json import Jsonb

from tests.shop import Shop, order, typed
from tests.waiting import Step
from workers.database import connect


def test_a_key_whose_row_still_waits_is_not_pruned_and_its_order_is_placed_once(scratch: Shop) -> None:
    scratch.stock("A", "E1", 9)
    request = order("k", ("A", 1))
    scratch.submit(request)
    placed = scratch.place_one(request)
    scratch.db.execute("UPDATE shop.request_keys SET received_at = now() - interval '1 year',"
                       " decided_at = now() - interval '1 year'")  # fmt: skip

    assert scratch.value("SELECT api.prune('1 day')") == 0
    assert scratch.drain() == [placed]
    assert scratch.count("orders") == 1
    scratch.db.execute("UPDATE shop.orders SET created_at = now() - interval '1 year'")
    assert scratch.value("SELECT api.prune('1 day')") == 1


def test_an_array_that_does_not_count_from_one_loses_nothing(scratch: Shop) -> None:
    scratch.stock("A", "E1", 9)
    texts = [json.dumps(order(key, ("A", 1))) for key in ("a", "b")]
    array = "[0:1]={" + ",".join(json.dumps(text) for text in texts) + "}"

    outcomes = scratch.rows("SELECT api.submit_orders(%s::text[])", array)

    assert [(each["key"], each["status"]) for each in outcomes] == [("a", "accepted"), ("b", "accepted")]
    assert [each["status"] for each in scratch.drain()] == ["placed", "placed"]


def test_a_letter_for_one_body_does_not_kill_the_other_that_has_the_key(scratch: Shop) -> None:
    scratch.stock("A", "E1", 9)
    scratch.submit(order("k", ("A", 1)))

    conflict = scratch.value("SELECT api.bury_order(%s, 'OM090', 'x', 1)", Jsonb(typed(order("k", ("A", 2)))))

    assert (conflict["status"], conflict["code"]) == ("rejected", "OM010")
    assert scratch.count("dead_letters") == 0
    assert [each["status"] for each in scratch.drain()] == ["placed"]


def test_behind_a_conflict_in_its_batch_the_body_that_has_the_key_is_decided(scratch: Shop) -> None:
    scratch.stock("A", "E1", 9)
    mine = order("k", ("A", 1))
    scratch.submit(mine)

    outcomes = scratch.place(order("k", ("A", 2)), mine, mine)

    assert [each["code"] for each in outcomes] == ["OM010", None, None]
    assert [each["status"] for each in outcomes[1:]] == ["placed", "placed"]
    assert outcomes[1] == outcomes[2]


def test_both_doors_name_the_same_of_two_names_that_are_not_there(scratch: Shop) -> None:
    scratch.stock("A", "E1", 9)
    request = order("k", ("A", 1), customer="nobody", pool="nowhere")

    [by_sql] = scratch.submit(request)
    by_celery = scratch.place_one(request | {"key": "other"})

    assert (by_sql["code"], by_sql["field"]) == (by_celery["code"], by_celery["field"]) == ("OM003", "customer")


def test_a_quantity_counts_by_its_value_however_it_is_written(scratch: Shop) -> None:
    scratch.stock("A", "E1", 9)
    text = json.dumps(order("k", ("A", "x"))).replace('"x"', "2.0")

    assert scratch.value("SELECT api.submit_order(%s::text)", text)["status"] == "accepted"
    assert scratch.value("SELECT api.submit_order(%s::text)", text.replace("2.0", "2e0"))["status"] == "accepted"
    assert [each["status"] for each in scratch.drain()] == ["placed"]
    assert scratch.level("A", "E1") == {"available": 7, "committed": 2}


def test_a_hold_for_another_time_under_the_same_key_is_another_body(scratch: Shop) -> None:
    scratch.stock("A", "E1", 9)
    request = order("k", ("A", 1))

    [held] = scratch.hold(request, seconds=60)

    assert scratch.hold(request, seconds=60) == [held]
    assert scratch.hold(request, seconds=3600)[0]["code"] == "OM010"


def test_a_key_used_again_after_it_was_pruned_is_no_damage(scratch: Shop) -> None:
    scratch.stock("A", "E1", 9)
    request = order("k", ("A", 1))
    scratch.place(request)
    scratch.db.execute("UPDATE shop.request_keys SET received_at = now() - interval '1 year',"
                       " decided_at = now() - interval '1 year'")  # fmt: skip
    scratch.db.execute("UPDATE shop.orders SET created_at = now() - interval '1 year'")
    assert scratch.value("SELECT api.prune('90 days')") == 1

    scratch.place(request)

    assert scratch.count("orders") == 2
    assert scratch.verify() == []


def test_an_order_from_before_1970_is_rejected(scratch: Shop) -> None:
    scratch.stock("A", "E1", 9)

    [outcome] = scratch.place(order("k", ("A", 1), ordered_at="0001-01-01T00:00:00+14:00"))

    assert (outcome["code"], outcome["field"]) == ("OM019", "ordered_at")


def test_a_level_that_is_made_while_a_batch_waits_for_its_locks_is_not_used_by_it(
    shop: Shop, database_url: str
) -> None:
    """It is not locked, so taking from it could deadlock, or oversell and so fail the whole batch."""
    shop.stock("A", "E1", 5)
    with connect(database_url) as blocker, connect(database_url) as buyer, connect(database_url) as observer:
        blocker.execute("BEGIN")
        blocker.execute("SELECT FROM shop.stock_levels FOR UPDATE")
        request = Jsonb([typed(order("k", ("A", 10)))])
        buying = Step(buyer, "SELECT api.place_orders(%s)", [request]).waits(observer)
        shop.value("SELECT api.receive_stock('r', 'E2', %s)", Jsonb([{"sku": "A", "quantity": 10}]))
        blocker.execute("COMMIT")
        [[outcome]] = buying.result()

    assert (outcome["code"], outcome["field"]) == ("OM001", "lines[0].quantity")
    assert shop.place(order("next", ("A", 10)))[0]["status"] == "placed"
