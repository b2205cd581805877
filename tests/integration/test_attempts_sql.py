"""The routines that count how often a message was tried whose worker died."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.shop import Shop
from tests.waiting import Step

Connect = Callable[[str], psycopg.Connection[Any]]
COUNT, FORGET = "SELECT api.count_attempt(%s)", "SELECT api.forget_attempt(%s, %s)"


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
