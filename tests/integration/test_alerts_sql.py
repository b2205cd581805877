"""Low-stock alerts in SQL: what opens, changes and closes one."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.low_stock import age, alerts, escalate, follow, kinds, one, receive, refused, scan, sell, stocked
from tests.shop import Shop
from tests.waiting import Step, at_once

Connect = Callable[[str], psycopg.Connection[Any]]


@pytest.fixture
def shop(scratch: Shop) -> Shop:
    """Ten of A at E1, low from five down."""
    return stocked(scratch)


# What opens and closes one


def test_a_level_that_falls_to_its_threshold_has_one_alert_however_far_it_falls(shop: Shop) -> None:
    sell(shop, 4)
    assert alerts(shop) == []
    sell(shop, 1)
    sell(shop, 1)
    sell(shop, 1)

    assert alerts(shop) == [("A", "low", "open", 0)]
    assert kinds(shop) == ["alert.opened"]


def test_each_location_has_its_own_alert(shop: Shop) -> None:
    shop.stock("A", "E2", 7, threshold=5)
    sell(shop, 10)
    sell(shop, 3)

    assert shop.rows("SELECT location FROM api.alerts ORDER BY 1") == ["E1", "E2"]


def test_the_threshold_of_the_category_counts_where_the_level_has_none(shop: Shop) -> None:
    shop.stock("B", "E1", 10)
    shop.db.execute("UPDATE shop.categories SET low_stock_threshold = 8")
    sell(shop, 2, "B")

    assert alerts(shop) == [("B", "low", "open", 0)]
    assert shop.value("SELECT threshold FROM api.alerts") == 8


def test_an_alert_agrees_with_what_availability_calls_low(shop: Shop) -> None:
    shop.stock("ZERO", "E1", 2)
    for _ in range(2):
        sell(shop, 1, "ZERO")
        low = shop.value("SELECT low FROM api.availability WHERE sku = 'ZERO'")
        assert low == bool(alerts(shop))
    assert alerts(shop) == [("ZERO", "out", "open", 0)]


def test_an_alert_that_was_low_is_told_once_more_when_nothing_is_left_and_no_more(shop: Shop) -> None:
    sell(shop, 5)
    sell(shop, 5)
    receive(shop, 1)
    sell(shop, 1)

    assert alerts(shop) == [("A", "out", "open", 0)]
    assert kinds(shop) == ["alert.opened", "alert.escalated"]


def test_recovery_resolves_an_alert_and_the_next_fall_opens_another(shop: Shop) -> None:
    sell(shop, 5)
    receive(shop, 5)
    assert alerts(shop) == [("A", "low", "resolved", 0)]
    sell(shop, 6)

    assert alerts(shop) == [("A", "low", "resolved", 0), ("A", "low", "open", 0)]
    assert kinds(shop) == ["alert.opened", "alert.resolved", "alert.opened"]


def test_a_cancelled_order_that_fills_the_level_again_resolves_its_alert(shop: Shop) -> None:
    order_id = sell(shop, 5)
    shop.cancel(order_id)
    follow(shop)

    assert alerts(shop) == [("A", "low", "resolved", 0)]


def test_of_several_crossings_in_one_batch_the_last_counts(shop: Shop) -> None:
    sell(shop, 10, follows=False)
    receive(shop, 10, follows=False)
    follow(shop)
    assert alerts(shop) == []
    sell(shop, 10, follows=False)
    receive(shop, 10, follows=False)
    sell(shop, 6, follows=False)
    follow(shop)

    assert alerts(shop) == [("A", "low", "open", 0)]


@pytest.mark.parametrize("handled", ["acknowledge_alert(%s)", "resolve_alert(%s)", "snooze_alert(%s, '8 hours')"])
def test_a_fall_after_a_recovery_in_one_batch_opens_an_alert_whatever_became_of_the_last(
    shop: Shop, handled: str
) -> None:
    sell(shop, 6)
    shop.value(f"SELECT api.{handled}", one(shop))
    receive(shop, 20, follows=False)
    sell(shop, 24, follows=False)
    follow(shop)
    found = [("A", "low", "resolved", 0), ("A", "out", "open", 0)]
    assert alerts(shop) == found
    assert [kind for kind in kinds(shop) if kind in {"alert.opened", "alert.resolved"}] == [
        "alert.opened", "alert.resolved", "alert.opened"
    ]  # fmt: skip

    shop.value("SELECT api.acknowledge_alert(%s)", one(shop))
    shop.value("SELECT api.rewind_consumer('alerts', 1)")
    follow(shop)
    assert alerts(shop) == [found[0], ("A", "out", "acknowledged", 0)]


def test_events_that_are_given_again_change_nothing(shop: Shop) -> None:
    sell(shop, 5)
    receive(shop, 5)
    sell(shop, 5)
    before, told = alerts(shop), kinds(shop)

    shop.value("SELECT api.rewind_consumer('alerts', 1)")
    assert follow(shop) > 0

    assert (alerts(shop), kinds(shop)) == (before, told)


def test_an_old_event_opens_no_alert_for_a_level_that_is_fine_now(shop: Shop) -> None:
    sell(shop, 5, follows=False)
    receive(shop, 50, follows=False)
    shop.value("SELECT api.sequence_events()")
    low = shop.value("SELECT position FROM api.events WHERE kind = 'stock.low'")
    shop.value("SELECT api.rewind_consumer('alerts', %s)", low)
    shop.value("SELECT api.dispatch_events('alerts', 1)")

    assert alerts(shop) == []


def test_an_event_that_is_no_event_of_stock_is_refused_and_can_be_buried(shop: Shop) -> None:
    shop.db.execute(
        "INSERT INTO shop.events_inbox (id, stream, kind, payload)"
        " VALUES (shop.uuid7(), 'stock:x', 'stock.low', '{\"variant_id\": \"many\"}')"
    )
    assert refused(shop, "SELECT api.sequence_events(), api.dispatch_events('alerts')") == "22P02"


def test_the_database_itself_refuses_a_second_alert_before_the_level_recovers(shop: Shop) -> None:
    sell(shop, 5)
    again = (
        "INSERT INTO shop.alerts (variant_id, location_id, level)"
        " SELECT variant_id, location_id, level FROM shop.alerts"
    )

    assert refused(shop, again) == "23505"
    shop.db.execute("DROP INDEX shop.alerts_not_recovered")
    assert shop.db.execute(again.encode()).rowcount == 1


# What a person does


def test_whoever_acknowledges_an_alert_is_kept_and_it_is_not_escalated(shop: Shop) -> None:
    sell(shop, 5)
    told = shop.value("SELECT api.acknowledge_alert(%s, 'Ada')", one(shop))
    age(shop, 1000)

    assert (told["state"], told["handled_by"]) == ("acknowledged", "Ada")
    assert escalate(shop) == 0
    assert kinds(shop) == ["alert.opened", "alert.acknowledged"]


def test_an_acknowledged_alert_that_gets_worse_is_open_again(shop: Shop) -> None:
    sell(shop, 5)
    shop.value("SELECT api.acknowledge_alert(%s)", one(shop))
    sell(shop, 5)

    assert alerts(shop) == [("A", "out", "open", 0)]


def test_a_snoozed_alert_sleeps_and_is_told_again_when_it_wakes(shop: Shop) -> None:
    sell(shop, 5)
    told = shop.value("SELECT api.snooze_alert(%s, '8 hours')", one(shop))
    assert (told["state"], told["snoozed_until"] is not None, escalate(shop)) == ("snoozed", True, 0)
    age(shop, 8 * 60 + 1)

    assert alerts(shop) == [("A", "low", "open", 0)]
    assert (escalate(shop), escalate(shop)) == (1, 0)
    assert kinds(shop) == ["alert.opened", "alert.snoozed", "alert.reopened"]


def test_an_alert_that_a_person_resolved_is_not_opened_again_before_it_recovers(shop: Shop) -> None:
    sell(shop, 5)
    shop.value("SELECT api.resolve_alert(%s)", one(shop))
    sell(shop, 5)
    assert shop.value("SELECT sum(changed) FROM api.scan_low_stock()") == 0
    receive(shop, 10)
    sell(shop, 6)

    assert alerts(shop) == [("A", "low", "resolved", 0), ("A", "low", "open", 0)]
    assert kinds(shop) == ["alert.opened", "alert.resolved", "alert.opened"]


@pytest.mark.parametrize("state", ["acknowledge", "resolve"])
def test_what_is_done_to_an_alert_twice_is_done_once(shop: Shop, state: str) -> None:
    sell(shop, 5)
    for _ in range(2):
        shop.value(f"SELECT api.{state}_alert(%s)", one(shop))

    assert len(kinds(shop)) == 2


def test_what_cannot_be_done_to_an_alert_has_its_code(shop: Shop) -> None:
    sell(shop, 5)
    number = one(shop)
    assert refused(shop, "SELECT api.acknowledge_alert(0)") == "OM030"
    assert refused(shop, "SELECT api.resolve_alert(NULL)") == "OM030"
    assert refused(shop, "SELECT api.acknowledge_alert(%s, E'a\\nb')", number) == "OM013"
    for length in ("0", "-1 day", "366 days", None):
        assert refused(shop, "SELECT api.snooze_alert(%s, %s)", number, length) == "OM011"
    shop.value("SELECT api.resolve_alert(%s)", number)
    assert refused(shop, "SELECT api.acknowledge_alert(%s)", number) == "OM031"
    assert refused(shop, "SELECT api.snooze_alert(%s, '1 h')", number) == "OM031"
    assert refused(shop, "SELECT api.escalate_alerts('2 h', '1 h')") == "OM011"
    assert refused(shop, "SELECT api.prune_alerts('1 h')") == "OM011"
    assert refused(shop, "SELECT api.add_alert_recipient('a@b.example', 0, 'NOWHERE')") == "OM004"
    assert refused(shop, "SELECT api.add_alert_recipient('a@b.example', 0, NULL, 'NONE')") == "OM033"
    for address in ("nobody", "a@b\nBcc: x@y.z", "ä@b.example", "a@b,c@d", "", "a@.", "a@b.", "a@.b", "a..b@c",
                    "a@b..c", ".a@b", "a.@b", "=?utf-8?q?=0Ax?=@x", "a=?b@c", "a@" + "b" * 260):  # fmt: skip
        assert refused(shop, "SELECT api.add_alert_recipient(%s)", address) == "23514"


def test_an_address_as_the_field_writes_them_is_taken(shop: Shop) -> None:
    for address in ("a@localhost", "first.last+tag@mail.shop-1.example", "o'neil=x@x.example", "a?b@x.example"):
        assert shop.value("SELECT api.add_alert_recipient(%s)", address)


# Age


def test_an_alert_is_escalated_by_its_age_once_a_step(shop: Shop) -> None:
    sell(shop, 5)
    assert escalate(shop) == 0
    age(shop, 61)
    assert (escalate(shop), escalate(shop)) == (1, 0)
    age(shop, 180)
    assert (escalate(shop), escalate(shop)) == (1, 0)

    assert alerts(shop) == [("A", "low", "open", 2)]
    assert kinds(shop) == ["alert.opened", "alert.escalated", "alert.escalated"]


def test_an_alert_that_waited_while_nobody_ran_the_job_goes_straight_to_the_last_step(shop: Shop) -> None:
    sell(shop, 5)
    age(shop, 10_000)

    assert escalate(shop) == 1
    assert alerts(shop) == [("A", "low", "open", 2)]


def test_the_age_after_a_snooze_is_that_since_it_ended(shop: Shop) -> None:
    sell(shop, 5)
    shop.value("SELECT api.snooze_alert(%s, '600 min')", one(shop))
    age(shop, 601)
    escalate(shop)
    assert alerts(shop)[0][3] == 0
    age(shop, 60)
    escalate(shop)

    assert alerts(shop)[0][3] == 1


# The scan


def test_the_scan_finds_what_no_event_told_in_bounded_batches(shop: Shop) -> None:
    for number in range(6):
        shop.stock(f"S{number}", "E1", 10)
    shop.db.execute("UPDATE shop.stock_levels SET low_stock_threshold = 10")

    assert scan(shop, 2) == (4, 7)
    assert scan(shop, 2) == (4, 0)
    assert {each[2] for each in alerts(shop)} == {"open"}


def test_the_scan_resolves_what_is_above_a_threshold_that_was_lowered(shop: Shop) -> None:
    sell(shop, 5)
    shop.db.execute("UPDATE shop.stock_levels SET low_stock_threshold = 1")

    assert scan(shop) == (1, 1)
    assert alerts(shop) == [("A", "low", "resolved", 0)]


def test_the_scan_of_a_shop_without_levels_finds_nothing(scratch: Shop) -> None:
    assert scan(scratch) == (0, 0)


# Side by side


@pytest.fixture
def falling(db: psycopg.Connection[Any]) -> Shop:
    """A shop of its own, whose sessions see one another: A is low and has its alert."""
    own = Shop(db)
    own.open()
    sell(stocked(own), 5)
    return own


def test_a_level_that_falls_while_the_scan_resolves_its_alert_has_a_new_one(falling: Shop, connect_as: Connect) -> None:
    scanning, observer = connect_as("ordermill_worker"), connect_as("owner")
    receive(falling, 5, follows=False)
    scanning.execute("BEGIN")
    scanning.execute("SELECT api.scan_low_stock()")

    sell(falling, 5, follows=False)  # an order does not wait for those who judge levels
    falling.value("SELECT api.sequence_events()")
    consuming = Step(falling.db, "SELECT api.dispatch_events('alerts')").waits(observer)
    scanning.execute("COMMIT")
    consuming.result()

    assert alerts(falling) == [("A", "low", "resolved", 0), ("A", "low", "open", 0)]


def test_an_alert_that_is_acknowledged_while_it_recovers_is_resolved(falling: Shop, connect_as: Connect) -> None:
    person, observer = connect_as("ordermill_maintainer"), connect_as("owner")
    receive(falling, 5, follows=False)
    falling.value("SELECT api.sequence_events()")
    person.execute("BEGIN")
    person.execute("SELECT api.acknowledge_alert(%s)", [one(falling)])
    consuming = Step(falling.db, "SELECT api.dispatch_events('alerts')").waits(observer)
    person.execute("COMMIT")
    consuming.result()

    assert alerts(falling) == [("A", "low", "resolved", 0)]


def test_two_who_escalate_at_once_do_it_once(falling: Shop, connect_as: Connect) -> None:
    age(falling, 61)
    sessions = [connect_as("ordermill_worker") for _ in range(4)]

    done = at_once(4, lambda n: escalate(Shop(sessions[n])))

    assert sorted(done) == [0, 0, 0, 1]
    assert alerts(falling) == [("A", "low", "open", 1)]
