"""Retires the partitions of old months: anchors for `verify`, detach, archive, read back, drop. And brings them back.

Each step leaves a state from which the next run goes on, so a run may be killed anywhere. A partition is dropped by
`shop.drop_archived` alone, which compares it with its archive.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from workers import archive
from workers.database import connect, translate
from workers.errors import OrdermillError, SetupError
from workers.settings import Settings

Session = psycopg.Connection[Any]
Report = Callable[[str], None]
LOCK_ATTEMPTS = 10  # of a second each: orders never wait long behind a detach
LOCK = "hashtext('ordermill.retiring')"
RESTORED = "restored"  # the schema that the migrations make for a look at archives


@contextmanager
def owner_session(settings: Settings) -> Iterator[Session]:
    """A session as the owner of the tables: only an owner may detach, and not in a routine.

    Raises SetupError when the login is no member of `ordermill_owner`, OrdermillError when another session has it now,
    and for the driver's errors those of `workers.errors`.
    """
    with _translated(), connect(settings.maintenance_url or settings.database_url, connect_timeout=5) as session:
        row = session.execute("SELECT pg_has_role(session_user, 'ordermill_owner', 'MEMBER')").fetchone()
        if not row or not row[0]:
            raise SetupError(
                "only the owner of the tables may detach partitions: set ORDERMILL_MAINTENANCE_URL"
                " to a login that is a member of ordermill_owner"
            )
        session.execute("SET ROLE ordermill_owner")
        session.execute("SET lock_timeout = '1s'")
        row = session.execute(f"SELECT pg_try_advisory_lock({LOCK})".encode()).fetchone()
        if not row or not row[0]:
            raise OrdermillError("another session is retiring partitions: let it finish")
        try:
            yield session
        finally:
            with suppress(psycopg.Error):  # the server notices only later that the session has ended
                session.execute("SELECT pg_advisory_unlock_all()")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise translate(error) from error


def archive_folder(settings: Settings) -> Path:
    """Where archives are; raises SetupError when nobody said, nothing can be written there, or DuckDB is missing."""
    if settings.archive_dir is None:
        raise SetupError(
            "there is no archive, and without one nothing is dropped: set ORDERMILL_ARCHIVE_DIR to a folder to keep"
        )
    try:
        settings.archive_dir.mkdir(parents=True, exist_ok=True)
        trial = settings.archive_dir / ".writable"
        trial.write_bytes(b"")
        trial.unlink()
    except OSError as error:
        raise SetupError(f"ORDERMILL_ARCHIVE_DIR: {error}") from None
    archive.duck().close()
    return settings.archive_dir.absolute()


def retire_due(settings: Settings, months: list[dict[str, Any]]) -> dict[str, Any]:
    """Retires those of `api.months_to_retire` that nothing keeps; says why the others stay, and what is to be set."""
    due = [f"{each['month']:%Y-%m}" for each in months if not each["reasons"]]
    waiting = {f"{each['month']:%Y-%m}": each["reasons"] for each in months if each["reasons"]}
    if not due:
        return {"retired": [], "waiting": waiting}
    try:
        folder = archive_folder(settings)
        with owner_session(settings) as session:
            retired, waiting = retire_all(session, folder)
    except SetupError as error:
        return {"retired": [], "waiting": waiting, "due": due, "to_do": str(error)}
    return {"retired": [f"{month:%Y-%m}" for month in retired], "waiting": waiting}


def retire_all(
    session: Session, folder: Path, report: Report = lambda _: None
) -> tuple[list[date], dict[str, list[str]]]:
    """Retires the months that are due and that nothing keeps, the oldest first; gives them, and why others stay."""
    retired: list[date] = []
    while True:
        months = session.execute("SELECT month, reasons FROM api.months_to_retire()").fetchall()
        free = [month for month, reasons in months if not reasons]
        if not free:
            return retired, {f"{month:%Y-%m}": reasons for month, reasons in months}
        retire(session, folder, free[0], report)
        report(f"{free[0]:%Y-%m} is retired")
        retired.append(free[0])


def retire(session: Session, folder: Path, month: date, report: Report = lambda _: None) -> None:
    """Retires a month, or goes on where an earlier run was stopped; reports each step once it is done.

    Fails with OM050 when something still needs the month, OM051 when a partition is not its archive, 55P03 when
    somebody holds a lock for too long: the next run goes on.
    """
    session.execute("SELECT shop.begin_retiring(%s)", (month,))
    report("begun")
    for table, part, state, _ in _parts(session, month):
        if state != "detached":
            _patiently(lambda part=part, table=table: _detach(session, month, table, part))  # type: ignore[misc]
            report(f"detached {part}")
        _patiently(lambda part=part: _let_go(session, part))  # type: ignore[misc]
    for table, part, _, archived in _parts(session, month):
        if not archived or check(session, folder, table, month):
            archive_part(session, folder, month, table, part)
            report(f"archived {part}")
        _patiently(lambda table=table: session.execute("SELECT shop.drop_archived(%s, %s)", (table, month)))  # type: ignore[misc]
        report(f"dropped {part}")
    [(finished,)] = session.execute("SELECT shop.finish_retiring(%s)", (month,)).fetchall()
    if not finished:
        raise OrdermillError(f"{month:%Y-%m} still has partitions: look for who made them anew")


def archive_part(session: Session, folder: Path, month: date, table: str, part: str) -> None:
    """Archives a detached partition, and notes the archive only when it reads back as what the partition has.

    What was archived before of the same month stays beside it.
    """
    file = archive.write(session, f"shop.{part}", folder / table, part)
    there = archive.digest_in_database(session, f"shop.{part}")
    found = archive.content(file)
    if found != there:
        raise OrdermillError(f"{file} reads back as {found}, but shop.{part} has {there}: it is not dropped")
    session.execute(
        "SELECT shop.record_archive(%s, %s, %s, %s, %s, %s, %s)",
        (table, month, f"{table}/{file.name}", found.rows, found.digest, archive.sha256(file), file.stat().st_size),
    )


def check(session: Session, folder: Path, table: str, month: date) -> str | None:
    """What is wrong with an archive; None when its file is, to the value, what was archived."""
    kept = _kept(session, table, month)
    file = folder / kept["file"]
    try:
        if not file.exists():
            return f"{file} is not there"
        if archive.sha256(file) != kept["sha256"]:
            return f"{file} has changed since it was archived"
        found = archive.content(file)
    except OSError as error:
        return f"{file} cannot be read: {error.strerror or error}"
    if (found.rows, found.digest) != (kept["rows"], kept["digest"]):
        return f"{file} has {found.rows} rows of another content than the {kept['rows']} that were archived"
    return None


def restore(session: Session, folder: Path, table: str, month: date, *, attach: bool = False) -> tuple[str, int]:
    """Loads an archive into a table of the same form, whole or not at all; gives its name and how many rows it has.

    The table is `restored.<partition>`, for a look; with `attach` it is a partition again, which `verify` leaves out.
    """
    kept = _kept(session, table, month)
    file = folder / kept["file"]
    schema, part = "shop" if attach else RESTORED, f"{table}{month:_%Y_%m}"
    name = f"{schema}.{part}"
    if attach and (state := _state(session, month, part)):
        how = (
            "is attached" if state == "attached" else f"is there: `ordermill archive run {month:%Y-%m}` goes on with it"
        )
        raise OrdermillError(f"{name} {how}")
    if wrong := check(session, folder, table, month):
        raise OrdermillError(f"{wrong}: nothing is restored")
    with session.transaction():
        if not attach:
            session.execute(SQL("DROP TABLE IF EXISTS {}").format(Identifier(RESTORED, part)))
        session.execute(
            SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(Identifier(schema, part), Identifier("shop", table))
        )
        archive.load(session, file, schema, part)
        found = archive.digest_in_database(session, name, archive.columns_of(file))
        if (found.rows, found.digest) != (kept["rows"], kept["digest"]):
            raise OrdermillError(f"{name} would not be what was archived: nothing is restored")
        if attach:
            _attach(session, table, month)
    return name, found.rows


def restore_all(
    session: Session, folder: Path, month: date, *, attach: bool = False
) -> Iterator[tuple[str, int | None]]:
    """Restores each table of a month, parents first; gives name and rows of each, no rows for one attached already."""
    tables = session.execute(
        "SELECT t.name FROM unnest(shop.partitioned_tables()) WITH ORDINALITY AS t (name, place)"
        " JOIN shop.archives AS a ON a.table_name = t.name AND a.month = %s ORDER BY t.place",
        (month,),
    ).fetchall()
    if not tables:
        raise OrdermillError(f"there is no archive of {month:%Y-%m}: `ordermill archive list` shows them")
    for (table,) in tables:
        part = f"{table}{month:_%Y_%m}"
        if attach and _state(session, month, part) == "attached":
            yield f"shop.{part}", None
        else:
            yield restore(session, folder, table, month, attach=attach)


def _attach(session: Session, table: str, month: date) -> None:
    parents = session.execute(
        "SELECT c.relname FROM pg_constraint AS f JOIN pg_class AS c ON c.oid = f.confrelid"
        " WHERE f.conrelid = %s::regclass AND f.contype = 'f' AND f.conparentid = 0"
        " AND c.relname = ANY (shop.partitioned_tables())",
        (f"shop.{table}",),
    ).fetchall()
    missing = [name for (name,) in parents if _state(session, month, f"{name}{month:_%Y_%m}") != "attached"]
    try:
        session.execute("SELECT shop.attach_month(%s, %s)", (table, month))
    except psycopg.errors.ForeignKeyViolation as error:
        if not missing:
            raise
        raise OrdermillError(
            f"{table} {month:%Y-%m} refers to rows that are not there: attach {' and '.join(missing)} first"
        ) from error


def _kept(session: Session, table: str, month: date) -> dict[str, Any]:
    with session.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        cursor.execute("SELECT * FROM shop.archives WHERE table_name = %s AND month = %s", (table, month))
        row = cursor.fetchone()
    if row is None:
        raise OrdermillError(f"there is no archive of {table} {month:%Y-%m}: `ordermill archive list` shows them")
    return row


def _parts(session: Session, month: date) -> list[tuple[str, str, str, bool]]:
    return session.execute("SELECT table_name, part, state, archived FROM shop.parts_of_month(%s)", (month,)).fetchall()


def _state(session: Session, month: date, part: str) -> str | None:
    return {each[1]: each[2] for each in _parts(session, month)}.get(part)


def _detach(session: Session, month: date, table: str, part: str) -> None:
    """Detaches without keeping anybody from the table; a detach that was broken off half-way is brought to its end."""
    state = _state(session, month, part)
    if state != "detached":
        how = SQL("FINALIZE" if state == "detaching" else "CONCURRENTLY")
        statement = SQL("ALTER TABLE {} DETACH PARTITION {} {}")
        session.execute(statement.format(Identifier("shop", table), Identifier("shop", part), how))


def _let_go(session: Session, part: str) -> None:
    """Drops the foreign keys of a detached partition: they would keep the months of its parents."""
    for (name,) in session.execute(
        "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'f' AND conparentid = 0",
        (f"shop.{part}",),
    ).fetchall():
        session.execute(SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(Identifier("shop", part), Identifier(name)))


def _patiently(step: Callable[[], object]) -> None:
    for attempt in range(1, LOCK_ATTEMPTS + 1):
        try:
            step()
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if attempt == LOCK_ATTEMPTS:
                raise
            time.sleep(0.1 * attempt)
