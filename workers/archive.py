"""Rows of a retired partition as a Parquet file, and back, by DuckDB (the extra `archive`).

An archive counts only once it was read back: its rows and its digest are then those that PostgreSQL computes
(`shop.table_digest`). Its name ends with a part of its SHA-256, so that no other content ever takes its place: neither
that of another database with the same folder, nor that of the same month archived anew. What is not finished is in a
folder of its own beside it. Memory is bounded; a table passes through a CSV file there, in which NULL is nothing and an
empty text is `""`.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from workers.errors import SetupError
from workers.extras import to_install

# PostgreSQL's type: DuckDB's, how its text becomes a value, the text of the digest, the text that COPY reads.
_TIME = "strftime({0} AT TIME ZONE 'UTC', '%Y-%m-%d %H:%M:%S.%f+00')"
_TYPES = {
    "uuid": ("UUID", "{0}::UUID", "{0}::VARCHAR", "{0}::VARCHAR"),
    "text": ("VARCHAR", "{0}", "{0}", "{0}"),
    "jsonb": ("VARCHAR", "{0}", "{0}", "{0}"),
    "bigint": ("BIGINT", "{0}::BIGINT", "{0}::VARCHAR", "{0}::VARCHAR"),
    "integer": ("INTEGER", "{0}::INTEGER", "{0}::VARCHAR", "{0}::VARCHAR"),
    "smallint": ("SMALLINT", "{0}::SMALLINT", "{0}::VARCHAR", "{0}::VARCHAR"),
    "boolean": ("BOOLEAN", "{0}::BOOLEAN", "{0}::VARCHAR", "{0}::VARCHAR"),
    "timestamp with time zone": (
        "TIMESTAMP WITH TIME ZONE",
        "make_timestamptz({0}::BIGINT)",
        "epoch_us({0})::VARCHAR",
        _TIME,
    ),
}
_MEMORY = "256MB"
_SHA_IN_NAME = 16
_LONGEST_LINE = 64 * 2**20  # a row with a large payload


@dataclass(frozen=True)
class Content:
    """How many rows, and a digest of all their values in any order."""

    rows: int
    digest: Decimal


def duck() -> Any:
    """A DuckDB connection of bounded memory; raises SetupError when DuckDB is not installed."""
    try:
        import duckdb  # noqa: PLC0415  # an optional part
    except ImportError:
        raise SetupError(
            f"archives need DuckDB: install the wheel with the extra `archive`: {to_install('archive')}"
        ) from None
    connection = duckdb.connect(config={"memory_limit": _MEMORY, "threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def digest_in_database(session: psycopg.Connection[Any], table: str, columns: Sequence[str] | None = None) -> Content:
    """The content of a table (a name that SQL can read) as PostgreSQL has it."""
    query = "SELECT row_count, digest FROM shop.table_digest(%s::regclass, %s)"
    [(rows, digest)] = session.execute(query, (table, list(columns) if columns else None)).fetchall()
    return Content(rows, digest)


def write(session: psycopg.Connection[Any], table: str, folder: Path, name: str) -> Path:
    """Writes a table's rows, by id, as a Parquet file in a folder: whole, or not at all; gives the file.

    It is called `<name>-<part of its SHA-256>.parquet`; one that is there already with that content is left alone.
    """
    columns = session.execute("SELECT name, type, as_text FROM shop.archive_form(%s::regclass)", (table,)).fetchall()
    folder.mkdir(parents=True, exist_ok=True)
    with _workplace(session, folder) as place:
        rows, unfinished = place / "rows.csv", place / "rows.parquet"
        selected = SQL(", ").join(SQL(as_text) for _, _, as_text in columns)
        query = SQL("COPY (SELECT {} FROM {} ORDER BY id) TO STDOUT (FORMAT csv, FORCE_QUOTE *)")
        with (
            session.cursor() as cursor,
            cursor.copy(query.format(selected, SQL(table))) as copy,
            rows.open("wb") as out,
        ):
            for block in copy:
                out.write(block)
        with duck() as connection:
            values = ", ".join(_TYPES[kind][1].format(_name(name)) + f" AS {_name(name)}" for name, kind, _ in columns)
            names = ", ".join(f"'{name}': 'VARCHAR'" for name, _, _ in columns)
            connection.execute(
                f"COPY (SELECT {values} FROM read_csv({_text(rows)}, columns = {{{names}}}, auto_detect = false,"  # noqa: S608
                " header = false, delim = ',', quote = '\"', escape = '\"', nullstr = '', allow_quoted_nulls = false,"
                f" new_line = '\\n', parallel = false, max_line_size = {_LONGEST_LINE}))"
                f" TO {_text(unfinished)} (FORMAT parquet, COMPRESSION zstd)"
            )
        _sync(unfinished)
        digest = sha256(unfinished)
        file = folder / f"{name}-{digest[:_SHA_IN_NAME]}.parquet"
        if not _is(file, digest):
            unfinished.replace(file)
            _sync(folder)
    return file


def content(file: Path) -> Content:
    """The content of an archive, read back value by value."""
    with duck() as connection:
        row = " || ".join(
            f"coalesce(strlen({text}) || ':' || {text}, '-')"
            for text in (_TYPES[kind][2].format(_name(name)) for name, kind in _columns(connection, file))
        )
        found = connection.execute(
            f"SELECT count(*), coalesce(sum(('0x' || substr(md5({row}), 1, 15))::UBIGINT), 0)::VARCHAR"  # noqa: S608
            f" FROM read_parquet({_text(file)})"
        ).fetchone()
    return Content(int(found[0]), Decimal(found[1]))


def columns_of(file: Path) -> list[str]:
    """The names of the columns that an archive has."""
    with duck() as connection:
        return [name for name, _ in _columns(connection, file)]


def load(session: psycopg.Connection[Any], file: Path, schema: str, table: str) -> None:
    """Copies an archive's rows into a table that has at least its columns."""
    with _workplace(session, file.parent) as place:
        rows = place / "rows.csv"
        with duck() as connection:
            columns = _columns(connection, file)
            values = ", ".join(_TYPES[kind][3].format(_name(name)) for name, kind in columns)
            connection.execute(
                f"COPY (SELECT {values} FROM read_parquet({_text(file)})) TO {_text(rows)}"  # noqa: S608
                " (FORMAT csv, HEADER false, FORCE_QUOTE *, NULLSTR '')"
            )
        names = SQL(", ").join(Identifier(name) for name, _ in columns)
        query = SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(Identifier(schema, table), names)
        with session.cursor() as cursor, cursor.copy(query) as copy, rows.open("rb") as source:
            while block := source.read(2**16):
                copy.write(block)


def sha256(file: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _columns(connection: Any, file: Path) -> list[tuple[str, str]]:
    """Names, and PostgreSQL's types by DuckDB's: a jsonb is a text here, which COPY and the digest read alike."""
    by_duck = {of_duck: kind for kind, (of_duck, *_) in reversed(_TYPES.items())}
    described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({_text(file)})").fetchall()  # noqa: S608
    return [(row[0], by_duck[row[1]]) for row in described]


@contextmanager
def _workplace(session: psycopg.Connection[Any], folder: Path) -> Iterator[Path]:
    """A folder for unfinished files; what a killed run of this database left there goes first."""
    [(prefix,)] = session.execute(
        "SELECT format('.unfinished-%s-%s-', s.system_identifier, d.oid) FROM pg_control_system() AS s"
        " JOIN pg_database AS d ON d.datname = current_database()"
    ).fetchall()
    for left in folder.iterdir():
        if left.name.startswith(prefix):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder) as place:
        yield Path(place)


def _is(file: Path, digest: str) -> bool:
    try:
        return sha256(file) == digest
    except OSError:
        return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"
