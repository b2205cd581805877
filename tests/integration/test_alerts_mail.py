"""Mail of low stock to a real SMTP server: what it says, that it is sent once, and what a refusal or an outage does."""

import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.postbox import DROPPED, PASSWORD, USER, Postbox, certificate, served, tls
from tests.shop import Shop, order
from workers import alerts
from workers.child import wait_until
from workers.embedded_valkey import free_port
from workers.mail import SmtpServer
from workers.settings import Settings, get_settings

QUOTED = "p%40ss%2Fw%3Ard"


@pytest.fixture
def postbox() -> Iterator[Postbox]:
    with served(Postbox()) as box:
        yield box


@pytest.fixture
def low(shop: Shop, runtime: None) -> Shop:
    """A shop with two of A left at E1, which is low, and one who is told."""
    shop.stock("A", "E1", 3, threshold=2)
    listed(shop, "a@x.example")
    fall(shop, "A")
    return shop


def listed(shop: Shop, *addresses: str) -> None:
    for address in addresses:
        shop.value("SELECT api.add_alert_recipient(%s)", address)


def fall(shop: Shop, *skus: str) -> None:
    """One of each is sold, and the consumer has followed."""
    shop.place(*(order(None, (sku, 1)) for sku in skus))
    shop.value("SELECT api.sequence_events(10000)")
    shop.value("SELECT api.dispatch_events('alerts', 10000)")


def settings(url: str, **others: Any) -> Settings:
    """Nothing gathers; what failed waits for `later`."""
    quick = {"alerts_gather_seconds": 0.0, "mail_retry_seconds": 900.0, "mail_from": "mill@shop.example"}
    return get_settings().model_copy(update=quick | {"smtp_url": url} | others)


def notify(url: str, **others: Any) -> dict[str, int]:
    """One run; what it did that is not nothing."""
    return {name: count for name, count in alerts.notify(settings(url, **others)).items() if count and name != "logged"}


def later(shop: Shop) -> None:
    """As if the pauses of all mails were over."""
    shop.db.execute("UPDATE shop.alert_notices SET due_at = clock_timestamp() WHERE sent_at IS NULL")


def mails(shop: Shop) -> list[dict[str, Any]]:
    return shop.maps(
        "SELECT address, attempts, last_error, sent_at IS NOT NULL AS sent FROM api.alert_mails ORDER BY 1"
    )


def letters(shop: Shop) -> list[dict[str, Any]]:
    return shop.maps("SELECT key, code, reason FROM api.dead_letters WHERE source = 'mail'")


def test_each_recipient_gets_one_mail_of_all_that_is_low_and_it_is_sent_once(low: Shop, postbox: Postbox) -> None:
    listed(low, "b@x.example")
    low.stock("B", "E2", 1, threshold=2)
    low.stock("C", "E1", 1)
    fall(low, "B", "C")

    assert [notify(postbox.url), notify(postbox.url)] == [{"sent": 2}, {}]

    assert postbox.to() == ["a@x.example", "b@x.example"]
    [mail] = [each for each in postbox.mails if each["To"] == "a@x.example"]
    lines = mail.get_content().splitlines()
    assert (mail["From"], mail["Subject"]) == ("mill@shop.example", "Out of stock: 3 alerts")
    assert [line.partition(" ")[2].partition(";")[0] for line in lines[:3]] == [
        "out of stock: B at E2 (pool EAST): 0 left, threshold 2",
        "out of stock: C at E1 (pool EAST): 0 left, threshold 0",
        "low stock: A at E1 (pool EAST): 2 left, threshold 2",
    ]
    assert mail["Auto-Submitted"] == "auto-generated"


def test_a_mail_lists_the_worst_of_many_and_tells_how_many_more(low: Shop, postbox: Postbox) -> None:
    skus = [f"S{number}" for number in range(230)]
    for sku in skus:
        low.stock(sku, "E1", 1)
    fall(low, *skus)

    notify(postbox.url)

    text = postbox.mails[0].get_content()
    assert (text.count("out of stock: "), "and 31 more" in text) == (200, True)


def test_what_is_written_in_a_sku_is_neither_a_header_nor_a_line(shop: Shop, runtime: None, postbox: Postbox) -> None:
    sku = "A\r\nBcc: c@x.example\n\x1b[31m"
    shop.stock(sku, "E1", 1)
    listed(shop, "a@x.example")
    fall(shop, sku)

    assert notify(postbox.url) == {"sent": 1}
    assert (postbox.mails[0]["Bcc"], "\x1b" in postbox.mails[0].get_content()) == (None, False)


def test_names_of_any_language_arrive_as_they_are(shop: Shop, runtime: None, postbox: Postbox) -> None:
    shop.stock("Größe-Ü", "E1", 1)
    shop.db.execute("UPDATE shop.products SET title = 'クレーム・ブリュレ'")
    listed(shop, "a@x.example")
    fall(shop, "Größe-Ü")

    assert notify(postbox.url) == {"sent": 1}
    assert postbox.mails[0]["Subject"] == "Out of stock: Größe-Ü at E1"
    assert "Größe-Ü クレーム・ブリュレ at E1" in postbox.mails[0].get_content()


@pytest.mark.parametrize("answer", ["rcpt 450 busy", "451 later"])
def test_a_mail_that_is_put_off_is_sent_later_under_the_same_id(low: Shop, postbox: Postbox, answer: str) -> None:
    postbox.answers = [answer]

    assert notify(postbox.url) == {"again": 1}
    [waiting] = mails(low)
    assert (waiting["attempts"], waiting["last_error"]) == (1, answer.removeprefix("rcpt "))
    assert notify(postbox.url) == {}
    later(low)
    assert notify(postbox.url) == {"sent": 1}

    [notice] = low.rows("SELECT id FROM api.alert_mails")
    assert [mail["Message-ID"] for mail in postbox.mails] == [f"<{notice}@shop.example>"]


@pytest.mark.parametrize("answer", ["rcpt 550 nobody", "554 no"])
def test_a_mail_that_is_refused_is_a_dead_letter_at_once_and_the_others_are_sent(
    low: Shop, postbox: Postbox, answer: str
) -> None:
    listed(low, "b@x.example", "c@x.example")
    fall(low, "A")
    fall(low, "A")  # nothing is left: the second is told too
    postbox.answers = [answer]

    assert notify(postbox.url) == {"sent": 2, "dead": 1}

    [letter] = letters(low)
    assert (letter["code"], letter["reason"]) == ("OM032", answer.removeprefix("rcpt "))
    assert letter["key"] not in postbox.to()


def test_a_mail_that_is_put_off_for_ever_is_a_dead_letter_after_its_budget(low: Shop, postbox: Postbox) -> None:
    postbox.answers = ["451 later"] * 3

    done = []
    for _ in range(4):
        done.append(notify(postbox.url, mail_attempts=3))
        later(low)

    assert done == [{"again": 1}, {"again": 1}, {"dead": 1}, {}]
    assert letters(low) == [{"key": "a@x.example", "code": "OM032", "reason": "451 later"}]


def test_while_the_server_is_away_one_mail_a_run_is_tried_and_all_are_sent_when_it_is_back(low: Shop) -> None:
    listed(low, "b@x.example", "c@x.example")
    fall(low, "A")
    fall(low, "A")
    port = free_port()
    url = f"smtp://127.0.0.1:{port}"

    assert notify(url) == {"again": 1}
    assert [mail["attempts"] for mail in mails(low)].count(1) == 1
    later(low)
    with served(Postbox(), port=port) as box:
        assert notify(url) == {"sent": 3}
    assert box.to() == ["a@x.example", "b@x.example", "c@x.example"]


def test_a_server_that_says_nothing_is_left_after_the_timeout(low: Shop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert notify(f"smtp://127.0.0.1:{silent.getsockname()[1]}", smtp_timeout_seconds=0.2) == {"again": 1}
    assert "timed out" in mails(low)[0]["last_error"]


def test_without_a_server_a_mail_says_which_setting_is_missing(low: Shop) -> None:
    assert notify("") == {"again": 1}
    assert "ORDERMILL_SMTP_URL" in mails(low)[0]["last_error"]


def test_a_mail_whose_answer_is_lost_comes_twice_with_one_message_id(low: Shop, postbox: Postbox) -> None:
    postbox.answers = [DROPPED]

    assert notify(postbox.url) == {"again": 1}
    later(low)
    assert notify(postbox.url) == {"sent": 1}

    assert (len(postbox.mails), len({mail["Message-ID"] for mail in postbox.mails})) == (2, 1)


def test_an_alert_that_recovers_before_its_mail_is_sent_is_not_in_it(low: Shop, postbox: Postbox) -> None:
    low.value("SELECT api.adjust_inventory('k', 'A', 'E1', 10, 'found')")
    low.value("SELECT api.sequence_events()")
    low.value("SELECT api.dispatch_events('alerts')")

    assert notify(postbox.url) == {}
    assert (postbox.mails, mails(low)) == ([], [])


def test_two_notifiers_at_once_send_each_mail_once(low: Shop, postbox: Postbox) -> None:
    listed(low, "b@x.example")
    fall(low, "A")
    fall(low, "A")
    postbox.go_on.clear()
    first: list[dict[str, int]] = []
    thread = threading.Thread(target=lambda: first.append(notify(postbox.url, smtp_timeout_seconds=60)))
    thread.start()
    assert postbox.arrived.wait(30)
    second: list[dict[str, int]] = []
    other = threading.Thread(target=lambda: second.append(notify(postbox.url, smtp_timeout_seconds=60)))
    other.start()
    # Each has one in its hands.
    assert wait_until(lambda: low.value("SELECT count(*) FROM shop.alert_notices WHERE leased_until > now()") == 2, 30)
    postbox.go_on.set()
    thread.join(30)
    other.join(30)

    assert postbox.to() == ["a@x.example", "b@x.example"]
    assert [*first, *second] == [{"sent": 1}, {"sent": 1}]


def test_each_new_alert_is_one_line_of_the_log_with_the_alert_as_data(
    low: Shop, postbox: Postbox, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            alerts.notify(settings(postbox.url))

    [line] = [record for record in caplog.records if hasattr(record, "alert")]
    assert line.levelno == logging.WARNING
    assert "low stock: A at E1 (pool EAST): 2 left, threshold 2; open" in line.getMessage()
    assert line.alert["sku"] == "A"


def test_an_address_that_no_header_takes_is_a_dead_letter_and_the_next_mail_is_sent(
    low: Shop, postbox: Postbox
) -> None:
    address = "=?utf-8?q?=0Ax?=@x"
    low.db.execute(
        "INSERT INTO shop.alert_notices (id, address, alert_ids, due_at)"
        " SELECT shop.uuid7(), %s, alert_ids, due_at - interval '1 min' FROM shop.alert_notices"
        " WHERE address IS NOT NULL",
        [address],
    )

    assert notify(postbox.url) == {"sent": 1, "dead": 1}

    assert postbox.to() == ["a@x.example"]
    [letter] = letters(low)
    assert (letter["key"], letter["code"], letter["reason"][:25]) == (address, "OM032", "no mail can be made of it")


# TLS


@pytest.fixture
def pem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The server's certificate, which this process trusts."""
    path = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return path


def private(box: Postbox, pem: Path) -> Any:
    return served(box, tls_context=tls(pem), require_starttls=True, authenticator=box.authenticate, auth_required=True)


def test_a_login_goes_over_tls_and_a_wrong_password_shows_nowhere(
    low: Shop, pem: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with private(Postbox(), pem) as box:
        assert notify(f"smtp://{USER}:sesame@127.0.0.1:{box.port}") == {"again": 1}
        later(low)
        assert notify(f"smtp://{USER}:{QUOTED}@127.0.0.1:{box.port}") == {"sent": 1}
    assert (box.logins > 1, len(box.mails)) == (True, 1)
    assert "535" in caplog.text
    assert "sesame" not in caplog.text + str(mails(low))


def test_a_certificate_that_nobody_knows_is_refused(low: Shop, pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with private(Postbox(), pem) as box:
        assert notify(f"smtp://{USER}:{QUOTED}@127.0.0.1:{box.port}") == {"again": 1}
    assert box.logins == 0
    assert "certificate" in mails(low)[0]["last_error"]


def test_a_password_is_never_sent_in_the_clear(low: Shop) -> None:
    box = Postbox()
    with served(box, authenticator=box.authenticate, auth_require_tls=False):
        assert notify(f"smtp://{USER}:{QUOTED}@127.0.0.1:{box.port}") == {"again": 1}
    assert box.logins == 0
    assert "no TLS" in mails(low)[0]["last_error"]


def test_smtps_is_encrypted_from_the_first_byte(low: Shop, pem: Path) -> None:
    with served(Postbox(), ssl_context=tls(pem)) as box:
        assert notify(f"smtps://127.0.0.1:{box.port}") == {"sent": 1}


def test_the_address_of_a_server_is_read_whole() -> None:
    assert SmtpServer.parse(f"smtp://{USER}:{QUOTED}@mail.example") == SmtpServer(
        "mail.example", 587, tls=False, user=USER, password=PASSWORD
    )
    assert SmtpServer.parse("smtps://mail.example?starttls=never") == SmtpServer(
        "mail.example", 465, tls=True, starttls=False
    )
    assert PASSWORD not in repr(SmtpServer.parse(f"smtp://{USER}:{QUOTED}@mail.example"))
