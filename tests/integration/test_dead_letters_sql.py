"""The routines behind dead letters: items buried, letters settled and pruned."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.integration.test_sql_migrations import step_by_step
from tests.letters import AT, BURY, MESSAGE, bury, dead, letter_of
from tests.shop import Shop, fingerprint, new_key, order
from tests.waiting import Step
from workers.database import connect
from workers.migrate import migrate

Connect = Callable[[str], psycopg.Connection[Any]]


@pytest.fixture
def stocked(scratch: Shop) -> Shop:
    scratch.stock("A", "E1", 10)
    return scratch


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
        scratch.value("SELECT api.count_attempt(%s)", message)
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
