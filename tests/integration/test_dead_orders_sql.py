"""Dead orders that are decided anew: once, under their key, and never instead of another."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.letters import MESSAGE, bury, dead, letter_of, replay
from tests.shop import Shop, fingerprint, order
from tests.waiting import Step

Connect = Callable[[str], psycopg.Connection[Any]]


@pytest.fixture
def stocked(scratch: Shop) -> Shop:
    scratch.stock("A", "E1", 10)
    return scratch


def test_a_dead_order_is_accepted_again_under_its_key_and_decided_anew(stocked: Shop) -> None:
    letter = dead(stocked, order("x", ("A", 2), ship_to="home", ordered_at="2026-01-31T10:00:00Z"))

    outcome = replay(stocked, letter)

    assert (outcome["key"], outcome["status"], outcome["code"]) == ("x", "accepted", None)
    assert letter_of(stocked, letter)["settlement"] == "replayed"
    assert stocked.verify() == []
    [placed] = stocked.drain()
    assert (placed["key"], placed["status"]) == ("x", "placed")
    assert stocked.outcome("x") == placed
    assert stocked.level("A", "E1") == {"available": 8, "committed": 2}
    assert stocked.maps("SELECT ordered_at::text, customer FROM api.orders WHERE key = 'x'") == [
        {"ordered_at": stocked.value("SELECT '2026-01-31T10:00:00Z'::timestamptz::text"), "customer": "C-1"}
    ]


def test_an_order_is_replayed_once(stocked: Shop) -> None:
    letter = dead(stocked, order("x", ("A", 2)))

    assert replay(stocked, letter) is not None
    before = fingerprint(stocked.db)
    assert replay(stocked, letter) is None
    assert fingerprint(stocked.db) == before


def test_two_that_replay_an_order_at_once_queue_it_once(shop: Shop, connect_as: Connect) -> None:
    shop.stock("A", "E1", 10)
    letter = dead(shop, order("x", ("A", 2)))
    first, second = connect_as("ordermill_worker"), connect_as("ordermill_maintainer")
    first.execute("BEGIN")
    assert first.execute("SELECT api.replay_order(%s)", [letter]).fetchone() is not None
    late = Step(second, "SELECT api.replay_order(%s)", [letter]).waits(shop.db)
    first.execute("COMMIT")

    assert late.result() == [(None,)]
    assert [each["status"] for each in shop.drain()] == ["placed"]


def test_a_discarded_order_is_not_replayed_and_stays_dead(stocked: Shop) -> None:
    letter = dead(stocked, order("x", ("A", 2)))
    stocked.value("SELECT api.settle_letter(%s, 'discarded')", letter)
    before = fingerprint(stocked.db)

    assert replay(stocked, letter) is None
    assert fingerprint(stocked.db) == before
    assert (stocked.outcome("x") or {})["status"] == "dead"


def test_only_an_orders_letter_is_replayed_as_one(scratch: Shop) -> None:
    message = scratch.value("SELECT api.bury_message('inventory.adjust', 't-1', '{}', 'a bug')")
    before = fingerprint(scratch.db)

    assert [replay(scratch, letter) for letter in (message, uuid.uuid4())] == [None, None]
    assert fingerprint(scratch.db) == before
    assert replay(scratch, bury(scratch, json.dumps(MESSAGE))) is None


def test_an_order_that_dies_again_is_a_new_letter_that_can_be_replayed(stocked: Shop) -> None:
    request = order("x", ("A", 2))
    first = dead(stocked, request)
    replay(stocked, first)
    claim = stocked.claim()
    assert claim is not None
    stocked.value("SELECT api.return_claim(%s, 1, 'OM090', 'still')", claim["claim_id"])
    assert stocked.verify() == []

    second = stocked.value("SELECT id FROM api.dead_letters WHERE key = 'x' AND settled_at IS NULL")

    assert second != first
    assert replay(stocked, second)["status"] == "accepted"
    assert [each["status"] for each in stocked.drain()] == ["placed"]


def test_an_order_whose_pool_is_gone_is_decided_as_rejected(stocked: Shop) -> None:
    letter = dead(stocked, order("x", ("A", 2)))
    stocked.db.execute("UPDATE shop.pools SET code = 'NORTH' WHERE code = 'EAST'")

    outcome = replay(stocked, letter)

    assert (outcome["status"], outcome["code"], outcome["field"]) == ("rejected", "OM004", "pool")
    assert stocked.outcome("x") == outcome
    assert letter_of(stocked, letter)["settlement"] == "replayed"


def forget_key(shop: Shop, key: str) -> None:
    """As `api.prune` does in the end."""
    shop.db.execute("DELETE FROM shop.request_keys WHERE key = %s", [key])


def test_an_order_whose_key_was_pruned_is_accepted(stocked: Shop) -> None:
    letter = dead(stocked, order("x", ("A", 2)))
    forget_key(stocked, "x")

    assert replay(stocked, letter)["status"] == "accepted"
    assert [each["status"] for each in stocked.drain()] == ["placed"]


def test_an_order_that_was_placed_after_all_is_not_placed_again(stocked: Shop) -> None:
    request = order("x", ("A", 2))
    letter = dead(stocked, request)
    forget_key(stocked, "x")
    [placed] = stocked.place(request)

    assert replay(stocked, letter) == placed
    assert letter_of(stocked, letter)["settlement"] == "replayed"
    assert (stocked.count("orders"), stocked.count("order_queue")) == (1, 0)


@pytest.mark.parametrize("other_dies", [True, False])
def test_an_order_whose_key_is_anothers_now_stays_a_letter_and_the_other_as_it_is(
    stocked: Shop, other_dies: bool
) -> None:
    letter = dead(stocked, order("x", ("A", 2)))
    forget_key(stocked, "x")
    other = order("x", ("A", 1))
    if other_dies:
        dead(stocked, other)
    else:
        stocked.submit(other)
    before = fingerprint(stocked.db)

    outcome = replay(stocked, letter)

    assert (outcome["status"], outcome["code"]) == ("rejected", "OM010")
    assert fingerprint(stocked.db) == before
    assert letter_of(stocked, letter)["settled_at"] is None


def test_a_large_order_is_replayed_whole(scratch: Shop) -> None:
    lines = [(f"S{n}", 1) for n in range(500)]
    for sku, _ in lines:
        scratch.stock(sku, "E1", 1)
    letter = dead(scratch, order("x", *lines))

    replay(scratch, letter)

    assert [each["status"] for each in scratch.drain()] == ["placed"]
    assert scratch.count("order_lines") == 500
