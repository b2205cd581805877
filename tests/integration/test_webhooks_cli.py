"""`ordermill webhooks` and the example receiver, run as a person runs them."""

import json
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.hooks import LOCAL, Receiver, add, dispatch, forget, receiver, waiting
from tests.noted import happen
from tests.shop import Shop
from tests.workers_fixtures import clean_environment
from workers.child import wait_until
from workers.cli import main
from workers.cli_webhooks import KINDS
from workers.settings import get_settings
from workers.webhook_message import signed
from workers.webhook_post import Poster
from workers.webhooks import deliver

ROOT = Path(__file__).parent.parent.parent
EXAMPLE, SQL = ROOT / "examples" / "webhook_receiver.py", ROOT / "sql" / "routines"
Run = Callable[..., subprocess.CompletedProcess[str]]
SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{43}=")
pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def impatient(runtime: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERMILL_WEBHOOKS_ALLOW", LOCAL)
    monkeypatch.setenv("ORDERMILL_WEBHOOKS_BACKOFF_SECONDS", "0.05")
    get_settings.cache_clear()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command in this process, because to start one takes seconds; without a terminal."""
    monkeypatch.setenv("COLUMNS", "80")

    def ordermill(*words: str) -> subprocess.CompletedProcess[str]:
        out, err = StringIO(), StringIO()
        with monkeypatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["ordermill", *words])
            patch.setattr(sys, "stdin", StringIO())
            try:
                main()
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    return ordermill


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def test_an_endpoint_is_added_shown_rotated_paused_resumed_replayed_and_removed(
    shop: Shop, run: Run, there: Receiver
) -> None:
    forget(shop)
    added = run("webhooks", "add", "erp", f"{there.url}/hidden?token=hidden", "--kind", "test.*", "--timeout", "30")
    assert SECRET.fullmatch(added.stdout.strip()), added.stderr
    rotated = run("webhooks", "rotate", "erp", "--overlap", "1")
    assert SECRET.fullmatch(rotated.stdout.strip())
    assert rotated.stdout != added.stdout

    there.answer = lambda _got: (500, {})
    happen(shop, "test.a", "test.b")
    dispatch(shop)
    while not shop.value("SELECT failures FROM api.webhook_endpoints"):
        deliver(get_settings(), 0.1)
    listed = run("webhooks", "list").stdout
    assert re.search(r"erp +failing +2 +\d+ s +500 +\d", listed), listed
    assert max(map(len, listed.splitlines())) <= 80
    shown = run("webhooks", "show", "erp").stdout
    assert re.search(r"1 waiting +test\.a +\d attempts?, 500 in \d+ ms +it answered 500", shown), shown
    assert "waiting                2" in shown
    assert f"url                    http://127.0.0.1:{there.port}\n" in shown
    for text in (
        listed,
        shown,
        run("webhooks", "show", "erp", "--json").stdout,
        run("webhooks", "list", "--json").stdout,
    ):
        assert not SECRET.search(text)
        assert "hidden" not in text

    assert run("webhooks", "pause", "erp", "--reason", "moving").stdout == "erp is paused; what happens waits\n"
    there.answer = lambda _got: (200, {})
    assert json.loads(run("webhooks", "list", "--json").stdout)[0]["disabled_reason"] == "moving"
    assert run("webhooks", "resume", "erp").stdout == "erp is sent what waits\n"
    while waiting(shop):
        deliver(get_settings(), 0.2)

    refused = run("webhooks", "replay", "erp", "--from", "1")
    assert (refused.returncode, refused.stderr) == (
        2,
        "ordermill: nothing is done: there is no terminal to ask on; add --yes\n",
    )
    assert (
        run("webhooks", "replay", "erp", "--from", "2", "--yes").stdout == "erp: 1 positions are looked through again\n"
    )
    told = len(there.got)
    while len(there.got) == told or waiting(shop):
        deliver(get_settings(), 0.2)
    assert there.positions()[told:] == [2]
    assert run("webhooks", "remove", "erp", "--yes").stdout == "erp is removed, with 0 that waited\n"
    assert "no endpoint" in run("webhooks", "list").stdout


@pytest.mark.parametrize(
    ("kind", "known"),
    [("order.plcaed", False), ("orders.*", False), ("order", False), ("order.placed", True), ("order.*", True)],
)
def test_a_kind_that_nothing_has_is_taken_with_a_warning(
    shop: Shop, run: Run, there: Receiver, kind: str, known: bool
) -> None:
    done = run("webhooks", "add", "a", there.url, "--kind", kind, "--kind", "*")

    assert done.returncode == 0
    assert (f"nothing has the kind {kind} today" in done.stderr, done.stderr.count("warning")) == (not known, not known)


def test_the_kinds_that_are_known_are_those_that_happen(scratch: Shop) -> None:
    routines = "\n".join(path.read_text() for path in SQL.rglob("*.sql"))
    written = set(re.findall(r"'((?:stock|alert|catalog)\.[a-z_]+)'", routines))
    orders = scratch.rows("SELECT DISTINCT 'order.' || to_status FROM shop.allowed_transitions")
    handled = {f"alert.{state}" for state in re.findall(r"handle_alert\(p_alert_id, '(\w+)'", routines)}

    assert set(KINDS) == written | set(orders) | handled


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("add", "x", "http://169.254.169.254/"),
            "url: 169.254.169.254 is 169.254.169.254, which is not on the public",
        ),
        (("add", "x", "ftp://x/"), "url: this is no http"),
        (("add", "Bad Name", "http://127.0.0.1/"), "name: give up to 60"),
        (("rotate", "nobody"), "there is no webhook endpoint nobody"),
        (("show", "nobody"), "there is no webhook endpoint nobody"),
        (("replay", "nobody", "--from", "1", "--yes"), "there is no webhook endpoint nobody"),
    ],
)
def test_what_cannot_be_done_is_one_line(shop: Shop, run: Run, words: tuple[str, ...], line: str) -> None:
    done = run("webhooks", *words)

    assert done.returncode == 2
    assert done.stderr.startswith(f"ordermill: {line}"), done.stderr
    assert done.stderr.count("\n") == 1


def test_a_position_that_cannot_be_is_refused(run: Run) -> None:
    assert "9223372036854775807" in run("webhooks", "replay", "nobody", "--from", str(10**30), "--yes").stderr


def test_a_dead_delivery_is_shown_and_replayed_as_any_letter(shop: Shop, run: Run, there: Receiver) -> None:
    there.answer = lambda _got: (500, {})
    add(shop, "a", there.url)
    happen(shop, "test.a")
    dispatch(shop)
    while not shop.count("dead_letters"):
        deliver(get_settings().model_copy(update={"webhooks_attempts": 1}), 0.1)
    there.answer = lambda _got: (200, {})
    [letter] = shop.rows("SELECT id FROM api.dead_letters")

    shown = run("dead-letters", "show", str(letter)).stdout
    assert "webhook, task webhooks.deliver" in shown
    assert "is sent to its endpoint again, under the same id" in shown
    done = run("dead-letters", "replay", str(letter), "--yes")
    assert f"{letter}  replayed: it is sent to its endpoint again" in done.stdout, done.stderr
    while waiting(shop):
        deliver(get_settings(), 0.2)
    assert [got.headers["webhook-id"] for got in there.got] == [there.got[0].headers["webhook-id"]] * 2


# The example


def test_the_example_receiver_verifies_and_has_each_event_take_effect_once(shop: Shop, tmp_path: Path) -> None:
    database, log = tmp_path / "received.sqlite", tmp_path / "log"
    first = add(shop, "a", "http://127.0.0.1:9/")
    second = shop.value("SELECT api.rotate_webhook_secret('a', '1 hour')")
    env = clean_environment() | {"WEBHOOK_SECRETS": f"{first} {second}"}
    with log.open("w") as out:
        process = subprocess.Popen([sys.executable, EXAMPLE, "0", database], env=env, stdout=out, stderr=out)
    try:
        assert wait_until(lambda: "listening" in log.read_text(), 30)
        port = log.read_text().split()[-1]
        url = f"http://127.0.0.1:{port}/"
        shop.db.execute("UPDATE shop.webhook_endpoints SET url = %s", [url])
        happen(shop, "test.a", "test.a", "test.b")
        dispatch(shop)
        while waiting(shop):
            deliver(get_settings(), 0.2)
        shop.value("SELECT api.replay_webhook('a', 1)")
        while shop.value("SELECT replay_position FROM api.webhook_endpoints") or waiting(shop):
            deliver(get_settings(), 0.6)
        answers = forged(url, second)
    finally:
        process.terminate()
        process.wait(30)

    assert log.read_text().count(": had it") == 3
    with sqlite3.connect(database) as received:
        assert received.execute("SELECT kind, events FROM counts ORDER BY kind").fetchall() == [
            ("test.a", 2),
            ("test.b", 1),
            ("test.forged", 1),
        ]
    # Whoever goes on sending what is too long may find the connection closed before it has read the answer.
    assert answers.pop("too long") in {413, None}
    assert answers == {
        **{"unsigned": 401, "other secret": 401, "old": 401, "far": 401, "changed": 401, "good": 204},
        "longest": "HTTP/1.1 413 Request Entity Too Large",
    }
    assert "Traceback" not in log.read_text()


def forged(url: str, secret: str) -> dict[str, object]:
    """The answers to messages that are not what the shop sent, and to one that could be."""
    now, body = datetime.now(UTC), b'{"type": "test.forged", "position": 1}'
    other = "whsec_" + "A" * 43 + "="
    poster = Poster(get_settings().webhooks_networks)
    try:
        return {
            "unsigned": poster.post(url, body, {}, 5).status,
            "other secret": poster.post(url, body, signed("f1", body, [other], now), 5).status,
            "old": poster.post(url, body, signed("f1", body, [secret], now - timedelta(minutes=6)), 5).status,
            "far": poster.post(
                url, body, signed("f1", body, [secret], now) | {"webhook-timestamp": "9" * 400}, 5
            ).status,
            "longest": raw(url, f"POST / HTTP/1.1\r\ncontent-length: {'9' * 5000}\r\n\r\n"),
            "changed": poster.post(url, body + b" ", signed("f1", body, [secret], now), 5).status,
            "too long": poster.post(url, b"x" * 1_000_001, {}, 5).status,
            "good": poster.post(url, body, signed("f1", body, [other, secret], now), 5).status,
        }
    finally:
        poster.close()


def raw(url: str, request: str) -> str:
    """The first line of the answer; empty when there is none."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), 10) as connection:
        connection.sendall(request.encode())
        with connection.makefile() as answer:
            return answer.readline().strip()
