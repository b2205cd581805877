"""What the tests of `ordermill dead-letters` share: the command over a mill's servers, and letters of each kind."""

import json
import os
import pty
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from tests.shop import Shop, order, typed
from tests.workers_fixtures import Mill, clean_environment
from workers.cli import main
from workers.settings import get_settings
from workers.undecodable import record

COMMAND = [sys.executable, "-m", "workers.cli", "dead-letters"]
NOBODY = "redis://127.0.0.1:1/0"
Done = subprocess.CompletedProcess[str]
BURY = "SELECT api.bury_unread(%s, %s, %s, %s, %s, %s, %s)"
AT = "2026-01-31T10:00:00+00:00"
MESSAGE = {"body": "W10=", "headers": {"task": "shop.guess", "id": "t-1"}, "properties": {}}
ENCODED = {
    "body": "W1t7InNrdSI6ICJBIn1dLCB7fSwge31d",  # [[{"sku": "A"}], {}, {}]
    "headers": {"task": "shop.guess", "id": "t-1"},
    "properties": {"body_encoding": "base64"},
}


def environment(mill: Mill, **env: str) -> dict[str, str]:
    return clean_environment() | mill.env | {"COLUMNS": "200"} | env


def run(mill: Mill, *arguments: object, without: Iterable[str] = (), command: str = "dead-letters", **env: str) -> Done:
    """`ordermill dead-letters …` (or another) without a terminal; in this process, because one takes seconds."""
    told = {name: value for name, value in environment(mill, **env).items() if name not in without}
    out, err = StringIO(), StringIO()
    words = ["ordermill", command, *map(str, arguments)]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err), open(os.devnull) as nothing:
        for name in {*os.environ} - {*told}:
            patch.delenv(name)
        for name, value in told.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", words)
        patch.setattr(sys, "stdin", nothing)
        get_settings.cache_clear()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        finally:
            get_settings.cache_clear()
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def answer(mill: Mill, words: str, *arguments: object) -> tuple[int, str]:
    """The same on a terminal where somebody answers the question; gives the exit code and what was to be seen."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], env=environment(mill), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, f"{words}\n".encode())
    seen = b""
    try:
        while part := os.read(ours, 65_536):
            seen += part
    except OSError:  # so a terminal ends whose last process has left
        pass
    finally:
        os.close(ours)
    return child.wait(60), seen.decode()


def listed(mill: Mill, *arguments: object) -> list[dict[str, Any]]:
    done = run(mill, "list", "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def order_letter(shop: Shop, request: dict[str, Any], reason: str = "a bug") -> uuid.UUID:
    shop.value("SELECT api.bury_order(%s, 'OM090', %s, 1)", Jsonb(typed(request)), reason)
    return newest(shop)


def message_letter(shop: Shop, task: str, task_id: str, *args: Any) -> uuid.UUID:
    message = json.dumps({"args": args, "kwargs": {}})
    return shop.value("SELECT api.bury_message(%s, %s, %s, 'a bug')", task, task_id, message)


def unread_letter(shop: Shop, queue: str, item: str, base64: bool = False) -> uuid.UUID:
    letter = uuid.uuid4()
    shop.value(
        "SELECT api.bury_unread(%s, now(), %s, %s, %s, 'OM092', 'It is no message.')", letter, queue, item, base64
    )
    return letter


def newest(shop: Shop) -> uuid.UUID:
    return shop.value("SELECT id FROM api.dead_letters ORDER BY created_at DESC LIMIT 1")


def settled(shop: Shop, letter: uuid.UUID) -> str | None:
    return shop.value("SELECT settlement FROM api.dead_letters WHERE id = %s", letter)


def set_aside(mill: Mill, queue: str, item: str) -> None:
    mill.broker.lpush(f"{queue}.undecodable", record(queue, item, "OM092", "It is no message."))


def dead(shop: Shop, request: dict[str, Any]) -> uuid.UUID:
    """An order that is dead, by the Celery door; gives its letter."""
    outcome = shop.value("SELECT api.bury_order(%s, 'OM090', 'a bug', 1)", Jsonb(typed(request)))
    assert outcome["status"] == "dead"
    return shop.value(
        "SELECT id FROM api.dead_letters WHERE key = %s AND settled_at IS NULL ORDER BY created_at DESC", request["key"]
    )


def replay(shop: Shop, letter: uuid.UUID) -> Any:
    return shop.value("SELECT api.replay_order(%s)", letter)


def bury(shop: Shop, item: str, letter: uuid.UUID | None = None, base64: bool = False) -> uuid.UUID:
    letter = letter or uuid.uuid4()
    assert shop.value(BURY, letter, AT, "orders", item, base64, "OM092", "unread") is True
    return letter


def letter_of(shop: Shop, letter: uuid.UUID) -> dict[str, Any]:
    [found] = shop.maps("SELECT * FROM api.dead_letters WHERE id = %s", letter)
    return found


@pytest.fixture
def clean(mill: Mill) -> Iterator[Mill]:
    """The module's mill without letters of earlier tests."""
    mill.db.execute("DELETE FROM shop.request_keys WHERE status = 'dead'")
    mill.db.execute("DELETE FROM shop.dead_letters")
    mill.broker.flushdb()
    return mill


@pytest.fixture
def three(clean: Mill) -> dict[str, uuid.UUID]:
    """A letter of each kind, the unread item the newest."""
    made = {
        "order": order_letter(clean.shop, order("web-1", ("A", 1)), "The database refuses this order: poison"),
        "message": message_letter(clean.shop, "inventory.adjust", "t-9", {"sku": "A"}),
    }
    return made | {"unread": unread_letter(clean.shop, "views", json.dumps(ENCODED))}
