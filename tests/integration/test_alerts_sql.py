"""Low-stock alerts in SQL: what opens, changes and closes one, who is told of it, and what happens to what is told."""

from typing import Any

import psycopg
import pytest

from tests.shop import Shop, order


@pytest.fixture
def shop(scratch: Shop) -> Shop:
    """Ten of A at E1, low from five down."""
    scratch.stock("A", "E1", 10, threshold=5)
    follow(scratch)
    return scratch


def follow(shop: Shop) -> int:
    """Gives the consumer all that happened; gives how many events it had."""
    count = 0
    while shop.value("SELECT api.sequence_events(1000)"):
        pass
    while given := shop.value("SELECT api.dispatch_events('alerts', 1000)"):
        count += given
    return count


def sell(shop: Shop, quantity: int, sku: str = "A", follows: bool = True) -> str:
    [outcome] = shop.place(order(None, (sku, quantity)))
    assert outcome["status"] == "placed"
    if follows:
        follow(shop)
    return str(outcome["order_id"])


def receive(shop: Shop, quantity: int, follows: bool = True) -> None:
    shop.value("SELECT api.adjust_inventory(gen_random_uuid()::text, 'A', 'E1', %s, 'counted')", quantity)
    if follows:
        follow(shop)


def alerts(shop: Shop) -> list[tuple[str, str, str, int]]:
    return shop.db.execute("SELECT sku, level, state, escalation FROM api.alerts ORDER BY id").fetchall()


def one(shop: Shop) -> int:
    return int(shop.value("SELECT max(id) FROM api.alerts"))


def kinds(shop: Shop) -> list[str]:
    """What was written to the streams of alerts."""
    follow(shop)
    return shop.rows("SELECT kind FROM api.events WHERE stream LIKE 'alert:%%' ORDER BY position")


def age(shop: Shop, minutes: int) -> None:
    """As if nobody had looked for so long."""
    shop.db.execute("UPDATE shop.alerts SET waits_since = waits_since - make_interval(mins => %s)", [minutes])


def escalate(shop: Shop) -> int:
    return int(shop.value("SELECT api.escalate_alerts('60 min', '240 min')"))


def recipient(shop: Shop, address: str, escalation: int = 0, pool: str | None = None, category: Any = None) -> int:
    return int(shop.value("SELECT api.add_alert_recipient(%s, %s, %s, %s)", address, escalation, pool, category))


def notices(shop: Shop) -> dict[str | None, list[int]]:
    """The alerts that each address (None: the log) is to be told of."""
    return dict(shop.db.execute("SELECT address, alert_ids FROM shop.alert_notices WHERE sent_at IS NULL").fetchall())


def claim(shop: Shop, mail: bool = True, gather: str = "0", budget: int = 3) -> dict[str, Any] | None:
    rows = shop.maps("SELECT * FROM api.claim_alert_notice(%s, %s, '1 min', %s, 2)", mail, gather, budget)
    return rows[0] if rows else None


def refused(shop: Shop, query: str, *arguments: object) -> str | None:
    with pytest.raises(psycopg.Error) as caught, shop.db.transaction():
        shop.value(query, *arguments)
    return caught.value.sqlstate


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
    again = "INSERT INTO shop.alerts (variant_id, location_id, level) SELECT variant_id, location_id, 'low' FROM shop.alerts"

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
    for address in ("nobody", "a@b\nBcc: x@y.z", "ä@b.example", "a@b,c@d", ""):
        assert refused(shop, "SELECT api.add_alert_recipient(%s)", address) == "23514"


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


def scan(shop: Shop, limit: int = 1000) -> tuple[int, int]:
    """All batches: how many there were, and how many alerts changed."""
    after, batches, changed = (0, 0), 0, 0
    while rows := shop.maps("SELECT * FROM api.scan_low_stock(%s, %s, %s)", *after, limit):
        after = (rows[0]["variant_id"], rows[0]["location_id"])
        batches, changed = batches + 1, changed + rows[0]["changed"]
    return batches, changed


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


# Who is told


def test_who_is_told_depends_on_pool_category_and_escalation(shop: Shop) -> None:
    shop.db.execute("INSERT INTO shop.categories (code, name) VALUES ('TOP', 'Department'), ('ELSE', 'Other')")
    shop.db.execute("UPDATE shop.categories SET parent_id = (SELECT id FROM shop.categories WHERE code = 'TOP')"
                    " WHERE code = 'CAT'")  # fmt: skip
    for address, escalation, pool, category in (
        ("all@x.example", 0, None, None),
        ("east@x.example", 0, "EAST", None),
        ("west@x.example", 0, "WEST", None),
        ("cat@x.example", 0, None, "CAT"),
        ("top@x.example", 0, None, "TOP"),
        ("else@x.example", 0, None, "ELSE"),
        ("chief@x.example", 1, None, None),
        ("boss@x.example", 2, None, None),
    ):
        recipient(shop, address, escalation, pool, category)
    sell(shop, 5)
    first = {"all@x.example", "east@x.example", "cat@x.example", "top@x.example"}
    assert set(notices(shop)) == first | {None}
    shop.db.execute("DELETE FROM shop.alert_notices")
    age(shop, 61)
    escalate(shop)

    assert set(notices(shop)) == {"chief@x.example", None}
    shop.db.execute("DELETE FROM shop.alert_notices")
    sell(shop, 5)
    assert set(notices(shop)) == first | {"chief@x.example", None}


def test_a_recipient_that_is_added_again_is_listed_once_and_one_that_is_removed_is_told_no_more(shop: Shop) -> None:
    number = recipient(shop, "a@x.example", 1)
    assert recipient(shop, "a@x.example", 0) == number
    sell(shop, 5)
    assert set(notices(shop)) == {"a@x.example", None}

    assert shop.rows("SELECT api.remove_alert_recipient(%s) FROM generate_series(1, 2)", number) == [True, False]
    assert set(notices(shop)) == {None}


def test_a_bad_night_is_one_mail(shop: Shop) -> None:
    recipient(shop, "a@x.example")
    for number in range(20):
        shop.stock(f"S{number}", "E1", 1)
        sell(shop, 1, f"S{number}")
    assert {address: len(ids) for address, ids in notices(shop).items()} == {"a@x.example": 20, None: 20}

    mail = claim(shop)
    assert mail is not None
    assert (mail["total"], len(mail["alerts"]), claim(shop)) == (20, 2, None)
    lines = claim(shop, mail=False)
    assert lines is not None
    assert lines["total"] == 20


def test_a_mail_gathers_for_a_while_and_what_comes_after_is_another(shop: Shop) -> None:
    recipient(shop, "a@x.example")
    sell(shop, 5)
    assert claim(shop, gather="1 min") is None
    shop.db.execute("UPDATE shop.alert_notices SET created_at = created_at - interval '1 min'")
    assert claim(shop, gather="1 min") is not None
    sell(shop, 5)

    assert shop.value("SELECT count(*) FROM api.alert_mails") == 2


def test_a_mail_without_an_unresolved_alert_is_never_sent(shop: Shop) -> None:
    recipient(shop, "a@x.example")
    sell(shop, 5)
    receive(shop, 5)

    assert (claim(shop), claim(shop, mail=False), shop.count("alert_notices")) == (None, None, 0)


def test_a_mail_is_one_notifier_s_until_its_lease_runs_out_and_keeps_its_id(shop: Shop) -> None:
    recipient(shop, "a@x.example")
    sell(shop, 5)
    first = claim(shop)
    assert first is not None
    assert claim(shop) is None
    shop.db.execute("UPDATE shop.alert_notices SET leased_until = clock_timestamp() - interval '1 s'")
    second = claim(shop)

    assert second is not None
    assert (second["id"], second["attempt"]) == (first["id"], 2)
    finish = "SELECT api.finish_alert_notice(%s, %s, %s, %s)"
    assert shop.value(finish, first["id"], 1, "421 away", "1 min") == "lost"
    assert shop.value(finish, first["id"], 1, None, None) == "sent"
    assert shop.value("SELECT sent_at IS NOT NULL AND attempts = 2 FROM api.alert_mails") is True


def test_a_mail_that_failed_waits_and_then_is_a_dead_letter_that_can_be_replayed_once(shop: Shop) -> None:
    recipient(shop, "a@x.example")
    sell(shop, 5)
    mail = claim(shop)
    assert mail is not None
    finish = "SELECT api.finish_alert_notice(%s, %s, %s, %s)"
    assert shop.value(finish, mail["id"], 1, "450 later", "1 min") == "again"
    assert claim(shop) is None
    assert shop.value("SELECT last_error FROM api.alert_mails") == "450 later"
    shop.db.execute("UPDATE shop.alert_notices SET due_at = clock_timestamp()")
    mail = claim(shop)
    assert mail is not None
    assert shop.value(finish, mail["id"], 2, "550 no", None) == "dead"

    [letter] = shop.maps("SELECT id, kind, code, key, reason, attempts FROM api.dead_letters")
    assert letter | {"id": None} == {
        "id": None, "kind": "mail", "code": "OM032", "key": "a@x.example", "reason": "550 no", "attempts": 2
    }  # fmt: skip
    assert shop.rows("SELECT api.replay_mail(%s) FROM generate_series(1, 2)", letter["id"]) == [True, False]
    again = claim(shop)
    assert again is not None
    assert (again["address"], again["total"], again["attempt"]) == ("a@x.example", 1, 1)


def test_a_mail_that_kills_each_of_its_notifiers_becomes_a_dead_letter(shop: Shop) -> None:
    recipient(shop, "a@x.example")
    sell(shop, 5)
    for _ in range(3):
        assert claim(shop) is not None
        shop.db.execute("UPDATE shop.alert_notices SET leased_until = clock_timestamp() - interval '1 s'")

    assert claim(shop) is None
    assert shop.rows("SELECT attempts FROM api.dead_letters WHERE source = 'mail'") == [3]


def test_old_alerts_and_mails_are_pruned_and_nothing_that_is_not_over(shop: Shop) -> None:
    recipient(shop, "a@x.example")
    sell(shop, 5)
    mail = claim(shop)
    assert mail is not None
    shop.value("SELECT api.finish_alert_notice(%s, 1)", mail["id"])
    receive(shop, 5)
    sell(shop, 5)
    shop.db.execute("UPDATE shop.alerts SET opened_at = opened_at - interval '99 days', recovered_at = recovered_at"
                    " - interval '99 days'")  # fmt: skip
    shop.db.execute("UPDATE shop.alert_notices SET sent_at = sent_at - interval '99 days'")

    assert [shop.value("SELECT api.prune_alerts('90 days')") for _ in range(2)] == [2, 0]
    assert alerts(shop) == [("A", "low", "open", 0)]
