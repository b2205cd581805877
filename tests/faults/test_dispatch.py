"""The dispatcher as a task of a real worker: it hands over, is killed, stands still, meets a twin and a bad event."""

import os
import signal
import time

import pytest

from tests.noted import GATE, add_noted, happen, noted
from tests.workers_fixtures import Mill, kill
from workers.child import Child, wait_until
from workers.database import connect
from workers.dispatch import LOCK


@pytest.fixture
def feeding(mill: Mill) -> Mill:
    """The module's mill with a consumer that notes, and one process that dispatches."""
    if not mill.children:
        add_noted(mill.shop)
    if not any(child.alive() for child in mill.children):
        mill.general_worker()
    mill.send("events.dispatch", queue="events")
    return mill


HOLDERS = """SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
LETTERS = "SELECT (payload #>> '{event,position}')::bigint FROM api.dead_letters WHERE code = 'OM095'"
INSIDE = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"


def worker(mill: Mill) -> Child:
    """The newest that lives."""
    return [child for child in mill.children if child.alive()][-1]


def last(mill: Mill) -> int:
    return int(mill.shop.value("SELECT position FROM shop.event_head"))


def all_noted(mill: Mill) -> bool:
    """Whether the inbox is empty and each event was noted once and in order."""
    return wait_until(lambda: empty(mill) and noted(mill.shop) == sound(mill), 30, 0.05)


def sound(mill: Mill) -> list[int]:
    """The positions of all events but of those that no consumer can take."""
    bad = mill.shop.rows("SELECT position FROM api.events WHERE kind = 'test.bad'")
    return [position for position in range(1, last(mill) + 1) if position not in bad]


def empty(mill: Mill) -> bool:
    """Whether the inbox is; where nobody dispatches one is started, as by beat."""
    begin_where_nobody_dispatches(mill)
    return mill.shop.count("events_inbox") == 0


def begin_where_nobody_dispatches(mill: Mill) -> bool:
    """Whether that was so."""
    nobody = mill.shop.value(HOLDERS, LOCK[0]) == 0 and mill.waiting("events") == 0
    if nobody:
        mill.send("events.dispatch", queue="events")
    return nobody


def test_events_reach_their_consumer_over_many_turns(feeding: Mill) -> None:
    turns = worker(feeding).log.read_text().count("events.dispatch[")
    for _ in range(3):
        happen(feeding.shop, "test.a", "test.b")
        assert all_noted(feeding)
    assert wait_until(lambda: worker(feeding).log.read_text().count("Task events.dispatch") >= turns + 3, 30, 0.1), (
        "it does not hand over"
    )


def test_a_dispatcher_killed_in_the_middle_of_a_batch_skips_and_doubles_nothing(feeding: Mill) -> None:
    with connect(feeding.database_url) as gate:
        gate.execute("SELECT pg_advisory_lock(%s)", [GATE])
        happen(feeding.shop, "test.a", "test.slow", "test.c")
        assert wait_until(lambda: feeding.shop.value(INSIDE) == 1, 30, 0.005)
        kill(worker(feeding))
        happen(feeding.shop, "test.d")
    feeding.broker.flushdb()  # its successor is lost with it

    feeding.general_worker()
    feeding.send("events.dispatch", queue="events")

    assert all_noted(feeding)


def test_where_a_dispatcher_stands_still_another_goes_on_beside_it(feeding: Mill) -> None:
    happen(feeding.shop, "test.a")
    assert all_noted(feeding)
    stopped = worker(feeding)
    assert stopped.process is not None
    group = stopped.process.pid

    def stands_still_with_the_lock() -> bool:
        os.killpg(group, signal.SIGSTOP)
        if feeding.shop.value(HOLDERS, LOCK[0]) > 0:
            return True
        os.killpg(group, signal.SIGCONT)  # it was between two turns
        return False

    assert wait_until(stands_still_with_the_lock, 30, 0.05)
    try:
        feeding.shop.db.execute(
            "INSERT INTO shop.events_inbox (id, stream, kind, payload, created_at)"
            " VALUES (shop.uuid7(), 'test:1', 'test.old', '{}', now() - interval '1 min')"
        )
        feeding.general_worker()
        feeding.send("events.dispatch", queue="events")
        assert all_noted(feeding)
    finally:
        os.killpg(group, signal.SIGCONT)
    happen(feeding.shop, "test.b")
    assert all_noted(feeding)
    kill(stopped)


def test_two_dispatchers_beside_each_other_give_each_event_once_and_in_order(feeding: Mill) -> None:
    hasty = feeding.general_worker("-c", "2", ORDERMILL_DISPATCH_SECONDS="0.05")
    for _ in range(20):
        feeding.send("events.dispatch", 0.2, queue="events")
    for _ in range(50):
        happen(feeding.shop, "test.a", "test.b", "test.c")
    feeding.send("events.dispatch", queue="events")
    assert all_noted(feeding)
    kill(hasty)  # its successors' messages are soon too old
    feeding.broker.delete("events")  # short runs that are left have no successor, and would end other tests' chains


def test_a_bad_event_among_many_is_a_dead_letter_and_the_rest_arrive(feeding: Mill) -> None:
    before = noted(feeding.shop)
    with feeding.db.transaction():
        happen(feeding.shop, *["test.a"] * 20, "test.bad", *["test.b"] * 20)

    assert wait_until(lambda: empty(feeding) and feeding.shop.rows(LETTERS) != [], 30, 0.05)
    [bad] = feeding.shop.rows(LETTERS)
    wanted = [*before, *(each for each in range(len(before) + 1, last(feeding) + 1) if each != bad)]
    assert wait_until(lambda: noted(feeding.shop) == wanted, 30, 0.05)
    assert feeding.shop.value("SELECT kind FROM api.events WHERE position = %s", bad) == "test.bad"


def test_a_consumer_that_waits_for_a_lock_does_not_keep_the_others_waiting(feeding: Mill) -> None:
    alerts = "SELECT position FROM api.event_consumers WHERE consumer = 'alerts'"
    with connect(feeding.database_url) as gate:
        gate.execute("SELECT pg_advisory_lock(%s)", [GATE])
        started = time.monotonic()
        for _ in range(20):
            happen(feeding.shop, "test.a")
            assert wait_until(lambda: empty(feeding) and feeding.shop.value(alerts) == last(feeding), 30, 0.005)
        took = time.monotonic() - started
    assert took < 20, "each event waited for a whole lock_timeout"
    assert all_given(feeding)


def test_while_a_consumer_waits_for_its_routine_dispatchers_do_not_multiply(feeding: Mill) -> None:
    second = feeding.general_worker()
    feeding.shop.db.execute("ALTER FUNCTION shop.consume_noted(shop.events[]) RENAME TO consume_nobody")
    feeding.shop.db.execute(
        "INSERT INTO shop.events_inbox (id, stream, kind, payload, created_at)"
        " VALUES (shop.uuid7(), 'test:1', 'test.old', '{}', now() - interval '1 min')"
    )
    for _ in range(5):
        feeding.send("events.dispatch", queue="events")

    def runs(words: str) -> int:
        return sum(child.log.read_text().count(words) for child in feeding.children)

    assert wait_until(lambda: runs("'beside': True") >= 1, 30, 0.05), "none ran beside the first"
    assert wait_until(lambda: feeding.waiting("events") == 0, 30, 0.05)
    turns, before, begun = runs("'beside': False"), runs("events.dispatch["), 0

    def goes_on() -> bool:
        nonlocal begun  # a chain that a run without a successor ended is begun again, as by beat
        begun += begin_where_nobody_dispatches(feeding)
        return runs("'beside': False") >= turns + 3

    assert wait_until(goes_on, 30, 0.05)
    assert runs("events.dispatch[") - before <= 16 + 2 * begun  # a run has two lines
    feeding.shop.db.execute("ALTER FUNCTION shop.consume_nobody(shop.events[]) RENAME TO consume_noted")
    assert all_given(feeding)
    kill(second)


def all_given(mill: Mill) -> bool:
    behind = "SELECT behind FROM api.event_consumers WHERE consumer = 'noted'"
    return wait_until(lambda: empty(mill) and mill.shop.value(behind) == 0, 30, 0.05)
