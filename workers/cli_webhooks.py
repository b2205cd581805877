"""`ordermill webhooks`: adds endpoints, shows how they are, and has them told again. A secret is shown once."""

import contextlib
import json
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated, Any

import psycopg
import typer
from psycopg.rows import dict_row
from rich.console import Console
from rich.table import Table
from rich.text import Text

from workers.database import connect, translate
from workers.errors import BusinessError, OrdermillError
from workers.home_folder import located_settings
from workers.letters_shown import age, plural, printable
from workers.webhook_address import RefusedError, check

webhooks = typer.Typer(help="Who is told what happens: add, show, rotate, pause, replay.", no_args_is_help=True)
ENDPOINTS = "SELECT * FROM api.webhook_endpoints WHERE %(name)s::text IS NULL OR name = %(name)s ORDER BY name"
# What happens in the shop. Another kind may be meant for later, or is a slip of the pen.
KINDS = (
    *("order.placed", "order.held", "order.expired", "order.cancelled", "order.in_fulfilment", "order.completed"),
    *("stock.low", "stock.out", "stock.recovered", "catalog.changed"),
    *("alert.opened", "alert.acknowledged", "alert.snoozed", "alert.reopened", "alert.escalated", "alert.resolved"),
)
COLUMNS = "position, kind, stream, state, attempts, status, error, ms, last_at, due_at"
# The oldest that wait, because they may hold up others, and what has ended of the last thousand events.
DELIVERIES = f"""(SELECT {COLUMNS} FROM api.webhook_deliveries
    WHERE endpoint = %(name)s AND ended_at IS NULL ORDER BY position LIMIT %(limit)s)
    UNION ALL
    (SELECT {COLUMNS} FROM api.webhook_deliveries
    WHERE endpoint = %(name)s AND ended_at IS NOT NULL
        AND position > (SELECT coalesce(max(position), 0) - 1000 FROM api.events)
    ORDER BY position DESC LIMIT %(limit)s)"""  # noqa: S608 - names of ours

Name = Annotated[str, typer.Argument(metavar="NAME", help="As `list` shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@webhooks.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits, - and _.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="https://…; http:// only to ORDERMILL_WEBHOOKS_ALLOW.")],
    *,
    kinds: Annotated[
        list[str] | None, typer.Option("--kind", "-k", help="Such as order.placed or 'order.*'; default: all.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds until a delivery has failed.")] = 10.0,
) -> None:
    """Add an endpoint, which is told what happens from now on; shows its secret, this once."""
    settings = located_settings("database_url")
    try:
        check(url, settings.webhooks_networks)
    except RefusedError as error:
        raise OrdermillError(f"url: {error}") from None
    except OSError as error:
        print(f"not found now, which may change: {error}", file=sys.stderr)
    secret = _ask("SELECT api.add_webhook(%s, %s, %s, %s)", name, url, kinds or ["*"], round(timeout * 1000))
    for kind in kinds or []:
        if not any(_wants(kind, each) for each in KINDS):
            print(f"warning: nothing has the kind {printable(kind)} today; known: {', '.join(KINDS)}", file=sys.stderr)
    _show_secret(f"{name} is told {', '.join(kinds or ['everything'])} from now on", secret)


@webhooks.command("list")
def list_endpoints(as_json: AsJson = False) -> None:
    """Show who is told, how much waits for them, and how it went lately."""
    found = _endpoints(None)
    if as_json:
        print(json.dumps(found, indent=2, default=str))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("endpoint", "state", "waiting", "oldest", "last", "failures"):
        table.add_column(column, justify="right" if column in {"waiting", "failures"} else "left", no_wrap=True)
    for each in found:
        cells = (
            each["name"],
            _state(each),
            f"{each['waiting']:,}",
            age(each["oldest"]) if each["oldest"] else "-",
            str(each["last_status"] or ("none" if each["last_error"] else "-")),
            f"{each['failures']:,}",
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    if found:
        Console().print(table)
    print(plural(len(found), "endpoint") if found else "no endpoint: `ordermill webhooks add NAME URL`")


@webhooks.command()
def show(
    name: Name,
    *,
    limit: Annotated[int, typer.Option(min=0, max=1000, help="So many of each.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show an endpoint, the oldest deliveries that wait, and the latest that ended.

    Of its address only the host: the rest may be a secret.
    """
    [endpoint] = _endpoints(name)
    with _database() as connection:
        deliveries = connection.execute(DELIVERIES.encode(), {"name": name, "limit": limit}).fetchall()
    if as_json:
        print(json.dumps(endpoint | {"deliveries": deliveries}, indent=2, default=str))
        return
    for key, value in endpoint.items():
        if value is not None:
            print(f"{key:22} {printable(_plain(value))}")
    for each in deliveries:
        failed = f"  {each['error']}" if each["error"] else ""
        took = f"{each['status'] or 'no answer'} in {each['ms']} ms" if each["ms"] is not None else "not tried yet"
        what = f"{each['position']:>10} {each['state']:9} {each['kind']:18}"
        print(printable(f"{what} {plural(each['attempts'], 'attempt')}, {took}{failed}"))


@webhooks.command()
def rotate(
    name: Name,
    overlap: Annotated[float, typer.Option(min=0, max=720, help="Hours in which both secrets sign.")] = 24.0,
) -> None:
    """Give an endpoint a new secret; shows it, this once. Both sign until the overlap ends."""
    secret = _ask("SELECT api.rotate_webhook_secret(%s, %s)", name, timedelta(hours=overlap))
    _show_secret(f"{name} has a new secret; the former one signs too for {overlap:g} h", secret)


@webhooks.command()
def pause(name: Name, reason: Annotated[str | None, typer.Option(help="Why, for others to read.")] = None) -> None:
    """Stop sending to an endpoint; what happens meanwhile waits."""
    stopped = _ask("SELECT api.pause_webhook(%s, coalesce(%s, 'paused by a person'))", name, reason)
    print(f"{name} is paused; what happens waits" if stopped else f"{name} was stopped already")


@webhooks.command()
def resume(name: Name) -> None:
    """Send to an endpoint again, starting with what waits; ends its rest after failures too."""
    resumed = _ask("SELECT api.resume_webhook(%s)", name)
    print(f"{name} is sent what waits" if resumed else f"{name} was not stopped; its rest is over")


@webhooks.command()
def remove(name: Name, yes: Yes = False) -> None:
    """Remove an endpoint with all that waits for it; asks first."""
    [endpoint] = _endpoints(name)
    _confirm(f"Remove {name}, for which {plural(endpoint['waiting'], 'delivery').replace('ys', 'ies')} wait?", yes)
    print(f"{name} is removed, with {_ask('SELECT api.remove_webhook(%s)', name):,} that waited")


@webhooks.command()
def replay(
    name: Name,
    *,
    start: Annotated[
        int, typer.Option("--from", min=1, max=2**63 - 1, help="The position of the first event that it is told again.")
    ],
    yes: Yes = False,
) -> None:
    """Tell an endpoint again, in order and under the same ids, all it wants from a position on; asks first.

    A deliverer goes through the positions; until it is through, the endpoint is sent nothing.
    """
    _endpoints(name)
    _confirm(f"Tell {name} again what happened from position {start:,} on?", yes)
    print(f"{name}: {_ask('SELECT api.replay_webhook(%s, %s)', name, start):,} positions are looked through again")


def _wants(wanted: str, kind: str) -> bool:
    return wanted in {"*", kind} or (wanted.endswith(".*") and kind.startswith(wanted[:-1]))


def _state(endpoint: dict[str, Any]) -> str:
    if endpoint["disabled_at"]:
        return "stopped"
    if endpoint["replay_position"]:
        return "replaying"
    return "failing" if endpoint["failures"] else "ok"


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S %Z}"
    return ", ".join(value) if isinstance(value, list) else str(value)


def _show_secret(words: str, secret: str) -> None:
    # On the terminal, or in a pipe, and nowhere else.
    print(f"{words}. Its secret, which is not shown again:", file=sys.stderr)
    print(secret)


def _confirm(question: str, yes: bool) -> None:
    if not yes:
        if not sys.stdin.isatty():
            raise OrdermillError("nothing is done: there is no terminal to ask on; add --yes")
        typer.confirm(question, abort=True)


def _endpoints(name: str | None) -> list[dict[str, Any]]:
    with _database() as connection:
        found = connection.execute(ENDPOINTS, {"name": name}).fetchall()
    if name is not None and not found:
        raise OrdermillError(f"there is no webhook endpoint {name}: `ordermill webhooks list` shows them")
    return found


def _ask(statement: str, *arguments: object) -> Any:
    """What a routine gives; a rule that says no is one line."""
    with _database() as connection:
        try:
            row = connection.execute(statement.encode(), arguments).fetchone()
        except psycopg.Error as error:
            translated = translate(error)
            raise (translated if isinstance(translated, BusinessError) else error) from None
    return next(iter(row.values())) if row else None


@contextlib.contextmanager
def _database() -> Iterator[psycopg.Connection[dict[str, Any]]]:
    settings = located_settings("database_url")
    with connect(settings.database_url, connect_timeout=5, row_factory=dict_row) as connection:
        yield connection
