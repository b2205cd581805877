"""Low stock through real workers, and `ordermill alerts` as people have it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.letters import run
from tests.postbox import Postbox, served
from tests.shop import Shop, new_key, order
from tests.workers_fixtures import Mill, kill, ready
from workers.child import Child, wait_until

SECONDS = 60


@pytest.fixture(scope="module")
def postbox() -> Iterator[Postbox]:
    with served(Postbox()) as box:
        yield box


@pytest.fixture
def told(mill: Mill, postbox: Postbox) -> Mill:
    """The module's mill, whose workers send mail to the postbox at once; `a@x.example` is told of all."""
    mill.env |= {"ORDERMILL_SMTP_URL": postbox.url, "ORDERMILL_ALERTS_GATHER_SECONDS": "0"}
    mill.env["ORDERMILL_DISPATCH_SECONDS"] = "10"  # a second process does the rest meanwhile
    mill.shop.value("SELECT api.add_alert_recipient('a@x.example')")
    return mill


def begin_alerts_worker(mill: Mill) -> Child:
    return mill.start_worker("alerts", "events,inventory,alerts", "-c", "2")


def state(shop: Shop, sku: str) -> list[tuple[str, str, int]]:
    return shop.db.execute("SELECT level, state, escalation FROM api.alerts WHERE sku = %s", [sku]).fetchall()


def becomes(mill: Mill, sku: str, *expected: tuple[str, str, int]) -> bool:
    return wait_until(lambda: state(mill.shop, sku) == list(expected), SECONDS, 0.05)


def low(mill: Mill, sku: str) -> int:
    """An alert of this sku, two of which are left; gives its number."""
    mill.shop.stock(sku, "E1", 3, threshold=2)
    mill.shop.place(order(None, (sku, 1)))

    def raised() -> bool:
        """Each gives 0 also where a session that is about to end has the lock."""
        mill.shop.value("SELECT api.sequence_events()")
        mill.shop.value("SELECT api.dispatch_events('alerts')")
        return mill.shop.value("SELECT max(id) FROM api.alerts WHERE sku = %s", sku) is not None

    assert wait_until(raised, SECONDS)
    return int(mill.shop.value("SELECT max(id) FROM api.alerts WHERE sku = %s", sku))


def test_an_order_that_empties_a_level_raises_an_alert_a_log_line_and_a_mail_and_receipt_resolves_it(
    told: Mill, postbox: Postbox
) -> None:
    told.begin_orders_worker()
    worker = begin_alerts_worker(told)
    told.living(1)
    ready(worker)
    told.shop.stock("A", "E1", 5, threshold=2)

    told.call("orders.place", order(None, ("A", 3)))
    told.send("events.dispatch", queue="events")
    assert becomes(told, "A", ("low", "open", 0))
    told.send("alerts.notify", queue="alerts")
    assert wait_until(lambda: postbox.mails != [], SECONDS)
    assert "low stock: A at E1" in postbox.mails[0].get_content()
    assert wait_until(lambda: "low stock: A at E1 (pool EAST): 2 left" in worker.log.read_text(), SECONDS)

    adjusted = {"sku": "A", "location": "E1", "quantity": 10, "reason": "counted"}
    told.call("inventory.adjust", adjusted | {"key": new_key()}, queue="inventory")
    assert becomes(told, "A", ("low", "resolved", 0))
    number = told.shop.value("SELECT id FROM api.alerts WHERE sku = 'A'")
    assert wait_until(
        lambda: (
            told.shop.rows("SELECT kind FROM api.events WHERE stream = %s ORDER BY position", f"alert:{number}")
            == ["alert.opened", "alert.resolved"]
        ),
        SECONDS,
    )

    # The jobs, through the same worker.
    told.shop.stock("B", "E1", 5)
    told.db.execute("UPDATE shop.stock_levels SET low_stock_threshold = 9 WHERE available = 5")
    told.send("alerts.scan", queue="alerts")
    assert becomes(told, "B", ("low", "open", 0))
    told.db.execute("UPDATE shop.alerts SET waits_since = waits_since - interval '61 min' WHERE state = 'open'")
    told.send("alerts.escalate", queue="alerts")
    assert becomes(told, "B", ("low", "open", 1))
    kill(worker)
    told.broker.flushdb()


def test_a_mail_whose_notifier_was_killed_is_sent_later(told: Mill, postbox: Postbox) -> None:
    low(told, "K")
    postbox.mails.clear()
    postbox.arrived.clear()
    postbox.go_on.clear()
    first = ready(begin_alerts_worker(told))
    told.send("alerts.notify", queue="alerts")
    assert postbox.arrived.wait(SECONDS)
    kill(first)
    postbox.go_on.set()

    ready(begin_alerts_worker(told))
    told.db.execute("UPDATE shop.alert_notices SET leased_until = clock_timestamp() WHERE leased_until IS NOT NULL")
    told.send("alerts.notify", queue="alerts")

    sent = "SELECT id FROM api.alert_mails WHERE attempts = 2 AND sent_at IS NOT NULL"
    assert wait_until(lambda: told.shop.value(sent) is not None, SECONDS, 0.05)
    # The server may have kept the first too: whoever reads them sees that they are one.
    assert {each["Message-ID"] for each in postbox.mails} == {f"<{told.shop.value(sent)}@localhost>"}


# The command


def alerts(mill: Mill, *arguments: object, **env: str) -> tuple[int, str]:
    done = run(mill, *arguments, command="alerts", **env)
    return done.returncode, done.stdout + done.stderr


def listed(mill: Mill, *arguments: object) -> list[dict[str, Any]]:
    code, text = alerts(mill, "list", "--json", *arguments)
    assert code == 0, text
    found: list[dict[str, Any]] = json.loads(text)
    return found


def test_the_list_fits_a_terminal_and_programs_have_it_as_json(mill: Mill) -> None:
    sku = f"LIST-{'x' * 60}"
    number = low(mill, sku)

    code, text = alerts(mill, "list", COLUMNS="80")

    assert code == 0
    [line] = [line for line in text.splitlines() if "LIST-xx" in line]
    assert line.split()[0] == str(number)
    assert max(map(len, text.splitlines())) <= 80
    [alert] = listed(mill, "--sku", sku, "--pool", "EAST", "--state", "open")
    assert {name: alert[name] for name in ("id", "level", "available", "threshold", "location")} == {
        "id": number, "level": "low", "available": 2, "threshold": 2, "location": "E1"
    }  # fmt: skip
    assert listed(mill, "--sku", sku, "--pool", "WEST") == []
    assert alerts(mill, "list", "--sku", "none") == (0, "no alert that is not resolved\n")
    assert alerts(mill, "list", "--state", "gone")[0] == 2


def test_alerts_are_acknowledged_snoozed_and_resolved_by_number(mill: Mill) -> None:
    one, two = low(mill, "ONE"), low(mill, "TWO")

    assert alerts(mill, "acknowledge", one, two, "--by", "Ada") == (
        0, f"{one}  acknowledged: ONE at E1\n{two}  acknowledged: TWO at E1\n"
    )  # fmt: skip
    code, text = alerts(mill, "snooze", two, "--for", "8h")
    assert (code, text.startswith(f"{two}  snoozed until 2")) == (0, True)
    assert alerts(mill, "resolve", one) == (0, f"{one}  resolved: ONE at E1\n")
    assert alerts(mill, "acknowledge", one, 2**63 - 1) == (
        1, f"{one}  alert {one} is resolved already (OM031)\n{2**63 - 1}  there is no alert {2**63 - 1} (OM030)\n"
    )  # fmt: skip
    assert alerts(mill, "acknowledge", 2**63)[0] == 2
    assert [alert["state"] for alert in listed(mill, "--all", "--sku", "ONE")] == ["resolved"]
    assert listed(mill, "--sku", "ONE") == []
    code, text = alerts(mill, "snooze", two, "--for", "long")
    assert (code, "--for long is no length of time" in text) == (2, True)


def test_recipients_are_added_shown_and_removed(mill: Mill) -> None:
    assert alerts(mill, "add-recipient", "b@x.example", "--from", 1, "--pool", "EAST")[0] == 0
    code, text = alerts(mill, "recipients", "--json")
    assert code == 0
    [made] = [each for each in json.loads(text) if each["address"] == "b@x.example"]
    assert made | {"id": 0} == {
        "id": 0, "address": "b@x.example", "min_escalation": 1, "pool": "EAST", "category": None
    }  # fmt: skip
    assert "b@x.example" in alerts(mill, "recipients")[1]
    assert alerts(mill, "remove-recipient", made["id"])[0] == 0
    assert alerts(mill, "remove-recipient", made["id"])[0] == 2
    for wrong in (("nobody",), ("b@x.example", "--pool", "NOWHERE"), ("b@x.example", "--from", 3)):
        code, text = alerts(mill, "add-recipient", *wrong)
        assert code == 2, text


def test_a_mail_that_waits_says_why_and_a_dead_one_is_shown_and_replayed(mill: Mill) -> None:
    mill.db.execute("DELETE FROM shop.alert_notices")
    mill.shop.value("SELECT api.add_alert_recipient('w@x.example')")
    low(mill, "MAIL")
    notice = mill.shop.value("SELECT id FROM api.alert_mails WHERE address = 'w@x.example'")
    mill.db.execute("UPDATE shop.alert_notices SET attempts = 1")
    finish = "SELECT api.finish_alert_notice(%s, 1, %s, %s)"
    mill.shop.value(finish, notice, "450 busy", "1 h")
    assert "450 busy" in alerts(mill, "mails", COLUMNS="80")[1]
    mill.shop.value(finish, notice, "550 no such box", None)

    shown = run(mill, "show", notice).stdout
    assert ("550 no such box" in shown, "w@x.example" in shown) == (True, True)
    assert run(mill, "list", "--source", "mail", COLUMNS="80").stdout.count("OM032") == 1
    assert "replayed: it is sent again" in run(mill, "replay", notice, "--yes").stdout
    assert mill.shop.value("SELECT attempts FROM api.alert_mails WHERE address = 'w@x.example'") == 0
