"""Jobs that fail: the slot is run again, a lock does not fail one, and no error hides another."""

import logging
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.shop import Shop, order
from tests.workers_fixtures import lock_levels
from workers import jobs
from workers.errors import TransientError
from workers.jobs import BATCH_ATTEMPTS, job_session, repeat, run_job
from workers.settings import get_settings

Connect = Callable[[str], psycopg.Connection[Any]]
WEEK = 604_800.0  # no slot ends while a test runs


@pytest.fixture
def impatient(runtime: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERMILL_LOCK_TIMEOUT_MS", "50")
    get_settings.cache_clear()


def fail(_connection: object) -> dict[str, Any]:
    raise ValueError("the first error")


@pytest.mark.usefixtures("runtime")
def test_a_failed_run_is_done_again_at_the_next_tick_of_its_slot_and_then_no_more(shop: Shop) -> None:
    with pytest.raises(ValueError, match="the first error"):
        run_job("a job", WEEK, 60, fail)

    again = run_job("a job", WEEK, 60, lambda _: {"done": 1})

    assert again["done"] == 1
    assert run_job("a job", WEEK, 60, fail) == {"skipped": "the slot is taken"}
    assert shop.maps("SELECT state, attempt FROM shop.job_runs") == [{"state": "succeeded", "attempt": 2}]


@pytest.mark.usefixtures("runtime")
def test_a_run_whose_claim_was_never_heard_of_is_done_when_its_lease_is_over(shop: Shop) -> None:
    shop.rows("SELECT slot FROM api.claim_job('a job', make_interval(secs => %s), '60 s')", WEEK)  # the reply was lost
    assert run_job("a job", WEEK, 60, fail) == {"skipped": "the slot is taken"}
    shop.db.execute("UPDATE shop.job_runs SET leased_until = clock_timestamp()")

    assert run_job("a job", WEEK, 60, lambda _: {"done": 1})["done"] == 1


@pytest.mark.usefixtures("runtime")
def test_a_failure_that_cannot_be_recorded_does_not_hide_the_first_error(shop: Shop) -> None:
    finish = "FUNCTION api.finish_job(text, timestamptz, integer, text, jsonb)"
    shop.db.execute(f"REVOKE EXECUTE ON {finish} FROM ordermill_worker")

    with pytest.raises(ValueError, match="the first error"):
        run_job("a job", WEEK, 60, fail)

    assert shop.rows("SELECT state FROM shop.job_runs") == ["running"]


@pytest.mark.usefixtures("runtime")
def test_an_error_that_no_json_can_hold_is_recorded(shop: Shop) -> None:
    def spoiled(_connection: object) -> dict[str, Any]:
        raise ValueError("a\0b")

    with pytest.raises(ValueError, match="a\0b"):
        run_job("a job", WEEK, 60, spoiled)

    assert shop.rows("SELECT result ->> 'error' FROM shop.job_runs") == ["a\ufdd0b"]


@pytest.fixture
def expired_hold(shop: Shop) -> Shop:
    shop.stock("A", "E1", 9)
    shop.hold(order(None, ("A", 2)))
    shop.db.execute("UPDATE shop.order_allocations SET expires_at = now() WHERE state = 'held'")
    return shop


def expire(tries: list[str], at_try: Callable[[int], None]) -> int:
    """Expires holds, and calls `at_try` after each try that ran into a lock."""

    class Watched(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tries.append(record.getMessage())
            at_try(len(tries))

    watched = Watched()
    jobs.log.addHandler(watched)
    level = jobs.log.level
    jobs.log.setLevel(logging.INFO)
    try:
        with job_session() as connection:
            return repeat(connection, "api.expire_holds", 100)
    finally:
        jobs.log.removeHandler(watched)
        jobs.log.setLevel(level)


@pytest.mark.usefixtures("impatient")
def test_a_batch_that_runs_into_a_lock_is_tried_again(expired_hold: Shop, connect_as: Connect) -> None:
    blocker, tries = connect_as("owner"), list[str]()
    blocker.execute("BEGIN")
    lock_levels(blocker, "A")

    assert expire(tries, lambda tried: blocker.execute("COMMIT") if tried == 2 else None) == 1

    assert len(tries) == 2
    assert expired_hold.level("A", "E1") == {"available": 9}


@pytest.mark.usefixtures("impatient")
def test_a_lock_that_is_held_for_good_fails_the_job_after_some_tries(expired_hold: Shop, connect_as: Connect) -> None:
    blocker, tries = connect_as("owner"), list[str]()
    blocker.execute("BEGIN")
    lock_levels(blocker, "A")

    with pytest.raises(TransientError):
        expire(tries, lambda _: None)

    assert len(tries) == BATCH_ATTEMPTS - 1
    blocker.execute("ROLLBACK")
    assert expired_hold.level("A", "E1") == {"available": 7, "held": 2}
