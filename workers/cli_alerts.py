"""`ordermill alerts`: what is low, who looks after it, and who is told by mail."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import psycopg
import typer
from psycopg.rows import dict_row
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from workers.database import connect
from workers.errors import OrdermillError
from workers.home_folder import located_settings
from workers.letters_shown import age, plural, printable

alerts = typer.Typer(help="Low stock: what is low, who looks after it, who is told.", no_args_is_help=True)
LONGEST = 24  # characters of a column that is not the last
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
WHERE = """WHERE (%(all)s OR state <> 'resolved') AND (%(state)s::text IS NULL OR state = %(state)s)
    AND (%(pool)s::text IS NULL OR pool = %(pool)s) AND (%(sku)s::text IS NULL OR sku = %(sku)s)"""
LISTED = f"SELECT * FROM api.alerts {WHERE} ORDER BY id DESC LIMIT %(limit)s"  # noqa: S608 - texts of ours
COUNTED = f"SELECT count(*) AS total FROM api.alerts {WHERE}"  # noqa: S608 - texts of ours

LAST = 2**63 - 1
Numbers = Annotated[list[int], typer.Argument(metavar="NUMBER", min=1, max=LAST, help="As `list` shows them.")]
By = Annotated[str | None, typer.Option(help="Who does this; it is kept with the alert.")]
AsJson = Annotated[bool, typer.Option("--json", help="As a JSON list.")]


@alerts.command("list")
def list_alerts(
    *,
    state: Annotated[str | None, typer.Option(help="Only open, acknowledged, snoozed or resolved.")] = None,
    pool: Annotated[str | None, typer.Option(help="Only of this pool.")] = None,
    sku: Annotated[str | None, typer.Option(help="Only of this sku.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the newest.")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are resolved.")] = False,
    as_json: AsJson = False,
) -> None:
    """List alerts, newest first: those that are not resolved, unless told otherwise."""
    if state not in {None, "open", "acknowledged", "snoozed", "resolved"}:
        raise OrdermillError(f"--state {state} is none: give open, acknowledged, snoozed or resolved")
    everything = everything or state == "resolved"
    wanted = {"state": state, "pool": pool, "sku": sku, "limit": limit, "all": everything}
    with _database() as connection:
        rows = connection.execute(LISTED.encode(), wanted).fetchall()
        total = int((connection.execute(COUNTED.encode(), wanted).fetchone() or {"total": 0})["total"])
    if as_json:
        print(json.dumps([row | {"age": row["age"].total_seconds()} for row in rows], indent=2, default=str))
        return
    _show(
        {"#": "id", "age": "opened_at", "level": "level", "state": "state", "esc": "escalation"}
        | {"left": "available", "min": "threshold", "at": "location", "sku": "sku"},
        rows,
    )
    shown = f"the newest {len(rows)} of " if total > len(rows) else ""
    noun = "alert" if everything else "alert that is not resolved"
    print(shown + (plural(total, "alert") if total else f"no {noun}"))


@alerts.command()
def acknowledge(numbers: Numbers, *, by: By = None) -> None:
    """Somebody looks after these: they are not escalated any more."""
    _each(numbers, "SELECT api.acknowledge_alert(%s, %s) AS alert", by)


@alerts.command()
def snooze(
    numbers: Numbers,
    *,
    length: Annotated[str, typer.Option("--for", help="How long: 30m, 8h, 7d.")],
    by: By = None,
) -> None:
    """Let these sleep for a while: then they are told again."""
    _each(numbers, "SELECT api.snooze_alert(%s, %s, %s) AS alert", _length(length), by)


@alerts.command()
def resolve(numbers: Numbers, *, by: By = None) -> None:
    """Close these. No other is opened before the level has recovered and falls again."""
    _each(numbers, "SELECT api.resolve_alert(%s, %s) AS alert", by)


@alerts.command()
def recipients(as_json: AsJson = False) -> None:
    """Show who gets mail."""
    with _database() as connection:
        rows = connection.execute("SELECT * FROM api.alert_recipients ORDER BY id").fetchall()
    columns = {"#": "id", "from": "min_escalation", "pool": "pool", "category": "category", "address": "address"}
    _print(as_json, columns, rows, "no recipient: nobody gets mail")


@alerts.command("add-recipient")
def add_recipient(
    address: Annotated[str, typer.Argument(help="An e-mail address alone.")],
    *,
    escalation: Annotated[
        int, typer.Option("--from", min=0, max=2, help="0: as soon as an alert opens; 1, 2: once it is escalated.")
    ] = 0,
    pool: Annotated[str | None, typer.Option(help="Only of this pool.")] = None,
    category: Annotated[str | None, typer.Option(help="Only of this category and those below it.")] = None,
) -> None:
    """Have an address told by mail; the same again changes from which escalation on."""
    query = "SELECT api.add_alert_recipient(%s, %s, %s, %s) AS id"
    with _database() as connection:
        try:
            row = connection.execute(query, [address, escalation, pool, category]).fetchone()
        except psycopg.errors.CheckViolation:
            raise OrdermillError(
                f"{address!r} is no address that can be mailed: give one such as a@example.com"
            ) from None
        except psycopg.Error as error:
            raise _said(error) from None
    print(f"recipient {row['id'] if row else ''}: {printable(address)}")


@alerts.command("remove-recipient")
def remove_recipient(
    number: Annotated[int, typer.Argument(metavar="NUMBER", min=1, max=LAST, help="As `recipients` shows it.")],
) -> None:
    """Have an address told no more."""
    with _database() as connection:
        row = connection.execute("SELECT api.remove_alert_recipient(%s) AS found", [number]).fetchone()
    if not row or not row["found"]:
        raise OrdermillError(f"there is no recipient {number}: `ordermill alerts recipients` shows them")
    print(f"recipient {number} is removed")


@alerts.command()
def mails(
    everything: Annotated[bool, typer.Option("--all", help="Also those that were sent.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the newest.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show mails that are still to be sent, and why they are not yet; refused ones are dead letters."""
    query = "SELECT * FROM api.alert_mails WHERE %s OR sent_at IS NULL ORDER BY created_at DESC LIMIT %s"
    with _database() as connection:
        rows = connection.execute(query, [everything, limit]).fetchall()
    columns = {
        "age": "created_at",
        "alerts": "alerts",
        "tried": "attempts",
        "address": "address",
        "error": "last_error",
    }
    _print(
        as_json,
        columns | ({"sent": "sent_at"} if everything else {}),
        rows,
        "no mail" if everything else "no mail waits",
    )


def _each(numbers: list[int], query: str, *arguments: object) -> None:
    """Does it to each and says what came of it; exit 1 when one could not be done."""
    failed = 0
    with _database() as connection:
        for number in dict.fromkeys(numbers):
            try:
                row = connection.execute(query.encode(), [number, *arguments]).fetchone()
            except psycopg.Error as error:
                if not str(error.sqlstate or "").startswith("OM"):
                    raise
                failed += 1
                print(f"{number}  {_said(error)}")
                continue
            alert = row["alert"] if row else {}
            until = f" until {_utc(alert['snoozed_until'])}" if alert["snoozed_until"] else ""
            print(f"{number}  {alert['state']}{until}: {printable(alert['sku'])} at {printable(alert['location'])}")
    if failed:
        raise typer.Exit(1)


def _said(error: psycopg.Error) -> OrdermillError:
    words = error.diag.message_primary or str(error)
    return OrdermillError(f"{printable(words)} ({error.sqlstate})" if error.sqlstate else words)


def _utc(moment: str) -> str:
    return f"{datetime.fromisoformat(moment).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _length(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,7})([smhd])", text)
    if not found:
        raise OrdermillError(f"--for {text} is no length of time: give 30m, 8h or 7d")
    return timedelta(**{UNITS[found[2]]: int(found[1])})


def _print(as_json: bool, columns: dict[str, str], rows: list[Any], empty: str) -> None:
    if as_json:
        print(json.dumps(rows, indent=2, default=str))
    elif rows:
        _show(columns, rows)
    else:
        print(empty)


def _show(columns: dict[str, str], rows: list[Any]) -> None:
    """A table whose last column is cut where the terminal ends. What was typed by others is shown as it is."""
    if not rows:
        return
    looks: dict[str, Callable[[Any], str]] = {"opened_at": age, "created_at": age, "sent_at": age}
    cells = [
        ["-" if row[key] is None else printable(looks.get(key, str)(row[key])) for key in columns.values()]
        for row in rows
    ]
    console = Console()
    room = console.width
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, *column in zip(columns, *cells, strict=True):
        width = min(max(len(name), *map(len, column)), room if name == [*columns][-1] else LONGEST)
        room -= width + 2
        justify: JustifyMethod = "right" if name in {"#", "left", "min"} else "left"
        table.add_column(name, no_wrap=True, overflow="ellipsis", justify=justify, width=max(width, 1))
    for line in cells:
        table.add_row(*map(Text, line))
    console.print(table)


def _database() -> psycopg.Connection[dict[str, Any]]:
    return connect(located_settings("database_url").database_url, connect_timeout=5, row_factory=dict_row)
