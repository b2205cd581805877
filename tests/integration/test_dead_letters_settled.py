"""`ordermill dead-letters replay` and `discard`, where no worker runs: what comes of it."""

import json
import subprocess
import sys
import uuid
from typing import Any

import pytest

from tests.letters import (
    NOBODY,
    environment,
    listed,
    message_letter,
    order_letter,
    run,
    set_aside,
    settled,
    unread_letter,
)
from tests.shop import new_key, order
from tests.workers_fixtures import Mill


def ids(found: list[dict[str, Any]]) -> list[uuid.UUID]:
    return [uuid.UUID(letter["id"]) for letter in found]


def test_an_unread_item_goes_back_to_its_queue_byte_for_byte(clean: Mill) -> None:
    text = unread_letter(clean.shop, "views", 'Zürich {"a": "\\u0000"}')
    bytes_ = unread_letter(clean.shop, "alerts", "gAJ9cQAu", base64=True)

    done = run(clean, "replay", text, bytes_, "--yes")

    assert (done.returncode, done.stderr) == (0, "")
    assert f"{text}  replayed: it is in queue views again" in done.stdout
    assert clean.broker.lrange("views", 0, -1) == ['Zürich {"a": "\\u0000"}'.encode()]
    assert clean.broker.lrange("alerts", 0, -1) == [b"\x80\x02}q\x00."]
    assert [settled(clean.shop, letter) for letter in (text, bytes_)] == ["replayed"] * 2


def test_a_letter_is_replayed_once(clean: Mill) -> None:
    letter = unread_letter(clean.shop, "views", "again")

    first, second = run(clean, "replay", letter, "--yes"), run(clean, "replay", letter, letter, "--yes")

    assert (first.returncode, second.returncode) == (0, 0)
    assert second.stdout.startswith(f"{letter}  replayed ")
    assert second.stdout.endswith("nothing to replay\n")
    assert clean.broker.llen("views") == 1


def test_a_discarded_letter_is_not_replayed(clean: Mill, three: dict[str, uuid.UUID]) -> None:
    run(clean, "discard", three["unread"], "--yes")

    assert "nothing to replay" in run(clean, "replay", three["unread"], "--yes").stdout
    assert not clean.broker.exists("views")


def test_a_message_that_could_not_be_kept_is_not_replayed(clean: Mill) -> None:
    letter = clean.shop.value("SELECT api.bury_message('inventory.adjust', 't', 'null', 'a bug')")

    done = run(clean, "replay", letter, "--yes")

    assert done.returncode == 1
    assert f"{letter}  not replayed: what this message carried could not be kept" in done.stdout
    assert settled(clean.shop, letter) is None


def test_an_order_whose_key_is_anothers_now_is_not_replayed_and_the_others_are(clean: Mill) -> None:
    taken, free = new_key(), new_key()
    first = order_letter(clean.shop, order(taken, ("A", 1)))
    clean.db.execute("DELETE FROM shop.request_keys WHERE key = %s", [taken])
    clean.shop.place(order(taken, ("A", 2)))
    second = order_letter(clean.shop, order(free, ("A", 1)))

    done = run(clean, "replay", "--code", "OM090", "--yes")

    assert done.returncode == 1
    assert f"{first}  not replayed: its key is another order's now (OM010)" in done.stdout
    assert f"{second}  replayed: it waits behind the SQL door" in done.stdout
    assert [settled(clean.shop, letter) for letter in (first, second)] == [None, "replayed"]
    clean.shop.drain()


@pytest.mark.parametrize("kind", ["message", "unread"])
def test_while_redis_is_away_a_letter_stays_open(clean: Mill, three: dict[str, uuid.UUID], kind: str) -> None:
    done = run(clean, "replay", three[kind], "--yes", CELERY_BROKER_URL=NOBODY)

    assert done.returncode == 2
    assert done.stderr.startswith("ordermill: Redis: ")
    assert done.stderr.count("\n") == 1
    assert settled(clean.shop, three[kind]) is None


def test_orders_are_replayed_also_while_redis_is_away(clean: Mill) -> None:
    letter = order_letter(clean.shop, order(new_key(), ("A", 1)))

    done = run(clean, "replay", letter, "--yes", CELERY_BROKER_URL=NOBODY)

    assert (done.returncode, done.stderr) == (0, "")
    assert settled(clean.shop, letter) == "replayed"
    clean.shop.drain()


def test_discarding_by_filter_settles_all_of_it_and_a_dead_key_stays_dead(clean: Mill) -> None:
    keys = [new_key() for _ in range(25)]
    for key in keys:
        order_letter(clean.shop, order(key, ("A", 1)))
    other = message_letter(clean.shop, "inventory.adjust", "t-1")

    done = run(clean, "discard", "--code", "OM090", "--yes")

    assert done.returncode == 0
    assert "and 5 more" in done.stdout
    assert "25 orders: each is closed, and nothing else changes" in done.stdout
    assert ids(listed(clean)) == [other]
    assert {(clean.shop.outcome(key) or {})["status"] for key in keys} == {"dead"}


@pytest.mark.usefixtures("three")
def test_a_limit_takes_the_newest(clean: Mill) -> None:
    run(clean, "discard", "--source", "celery", "--limit", 1, "--yes")

    assert [letter["kind"] for letter in listed(clean)] == ["message", "order"]


# Status


@pytest.mark.usefixtures("three")
def test_status_shows_open_letters_and_what_waits_to_be_collected(clean: Mill) -> None:
    run(clean, "discard", "--code", "OM091", "--yes")
    set_aside(clean, "views", "not json")
    command = [sys.executable, "-m", "workers.cli", "status"]

    state, shown = (
        subprocess.run(each, env=environment(clean), capture_output=True, text=True, check=False, timeout=60).stdout
        for each in ([*command, "--json"], command)
    )

    told = json.loads(state)
    undecodable = {name: queue["undecodable"] for name, queue in told["queues"].items()}
    assert undecodable == dict.fromkeys(undecodable, 0) | {"views": 1}
    assert [(each["code"], each["letters"]) for each in told["dead_letters"]] == [("OM090", 1), ("OM092", 1)]
    assert "Open dead letters" in shown
