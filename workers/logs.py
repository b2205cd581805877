"""How every process of ours logs: a record a line, for people or as JSON, by structlog over the standard logging.

Call sites use `logging` or Celery's loggers; a line written in a task has its `task`, `task_id`, `key` and `order_id`.
Where lines go, and from which level on, stays Celery's business (`-l`, `-f`).
"""

import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import repeat
from types import MappingProxyType, TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from celery.signals import (
    after_setup_logger,
    after_setup_task_logger,
    celeryd_after_setup,
    celeryd_init,
    task_postrun,
    task_prerun,
)
from celery.utils.log import get_multiprocessing_logger
from structlog.contextvars import bind_contextvars, bound_contextvars, clear_contextvars, merge_contextvars
from structlog.processors import JSONRenderer, format_exc_info
from structlog.stdlib import ExtraAdder, ProcessorFormatter

from workers import traces
from workers.settings import Settings, get_settings

# What a call site may give by `extra`. Not all: Celery's own extra is the message, arguments of customers included.
FIELDS = ("task", "task_id", "key", "order_id", "status", "code", "field", "batch", "trace_id", "span_id")
# The facts of many lines in one record. Measured in November 2026: 7 µs a line so, 22 µs as a record each.
EACH = "each"
SHOWN = 200  # characters of a key: one may be of any length until it is refused
HIDDEN = "**"
# To the last @ of a word: a password may have one unquoted. Better too much is hidden than too little.
IN_ADDRESS = re.compile(r"(://[^\s:@/]*:)\S+@")
IN_PARAMETER = re.compile(r"((?:password|passwd|pwd)=)(?:'[^']*'|\"[^\"]*\"|[^\s&'\"]+)", re.IGNORECASE)
SECRET_NAME = re.compile("password|secret|token|credential")
SHORTEST_SECRET = 6  # a shorter one is hidden only where it is a password by its place; it may be any word
INDENT = "    "  # so that no line of a traceback begins as a record does
Event = Any  # structlog's event dict
log = logging.getLogger(__name__)


class Redact:
    """A processor that hides passwords in addresses and parameters, and the settings that are secrets, anywhere."""

    def __init__(self, settings: Settings) -> None:
        # The longest first: one may be a part of another.
        self.secrets = sorted(secrets_of(settings), key=len, reverse=True)

    def __call__(self, _logger: object, _method: str, event: Event) -> Event:
        """The event with each of its texts cleaned."""
        for line in event.get(EACH, ()):
            self(_logger, _method, line)
        for name, value in event.items():
            if isinstance(value, str):
                event[name] = self.clean(value)
        return event

    def clean(self, text: str) -> str:
        """The text without its secrets."""
        if "://" in text:
            text = IN_ADDRESS.sub(rf"\1{HIDDEN}@", text)
        if "=" in text:
            text = IN_PARAMETER.sub(rf"\1{HIDDEN}", text)
        for secret in self.secrets:
            if secret in text:
                text = text.replace(secret, HIDDEN)
        return text


def secrets_of(settings: Settings) -> set[str]:
    """The passwords in the addresses of these settings, quoted and not, and what settings with such a name hold."""
    found = set()
    for name, value in settings:
        for each in value if isinstance(value, list | tuple) else (value,):
            text = each.get_secret_value() if hasattr(each, "get_secret_value") else each
            if not isinstance(text, str):
                continue
            if SECRET_NAME.search(name):
                found.add(text)
            for address in text.split(";"):
                found |= _passwords(address)
    return {secret for secret in found if len(secret) >= SHORTEST_SECRET}


def _passwords(address: str) -> set[str]:
    try:
        parts = urlsplit(address.strip())
    except ValueError:
        return set()
    # A password that is also the user's name hides nothing, and would blot out every mention of the user.
    if not parts.password or parts.password == parts.username:
        return set()
    return {parts.password, unquote(parts.password)}


def describe(_logger: object, _method: str, event: Event) -> Event:
    """A processor that says when, how grave, what, where and about which message, in one order."""
    record: logging.LogRecord = event.pop("_record")
    event.pop("_from_structlog")
    found: dict[str, Any] = {
        "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "event": event.pop("event"),
        "logger": record.name,
        "process": record.processName,
        "pid": record.process,
    }
    told = getattr(record, "data", None)  # Celery's own lines about a message, in whichever process
    if isinstance(told, Mapping) and "id" in told and "name" in told:
        found |= {"task": told["name"], "task_id": told["id"]}
    event = traces.current_ids() | event | found
    return {name: event[name] for name in (*found, *FIELDS) if name in event} | event


def one_line(text: object) -> str:
    """The text with each character that moves the cursor, colours or ends a line as an escape."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in shown)


def render_console(_logger: object, _method: str, event: Event) -> str:
    """A line for people, of the form that Celery has; a traceback follows it, indented. Nothing in it can forge one."""
    head = f"[{event.pop('timestamp')}: {event.pop('level').upper()}/{event.pop('process')}]"
    text = one_line(event.pop("event"))
    traceback = "".join(f"\n{INDENT}{one_line(line)}" for line in str(event.pop("exception", "")).splitlines())
    pairs = "".join(f" {name}={_value(event[name])}" for name in event if name not in {"logger", "pid"})
    return f"{head} {text}{pairs}{traceback}"


def _value(value: object) -> str:
    text = one_line(value)
    return text if text and not re.search(r"[\s\"=]", text) else '"' + text.replace('"', '\\"') + '"'


def each_line(render: Callable[[Any, str, Event], str | bytes]) -> Callable[[Any, str, Event], str]:
    """The renderer for a record that stands for many lines, as a batch does, or else for one."""

    def rendered(logger: Any, method: str, event: Event) -> str:
        lines = event.pop(EACH, ({},))
        return "\n".join(str(render(logger, method, event | line)) for line in lines)

    return rendered


def formatter(settings: Settings) -> ProcessorFormatter:
    """What turns a record into a line, as ORDERMILL_LOG_FORMAT says."""
    render = JSONRenderer() if settings.log_format == "json" else render_console
    return ProcessorFormatter(
        foreign_pre_chain=[ExtraAdder((*FIELDS, EACH)), merge_contextvars],
        processors=[describe, format_exc_info, Redact(settings), each_line(render)],
    )


@celeryd_init.connect(weak=False)
def set_up(**_: Any) -> None:
    """Makes a process log this way, to standard error: Flower for good, a worker until Celery has set it up."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(get_settings()))
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    logging.captureWarnings(True)


@after_setup_logger.connect(weak=False)
@after_setup_task_logger.connect(weak=False)
def _format(logger: logging.Logger, **_: Any) -> None:
    """Celery has chosen file, level and handlers; only the form of the lines is ours."""
    made = formatter(get_settings())
    for handler in [*logger.handlers, *get_multiprocessing_logger().handlers]:
        handler.setFormatter(made)
    sys.excepthook = _say_why


@celeryd_after_setup.connect(weak=False)
def _no_banner(instance: Any, **_: Any) -> None:
    """A worker's banner is not JSON; `celery -q` does the same for beat and Flower."""
    instance.quiet = instance.quiet or get_settings().log_format == "json"


def _say_why(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What ends a process is one record too."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        log.critical("this process ends: %s", kind.__name__, exc_info=(kind, error, trace))


# What a line is about


@task_prerun.connect(weak=False)
def _begin(task_id: Any = None, task: Any = None, **_: Any) -> None:
    clear_contextvars()
    bind_contextvars(task=task.name, task_id=task_id)


@task_postrun.connect(weak=False)
def _end(**_: Any) -> None:
    clear_contextvars()


@contextmanager
def about_batch(task: str, size: int) -> Iterator[None]:
    """Lines written in the block are about so many messages of this task."""
    with bound_contextvars(task=task, batch=size):
        yield


def about_request(payload: Any, task_id: Any, ids: Mapping[str, str] = MappingProxyType({})) -> None:
    """Lines from here on, to the end of the task, are about a request: its key, or else its message's id, and `ids`."""
    bind_contextvars(**ids)
    if isinstance(payload, dict):
        bind_contextvars(key=str(payload.get("key") or task_id)[:SHOWN])


def about_outcome(outcome: Any) -> None:
    """The same for what was decided, so that Celery's own line about the end of the task says it."""
    if isinstance(outcome, dict):
        bind_contextvars(**_facts(outcome))
        if outcome.get("status") == "dead":
            log_outcomes([outcome])
    elif isinstance(outcome, list):
        log_outcomes(outcome)


def log_outcomes(outcomes: Iterable[Any], messages: Iterable[dict[str, str]] = repeat({})) -> None:
    """A line for each order of a batch: its key, its id, what was decided and why, and the ids of its message."""
    lines: dict[int, list[dict[str, str]]] = {
        level: [] for level in (logging.INFO, logging.WARNING) if log.isEnabledFor(level)
    }
    for outcome, message in zip(outcomes, messages, strict=False):
        if isinstance(outcome, dict):
            status = outcome.get("status")
            level = logging.WARNING if status == "dead" else logging.INFO
            if level in lines:
                lines[level].append({"event": f"order {status}"} | _facts(outcome) | message)
    for level, some in lines.items():
        if some:
            log.log(level, "%d orders", len(some), extra={EACH: some})


def _facts(outcome: dict[str, Any]) -> dict[str, str]:
    named = {name: outcome.get(name) for name in ("key", "order_id", "status", "code", "field")}
    return {name: str(value)[:SHOWN] for name, value in named.items() if value is not None}
