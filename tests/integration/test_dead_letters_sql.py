"""The routines behind dead letters: attempts counted, items buried, orders decided anew, letters settled and pruned."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.integration.test_sql_migrations import step_by_step
from tests.shop import Shop, fingerprint, new_key, order, typed
from tests.waiting import Step
from workers.database import connect
from workers.migrate import migrate

Connect = Callable[[str], psycopg.Connection[Any]]
COUNT, FORGET = "SELECT api.count_attempt(%s)", "SELECT api.forget_attempt(%s, %s)"
BURY = "SELECT api.bury_unread(%s, %s, %s, %s, %s, %s, %s)"
AT = "2026-01-31T10:00:00+00:00"
MESSAGE = {"body": "W10=", "headers": {"task": "shop.guess", "id": "t-1"}, "properties": {}}


def bury(shop: Shop, item: str, letter: uuid.UUID | None = None, base64: bool = False) -> uuid.UUID:
    letter = letter or uuid.uuid4()
    assert shop.value(BURY, letter, AT, "orders", item, base64, "OM092", "unread") is True
    return letter


def letter_of(shop: Shop, letter: uuid.UUID) -> dict[str, Any]:
    [found] = shop.maps("SELECT * FROM api.dead_letters WHERE id = %s", letter)
    return found


def dead(shop: Shop, request: dict[str, Any]) -> uuid.UUID:
    """An order that is dead, by the Celery door; gives its letter."""
    outcome = shop.value("SELECT api.bury_order(%s, 'OM090', 'a bug', 1)", Jsonb(typed(request)))
    assert outcome["status"] == "dead"
    return shop.value(
        "SELECT id FROM api.dead_letters WHERE key = %s AND settled_at IS NULL ORDER BY created_at DESC", request["key"]
    )


def replay(shop: Shop, letter: uuid.UUID) -> Any:
    return shop.value("SELECT api.replay_order(%s)", letter)


@pytest.fixture
def stocked(scratch: Shop) -> Shop:
    scratch.stock("A", "E1", 10)
    return scratch


# Attempts


def test_attempts_are_counted_one_by_one_and_each_message_apart(scratch: Shop) -> None:
    assert [scratch.value(COUNT, message) for message in ("a", "a", "b", "a")] == [1, 2, 1, 3]


@pytest.mark.parametrize("message", [None, "", "x" * 9_000, "\ufdd0"], ids=["none", "empty", "huge", "marked"])
def test_any_id_of_a_message_can_be_counted_and_forgotten(scratch: Shop, message: str | None) -> None:
    assert [scratch.value(COUNT, message), scratch.value(COUNT, message)] == [1, 2]
    assert scratch.value(FORGET, message, True) == 0
    assert scratch.count("message_attempts") == 0


def test_long_ids_that_begin_alike_are_counted_apart(scratch: Shop) -> None:
    assert [scratch.value(COUNT, "x" * 9_000 + end) for end in "ab"] == [1, 1]


def test_two_workers_at_once_count_two(shop: Shop, connect_as: Connect) -> None:
    first, second = connect_as("ordermill_worker"), connect_as("ordermill_worker")
    first.execute("BEGIN")
    assert first.execute(COUNT, ["a"]).fetchone() == (1,)
    late = Step(second, COUNT, ["a"]).waits(shop.db)
    first.execute("COMMIT")

    assert late.result() == [(2,)]


def test_an_attempt_that_was_not_the_messages_fault_is_taken_off(scratch: Shop) -> None:
    for _ in range(3):
        scratch.value(COUNT, "a")

    assert [scratch.value(FORGET, "a", False) for _ in range(4)] == [2, 1, 0, 0]
    assert scratch.count("message_attempts") == 0


def test_all_attempts_are_forgotten_at_once(scratch: Shop) -> None:
    for message in ("a", "a", "b"):
        scratch.value(COUNT, message)

    assert scratch.value(FORGET, "a", True) == 0
    assert scratch.rows("SELECT message FROM shop.message_attempts") == ["b"]
    assert scratch.value(COUNT, "a") == 1


def test_two_that_take_one_off_at_once_take_off_two(shop: Shop, connect_as: Connect) -> None:
    first, second = connect_as("ordermill_worker"), connect_as("ordermill_worker")
    for _ in range(2):
        shop.value(COUNT, "a")
    first.execute("BEGIN")
    assert first.execute(FORGET, ["a", False]).fetchone() == (1,)
    late = Step(second, FORGET, ["a", False]).waits(shop.db)
    first.execute("COMMIT")

    assert late.result() == [(0,)]
    assert shop.count("message_attempts") == 0


# Items


def test_an_item_is_a_letter_found_by_its_queue_its_task_and_its_tasks_id(scratch: Shop) -> None:
    found = letter_of(scratch, bury(scratch, json.dumps(MESSAGE)))

    assert found["payload"] == {"queue": "orders", "item": json.dumps(MESSAGE)}
    assert (found["kind"], found["queue"], found["task"], found["key"]) == ("unread", "orders", "shop.guess", "t-1")
    assert (found["source"], found["code"], found["reason"], found["attempts"]) == ("celery", "OM092", "unread", 0)
    assert found["created_at"].isoformat() == AT
    assert (found["settled_at"], found["settlement"]) == (None, None)


def test_an_item_is_buried_once_by_its_id(scratch: Shop) -> None:
    letter = bury(scratch, "first")
    before = fingerprint(scratch.db)

    assert scratch.value(BURY, letter, AT, "orders", "first", False, "OM092", "again") is False
    assert fingerprint(scratch.db) == before


def test_another_item_under_the_id_of_a_letter_is_om011_and_not_taken_for_it(scratch: Shop) -> None:
    letter = bury(scratch, "first")
    before = fingerprint(scratch.db)

    with pytest.raises(psycopg.Error) as caught, scratch.db.transaction():
        scratch.value(BURY, letter, AT, "orders", "second", False, "OM092", "again")

    assert caught.value.sqlstate == "OM011"
    assert fingerprint(scratch.db) == before


def test_two_that_bury_an_item_at_once_make_one_letter(shop: Shop, connect_as: Connect) -> None:
    first, second = connect_as("ordermill_worker"), connect_as("ordermill_worker")
    asked = [uuid.uuid4(), AT, "orders", "item", False, "OM092", "unread"]
    first.execute("BEGIN")
    assert first.execute(BURY, asked).fetchone() == (True,)
    late = Step(second, BURY, asked).waits(shop.db)
    first.execute("COMMIT")

    assert late.result() == [(False,)]
    assert shop.count("dead_letters") == 1


ITEMS = {
    "empty": "",
    "a megabyte": json.dumps(MESSAGE | {"body": "x" * 1_000_000}),
    "not JSON": '{"headers": ',
    "nested deeply": "[" * 200_000,
    "a NUL as JSON writes it": r'{"headers": {"task": "a\u0000b"}}',
    "half a surrogate pair": r'{"headers": {"task": "\ud800"}}',
    "quotes and backslashes": "'\"\\ \u2028 \x1b[31m",
}


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)
def test_any_text_is_kept_as_it_is(scratch: Shop, item: str) -> None:
    assert letter_of(scratch, bury(scratch, item))["payload"] == {"queue": "orders", "item": item}


@pytest.mark.parametrize(
    ("headers", "task", "key"),
    [
        (None, None, None),
        ([], None, None),
        ("text", None, None),
        ({}, None, None),
        ({"task": None, "id": None}, None, None),
        ({"task": 5, "id": 5}, "5", None),
        ({"task": "t" * 999, "id": "i" * 201}, "t" * 200, None),
        ({"task": ["a"], "id": "a\u0000b"}, '["a"]', None),
    ],
)
def test_headers_of_any_form_do_not_matter(scratch: Shop, headers: Any, task: str | None, key: str | None) -> None:
    found = letter_of(scratch, bury(scratch, json.dumps({"headers": headers})))

    assert (found["task"], found["key"], found["kind"]) == (task, key, "unread")


def test_an_item_in_base64_is_kept_apart_from_text(scratch: Shop) -> None:
    found = letter_of(scratch, bury(scratch, "gASVAA==", base64=True))

    assert found["payload"] == {"queue": "orders", "base64": "gASVAA=="}
    assert (found["task"], found["key"]) == (None, None)


@pytest.mark.parametrize(("queue", "item"), [(None, "x"), ("orders", None)])
def test_an_item_without_its_queue_or_its_text_is_om011(scratch: Shop, queue: str | None, item: str | None) -> None:
    before = fingerprint(scratch.db)

    with pytest.raises(psycopg.Error) as caught, scratch.db.transaction():
        scratch.value(BURY, uuid.uuid4(), AT, queue, item, False, "OM092", "unread")

    assert caught.value.sqlstate == "OM011"
    assert fingerprint(scratch.db) == before


# What the view says of each


def test_a_failed_tasks_letter_has_its_task_its_queue_and_its_attempts(scratch: Shop) -> None:
    letter = scratch.value("SELECT api.bury_message('inventory.adjust', 't-1', '{}', 'a bug', 3)")
    found = letter_of(scratch, letter)

    assert (found["kind"], found["task"], found["queue"]) == ("message", "inventory.adjust", "inventory")
    assert (found["key"], found["code"], found["attempts"]) == ("t-1", "OM091", 3)


def test_a_dead_orders_letter_tells_by_which_door_it_came(stocked: Shop) -> None:
    by_celery = letter_of(stocked, dead(stocked, order("c", ("A", 1))))
    stocked.submit(order("s", ("A", 1)))
    claim = stocked.claim()
    assert claim is not None
    stocked.value("SELECT api.return_claim(%s, 1, 'OM090', 'a bug')", claim["claim_id"])
    [by_sql] = stocked.maps("SELECT * FROM api.dead_letters WHERE key = 's'")

    assert [by_celery[name] for name in ("kind", "source", "task", "queue")] == [
        "order", "celery", "orders.place", "orders"]  # fmt: skip
    assert [by_sql[name] for name in ("kind", "source", "task", "queue")] == ["order", "sql", None, None]


# Settling


def test_a_letter_is_settled_once(scratch: Shop) -> None:
    letter = bury(scratch, "x")

    assert scratch.value("SELECT api.settle_letter(%s, 'discarded')", letter) is True
    before = letter_of(scratch, letter)
    assert scratch.value("SELECT api.settle_letter(%s, 'replayed')", letter) is False
    assert letter_of(scratch, letter) == before
    assert before["settlement"] == "discarded"


def test_a_letter_that_is_not_there_cannot_be_settled(scratch: Shop) -> None:
    assert scratch.value("SELECT api.settle_letter(%s, 'discarded')", uuid.uuid4()) is False


def test_who_settles_at_the_same_time_waits_and_finds_it_done(shop: Shop, connect_as: Connect) -> None:
    letter = bury(shop, "x")
    first, second = connect_as("ordermill_worker"), connect_as("ordermill_worker")
    first.execute("BEGIN")
    assert first.execute("SELECT api.settle_letter(%s, 'replayed')", [letter]).fetchone() == (True,)
    late = Step(second, "SELECT api.settle_letter(%s, 'replayed')", [letter]).waits(shop.db)
    first.execute("COMMIT")

    assert late.result() == [(False,)]


# Orders decided anew


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


# Pruning


def settle(shop: Shop, letter: uuid.UUID, days: int) -> None:
    shop.value("SELECT api.settle_letter(%s, 'discarded')", letter)
    shop.db.execute(
        "UPDATE shop.dead_letters SET settled_at = now() - make_interval(days => %s) WHERE id = %s", [days, letter]
    )


def test_prune_deletes_letters_settled_long_ago_and_no_open_one(scratch: Shop) -> None:
    old, young, opened = (bury(scratch, name) for name in ("old", "young", "open"))
    settle(scratch, old, 91)
    settle(scratch, young, 89)
    scratch.db.execute("UPDATE shop.dead_letters SET created_at = now() - interval '9 years'")

    assert [scratch.value("SELECT api.prune()") for _ in range(2)] == [1, 0]
    assert set(scratch.rows("SELECT id FROM shop.dead_letters")) == {young, opened}


def test_prune_keeps_the_letter_of_a_dead_key_until_the_key_goes_too(stocked: Shop) -> None:
    settle(stocked, dead(stocked, order("x", ("A", 1))), 400)

    assert stocked.value("SELECT api.prune()") == 0
    assert stocked.verify() == []
    stocked.db.execute(
        "UPDATE shop.request_keys SET received_at = now() - interval '91 days', decided_at = now() - interval '91 days'"
    )
    assert [stocked.value("SELECT api.prune()") for _ in range(2)] == [2, 0]
    assert stocked.count("dead_letters") == 0


def test_prune_deletes_letters_in_bounded_batches(scratch: Shop) -> None:
    for _ in range(5):
        settle(scratch, bury(scratch, "x"), 100)

    assert [scratch.value("SELECT api.prune('90 days', 2)") for _ in range(4)] == [2, 2, 1, 0]


def test_prune_forgets_attempts_of_a_week_ago(scratch: Shop) -> None:
    for message, days in (("old", 8), ("young", 6)):
        scratch.value(COUNT, message)
        scratch.db.execute(
            "UPDATE shop.message_attempts SET last_at = now() - make_interval(days => %s) WHERE message = %s",
            [days, message],
        )

    assert [scratch.value("SELECT api.prune()") for _ in range(2)] == [1, 0]
    assert scratch.rows("SELECT message FROM shop.message_attempts") == ["young"]


# Migrating


def test_letters_from_before_the_migration_are_open_and_keep_their_kind(empty_database_url: str) -> None:
    key = new_key()
    for revision in step_by_step(empty_database_url):
        if revision == "0002":
            with connect(empty_database_url) as before:
                before.execute(
                    """INSERT INTO shop.dead_letters (id, source, key, payload, code, reason, attempts) VALUES
                       (gen_random_uuid(), 'celery', 'm', '{"task": "inventory.adjust", "message": {}}',
                           'OM091', 'x', 1),
                       (gen_random_uuid(), 'sql', %s, '{"skus": ["A"], "quantities": [1]}', 'OM090', 'x', 3)""",
                    [key],
                )
    migrate(empty_database_url)

    with connect(empty_database_url) as after:
        found = after.execute("SELECT kind, task, settled_at FROM api.dead_letters ORDER BY kind").fetchall()
        valid = after.execute(
            "SELECT bool_and(convalidated) FROM pg_constraint WHERE conrelid = 'shop.dead_letters'::regclass"
        ).fetchone()
    assert found == [("message", "inventory.adjust", None), ("order", None, None)]
    assert valid == (True,)
