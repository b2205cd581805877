"""Writes the documents that are generated: docs/schema.md, docs/tasks.md and docs/configuration.md, and
pictures.

`python docs/generate.py` writes them; `--check` writes nothing and exits 1 naming each that is out of date. The schema
is read from the catalog of a freshly migrated scratch database, on the server of DATABASE_URL or on one from the wheel.
"""

import argparse
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from generators import configuration, journey, schema, tasks
from psycopg.sql import SQL, Identifier
from sqlalchemy import make_url

from workers.database import connect
from workers.embedded import EmbeddedPostgres
from workers.errors import OrdermillError
from workers.migrate import migrate

DOCS = Path(__file__).resolve().parent


@contextmanager
def server() -> Iterator[str]:
    """The address of a PostgreSQL where a database can be made: the one given, else one for this run only."""
    given = os.environ.get("DATABASE_URL")
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="ordermill-docs-") as home:
        postgres = EmbeddedPostgres(Path(home), fast=True)
        postgres.start()
        try:
            yield postgres.url
        finally:
            postgres.stop()
            postgres.erase()


@contextmanager
def scratch_database(admin_url: str) -> Iterator[str]:
    """A migrated database on that server, dropped at the end."""
    name = f"ordermill_docs_{secrets.token_hex(6)}"
    url = make_url(admin_url).set(database=name).render_as_string(hide_password=False)
    with connect(admin_url) as admin:
        admin.execute(SQL("CREATE DATABASE {} TEMPLATE template0").format(Identifier(name)))
        try:
            migrate(url)
            yield url
        finally:
            admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def documents() -> dict[str, str]:
    """Each as it should be, by its name in docs/."""
    with server() as admin_url, scratch_database(admin_url) as url, connect(url) as connection:
        return {
            "configuration.md": configuration.document(),
            "tasks.md": tasks.document(),
            "schema.md": schema.document(connection),
            "schema.svg": schema.picture(connection),
            "order-steps.svg": schema.steps_picture(connection),
            **journey.pictures(),
        }


def main() -> int:
    """Writes or checks; gives the exit code."""
    parser = argparse.ArgumentParser(description="Write the generated documents.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if one is out of date")
    checking = parser.parse_args().check
    stale = 0
    for name, text in documents().items():
        path = DOCS / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if checking:
            print(f"docs/{name} is out of date: run `make docs`", file=sys.stderr)
            stale = 1
        else:
            path.write_text(text, encoding="utf-8")
            print(f"docs/{name} written")
    return stale


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OrdermillError as error:
        sys.exit(f"docs: {error}")
    except psycopg.OperationalError as error:
        sys.exit(f"docs: PostgreSQL: {str(error).splitlines()[0]}: correct DATABASE_URL, or unset it")
