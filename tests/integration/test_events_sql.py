"""Events in SQL: positions in the order of commits, nothing passed by, and a consumer's effect and cursor are one."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.noted import GATE, add_noted, happen, noted
from tests.shop import Shop, order
from workers.database import connect

Connect = Callable[[str], psycopg.Connection[Any]]


@pytest.fixture
def shop(scratch: Shop) -> Shop:
    """A shop with a consumer of its own and nothing in the inbox."""
    add_noted(scratch)
    return scratch


def sequence(shop: Shop, limit: int = 1000) -> int:
    return int(shop.value("SELECT api.sequence_events(%s)", limit))


def dispatch(shop: Shop, limit: int = 500) -> int:
    return int(shop.value("SELECT api.dispatch_events('noted', %s)", limit))


def cursor(shop: Shop) -> int:
    return int(shop.value("SELECT position FROM shop.event_consumers WHERE consumer = 'noted'"))


def test_events_get_positions_without_a_gap_and_leave_the_inbox(shop: Shop) -> None:
    happen(shop, *"abcdefg")

    assert [sequence(shop, 5), sequence(shop, 5), sequence(shop, 5)] == [5, 2, 0]

    assert shop.rows("SELECT kind FROM api.events ORDER BY position") == list("abcdefg")
    assert shop.rows("SELECT position FROM api.events ORDER BY position") == list(range(1, 8))
    assert shop.count("events_inbox") == 0
    assert shop.value("SELECT behind FROM api.event_consumers WHERE consumer = 'noted'") == 7


def test_a_consumer_has_each_event_once_and_in_order(shop: Shop) -> None:
    happen(shop, *"abcdefg")
    sequence(shop)

    assert [dispatch(shop, 4), dispatch(shop, 4), dispatch(shop, 4)] == [4, 3, 0]

    assert noted(shop) == list(range(1, 8))
    assert cursor(shop) == 7


def test_a_gap_in_what_writers_counted_stops_nobody(shop: Shop) -> None:
    happen(shop, "a")
    with shop.db.transaction(force_rollback=True):
        happen(shop, "never")
    happen(shop, "b")

    assert (sequence(shop), dispatch(shop)) == (2, 2)
    assert noted(shop) == [1, 2]


def test_two_events_of_one_millisecond_keep_their_order(shop: Shop) -> None:
    shop.stock("A", "E1", 10)
    held = [shop.hold(order(None, ("A", 1)))[0]["order_id"] for _ in range(5)]
    for order_id in held:
        shop.confirm(order_id)
        shop.cancel(order_id)
    shop.db.execute("UPDATE shop.events_inbox SET id = shop.uuid7(), created_at = now()")  # ids of no order at all

    sequence(shop)

    for order_id in held:
        assert shop.rows("SELECT kind FROM api.events WHERE stream = %s ORDER BY position", f"order:{order_id}") == [
            "order.held",
            "order.placed",
            "order.cancelled",
        ]


def test_what_a_consumer_cannot_take_is_a_dead_letter_and_the_next_goes_on(shop: Shop) -> None:
    happen(shop, "test.good", "test.bad", "test.good")
    sequence(shop)
    with pytest.raises(psycopg.DataError), shop.db.transaction():
        dispatch(shop)
    assert (dispatch(shop, 1), noted(shop)) == (1, [1])

    letter = shop.value("SELECT api.bury_event('noted', 1, 'OM095', 'it is bad')")

    assert dispatch(shop) == 1
    assert noted(shop) == [1, 3]
    [kept] = shop.maps("SELECT id, kind, source, code, payload FROM api.dead_letters")
    assert (kept["id"], kept["kind"], kept["source"], kept["code"]) == (letter, "event", "events", "OM095")
    assert (kept["payload"]["consumer"], kept["payload"]["event"]["position"]) == ("noted", 2)


def test_a_buried_event_is_given_to_its_consumer_again_once(shop: Shop) -> None:
    happen(shop, "test.bad")
    sequence(shop)
    letter = shop.value("SELECT api.bury_event('noted', 0, 'OM095', 'it is bad')")
    with pytest.raises(psycopg.DataError), shop.db.transaction():
        shop.value("SELECT api.replay_event(%s)", letter)
    shop.db.execute("UPDATE shop.dead_letters SET payload = jsonb_set(payload, '{event,kind}', '\"test.mended\"')")

    assert [shop.value("SELECT api.replay_event(%s)", letter) for _ in range(2)] == [True, False]

    assert shop.maps("SELECT position, kind FROM shop.noted") == [{"position": 1, "kind": "test.mended"}]
    assert shop.value("SELECT settlement FROM shop.dead_letters") == "replayed"


def test_only_the_event_that_was_tried_is_buried(shop: Shop) -> None:
    happen(shop, "test.bad", "test.good")
    sequence(shop)
    bury = "SELECT api.bury_event('noted', 0, 'OM095', 'it is bad')"

    assert shop.value(bury) is not None
    assert shop.value(bury) is None  # as by a twin that failed on the same one

    assert (dispatch(shop), noted(shop)) == (1, [2])
    assert shop.count("dead_letters") == 1


def test_there_is_no_event_to_bury_where_none_waits(shop: Shop) -> None:
    assert shop.value("SELECT api.bury_event('noted', 0, 'OM095', 'none')") is None
    assert cursor(shop) == 0


def test_a_consumer_starts_again_from_a_position(shop: Shop) -> None:
    happen(shop, *"abcde")
    sequence(shop)
    dispatch(shop)

    assert shop.value("SELECT api.rewind_consumer('noted', 4)") == 2

    assert dispatch(shop) == 2
    assert noted(shop) == [1, 2, 3, 4, 5, 4, 5]


@pytest.mark.parametrize(("consumer", "start", "state"), [
    ("noted", 0, "OM011"), ("noted", 7, "OM011"), ("noted", None, "OM011"), ("nobody", 1, "OM023"),
])  # fmt: skip
def test_a_rewind_that_means_nothing_is_refused(shop: Shop, consumer: str, start: int | None, state: str) -> None:
    happen(shop, *"abcde")
    sequence(shop)
    with pytest.raises(psycopg.Error) as caught, shop.db.transaction():
        shop.value("SELECT api.rewind_consumer(%s, %s)", consumer, start)
    assert caught.value.sqlstate == state
    assert cursor(shop) == 0


def test_a_consumer_outside_moves_its_cursor_only_from_where_it_read(shop: Shop) -> None:
    shop.db.execute("UPDATE shop.event_consumers SET outside = true WHERE consumer = 'noted'")
    happen(shop, *"abc")
    sequence(shop)
    assert dispatch(shop) == 0

    first = shop.maps("SELECT * FROM api.read_events('noted', 2)")
    assert [(row["after"], row["position"], row["kind"]) for row in first] == [(0, 1, "a"), (0, 2, "b")]
    advance = "SELECT api.advance_consumer('noted', %s, %s)"
    assert [shop.value(advance, 0, 2), shop.value(advance, 0, 2), shop.value(advance, 2, 2)] == [True, False, False]
    assert [row["position"] for row in shop.maps("SELECT * FROM api.read_events('noted', 9)")] == [3]


@pytest.mark.breaks_the_shop
@pytest.mark.parametrize(("damage", "found"), [
    ("DELETE FROM shop.events WHERE position = 2", "positions_have_no_gap"),
    ("UPDATE shop.event_head SET position = 2", "the_head_is_the_last_position"),
    ("UPDATE shop.event_consumers SET position = 9 WHERE consumer = 'noted'", "no_consumer_is_ahead_of_events"),
])  # fmt: skip
def test_verify_names_events_that_would_be_skipped(shop: Shop, damage: str, found: str) -> None:
    happen(shop, *"abc")
    sequence(shop)
    shop.db.execute(damage.encode())
    assert shop.verify()[0][0] == found


@pytest.mark.usefixtures("database_url")
class TestSessions:
    """What takes several sessions."""

    @pytest.fixture
    def shop(self, db: psycopg.Connection[Any]) -> Shop:
        made = Shop(db)
        add_noted(made)
        return made

    def test_a_late_commit_is_passed_by_nobody(self, shop: Shop, connect_as: Connect) -> None:
        late = Shop(connect_as("owner"))
        with late.db.transaction():
            happen(late, "late")
            happen(shop, "early")
            assert (sequence(shop), dispatch(shop), noted(shop)) == (1, 1, [1])

        assert (sequence(shop), dispatch(shop)) == (1, 1)
        assert shop.rows("SELECT kind FROM shop.noted ORDER BY number") == ["early", "late"]

    def test_a_second_sequencer_and_a_second_dispatcher_find_nothing_to_do(
        self, shop: Shop, connect_as: Connect
    ) -> None:
        twin = Shop(connect_as("owner"))
        happen(shop, *"abcdef")
        with shop.db.transaction():
            assert (sequence(shop, 3), sequence(twin)) == (3, 0)
        assert sequence(twin) == 3
        with shop.db.transaction():
            assert (dispatch(shop, 2), dispatch(twin)) == (2, 0)
        assert dispatch(twin) == 4
        assert noted(shop) == [1, 2, 3, 4, 5, 6]

    def test_a_dispatcher_that_is_lost_midway_leaves_neither_effect_nor_cursor(
        self, shop: Shop, database_url: str
    ) -> None:
        happen(shop, *"abc")
        sequence(shop)
        lost = connect(database_url)
        lost.execute("BEGIN")
        lost.execute("SELECT api.dispatch_events('noted')")

        shop.db.execute("RESET ROLE")
        shop.db.execute("SELECT pg_terminate_backend(%s, 5000)", [lost.info.backend_pid])
        lost.close()

        assert (cursor(shop), noted(shop)) == (0, [])
        assert dispatch(shop) == 3
        assert noted(shop) == [1, 2, 3]
        assert shop.value("SELECT pg_try_advisory_lock(%s)", GATE)
