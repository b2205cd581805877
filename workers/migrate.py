"""Brings a database to this version: roles, Alembic migrations, then the files that are re-applied when they change.

Tables change only by numbered migrations; routines, triggers, views and grants are whole files, applied together in one
transaction when their common checksum differs from the one in the comment on schema `api`. Safe from many processes.
"""

import hashlib
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psycopg
from alembic import command, op
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError

from workers.database import sqlalchemy_url
from workers.errors import SetupError

Result = TypeVar("Result")
LOCK = 0x6F726465726D696C  # "ordermil": whoever migrates this database holds this advisory lock
_PACKAGED = Path(__file__).parent / "_sql"
SQL = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parent.parent / "sql"
REAPPLIED = ("routines", "triggers", "views", "roles/grants.sql")


def run_sql_file(name: str) -> None:
    """For a migration: runs `sql/migrations/<name>` as it stands, in the migration's transaction."""
    _driver(op.get_bind()).execute(_read(SQL / "migrations" / name))


def migrate(database_url: str, report: Callable[[str], None] = lambda _: None, revision: str = "head") -> None:
    """Brings the database to `revision` and its routines to this version, telling `report` each step.

    Raises SetupError when the login lacks the rights or the server is away. Twice, or from many processes, is harmless.
    """
    engine = create_engine(sqlalchemy_url(database_url), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            driver = _driver(connection)
            # Waits for a twin that migrates; the lock goes with the connection, however this ends.
            driver.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
            _upgrade(connection, report, revision)
            _reapply(driver, report)
            made = _patiently(driver, lambda: driver.execute("SELECT api.ensure_partitions()").fetchone())
            report(f"partitions made: {made[0] if made else 0}")
    except (DBAPIError, psycopg.Error) as error:
        raise _explain(error) from error
    finally:
        engine.dispose()


def checksum() -> str:
    """The common checksum of all re-applied files."""
    digest = hashlib.sha256()
    for path in _reapplied():
        digest.update(path.relative_to(SQL).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _upgrade(connection: Connection, report: Callable[[str], None], revision: str) -> None:
    driver = _driver(connection)
    _apply(driver, SQL / "roles" / "roles.sql")
    driver.execute("SET ROLE ordermill_owner")
    driver.execute("CREATE SCHEMA IF NOT EXISTS shop")
    driver.execute("CREATE SCHEMA IF NOT EXISTS api")
    config = Config()
    config.set_main_option("script_location", str(SQL / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection.execution_options(isolation_level="READ COMMITTED")
    before = _revision(driver)
    connection.rollback()
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise SetupError(
            f"This version does not know schema {before}, which a newer one has made: migrate with that one, or a later"
        ) from error
    connection.commit()
    connection.execution_options(isolation_level="AUTOCOMMIT")
    report(f"schema: {before or 'empty'} to {_revision(driver)}")


def _revision(driver: psycopg.Connection[tuple[str]]) -> str | None:
    exists = driver.execute("SELECT to_regclass('shop.schema_version')::text").fetchone()
    row = driver.execute("SELECT version_num FROM shop.schema_version").fetchone() if exists and exists[0] else None
    return row[0] if row else None


def _reapply(driver: psycopg.Connection[tuple[str]], report: Callable[[str], None]) -> None:
    wanted = f"Ordermill's public surface. Files: {checksum()}"
    row = driver.execute("SELECT obj_description('api'::regnamespace, 'pg_namespace')").fetchone()
    if row and row[0] == wanted:
        report("routines: up to date")
        return
    _patiently(driver, lambda: _apply_all(driver, wanted))
    report(f"routines, triggers, views and grants: {len(_reapplied())} files applied")


def _apply_all(driver: psycopg.Connection[tuple[str]], wanted: str) -> None:
    *files, grants = _reapplied()
    with driver.transaction():
        driver.execute("SET LOCAL check_function_bodies = off")  # files may name one another in any order
        driver.execute("SELECT pg_current_xact_id()")  # what has an older one at the end, no file has made
        for path in files:
            _apply_anew(driver, path)
        _drop_leftovers(driver, files)  # before the grants, which write every routine's row
        _apply(driver, grants)
        driver.execute(psycopg.sql.SQL("COMMENT ON SCHEMA api IS {}").format(wanted))


def _apply_anew(driver: psycopg.Connection[tuple[str]], path: Path) -> None:
    """Applies a file over what stands; only what cannot be replaced in place is dropped first."""
    try:
        with driver.transaction():
            _apply(driver, path)
    except (psycopg.errors.InvalidFunctionDefinition, psycopg.errors.InvalidTableDefinition):
        _drop_named(driver, path.stem)
        _apply(driver, path)


def _drop_named(driver: psycopg.Connection[tuple[str]], name: str) -> None:
    """Drops the routines and the view of this name: a file is named for the one thing that it makes."""
    query = """
        SELECT format('DROP ROUTINE %%s', oid::regprocedure) FROM pg_proc
        WHERE pronamespace IN ('shop'::regnamespace, 'api'::regnamespace) AND proname = %(name)s
        UNION ALL
        SELECT format('DROP VIEW api.%%I', viewname) FROM pg_views WHERE schemaname = 'api' AND viewname = %(name)s"""
    for (statement,) in driver.execute(query, {"name": name}).fetchall():
        driver.execute(statement.encode())


def _patiently(driver: psycopg.Connection[tuple[str]], step: Callable[[], Result]) -> Result:
    """Does a step that needs locks on busy tables, giving way quickly: orders never queue behind it for long."""
    driver.execute("SET lock_timeout = '1s'")
    for attempt in range(30):
        try:
            return step()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if attempt == 29:
                raise
            time.sleep(random.uniform(0.2, 1.0))  # noqa: S311
    raise AssertionError("unreachable: the last attempt returns or raises")


def _drop_leftovers(driver: psycopg.Connection[tuple[str]], files: list[Path]) -> None:
    """Drops triggers, routines and views that no file makes any more: their rows are older than this transaction."""
    known = [path.stem for path in files if path.parent.name == "views"]
    stale_views = """
        SELECT format('DROP VIEW api.%%I', viewname) FROM pg_views
        WHERE schemaname = 'api' AND viewname <> ALL (%s)"""
    for (statement,) in driver.execute(stale_views, (known,)).fetchall():
        driver.execute(statement.encode())
    stale_triggers = """
        SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass) FROM pg_trigger
        WHERE NOT tgisinternal AND tgparentid = 0 AND age(xmin) > age(pg_current_xact_id()::xid)
            AND tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'shop'::regnamespace)"""
    stale_routines = """
        SELECT format('DROP ROUTINE %s', oid::regprocedure) FROM pg_proc
        WHERE pronamespace IN ('shop'::regnamespace, 'api'::regnamespace)
            AND age(xmin) > age(pg_current_xact_id()::xid)"""
    for query in (stale_triggers, stale_routines):
        for (statement,) in driver.execute(query.encode()).fetchall():
            driver.execute(statement.encode())


def _reapplied() -> list[Path]:
    return [
        path
        for place in REAPPLIED
        for path in ([SQL / place] if place.endswith(".sql") else sorted((SQL / place).rglob("*.sql")))
    ]


def _apply(driver: psycopg.Connection[tuple[str]], path: Path) -> None:
    try:
        driver.execute(_read(path))
    except psycopg.Error as error:
        error.add_note(f"while applying {path.relative_to(SQL)}")
        raise


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _driver(connection: Connection) -> psycopg.Connection[tuple[str]]:
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError(f"expected a psycopg connection, not {type(driver).__name__}")
    return driver


def _explain(error: Exception) -> SetupError:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    text = str(cause).strip().partition("\n")[0]
    notes = "".join(f" ({note})" for note in getattr(cause, "__notes__", []))
    if isinstance(cause, psycopg.OperationalError) and cause.sqlstate is None:
        return SetupError(f"PostgreSQL cannot be reached: {text}. Start it, or correct DATABASE_URL.")
    if isinstance(cause, psycopg.errors.InsufficientPrivilege):
        return SetupError(
            f"This login may not migrate: {text}{notes}. "
            "Use a superuser, or a login with CREATEROLE that owns the database and, where another login made the "
            "ordermill_… roles in this cluster, has them WITH ADMIN OPTION."
        )
    return SetupError(f"The migration failed and was rolled back: {text}{notes}")
