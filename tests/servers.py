"""The servers that the suite runs on: those given by the environment, else containers, else the wheels.

One set a run, started by the process that the user started and stopped by it. Databases are clones of one template.
"""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from workers.database import connect
from workers.embedded import EmbeddedPostgres, EmbeddedValkey
from workers.home_folder import ServiceError
from workers.migrate import migrate

KINDS = ("auto", "containers", "wheels")
# Not durable, and room for tests with many sessions on each of two pytest workers.
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "jit=off", "max_connections=400")


@dataclass(frozen=True)
class Running:
    """Where the servers of this run are; passed from the controller to its pytest workers as JSON."""

    admin_url: str
    redis_url: str
    run: str
    kind: str
    given_redis: bool
    month: str  # whose partitions the template has

    @property
    def template(self) -> str:
        return f"ordermill_test_{self.run}_template"

    def url_of(self, database: str) -> str:
        return make_url(self.admin_url).set(database=database).render_as_string(hide_password=False)


@contextmanager
def or_skipped() -> Iterator[None]:
    """Skips the test where this machine cannot run the servers of the wheels."""
    try:
        yield
    except ServiceError as error:
        pytest.skip(str(error))


@contextmanager
def stoppable(server: EmbeddedPostgres | EmbeddedValkey) -> Iterator[None]:
    """A server of one test's own, which it may stop, for the length of a `with` block."""
    with or_skipped():
        server.start()
    try:
        yield
    finally:
        server.stop()
        server.erase()


def docker_answers() -> bool:
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def chosen_kind() -> str:
    """`containers` or `wheels`; a kind that was asked for and is not there is a failure, never a skip."""
    kind = os.environ.get("ORDERMILL_TEST_SERVERS", "auto")
    if kind not in KINDS:
        raise RuntimeError(f"ORDERMILL_TEST_SERVERS must be one of {', '.join(KINDS)}, not {kind}")
    there = kind != "wheels" and docker_answers()
    if kind == "containers" and not there:
        raise RuntimeError("ORDERMILL_TEST_SERVERS=containers, but Docker does not answer: start it")
    return "containers" if there else "wheels"


def _postgres_container(stack: ExitStack) -> str:
    from testcontainers.community.postgres import PostgresContainer

    version = os.environ.get("ORDERMILL_TEST_POSTGRES", "17")
    if version not in {"15", "17"}:
        raise RuntimeError(f"ORDERMILL_TEST_POSTGRES must be 15 or 17, not {version}")
    container = PostgresContainer(f"postgres:{version}", username="ordermill", password="ordermill", driver=None)
    container.with_command(["postgres", *(word for setting in FAST for word in ("-c", setting))])
    stack.callback(container.stop)
    container.start()
    return str(container.get_connection_url())


def _redis_container(stack: ExitStack) -> str:
    from testcontainers.community.redis import RedisContainer

    container = RedisContainer("redis:7")
    stack.callback(container.stop)
    container.start()
    return f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"


def _home(stack: ExitStack) -> Path:
    home = Path(tempfile.mkdtemp(prefix="ordermill-tests-"))
    stack.callback(shutil.rmtree, home, ignore_errors=True)
    return home


def _postgres_wheel(stack: ExitStack) -> str:
    server = EmbeddedPostgres(_home(stack), fast=True)
    stack.callback(server.erase)
    stack.callback(server.stop)
    server.start()
    return server.url


def _redis_wheel(stack: ExitStack) -> str:
    server = EmbeddedValkey(_home(stack))
    stack.callback(server.erase)
    stack.callback(server.stop)
    server.start()
    return server.url


def start(stack: ExitStack) -> Running:
    """Starts what is not given and makes the template; leaving the stack undoes all of it."""
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    given_database, given_redis = os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL")
    kind = "given" if given_database and given_redis else chosen_kind()
    starters: dict[str, tuple[Callable[[ExitStack], str], Callable[[ExitStack], str]]] = {
        "containers": (_postgres_container, _redis_container),
        "wheels": (_postgres_wheel, _redis_wheel),
    }
    running = Running(
        admin_url=given_database or starters[kind][0](stack),
        redis_url=given_redis or starters[kind][1](stack),
        run=secrets.token_hex(4),
        kind=kind,
        given_redis=bool(given_redis),
        month=this_month(),
    )
    stack.callback(drop_databases, running)
    create_database(running, running.template, None)
    migrate(running.url_of(running.template))
    return running


def this_month() -> str:
    return datetime.now(UTC).strftime("%Y-%m")


def create_database(running: Running, name: str, template: str | None) -> str:
    """A new database, a clone of the template if one is named; gives its address as the owner's login."""
    if template == running.template and running.month != this_month():  # it turned during the run
        url = create_database(running, name, None)
        migrate(url)
        return url
    # Copying files makes a checkpoint: four times quicker than the default on a server without fsync, slower on others.
    strategy = "wal_log" if running.kind == "given" else "file_copy"
    with connect(running.admin_url) as admin:
        clone = psycopg.sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY {}").format(
            psycopg.sql.Identifier(name), psycopg.sql.Identifier(template or "template0"), psycopg.sql.SQL(strategy)
        )
        admin.execute(clone)
    return running.url_of(name)


def drop_database(running: Running, name: str) -> None:
    with connect(running.admin_url) as admin:
        _drop(admin, name)


def drop_databases(running: Running) -> None:
    """Drops what this run made and did not drop, such as after Ctrl-C."""
    with connect(running.admin_url) as admin:
        made = admin.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [prefix(running)])
        for (name,) in made.fetchall():
            _drop(admin, name)


def prefix(running: Running) -> str:
    return f"ordermill_test_{running.run}_"


def _drop(admin: psycopg.Connection[Any], name: str) -> None:
    admin.execute(psycopg.sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(psycopg.sql.Identifier(name)))
