"""`ordermill views`: how fresh the materialized views are, and refreshing them by hand.

It reads options and calls `api.view_freshness`, `api.stale_views` and `workers.views`.
"""

import contextlib
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.engine import Connection

from workers.database import build_engine
from workers.home_folder import located_settings

views = typer.Typer(help="Materialized views: see how fresh they are, refresh them.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="As a JSON list.")]
UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


@views.command("list")
def list_views(*, as_json: AsJson = False) -> None:
    """List the views: how old their data may be and is, whether they are due, and how the last refresh went."""
    found = [_plain(row) for row in _freshness()]
    if as_json:
        print(json.dumps(found, indent=2, default=str))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("view", "fresh for", "age", "state", "rows", "ms"):
        table.add_column(name, justify="right" if name in {"rows", "ms"} else "left", no_wrap=True)
    for row in found:
        cells = (row["view"], _span(row["max_staleness"]), _span(row["staleness"]), _state(row))
        table.add_row(*map(Text, (*cells, _number(row["rows"]), _number(row["ms"]))))
    Console().print(table)
    for row in found:
        if row["last_error"]:
            print(f"{row['view']}: {row['last_error']}")


@views.command()
def refresh(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Names, as `list` shows them.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Refresh views now, stale or not, each within its deadline; exit 1 when one could not be refreshed."""
    from workers.views import refresh as refresh_view  # noqa: PLC0415

    done = []
    with _database() as connection:
        limits = {
            row["view"]: row["deadline"] for row in _rows(connection, "SELECT view, deadline FROM api.view_freshness")
        }
        for name in names:
            limit = limits.get(name, timedelta(minutes=1))  # of one that there is not, the routine says so
            done.append(_plain(refresh_view(connection, name, round(limit.total_seconds() * 1000))))
            if not as_json:
                print(_told(done[-1]), flush=True)
    if as_json:
        print(json.dumps(done, indent=2, default=str))
    if any(each["outcome"] == "failed" for each in done):
        raise typer.Exit(1)


@contextlib.contextmanager
def _database() -> Iterator[Connection]:
    """A connection with a worker's role."""
    engine = build_engine(located_settings("database_url"))
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _freshness() -> list[dict[str, Any]]:
    with _database() as connection:
        due = {row["view"] for row in _rows(connection, "SELECT view FROM api.stale_views()")}
        return [row | {"due": row["view"] in due} for row in _rows(connection, "SELECT * FROM api.view_freshness")]


def _rows(connection: Connection, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.exec_driver_sql(query).mappings()]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Spans of time as seconds, so that a program can compare them."""
    return {name: value.total_seconds() if isinstance(value, timedelta) else value for name, value in row.items()}


def _state(row: dict[str, Any]) -> str:
    if not row["enabled"]:
        return "off"
    if row["failures"]:
        return f"failed ({row['failures']})"
    return "due" if row["due"] else "fresh" if (row["staleness"] or 0) < row["max_staleness"] else "nothing new"


def _span(seconds: float | None) -> str:
    """A span of time in one unit, such as `5 min`."""
    if seconds is None:
        return "never"
    size, unit = next(((size, unit) for unit, size in UNITS if seconds >= size), (1, "s"))
    return f"{int(seconds // size)} {unit}"


def _number(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _told(done: dict[str, Any]) -> str:
    match done["outcome"]:
        case "refreshed":
            return f"{done['view']}: {done['rows']:,} rows in {done['ms']:,} ms; its data was {_was(done)}"
        case "skipped":
            return f"{done['view']}: somebody else is refreshing it"
        case _:
            return f"{done['view']}: failed after {done['ms']:,} ms: {done['error']}"


def _was(done: dict[str, Any]) -> str:
    before = done["staleness_before"]
    return "never filled before" if before is None else f"{_span(before)} old"
