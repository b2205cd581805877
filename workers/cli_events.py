"""`ordermill events`: shows what happened, as it happens, and lets a consumer start again from a position."""

import json
import re
import sys
import time
from typing import Annotated, Any

import psycopg
import typer
from psycopg.rows import dict_row

from workers.cli_dead_letters import moment
from workers.database import connect, translate
from workers.errors import BusinessError, OrdermillError
from workers.home_folder import located_settings
from workers.letters_shown import printable

events = typer.Typer(help="What happened: show it, or give it to a consumer again.", no_args_is_help=True)
PAGE = 500
LAST = 2**63 - 1
POLLED_SECONDS = 0.2
# Of two events that are looked for by the same words, the sequencer's order is the one that counts.
PAGE_OF = """SELECT position, id, stream, kind, payload, created_at FROM api.events
    WHERE position > %(after)s AND (%(stream)s::text IS NULL OR stream = %(stream)s)
        AND (%(kind)s::text IS NULL OR kind LIKE %(kind)s)
        AND (%(since)s::timestamptz IS NULL OR created_at >= %(since)s)
    ORDER BY position LIMIT %(limit)s"""
LATEST = """SELECT coalesce(min(position) - 1, 0) AS after FROM (SELECT position FROM api.events
    WHERE (%(stream)s::text IS NULL OR stream = %(stream)s)
        AND (%(kind)s::text IS NULL OR kind LIKE %(kind)s)
    ORDER BY position DESC LIMIT %(last)s) AS newest"""
HEAD = "SELECT coalesce(max(position), 0) AS head FROM api.events"

From = Annotated[int | None, typer.Option("--from", min=1, max=LAST, help="From this position on.")]


@events.command()
def tail(
    *,
    start: From = None,
    stream: Annotated[str | None, typer.Option(help="Only of this stream, such as order:<id>.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only of this kind, such as stock.low or 'order.*'.")] = None,
    since: Annotated[str | None, typer.Option(help="Only from then on: 30m, 2h, 7d, or a time.")] = None,
    last: Annotated[
        int, typer.Option("--last", "-n", min=0, max=LAST, help="Without --from: the newest so many.")
    ] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show events in the order of their positions."""
    with _database() as connection:
        wanted: dict[str, Any] = {
            "stream": stream,
            "kind": _like(kind),
            "since": moment(since),
            "limit": PAGE,
            "last": last,
        }
        after = start - 1 if start else 0 if since else _one(connection, LATEST if last else HEAD, wanted)
        shown = 0
        try:
            while True:
                rows = connection.execute(PAGE_OF.encode(), wanted | {"after": after}).fetchall()
                for row in rows:
                    print(_line(row, as_json), flush=follow)
                shown += len(rows)
                after = rows[-1]["position"] if rows else after
                if len(rows) < PAGE:
                    if not follow:
                        break
                    time.sleep(POLLED_SECONDS)
        except KeyboardInterrupt:
            return
    if not shown:
        print("no event", file=sys.stderr)


@events.command()
def replay(
    consumer: Annotated[str, typer.Argument(help="Who has them again; `ordermill events consumers` lists them.")],
    *,
    start: Annotated[
        int, typer.Option("--from", min=1, max=LAST, help="The position of the first event that it has again.")
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Let a consumer start again from a position: it has all events from there on, in order.

    Consumers bear an event twice: an open alert is not opened again, a cache entry is deleted again.
    """
    with _database() as connection:
        known = {row["consumer"]: row for row in connection.execute(CONSUMERS).fetchall()}
        if consumer not in known:
            raise OrdermillError(f"there is no consumer {consumer!r}; there are: {', '.join(known) or 'none'}")
        again = max(0, known[consumer]["position"] - start + 1)
        skipped = max(0, start - 1 - known[consumer]["position"])
        what = f"{skipped:,} events are passed by" if skipped else f"{again:,} events are given again"
        if not yes:
            if not sys.stdin.isatty():
                raise OrdermillError("nothing is done: there is no terminal to ask on; add --yes")
            typer.confirm(f"{consumer}: {what}. Go on?", abort=True)
        try:
            connection.execute("SELECT api.rewind_consumer(%s, %s)", [consumer, start])
        except psycopg.Error as error:
            translated = translate(error)
            raise (translated if isinstance(translated, BusinessError) else error) from None
    print(f"{consumer} goes on from position {start:,}: {what}")


CONSUMERS = "SELECT consumer, position, behind, behind_since, moved_at FROM api.event_consumers ORDER BY consumer"


@events.command()
def consumers(
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON list.")] = False,
) -> None:
    """Show how far each consumer is."""
    with _database() as connection:
        rows = connection.execute(CONSUMERS).fetchall()
    if as_json:
        print(json.dumps(rows, indent=2, default=str))
        return
    print(f"{'consumer':20}{'position':>14}{'behind':>10}  last moved")
    for row in rows:
        print(f"{row['consumer']:20}{row['position']:>14,}{row['behind']:>10,}  {row['moved_at']:%Y-%m-%d %H:%M:%S}")


def _like(kind: str | None) -> str | None:
    """The kind as a pattern of LIKE, in which only * stands for others."""
    return kind and re.sub(r"([\\%_])", r"\\\1", kind).replace("*", "%")


def _line(row: dict[str, Any], as_json: bool) -> str:
    if as_json:
        return json.dumps(row, default=str)
    payload = printable(json.dumps(row["payload"], ensure_ascii=False))
    when = f"{row['created_at']:%m-%d %H:%M:%S.%f}"[:-3]
    return f"{row['position']:>9} {when} {printable(row['kind']):16} {printable(row['stream'])} {payload}"


def _one(connection: psycopg.Connection[Any], statement: str, values: dict[str, Any]) -> int:
    row = connection.execute(statement.encode(), values).fetchone()
    return int(next(iter(row.values()))) if row else 0


def _database() -> psycopg.Connection[Any]:
    return connect(located_settings("database_url").database_url, connect_timeout=5, row_factory=dict_row)
