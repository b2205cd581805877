"""The Celery door over the wire: orders by name, from a client that knows nothing but an address."""

import json
import subprocess
import sys

import pytest
from celery import uuid

from tests.shop import order
from tests.workers_fixtures import RESULT_SECONDS, Mill, clean_environment
from workers.child import wait_until


def test_place_gives_the_outcome_under_the_payloads_key(at_work: Mill, sku: str) -> None:
    request = order(None, (sku, 2))

    outcome = at_work.call("orders.place", request)

    assert outcome == at_work.shop.outcome(request["key"])
    assert (outcome["key"], outcome["status"], outcome["code"]) == (request["key"], "placed", None)
    assert at_work.shop.status(outcome["order_id"]) == "placed"
    assert at_work.shop.level(sku, "E1") == {"available": 8, "committed": 2}


def test_without_a_key_the_id_of_the_task_is_the_key(at_work: Mill, sku: str) -> None:
    request = {name: value for name, value in order(None, (sku, 1)).items() if name != "key"}
    task_id = uuid()

    first = at_work.call("orders.place", request, task_id=task_id)
    again = at_work.call("orders.place", request, task_id=task_id)

    assert first["key"] == task_id
    assert again == first == at_work.shop.outcome(task_id)
    assert at_work.shop.level(sku, "E1")["committed"] == 1


def test_the_same_key_twice_gives_the_same_answer_and_one_order(at_work: Mill, sku: str) -> None:
    request = order(None, (sku, 3))

    assert at_work.call("orders.place", request) == at_work.call("orders.place", request)
    assert at_work.orders_by_key([request]) == [1]


def test_an_order_may_be_sent_as_keywords(at_work: Mill, sku: str) -> None:
    request = order(None, (sku, 1))

    outcome = at_work.call("orders.place", kwargs=request)

    assert (outcome["key"], outcome["status"]) == (request["key"], "placed")


def test_a_sold_out_sku_is_a_rejection_and_not_a_failure(at_work: Mill, sku: str) -> None:
    result = at_work.send("orders.place", order(None, (sku, 11)))

    outcome = result.get(timeout=RESULT_SECONDS)

    assert result.state == "SUCCESS"
    assert (outcome["status"], outcome["code"], outcome["field"]) == ("rejected", "OM001", "lines[0].quantity")


def test_place_many_decides_each_alone_and_answers_in_order(at_work: Mill, sku: str) -> None:
    good, twin = order(None, (sku, 4)), order(None, (sku, 1))
    requests = [
        good,
        order(None, (sku, "two")),
        "no order",
        order(None, ("NONE", 1)),
        twin,
        twin,
        order(None, (sku, 6)),
    ]
    task_id = uuid()

    outcomes = at_work.call("orders.place_many", requests, task_id=task_id)

    assert [(each["status"], each["code"], each["field"]) for each in outcomes] == [
        ("placed", None, None),
        ("rejected", "OM007", "lines[0].quantity"),
        ("rejected", "OM011", "request"),
        ("rejected", "OM002", "lines[0].sku"),
        ("placed", None, None),
        ("placed", None, None),
        ("rejected", "OM001", "lines[0].quantity"),
    ]
    assert outcomes[2]["key"] == f"{task_id}:2"
    assert outcomes[4] == outcomes[5]
    assert at_work.shop.level(sku, "E1") == {"available": 5, "committed": 5}


def test_place_many_of_more_than_a_transaction_holds_keeps_the_order_of_answers(at_work: Mill, sku: str) -> None:
    requests = [order(None, (sku, 1)) for _ in range(120)]

    outcomes = at_work.call("orders.place_many", requests)

    assert [each["key"] for each in outcomes] == [each["key"] for each in requests]
    assert [each["status"] for each in outcomes] == ["placed"] * 10 + ["rejected"] * 110


def test_place_many_without_a_key_counts_places_in_the_list(at_work: Mill, sku: str) -> None:
    request = {name: value for name, value in order(None, (sku, 1)).items() if name != "key"}
    task_id = uuid()

    outcomes = at_work.call("orders.place_many", [request, request], task_id=task_id)

    assert [each["key"] for each in outcomes] == [f"{task_id}:0", f"{task_id}:1"]
    assert outcomes[0]["order_id"] != outcomes[1]["order_id"]


@pytest.mark.parametrize("payload", [{"orders": []}, "text", None, 7, [{}] * 501], ids=repr)
def test_place_many_of_what_is_no_list_or_too_long_is_one_rejection(at_work: Mill, payload: object) -> None:
    [outcome] = at_work.call("orders.place_many", payload)

    code = "OM009" if isinstance(payload, list) else "OM011"
    assert (outcome["status"], outcome["code"], outcome["field"]) == ("rejected", code, "orders")


def test_place_many_of_nothing_is_nothing(at_work: Mill) -> None:
    assert at_work.call("orders.place_many", []) == []


@pytest.mark.parametrize("arguments", [(), ({}, {})], ids=["none", "two"])
def test_a_wrong_number_of_arguments_is_a_rejection_under_the_tasks_id(at_work: Mill, arguments: tuple[object]) -> None:
    task_id = uuid()

    outcome = at_work.call("orders.place", *arguments, task_id=task_id)

    assert (outcome["key"], outcome["status"]) == (task_id, "rejected")


def test_a_client_that_names_no_queue_is_served_by_the_general_worker(at_work: Mill, sku: str) -> None:
    result = at_work.send("orders.place", order(None, (sku, 1)), queue=None)

    assert result.get(timeout=RESULT_SECONDS)["status"] == "placed"


PLAIN_CLIENT = """
import json, sys
from celery import Celery

client = Celery(broker=sys.argv[1], backend=sys.argv[2])
result = client.send_task("orders.place", args=[json.loads(sys.argv[3])], queue=sys.argv[4] or None)
print(json.dumps(result.get(timeout=60)))
assert "workers" not in sys.modules and "tasks" not in sys.modules
"""


@pytest.mark.parametrize("queue", ["orders", ""])
def test_a_plain_client_in_a_folder_of_its_own_needs_only_the_address(
    at_work: Mill, sku: str, queue: str, tmp_path: object
) -> None:
    request = order(None, (sku, 1))
    command = [sys.executable, "-c", PLAIN_CLIENT, at_work.broker_url, at_work.redis_url, json.dumps(request), queue]

    done = subprocess.run(
        command, cwd=str(tmp_path), env=clean_environment(), capture_output=True, text=True, check=True, timeout=90
    )

    assert json.loads(done.stdout) == at_work.shop.outcome(request["key"])


def test_ordermills_own_application_routes_by_name(at_work: Mill, sku: str) -> None:
    program = (
        "import json, sys; from workers.app import app;"
        "sent = app.send_task('orders.place', args=[json.loads(sys.argv[1])]); print(json.dumps(sent.get(timeout=60)))"
    )
    request = order(None, (sku, 1))
    environment = clean_environment() | at_work.env

    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(request)],
        cwd=at_work.folder, env=environment, capture_output=True, text=True, check=True, timeout=90,
    )  # fmt: skip

    assert json.loads(done.stdout)["status"] == "placed"


def test_a_result_nobody_wants_is_not_kept(at_work: Mill, sku: str) -> None:
    unwanted, wanted = order(None, (sku, 1)), order(None, (sku, 1))

    quiet = at_work.send("orders.place", unwanted, ignore_result=True)
    at_work.call("orders.place", wanted)

    assert at_work.all_decided([unwanted])
    assert not at_work.client.backend.client.exists(f"celery-task-meta-{quiet.id}")


def test_nothing_is_left_unacknowledged(at_work: Mill, sku: str) -> None:
    at_work.call("orders.place", order(None, (sku, 1)))

    assert wait_until(lambda: not at_work.broker.keys("*unacked"), 10)
    assert at_work.waiting() == at_work.waiting("celery") == 0


def test_a_message_for_celerys_default_exchange_arrives_once(at_work: Mill, sku: str) -> None:
    request = {name: value for name, value in order(None, (sku, 1)).items() if name != "key"}
    task_id = uuid()

    at_work.call("orders.place", request, queue=None, exchange="celery", routing_key="celery", task_id=task_id)

    bound = {member.split(b"\x06\x16")[-1] for member in at_work.broker.smembers("_kombu.binding.celery")}
    assert bound == {b"celery"}
