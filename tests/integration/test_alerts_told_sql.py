"""Low-stock alerts in SQL: who is told, by which mail, what becomes of a mail, and the plans of what is done often."""

import pytest

from tests.integration.test_sql_plans import scans
from tests.low_stock import age, alerts, claim, escalate, notices, receive, recipient, sell, stocked
from tests.shop import Shop


@pytest.fixture
def shop(scratch: Shop) -> Shop:
    """Ten of A at E1, low from five down."""
    return stocked(scratch)


# Who is told


def test_who_is_told_depends_on_pool_category_and_escalation(shop: Shop) -> None:
    shop.db.execute(
        "INSERT INTO shop.categories (code, name) VALUES ('TOP', 'All'), ('MID', 'Some'), ('ELSE', 'Other')"
    )
    for below, above in (("CAT", "MID"), ("MID", "TOP")):
        shop.db.execute(
            "UPDATE shop.categories SET parent_id = (SELECT id FROM shop.categories WHERE code = %s) WHERE code = %s",
            [above, below],
        )
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


def test_the_log_has_each_alert_once_in_bounded_parts(shop: Shop) -> None:
    for number in range(5):
        shop.stock(f"S{number}", "E1", 1)
        sell(shop, 1, f"S{number}")
    parts = [claim(shop, mail=False) for _ in range(4)]

    logged = [[alert["sku"] for alert in part["alerts"]] for part in parts if part]
    assert [len(part) for part in logged] == [2, 2, 1]
    assert {sku for part in logged for sku in part} == {f"S{number}" for number in range(5)}


def test_a_mail_gathers_for_a_while_and_what_comes_after_is_another(shop: Shop) -> None:
    recipient(shop, "a@x.example")
    sell(shop, 5)
    assert claim(shop, gather="1 min") is None
    shop.db.execute("UPDATE shop.alert_notices SET created_at = created_at - interval '1 min'")
    assert claim(shop, gather="1 min") is not None
    sell(shop, 5)

    assert shop.value("SELECT count(*) FROM api.alert_mails") == 2


def test_while_a_mail_is_put_off_what_comes_after_it_gathers(shop: Shop) -> None:
    recipient(shop, "a@x.example")
    shop.stock("B", "E1", 1)
    sell(shop, 5)
    first = claim(shop)
    assert first is not None
    again = "SELECT api.finish_alert_notice(%s, 1, '450 later', '1 h')"
    shop.value(again, first["id"])
    sell(shop, 1, "B")
    sell(shop, 5)
    assert claim(shop) is None
    shop.value("SELECT api.finish_alert_notice(%s, 1)", first["id"])

    second = claim(shop)
    assert second is not None
    assert (second["total"], claim(shop)) == (2, None)


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


# The plans of what is done often

PLANS = {
    "the alert of a level": (
        "SELECT FROM shop.alerts AS a WHERE a.variant_id = 1 AND a.location_id = 1 AND a.recovered_at IS NULL",
        "alerts_not_recovered",
    ),
    "what can be escalated": (
        "SELECT a.id FROM shop.alerts AS a WHERE (a.state = 'snoozed' OR (a.state = 'open' AND a.escalation < 2))"
        " AND a.waits_since <= now() ORDER BY a.waits_since LIMIT 500",
        "alerts_unattended",
    ),
    "alerts to prune": (
        "SELECT a.id FROM shop.alerts AS a WHERE a.recovered_at < now() - interval '90 days'"
        " ORDER BY a.recovered_at LIMIT 1000",
        "alerts_by_recovery",
    ),
    "the notice that gathers": (
        "SELECT n.id FROM shop.alert_notices AS n WHERE n.address = 'a7@x.example' AND n.attempts = 0",
        "alert_notices_gathering",
    ),
    "what is to be sent": (
        "SELECT n.id FROM shop.alert_notices AS n WHERE n.sent_at IS NULL AND n.due_at <= now()"
        " ORDER BY n.due_at LIMIT 1",
        "alert_notices_due",
    ),
    "mails to prune": (
        "SELECT n.id FROM shop.alert_notices AS n WHERE n.sent_at < now() - interval '90 days'"
        " ORDER BY n.sent_at LIMIT 1000",
        "alert_notices_by_age",
    ),
}


@pytest.mark.breaks_the_shop
def test_each_index_of_alerts_has_a_query_that_uses_it(shop: Shop) -> None:
    shop.db.execute(
        """INSERT INTO shop.alerts (variant_id, location_id, level, state, resolved_at, recovered_at, waits_since)
           SELECT v.id, l.id, 'low', 'resolved', now(), now() - make_interval(hours => n),
               now() - make_interval(mins => n)
           FROM generate_series(1, 5000) AS n, shop.product_variants AS v, shop.locations AS l
           WHERE v.sku = 'A' AND l.code = 'E2'"""
    )
    shop.db.execute(
        """INSERT INTO shop.alert_notices (id, address, alert_ids, attempts, sent_at)
           SELECT shop.uuid7(), 'a' || n || '@x.example', '{1}', CASE WHEN n % 100 = 0 THEN 0 ELSE 1 END,
               CASE WHEN n % 50 > 0 THEN now() - make_interval(hours => n) END FROM generate_series(1, 5000) AS n"""
    )
    sell(shop, 5)
    for table in ("alerts", "alert_notices"):
        shop.db.execute(f"ANALYZE shop.{table}".encode())

    for name, (statement, index) in PLANS.items():
        used = scans(shop, statement)
        assert any(index == each[2] for each in used), (name, used)
    sources = " ".join(shop.rows("SELECT regexp_replace(prosrc, '\\s+', ' ', 'g') FROM pg_proc"))
    for words in (
        "(a.state = 'snoozed' OR (a.state = 'open' AND a.escalation < 2)) AND a.waits_since <= v_now",
        "WHERE a.recovered_at < now() - p_keep ORDER BY a.recovered_at LIMIT p_limit",
        "ON CONFLICT (address) WHERE attempts = 0",
        "WHERE n.sent_at IS NULL AND n.due_at <= clock_timestamp()",
        "WHERE n.sent_at < now() - p_keep ORDER BY n.sent_at LIMIT p_limit",
    ):
        assert words in sources, words
