"""The logs of real workers, beat and Flower: what each line is about, one record a line, and no password in any."""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from psycopg.sql import SQL, Identifier
from sqlalchemy import make_url

from tests.servers import Running
from tests.shop import new_key, order
from tests.workers_fixtures import Mill, end, mill_over, ready
from workers.child import Child, wait_until
from workers.database import connect

# A user of this process's own in both servers: other tests of this module may run beside.
USER = f"om_logs_{secrets.token_hex(4)}"
REDIS_PASSWORD, DATABASE_PASSWORD = "pw-of-redis-7f3a", "pw-of-postgres-91bc"
FLOWER_PASSWORD, WRONG_PASSWORD = "pw-of-flower-22d0", "pw-that-is-wrong-4e4e"
JSON = {"ORDERMILL_LOG_FORMAT": "json", "ORDERMILL_FLOWER_PASSWORD": FLOWER_PASSWORD}
FORGED = "[2026-01-01 00:00:00: INFO/MainProcess] order placed key=FORGED"
Line = dict[str, Any]
# A task with a bug, and one that says where it is.
FAULTY = """
import logging

from workers.app import app
from workers.base_task import CommandTask, JobTask


@app.task(name="maintenance.bug", base=CommandTask, queue="maintenance")
def bug(*args, **kwargs):
    raise RuntimeError("a bug\\nof two lines")


@app.task(name="maintenance.speak", base=JobTask, queue="maintenance")
def speak():
    logging.getLogger("somebody.else").warning("a foreign line")
"""


def with_login(url: str, user: str, password: str) -> str:
    return make_url(url).set(username=user, password=password).render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def written(
    servers: Running, redis_numbers: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mill]:
    """A mill whose addresses have passwords: its own orders worker, workers, beat and Flower have all written."""
    folder = tmp_path_factory.mktemp("mill")
    (folder / "faulty.py").write_text(FAULTY)
    with redis.Redis.from_url(redis_numbers[0]) as admin:
        admin.acl_setuser(
            USER, enabled=True, passwords=[f"+{REDIS_PASSWORD}"], keys=["*"], channels=["*"], categories=["+@all"]
        )
        addresses = tuple(with_login(url, USER, REDIS_PASSWORD) for url in redis_numbers)
        try:
            with mill_over(servers, addresses, folder) as made:  # type: ignore[arg-type]
                begin(made)
                yield made
                assert made.shop.verify() == []
        finally:
            admin.acl_deluser(USER)
            with connect(servers.admin_url) as session:
                session.execute(SQL("DROP ROLE IF EXISTS {}").format(Identifier(USER)))


def begin(mill: Mill) -> None:
    with connect(mill.database_url) as admin:
        admin.execute(
            SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE ordermill_worker").format(Identifier(USER), DATABASE_PASSWORD)
        )
    mill.env["DATABASE_URL"] = with_login(mill.database_url, USER, DATABASE_PASSWORD)
    wrong = {"REDIS_URL": with_login(mill.redis_url, USER, WRONG_PASSWORD)}
    wrong["CELERY_BROKER_URL"] = with_login(mill.broker_url, USER, WRONG_PASSWORD)
    solo = ("-P", "solo")
    workers = [
        mill.start_worker("orders", "orders", *solo, **JSON),
        mill.start_worker("console", "inventory", "-c", "1"),
        mill.start(
            *("general", "worker", "-Q", "maintenance,celery", "-c", "2", "-n", "general@test", "-l", "DEBUG"),
            app="faulty",
            **JSON,
            ORDERMILL_DRAIN_SECONDS="1",
        ),
        mill.start_worker("refused", "views", *solo, **JSON, **wrong),
    ]
    beat = mill.start("beat", "beat", "-s", str(mill.folder / "beat"), "--pidfile=", "-l", "INFO", **JSON)
    mill.start("flower", "flower", "--port=0", **JSON)
    for worker in workers[:3]:
        ready(worker)
    ready(beat, "beat: Starting")


def child(mill: Mill, name: str) -> Child:
    return next(each for each in mill.children if each.name.startswith(name))


def lines(mill: Mill, name: str) -> list[Line]:
    whole = (line for line in child(mill, name).log.read_text().splitlines(keepends=True) if line.endswith("\n"))
    return [json.loads(line) for line in whole if line.startswith("{")]


def said(mill: Mill, name: str, wanted: Callable[[Line], Any]) -> Line:
    """The first such line of this process, when it is there."""
    assert wait_until(lambda: any(wanted(line) for line in lines(mill, name)), 60, 0.05), name
    return next(line for line in lines(mill, name) if wanted(line))


@pytest.fixture
def sku(written: Mill) -> str:
    name = f"SKU-{new_key()}"
    written.shop.stock(name, "E1", 10)
    return name


def test_each_order_of_a_batch_is_found_by_its_key_with_its_order_and_its_task_id(written: Mill, sku: str) -> None:
    good, bad = order(None, (sku, 1)), order(None, (sku, 99))
    sent = [written.send("orders.place", each) for each in (good, bad)]
    placed, rejected = (each.get(timeout=60) for each in sent)

    found = [said(written, "orders", lambda line, key=each["key"]: line.get("key") == key) for each in (good, bad)]  # type: ignore[misc]

    names = ("event", "level", "task", "task_id", "order_id", "status", "code")
    assert [tuple(line.get(name) for name in names) for line in found] == [
        ("order placed", "info", "orders.place", sent[0].id, placed["order_id"], "placed", None),
        ("order rejected", "info", "orders.place", sent[1].id, None, "rejected", rejected["code"]),
    ]
    assert all(line["batch"] >= 1 for line in found)


def test_an_order_of_the_sql_door_is_found_by_its_key_too(written: Mill, sku: str) -> None:
    request = order(None, (sku, 1))
    written.shop.submit(request)

    line = said(written, "general", lambda line: line.get("key") == request["key"])

    outcome = written.shop.outcome(request["key"])
    assert outcome
    assert line["order_id"] == outcome["order_id"]
    assert (line["event"], line["task"]) == ("order placed", "orders.drain")
    assert line["task_id"]
    assert line["process"] != "MainProcess"


def test_what_a_message_run_alone_writes_has_its_key_to_its_end_and_no_further(written: Mill, sku: str) -> None:
    """Its list of orders is no plain message here: it has an expiry, so Celery's own way runs it."""
    request = order(None, (sku, 1))
    sent = written.send("orders.place", request, expires=600)
    sent.get(timeout=60)

    line = said(written, "orders", lambda line: line.get("task_id") == sent.id and "succeeded" in line["event"])

    assert (line["key"], line["status"], line["order_id"]) == (
        request["key"],
        "placed",
        written.shop.outcome(request["key"])["order_id"],  # type: ignore[index]
    )
    assert "task_id" not in said(written, "orders", lambda line: "ready." in line["event"])


def test_each_order_of_a_list_has_its_line(written: Mill, sku: str) -> None:
    requests = [order(None, (sku, 1)) for _ in range(3)]
    sent = written.send("orders.place_many", requests)
    sent.get(timeout=60)

    for request in requests:
        line = said(written, "orders", lambda line, key=request["key"]: line.get("key") == key)  # type: ignore[misc]
        assert (line["task"], line["task_id"], line["status"]) == ("orders.place_many", sent.id, "placed")


def test_a_line_of_another_library_says_in_which_task_it_was_written(written: Mill) -> None:
    sent = written.send("maintenance.speak", queue="maintenance")

    line = said(written, "general", lambda line: line["event"] == "a foreign line")

    assert (line["logger"], line["level"]) == ("somebody.else", "warning")
    assert (line["task"], line["task_id"]) == ("maintenance.speak", sent.id)
    assert "key" not in line


def test_an_exception_nobody_handled_is_one_record_with_its_key(written: Mill) -> None:
    key = new_key()
    sent = written.send("maintenance.bug", {"key": key}, queue="maintenance")

    line = said(written, "general", lambda line: line.get("task_id") == sent.id and "exception" in line)

    assert (line["level"], line["key"], line["task"]) == ("error", key, "maintenance.bug")
    assert line["exception"].startswith("Traceback")
    assert "RuntimeError: a bug\nof two lines" in line["exception"]


def test_with_json_every_process_writes_nothing_else(written: Mill) -> None:
    """Beat prints a greeting and Flower its password before there is a log; `celery -q` silences the first."""
    greeting = re.compile("celery beat v|__    -|LocalTime|Configuration ->|    \\. |Flower: log in")
    for name in ("orders", "general", "beat", "flower"):
        said(written, name, bool)
        other = [
            line
            for line in child(written, name).log.read_text().splitlines()
            if line and not line.startswith("{") and not greeting.match(line)
        ]
        assert other == [], name


def test_on_the_console_no_name_or_key_can_forge_a_line(written: Mill, sku: str) -> None:
    request = {"key": f"a\n{FORGED}", "sku": sku, "location": "E1", "quantity": 1, "reason": f"\x1b[2J\r{FORGED}"}
    written.send("inventory.adjust", request, queue="inventory", task_id=f"b\n{FORGED}")
    key = new_key()
    written.call("inventory.adjust", request | {"key": key, "reason": "a count"}, queue="inventory")
    console = child(written, "console")

    def succeeded_lines() -> list[str]:
        whole = console.log.read_text().rpartition("\n")[0].splitlines()
        return [line for line in whole if f"key={key} " in line and "succeeded" in line]

    assert wait_until(lambda: bool(succeeded_lines()), 30)
    text = console.log.read_text()
    assert "\\n" + FORGED in text
    assert "\x1b" not in text
    assert not [line for line in text.splitlines() if line.startswith(FORGED)]
    succeeded = succeeded_lines()[0]
    assert succeeded.startswith("[20")
    assert " status=done" in succeeded


def test_no_log_of_any_process_has_a_password(written: Mill) -> None:
    """One could not log in, one logs all it can, and a traceback was among what they wrote."""
    refused = said(written, "refused", lambda line: "Cannot connect" in line["event"])
    assert "**" in refused["event"]
    assert end(child(written, "refused")) is not None
    logs = {each.name: each.log.read_text() for each in written.children}
    assert len(logs) == 6

    for name, text in logs.items():
        for each in (REDIS_PASSWORD, DATABASE_PASSWORD, FLOWER_PASSWORD, WRONG_PASSWORD):
            assert each not in text, name
