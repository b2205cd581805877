"""The other tasks over the wire: cancelling, stock commands, the sweep, and maintenance as a person would call it."""

from typing import Any

import pytest
from celery import uuid

from tests.shop import new_key, order
from tests.workers_fixtures import Mill
from workers.child import wait_until


def decided(outcome: dict[str, Any]) -> tuple[str, str | None, str | None]:
    return outcome["status"], outcome["code"], outcome["field"]


def test_cancel_gives_the_stock_back_once(at_work: Mill, sku: str) -> None:
    placed = at_work.call("orders.place", order(None, (sku, 4)))
    request = {"key": new_key(), "order_id": placed["order_id"], "reason": "changed their mind"}

    first = at_work.call("orders.cancel", request)
    again = at_work.call("orders.cancel", request)

    assert again == first
    assert decided(first) == ("done", None, None)
    assert at_work.shop.status(placed["order_id"]) == "cancelled"
    assert at_work.shop.level(sku, "E1") == {"available": 10}


def test_an_order_is_not_cancelled_twice_under_another_key(at_work: Mill, sku: str) -> None:
    placed = at_work.call("orders.place", order(None, (sku, 4)))
    request = {"order_id": placed["order_id"], "reason": "changed their mind"}
    at_work.call("orders.cancel", request)

    outcome = at_work.call("orders.cancel", kwargs=request)

    assert decided(outcome) == ("rejected", "OM016", "order_id")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"order_id": "00000000-0000-7000-8000-000000000000", "reason": "r"}, ("OM015", "order_id")),
        ({"order_id": "not an id", "reason": "r"}, ("OM013", "order_id")),
        ({"order_id": "00000000-0000-7000-8000-000000000000"}, ("OM011", "reason")),
        ({"order_id": "00000000-0000-7000-8000-000000000000", "reason": "r", "colour": 1}, ("OM012", "colour")),
        ({"version": 2, "order_id": "00000000-0000-7000-8000-000000000000", "reason": "r"}, ("OM020", "version")),
        ("text", ("OM011", "request")),
    ],
)
def test_a_cancellation_that_cannot_be_done_says_why(
    at_work: Mill, request_: object, expected: tuple[str, str]
) -> None:
    task_id = uuid()

    outcome = at_work.call("orders.cancel", request_, task_id=task_id)

    assert decided(outcome) == ("rejected", *expected)
    assert outcome == at_work.shop.outcome(task_id)


def test_adjust_corrects_a_count_once_per_key(at_work: Mill, sku: str) -> None:
    request = {"key": new_key(), "sku": sku, "location": "E1", "quantity": -3, "reason": "broken"}

    first = at_work.call("inventory.adjust", request, queue="inventory")
    again = at_work.call("inventory.adjust", kwargs=request, queue="inventory")

    assert again == first
    assert decided(first) == ("done", None, None)
    assert at_work.shop.level(sku, "E1") == {"available": 7}


def test_receive_books_goods_in_by_way_of_incoming(at_work: Mill, sku: str) -> None:
    lines = [{"sku": sku, "quantity": 5}]

    announced = at_work.call(
        "inventory.receive", {"location": "E2", "lines": lines, "to": "incoming"}, queue="inventory"
    )
    arrived = at_work.call(
        "inventory.receive", {"location": "E2", "lines": lines, "from": "incoming"}, queue="inventory"
    )

    assert [announced["status"], arrived["status"]] == ["done", "done"]
    assert at_work.shop.level(sku, "E2") == {"available": 5}


def test_transfer_moves_stock_to_another_location(at_work: Mill, sku: str) -> None:
    request = {"sku": sku, "from": "E1", "to": "W1", "quantity": 4}

    at_once = at_work.call("inventory.transfer", request, queue="inventory")
    on_its_way = at_work.call("inventory.transfer", request | {"in_transit": True}, queue="inventory")

    assert [at_once["status"], on_its_way["status"]] == ["done", "done"]
    assert at_work.shop.level(sku, "E1") == {"available": 2}
    assert at_work.shop.level(sku, "W1") == {"available": 4, "in_transit": 4}


@pytest.mark.parametrize(
    ("task", "change", "expected"),
    [
        ("inventory.adjust", {"sku": "NONE"}, ("OM002", "sku")),
        ("inventory.adjust", {"location": "NONE"}, ("OM017", "location")),
        ("inventory.adjust", {"quantity": 0}, ("OM007", "quantity")),
        ("inventory.adjust", {"quantity": "one"}, ("OM007", "quantity")),
        ("inventory.adjust", {"quantity": -11}, ("OM001", "quantity")),
        ("inventory.adjust", {"reason": "\0"}, ("OM013", "reason")),
        ("inventory.transfer", {"quantity": 11}, ("OM001", "quantity")),
        ("inventory.transfer", {"to": "E1"}, ("OM011", None)),
        ("inventory.transfer", {"from": "NONE"}, ("OM017", None)),
        ("inventory.receive", {"lines": []}, ("OM008", "lines")),
        ("inventory.receive", {"lines": [{"sku": "NONE", "quantity": 1}]}, ("OM002", "lines[0].sku")),
        ("inventory.receive", {"lines": [{"sku": "NONE", "quantity": 0}]}, ("OM007", "lines[0].quantity")),
    ],
)
def test_a_stock_command_that_cannot_be_done_says_why(
    at_work: Mill, sku: str, task: str, change: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    whole = {
        "inventory.adjust": {"sku": sku, "location": "E1", "quantity": 1, "reason": "r"},
        "inventory.transfer": {"sku": sku, "from": "E1", "to": "E2", "quantity": 1},
        "inventory.receive": {"location": "E1", "lines": [{"sku": sku, "quantity": 1}]},
    }

    outcome = at_work.call(task, whole[task] | change, queue="inventory")

    code, field = expected
    assert (outcome["status"], outcome["code"]) == ("rejected", code)
    # A field is named as its sender wrote it.
    assert outcome["field"] == field if field else outcome["field"] in {*whole[task], *change}
    assert at_work.shop.level(sku, "E1") == {"available": 10}


def test_sweep_takes_back_a_dead_drains_claim_and_places_it(at_work: Mill, sku: str) -> None:
    request = order(None, (sku, 1))
    at_work.shop.submit(request)
    assert at_work.shop.claim(lease=0) is not None

    at_work.send("orders.sweep", queue="maintenance")

    assert at_work.all_decided([request])
    assert at_work.orders_by_key([request]) == [1]


def test_holds_that_ran_out_are_expired(at_work: Mill, sku: str) -> None:
    [held] = at_work.shop.hold(order(None, (sku, 2)))
    at_work.db.execute("UPDATE shop.order_allocations SET expires_at = now() WHERE state = 'held'")

    at_work.send("maintenance.expire_holds", queue="maintenance")

    assert wait_until(lambda: at_work.shop.status(held["order_id"]) == "expired", 30)
    assert at_work.shop.level(sku, "E1") == {"available": 10}


def test_partitions_are_made_ahead_again(at_work: Mill) -> None:
    [last] = at_work.shop.rows(
        "SELECT max(c.relname)::text FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'shop.stock_movements'::regclass"
    )
    at_work.db.execute(f"DROP TABLE shop.{last}")

    at_work.send("maintenance.ensure_partitions", queue="maintenance")

    assert wait_until(lambda: at_work.shop.value("SELECT to_regclass(%s)", f"shop.{last}") is not None, 30)


def test_prune_deletes_what_is_old_and_decided(at_work: Mill, sku: str) -> None:
    old = at_work.call("orders.place", order(None, (sku, 99)))
    at_work.db.execute(
        "UPDATE shop.request_keys SET received_at = now() - interval '91 days', decided_at = now() - interval '91 days'"
        " WHERE key = %s",
        [old["key"]],
    )

    at_work.send("maintenance.prune", queue="maintenance")

    assert wait_until(lambda: at_work.shop.outcome(old["key"]) is None, 30)


def test_verify_that_finds_something_fails_and_is_seen(at_work: Mill, sku: str) -> None:
    at_work.db.execute("UPDATE shop.stock_levels SET available = available + 1 WHERE available = 10")
    try:
        at_work.send("maintenance.verify", 86_400.0, queue="maintenance")
        run = "SELECT state FROM api.job_runs WHERE job = 'maintenance.verify'"  # the last: at noon there are two slots
        assert wait_until(lambda: at_work.shop.value(run) == "failed", 30)
        assert "level_is_its_movements" in at_work.shop.value(run.replace("state", "result::text"))
    finally:
        at_work.db.execute("UPDATE shop.stock_levels SET available = available - 1 WHERE available = 11")

    at_work.send("maintenance.verify", 86_400.0, queue="maintenance")
    assert wait_until(lambda: at_work.shop.value(run) == "succeeded", 30)
