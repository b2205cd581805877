"""Lines of the log: their fields, that nothing can forge one, and that no secret gets into one."""

import json
import logging
import sys

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from structlog.contextvars import clear_contextvars

from workers.logs import (
    IN_ADDRESS,
    IN_PARAMETER,
    about_batch,
    about_outcome,
    about_request,
    formatter,
    log_outcomes,
    one_line,
)
from workers.settings import Settings

ADDRESSES = {
    "database_url": "postgresql://ordermill:p%40ss-word@db/ordermill",
    "redis_url": "redis://:redis-secret@cache/0",
    "broker_url": "rediss://mill:broker*secret@queue:6380/0",
}
SECRETS = ("p%40ss-word", "p@ss-word", "redis-secret", "broker*secret", "flower-secret", "pa/ss@w", "s3cret")


def line(form: str, message: str, /, *args: object, error: BaseException | None = None, **extra: object) -> str:
    settings = Settings(log_format=form, flower_password="flower-secret", **ADDRESSES)
    record = logging.LogRecord("workers.x", logging.INFO, "x.py", 1, message, args, None)
    if error is not None:
        record.exc_info = (type(error), error, error.__traceback__)
    vars(record).update(extra)
    return formatter(settings).format(record)


def failed(text: str) -> Exception:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


@pytest.fixture(autouse=True)
def _nothing_said_before() -> None:
    clear_contextvars()


def test_a_line_of_json_says_when_what_where_and_about_which_message() -> None:
    with about_batch("orders.place", 7):
        said = json.loads(line("json", "order %s", "placed", key="k-1", order_id="0199", task_id="t-1"))

    assert said.pop("timestamp").endswith("+00:00")
    assert said.pop("pid")
    assert said.pop("process") == "MainProcess"
    assert said == {
        "level": "info",
        "event": "order placed",
        "logger": "workers.x",
        "task": "orders.place",
        "task_id": "t-1",
        "key": "k-1",
        "order_id": "0199",
        "batch": 7,
    }


def test_what_celery_says_about_a_message_has_its_ids_and_not_its_arguments() -> None:
    data = {"id": "t-2", "name": "orders.place", "args": "({'customer': 'C-1'},)", "kwargs": "{}"}

    said = json.loads(line("json", "Task %(name)s[%(id)s] received", data, data=data))

    assert (said["task"], said["task_id"]) == ("orders.place", "t-2")
    assert "C-1" not in json.dumps(said)


def test_the_key_is_the_payloads_or_else_the_message_id_and_the_outcome_adds_the_order() -> None:
    about_request({"key": "k" * 1000}, "t-3")
    assert json.loads(line("json", "x"))["key"] == "k" * 200
    about_request({"sku": "A"}, "t-3")
    about_outcome({"key": "t-3", "status": "rejected", "code": "OM001", "order_id": None, "message": "of a customer"})

    said = json.loads(line("json", "x"))

    assert (said["key"], said["status"], said["code"]) == ("t-3", "rejected", "OM001")
    assert "order_id" not in said
    assert "message" not in said


def test_each_order_of_a_batch_has_a_line_and_a_dead_one_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    outcomes = [{"key": "a", "status": "placed", "order_id": "1"}, {"key": "b", "status": "dead", "code": "OM090"}]
    outcomes += [{"key": "c", "status": "rejected"}, 5]  # type: ignore[list-item]

    with caplog.at_level(logging.INFO), about_batch("orders.place", 4):
        log_outcomes(outcomes, [{"task_id": each} for each in ("t-a", "t-b", "t-c", "t-d")])
        text = "\n".join(formatter(Settings(log_format="json")).format(record) for record in caplog.records)

    lines = [json.loads(line) for line in text.splitlines()]
    assert [tuple(line[name] for name in ("level", "event", "key", "task_id", "task")) for line in lines] == [
        ("info", "order placed", "a", "t-a", "orders.place"),
        ("info", "order rejected", "c", "t-c", "orders.place"),
        ("warning", "order dead", "b", "t-b", "orders.place"),
    ]


def test_without_info_only_the_dead_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        log_outcomes([{"key": "a", "status": "placed"}, {"key": "b", "status": "dead"}])
        about_outcome({"key": "c", "status": "dead"})
        about_outcome({"key": "d", "status": "done"})

    assert [line["key"] for record in caplog.records for line in record.each] == ["b", "c"]  # type: ignore[attr-defined]


def test_an_exception_is_a_field_of_its_one_line_of_json() -> None:
    said = line("json", "a bug", error=failed("boom\nagain"))

    assert "\n" not in said
    assert json.loads(said)["exception"].endswith("ValueError: boom\nagain")


def test_on_the_console_an_exception_follows_its_line_indented() -> None:
    first, *rest = line("console", "a bug", error=failed("boom\n[2026-01-01: INFO/MainProcess] forged")).splitlines()

    assert first.endswith(": INFO/MainProcess] a bug")
    assert rest
    assert all(each.startswith("    ") for each in rest)


# A machine that stands still for a moment is no finding.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(), st.text())
def test_no_text_forges_a_line_or_moves_the_cursor(message: str, key: str) -> None:
    # What reads as a password is hidden, as tests below want it. Hypothesis tries texts of our source, regexes too.
    assume(not (IN_ADDRESS.search(message) or IN_PARAMETER.search(message)))
    for form in ("console", "json"):
        said = line(form, "%s", message, key=key)
        assert said.isprintable()
        assert said.encode()
    assert json.loads(said)["event"] == message


def test_a_key_with_escapes_reads_as_such_on_the_console() -> None:
    said = line("console", "order placed", key='a\x00\x1b[2J\n[x: INFO/MainProcess] ready.\u202e\ud800 code=OM001"')

    assert said.endswith(r' key="a\x00\x1b[2J\n[x: INFO/MainProcess] ready.\u202e\ud800 code=OM001\""')
    assert one_line("Zürich 東京") == "Zürich 東京"


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "text",
    [
        *(f"cannot connect to {address}" for address in ADDRESSES.values()),
        "two: sentinel://:s3cret@one:26379/0;sentinel://:s3cret@two:26379/0",
        "redis://u:pa/ss@w@host/0 is away",
        "host=db password=s3cret user=x",
        "host=db password='s3cret' user=x",
        "rediss://host/0?ssl_cert_reqs=required&password=s3cret&db=1",
        "login flower-secret, AUTH p@ss-word",
    ],
)
def test_no_password_gets_into_a_line(form: str, text: str) -> None:
    for said in (line(form, text), line(form, "x", key=text), line(form, "x", error=failed(text))):
        assert "**" in said
        assert not any(secret in said for secret in SECRETS)


def test_what_is_no_secret_stays() -> None:
    text = "redis://cache:6379/0 and ordermill@host, http://127.0.0.1:5555/x?a=1, 3@4"

    assert json.loads(line("json", text))["event"] == text


def test_a_password_that_is_the_users_name_does_not_blot_out_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(database_url="postgresql://ordermill:ordermill@db/ordermill")
    record = logging.LogRecord("x", logging.INFO, "x", 1, "ordermill: %s", (settings.database_url,), None)

    assert formatter(settings).format(record).endswith("] ordermill: postgresql://ordermill:**@db/ordermill")


def test_what_cannot_be_formatted_is_said_and_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(Settings()))

    handler.handle(logging.LogRecord("x", logging.INFO, "x", 1, "%d", ("no number",), None))

    assert "Logging error" in capsys.readouterr().err
