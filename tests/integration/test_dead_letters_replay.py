"""What is replayed really runs: with real workers, and a shop that is clean afterwards."""

import json

from celery.result import AsyncResult

from tests.door import by_hand
from tests.letters import listed, message_letter, order_letter, run, settled, unread_letter
from tests.shop import Shop, new_key, order
from tests.workers_fixtures import Mill
from workers.child import wait_until


def wait_for(shop: Shop, key: str, seconds: float = 30) -> str | None:
    """What this key came to."""
    assert wait_until(lambda: (shop.outcome(key) or {}).get("order_id") is not None, seconds)
    return (shop.outcome(key) or {})["status"]


def test_a_dead_order_is_decided_anew_under_its_key(at_work: Mill, sku: str) -> None:
    request = order(None, (sku, 2))
    letter = order_letter(at_work.shop, request)
    assert at_work.call("orders.place", request)["status"] == "dead"

    done = run(at_work, "replay", letter, "--yes")
    at_work.send("orders.drain", 0, queue="maintenance")

    assert f"{letter}  replayed: it waits behind the SQL door" in done.stdout
    assert wait_for(at_work.shop, request["key"]) == "placed"
    assert at_work.call("orders.place", request)["status"] == "placed"
    assert at_work.shop.level(sku, "E1") == {"available": 8, "committed": 2}


def test_the_message_of_a_failed_task_is_run_under_its_task_id(at_work: Mill, sku: str) -> None:
    task_id = f"task-{new_key()}"
    payload = {"sku": sku, "location": "E1", "quantity": 5, "reason": "found"}
    letter = message_letter(at_work.shop, "inventory.adjust", task_id, payload)

    done = run(at_work, "replay", letter, "--yes")

    assert f"{letter}  replayed: it is in queue inventory again" in done.stdout
    outcome = AsyncResult(task_id, app=at_work.client).get(timeout=30)
    assert (outcome["key"], outcome["status"]) == (task_id, "done")
    assert at_work.shop.level(sku, "E1") == {"available": 15}
    assert settled(at_work.shop, letter) == "replayed"


def test_a_message_whose_letter_stayed_open_after_it_was_sent_takes_effect_once(at_work: Mill, sku: str) -> None:
    """As when PostgreSQL breaks off between the two: the one case in which a message is sent twice."""
    task_id = f"task-{new_key()}"
    payload = {"sku": sku, "location": "E1", "quantity": 5, "reason": "found"}
    letter = message_letter(at_work.shop, "inventory.adjust", task_id, payload)
    run(at_work, "replay", letter, "--yes")
    first = AsyncResult(task_id, app=at_work.client).get(timeout=30)
    at_work.db.execute("UPDATE shop.dead_letters SET settled_at = NULL, settlement = NULL WHERE id = %s", [letter])

    run(at_work, "replay", letter, "--yes")

    assert at_work.call("inventory.adjust", payload, queue="inventory", task_id=task_id) == first
    # That is the stored result. One process runs all of this queue in turn: after one more the others have been run.
    assert at_work.call("inventory.adjust", payload, queue="inventory")["status"] == "done"
    assert at_work.shop.level(sku, "E1") == {"available": 20}


def test_an_item_that_can_be_read_now_is_run(at_work: Mill, sku: str) -> None:
    request = order(None, (sku, 1))
    letter = unread_letter(at_work.shop, "orders", json.dumps(by_hand(request)))

    run(at_work, "replay", letter, "--yes")

    assert wait_for(at_work.shop, request["key"]) == "placed"


def test_an_item_that_still_cannot_be_read_is_a_new_letter(at_work: Mill) -> None:
    letter = unread_letter(at_work.shop, "inventory", "[still no message")

    run(at_work, "replay", letter, "--yes")

    assert wait_until(lambda: at_work.broker.exists("inventory.undecodable") == 1, 30)
    [again] = listed(at_work, "--queue", "inventory", "--code", "OM092")
    assert again["id"] != str(letter)
    assert again["payload"] == {"queue": "inventory", "item": "[still no message"}
