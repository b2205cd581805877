"""Attempts at webhook deliveries in PostgreSQL: how long they wait, how they end, how an endpoint fares."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.deliveries import be_due, claim, due_in, health, record, result
from tests.hooks import add, dispatch, waiting
from tests.noted import happen
from tests.shop import Shop

Row = dict[str, Any]
Connect = Callable[[str], psycopg.Connection[Any]]
URL = "https://hooks.example/x"


# Attempts


def test_each_attempt_waits_four_times_as_long_and_no_longer_than_the_most(scratch: Shop) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a", "test.b")
    dispatch(scratch)
    for least, most in ((48, 72), (192, 288), (768, 1000), (800, 1000)):
        record(scratch, result(claim(scratch), 500), attempts=9, most=1000)
        assert least - 1 <= due_in(scratch) <= most
        assert waiting(scratch) == 2
        be_due(scratch)
    seen = scratch.maps("SELECT state, attempts, status, error FROM api.webhook_deliveries WHERE position = 1")
    assert seen == [{"state": "waiting", "attempts": 4, "status": 500, "error": "it answered 500"}]


@pytest.mark.parametrize(("asked", "least", "most"), [(500.0, 499, 500), (10**9, 3599, 3600), (0.0, 48, 72)])
def test_retry_after_is_honoured_up_to_the_most(scratch: Shop, asked: float, least: int, most: int) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a")
    dispatch(scratch)
    record(scratch, result(claim(scratch), 429, retry_after=asked))

    assert least - 1 <= due_in(scratch) <= most
    assert health(scratch)["rests_until"] is not None  # it asked all to wait, not one order
    scratch.db.execute("UPDATE shop.delivery_streams SET due_at = now()")
    assert (claim(scratch) == []) == (asked > 0)


def test_after_its_last_attempt_a_delivery_is_a_dead_letter_and_its_stream_goes_on(scratch: Shop) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a", "test.b")
    dispatch(scratch)
    for _ in range(3):
        record(scratch, result(claim(scratch), 500))
        be_due(scratch)

    assert [row["kind"] for row in claim(scratch)] == ["test.b"]
    [letter] = scratch.maps("SELECT * FROM api.dead_letters")
    assert (letter["kind"], letter["source"], letter["code"], letter["attempts"]) == (
        "delivery",
        "webhooks",
        "OM043",
        3,
    )
    assert letter["reason"] == "a: it answered 500"
    assert (letter["payload"]["endpoint"], letter["payload"]["kind"], letter["payload"]["status"]) == (
        "a",
        "test.a",
        500,
    )
    assert scratch.rows("SELECT state FROM api.webhook_deliveries ORDER BY position") == ["dead", "waiting"]


def test_a_dead_delivery_is_replayed_once_and_not_when_its_endpoint_is_gone(scratch: Shop) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a", "test.b")
    dispatch(scratch)
    record(scratch, result(claim(scratch, events=1), 500), attempts=1)
    record(scratch, result(claim(scratch, events=1), 500), attempts=1)
    first, second = scratch.rows("SELECT id FROM api.dead_letters ORDER BY id")

    assert [scratch.value("SELECT api.replay_delivery(%s)", first) for _ in range(2)] == [True, False]
    be_due(scratch)
    [row] = claim(scratch)
    assert (row["kind"], row["position"]) == ("test.a", 1)
    record(scratch, result([row]))
    # Also one whose row was pruned.
    scratch.db.execute("DELETE FROM shop.webhook_deliveries")
    assert scratch.value("SELECT api.replay_delivery(%s)", second)
    assert [row["kind"] for row in claim(scratch)] == ["test.b"]
    assert scratch.value("SELECT api.remove_webhook('a')") == 1
    scratch.db.execute("UPDATE shop.dead_letters SET settled_at = NULL, settlement = NULL")
    assert not scratch.value("SELECT api.replay_delivery(%s)", first)


@pytest.mark.breaks_the_shop
def test_an_event_that_was_archived_is_a_dead_letter_at_once(scratch: Shop) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a", "test.b")
    dispatch(scratch)
    scratch.db.execute("DELETE FROM shop.events WHERE position = 1")
    rows = claim(scratch)
    assert rows[0]["kind"] is None
    record(scratch, result(rows[:1], None, gone=True, error="its event was archived"))

    assert scratch.rows("SELECT code FROM api.dead_letters") == ["OM044"]
    assert [row["kind"] for row in claim(scratch)] == ["test.b"]
    assert health(scratch)["failures"] == 0


# Health


def test_an_endpoint_that_fails_is_asked_with_one_stream_then_rests_and_recovers_at_once(scratch: Shop) -> None:
    add(scratch, "a", URL)
    for number in range(8):
        happen(scratch, "test.a", stream=f"test:{number}")
    dispatch(scratch)
    record(scratch, result(claim(scratch, streams=2), None))
    for failures in (3, 4, 5):
        [row] = claim(scratch)
        record(scratch, result([row], 503))
        assert health(scratch)["failures"] == failures
    assert health(scratch)["rests_until"] - health(scratch)["last_at"] == timedelta(seconds=1)
    scratch.db.execute("UPDATE shop.webhook_endpoints SET rests_until = rests_until + interval '1 hour'")
    assert claim(scratch) == []

    be_due(scratch)
    record(scratch, result(claim(scratch)))

    assert (health(scratch)["failures"], health(scratch)["failing_since"], health(scratch)["last_status"]) == (
        0,
        None,
        200,
    )
    assert len(claim(scratch)) == 7


def test_an_endpoint_that_is_gone_or_has_failed_for_days_is_stopped_until_somebody_resumes_it(scratch: Shop) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a")
    dispatch(scratch)
    record(scratch, result(claim(scratch), 410), attempts=9)
    assert health(scratch)["disabled_reason"] == "it answered 410: gone"
    be_due(scratch)
    assert (claim(scratch), waiting(scratch)) == ([], 1)

    assert scratch.value("SELECT api.resume_webhook('a')")
    record(scratch, result(claim(scratch), 500), attempts=9)
    scratch.db.execute("UPDATE shop.webhook_endpoints SET failing_since = now() - interval '121 hours'")
    be_due(scratch)
    record(scratch, result(claim(scratch), 500), attempts=9)
    assert "every delivery has failed since" in health(scratch)["disabled_reason"]


@pytest.mark.parametrize("other", [200, 500])
@pytest.mark.parametrize("first", [True, False])
def test_a_410_stops_an_endpoint_whatever_it_answered_to_another_stream(scratch: Shop, other: int, first: bool) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a", stream="test:1")
    happen(scratch, "test.a", stream="test:2")
    dispatch(scratch)
    one, two = claim(scratch)
    record(scratch, result([one], 410 if first else other) + result([two], other if first else 410))

    assert health(scratch)["disabled_reason"] == "it answered 410: gone"


def test_a_410_of_before_stops_no_endpoint_that_was_resumed(scratch: Shop) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a")
    dispatch(scratch)
    record(scratch, result(claim(scratch), 410))
    scratch.value("SELECT api.resume_webhook('a')")
    be_due(scratch)
    record(scratch, result(claim(scratch), 500))

    assert (health(scratch)["disabled_at"], health(scratch)["failures"]) == (None, 1)


def test_a_paused_endpoint_is_sent_nothing_and_loses_nothing(scratch: Shop) -> None:
    add(scratch, "a", URL)
    assert [scratch.value("SELECT api.pause_webhook('a', 'moving house')") for _ in range(2)] == [True, False]
    happen(scratch, "test.a")
    dispatch(scratch)
    assert (claim(scratch), health(scratch)["waiting"], health(scratch)["oldest"] is not None) == ([], 1, True)
    assert health(scratch)["disabled_reason"] == "moving house"

    scratch.value("SELECT api.resume_webhook('a')")
    assert len(claim(scratch)) == 1
