"""`ordermill dead-letters`: lists, shows, replays and discards what could not be done.

It reads options, asks, and calls `workers.dead_letters` and `workers.replay`; `workers.letters_shown` has the looks.
"""

import contextlib
import functools
import json
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import psycopg
import typer
from rich.console import Console

from workers.database import connect
from workers.errors import OrdermillError
from workers.home_folder import located_settings

# What imports Celery is imported by the commands: the others start without.
# ruff: noqa: PLC0415

letters = typer.Typer(help="What could not be done: list it, show it, replay it or discard it.", no_args_is_help=True)
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids, as `list` shows them.")]
Code = Annotated[str | None, typer.Option(help="Only of this code, such as OM091; docs/errors.md has them all.")]
Task = Annotated[str | None, typer.Option(help="Only for this task, such as orders.place.")]
Queue = Annotated[str | None, typer.Option(help="Only of this queue.")]


class SourceName(StrEnum):
    """Where what could not be done came from: by which door, or for which consumer."""

    CELERY = "celery"
    SQL = "sql"
    EVENTS = "events"
    WEBHOOKS = "webhooks"
    MAIL = "mail"


Source = Annotated[SourceName | None, typer.Option(help="Only from this door or consumer.")]
Since = Annotated[str | None, typer.Option(help="Only from then on: 30m, 2h, 7d, or a time: 2026-01-31T10:00Z.")]
Key = Annotated[str | None, typer.Option(help="Only of this key: an order's, or a task's id.")]
Most = Annotated[int | None, typer.Option("--limit", min=1, max=100_000, help="At most so many, the newest.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@letters.command("list")
def list_letters(
    *,
    code: Code = None,
    task: Task = None,
    queue: Queue = None,
    source: Source = None,
    since: Since = None,
    key: Key = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the newest.")] = 50,
    settled: Annotated[bool, typer.Option("--all", help="Also those that were replayed or discarded.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON list, with payloads.")] = False,
) -> None:
    """List open dead letters, newest first; what workers set aside in Redis is collected before."""
    from workers.dead_letters import Filter, count, find
    from workers.letters_shown import plural, table

    wanted = Filter(code, task, queue, source and str(source), moment(since), key)
    with _database() as connection:
        _collect_first(connection)
        found = find(connection, wanted, limit, settled=settled, payloads=as_json)
        total = count(connection, wanted, settled=settled)
    if as_json:
        print(json.dumps([asdict(letter) for letter in found], indent=2, default=str))
        return
    if found:
        console = Console()
        console.print(table(found, console.width, settled))
    what = "dead letter" if settled else "open dead letter"
    shown = f"the newest {len(found)} of " if total > len(found) else ""
    print(shown + (plural(total, what) if total else f"no {what}"))


@letters.command()
def show(letter: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")]) -> None:
    """Show a dead letter whole: its reason, its payload, and its Celery message decoded where it has one."""
    from workers.dead_letters import fetch
    from workers.letters_shown import show_whole

    with _database() as connection:
        show_whole(fetch(connection, _id(letter)))


@letters.command()
def replay(
    ids: Ids = None,
    *,
    code: Code = None,
    task: Task = None,
    queue: Queue = None,
    source: Source = None,
    since: Since = None,
    key: Key = None,
    limit: Most = None,
    yes: Yes = False,
) -> None:
    """Have open dead letters decided or delivered anew: these, or all that the options choose; asks first.

    An order goes into the queue behind the SQL door, under its key.
    The message of a task that failed is sent again, under its task id.
    An item that no worker could read goes back to its queue as it was.
    A letter is replayed once.
    """
    from workers.dead_letters import Filter
    from workers.replay import publisher
    from workers.replay import replay as replay_letter

    wanted = Filter(code, task, queue, source and str(source), moment(since), key)
    client = functools.cache(lambda: publisher(located_settings("broker_url")))
    with _database() as connection:
        meant = _meant("replay", connection, ids, wanted, limit)
        _settle("replay", meant, yes, lambda letter_id: replay_letter(connection, client, letter_id))


@letters.command()
def discard(
    ids: Ids = None,
    *,
    code: Code = None,
    task: Task = None,
    queue: Queue = None,
    source: Source = None,
    since: Since = None,
    key: Key = None,
    limit: Most = None,
    yes: Yes = False,
) -> None:
    """Close open dead letters and do nothing else: these, or all that the options choose; asks first.

    A discarded letter can be seen with `list --all` for as long as keys are kept.
    The key of a dead order stays dead.
    """
    from workers.dead_letters import Filter
    from workers.replay import discard as discard_letter

    wanted = Filter(code, task, queue, source and str(source), moment(since), key)
    with _database() as connection:
        meant = _meant("discard", connection, ids, wanted, limit)
        _settle("discard", meant, yes, lambda letter_id: discard_letter(connection, letter_id))


def moment(text: str | None) -> datetime | None:
    """The time that `--since` means; raises OrdermillError when it means none."""
    if text is None:
        return None
    try:
        if ago := re.fullmatch(r"(\d+)([smhd])", text):
            return datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
        told = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise OrdermillError(f"--since {text} is no time: give 30m, 2h, 7d, or one such as 2026-01-31T10:00Z") from None
    return told if told.tzinfo else told.replace(tzinfo=UTC)


def _id(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise OrdermillError(f"{text!r} is no id: `ordermill dead-letters list` shows them") from None


@contextlib.contextmanager
def _database() -> Iterator[psycopg.Connection[Any]]:
    with connect(located_settings("database_url").database_url, connect_timeout=5) as connection:
        yield connection


def _collect_first(connection: psycopg.Connection[Any]) -> None:
    """What beat does each ten seconds, so that the newest is here too; where Redis is away, a line says so."""
    from workers.dead_letters import bury_with, collect
    from workers.queue_names import ALL_QUEUES
    from workers.replay import broker_of, publisher

    try:
        with broker_of(publisher(located_settings("broker_url"))) as broker:
            collect(broker, ALL_QUEUES, bury_with(connection))
    except (OrdermillError, ValueError) as error:
        print(f"not collected, what workers set aside in Redis lately: {error}", file=sys.stderr)


def _meant(
    verb: str, connection: psycopg.Connection[Any], ids: list[str] | None, wanted: Any, limit: int | None
) -> list[Any]:
    """The open letters of these ids or of this filter; says of the others what became of them."""
    from workers.dead_letters import fetch, find
    from workers.letters_shown import state

    if bool(ids) == bool(wanted):
        raise OrdermillError(f"say which: `ordermill dead-letters {verb} ID ...`, or options such as --code OM091")
    if not ids:
        _collect_first(connection)
        return find(connection, wanted, limit)
    named = [fetch(connection, letter_id) for letter_id in dict.fromkeys(map(_id, ids))]
    for letter in named:
        if letter.settled_at:
            print(f"{letter.id}  {state(letter)}")
    return [letter for letter in named if not letter.settled_at]


def _settle(verb: str, meant: list[Any], yes: bool, act: Callable[[uuid.UUID], Any]) -> None:
    """Says what is about to be done, asks, and does it to each; exit 1 when one could not be done."""
    from workers.letters_shown import announce, plural, printable

    if not meant:
        print(f"nothing to {verb}")
        return
    announce(Console(), verb, meant)
    if not yes:
        if not sys.stdin.isatty():
            raise OrdermillError(f"nothing is done: there is no terminal to ask on; add --yes to {verb} without asking")
        typer.confirm(f"{verb.capitalize()} {plural(len(meant), 'dead letter')}?", abort=True)
    failed = 0
    for letter in meant:
        done, words = act(letter.id)
        failed += not done
        print(f"{letter.id}  {printable(words)}", flush=True)
    if failed:
        raise typer.Exit(1)
