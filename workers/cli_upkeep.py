"""`ordermill jobs`, `report` and `archive`: what the timetable did, what upkeep finds, and the archives of old months.

It reads options, calls `workers.timetable`, `api.report` and `workers.retiring`, and shows what came of it.
"""

import contextlib
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any

import psycopg
import typer
from psycopg.rows import dict_row

from workers.database import connect
from workers.errors import OrdermillError
from workers.home_folder import located_settings

# What needs more than PostgreSQL is imported by the commands: the others start without.
# ruff: noqa: PLC0415

upkeep = typer.Typer()
archives = typer.Typer(help="Old months: archive them, look at them, bring them back.", no_args_is_help=True)
upkeep.add_typer(archives, name="archive")

AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
Month = Annotated[str, typer.Argument(metavar="MONTH", help="Such as 2025-01.")]


class Report(StrEnum):
    """The reports there are."""

    SLOW = "slow"
    INDEXES = "indexes"
    LOCKS = "locks"
    STATISTICS = "statistics"


@upkeep.command()
def jobs(as_json: AsJson = False) -> None:
    """Show each job's last run, how long it took, what came of it and when it runs next; exit 1 if one is overdue."""
    from workers.timetable import collect, in_short, span

    with _database() as connection:
        found = collect(connection)
    if as_json:
        print(json.dumps(found, indent=2, default=str))
    else:
        now = datetime.now(UTC)
        print(f"{'job':31}{'every':>6}{'last run':>12}{'took':>8}{'next':>10}  state")
        for job in found:
            last = job.get("started_at")
            ago = f"{span((now - last).total_seconds())} ago" if last else "-"
            wait = (job["next_at"] - now).total_seconds() if job["next_at"] else None
            then = "-" if wait is None else "now" if wait <= 0 else f"in {span(wait)}"
            every = span(job["cadence"] or job.get("tick"))
            state = job.get("state") or ("-" if job["cadence"] is None else "never ran")
            state = "OVERDUE" if job["overdue"] and state != "failed" else state
            print(f"{job['job']:31}{every:>6}{ago:>12}{span(job['seconds']):>8}{then:>10}  {state}")
            _wrapped(in_short(job.get("result")))
    if any(job["overdue"] for job in found):
        raise typer.Exit(1)


@upkeep.command()
def report(
    which: Annotated[Report, typer.Argument(metavar="slow|indexes|locks|statistics")], as_json: AsJson = False
) -> None:
    """Show what is slow, which index is of no use, who waits for whom, or old statistics and bloat, as it is now."""
    with _database() as connection:
        found = connection.execute("SELECT * FROM api.report(%s)", (which.value,)).fetchall()
    if as_json:
        print(json.dumps(found, indent=2, default=str))
        return
    for finding in found:
        print(f"{finding['severity']:8} {finding['object']}")
        known = {name: value for name, value in finding["detail"].items() if value is not None}
        _wrapped(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in known.items()))
    if not found:
        print("nothing found")


@archives.command("list")
def list_archives(as_json: AsJson = False) -> None:
    """List the archives, and the months that are due."""
    with _database() as connection:
        found = connection.execute("SELECT * FROM api.archives ORDER BY month, table_name").fetchall()
        due = connection.execute("SELECT * FROM api.months_to_retire()").fetchall()
    if as_json:
        print(json.dumps({"archives": found, "due": due}, indent=2, default=str))
        return
    if found:
        print(f"{'month':8}{'table':22}{'rows':>12}{'bytes':>14}  state")
    for each in found:
        state = "archived" if each["dropped_at"] else "read back, not yet dropped"
        print(f"{each['month']:%Y-%m} {each['table_name']:22}{each['rows']:12,}{each['bytes']:14,}  {state}")
    for month in due:
        _wrapped(f"{month['month']:%Y-%m} is due: " + ("; ".join(month["reasons"]) or "nothing keeps it"), "")
    if not found and not due:
        print("no archive, and no month is due")


@archives.command("run")
def run_archive(
    month: Annotated[str | None, typer.Argument(metavar="[MONTH]", help="Such as 2025-01; default: all due.")] = None,
) -> None:
    """Retire a month that is due, or all that are: detach its partitions, archive them, read back, drop."""
    from workers.retiring import archive_folder, owner_session, retire, retire_all

    settings = located_settings("database_url")
    folder = archive_folder(settings)
    with owner_session(settings) as session:
        if month:
            retire(session, folder, _month(month), _say)
            print(f"{month} is retired")
            return
        retired, waiting = retire_all(session, folder, _say)
    for late, reasons in waiting.items():
        _wrapped(f"{late} stays: {'; '.join(reasons)}", "")
    if not retired and not waiting:
        print("no month is due")


@archives.command("verify")
def verify_archives() -> None:
    """Read each archive and compare it, to the value, with what was archived; exit 1 when one is not whole."""
    from workers.retiring import archive_folder, check, owner_session

    settings = located_settings("database_url")
    folder = archive_folder(settings)
    bad = 0
    with owner_session(settings) as session:
        kept = session.execute("SELECT table_name, month FROM api.archives ORDER BY month, table_name").fetchall()
        for table, month in kept:
            if wrong := check(session, folder, table, month):
                bad += 1
                print(f"{table} {month:%Y-%m}: {wrong}")
    print(f"{len(kept) - bad} of {len(kept)} archives are whole")
    if bad:
        raise typer.Exit(1)


@archives.command("restore")
def restore_archive(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="Such as orders; all: each table of the month.")],
    month: Month,
    attach: Annotated[bool, typer.Option("--attach", help="As a partition again, instead of in a schema.")] = False,
) -> None:
    """Bring an archive back as table restored.<table>_<month>, or with --attach as a partition."""
    from workers.retiring import archive_folder, owner_session, restore, restore_all

    wanted = _month(month)
    settings = located_settings("database_url")
    folder = archive_folder(settings)
    with owner_session(settings) as session:
        if table == "all":
            restored = restore_all(session, folder, wanted, attach=attach)
        else:
            restored = iter([restore(session, folder, table, wanted, attach=attach)])
        for name, rows in restored:
            _say(f"{name} is attached already" if rows is None else f"{name}: {rows:,} rows, as they were archived")


def _say(step: str) -> None:
    print(step, flush=True)


def _month(text: str) -> date:
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", text) or text.startswith("0000"):
        raise OrdermillError(f"{text!r} is no month: give one such as 2025-01")
    return date(int(text[:4]), int(text[5:]), 1)


def _wrapped(words: str, indent: str = "    ") -> None:
    width = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else 80
    if words:
        print(textwrap.fill(words, width, initial_indent=indent, subsequent_indent="    ", break_on_hyphens=False))


@contextlib.contextmanager
def _database() -> Iterator[psycopg.Connection[Any]]:
    url = located_settings("database_url").database_url
    with connect(url, connect_timeout=5, row_factory=dict_row) as connection:
        yield connection
