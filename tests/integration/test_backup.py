"""Backup and recovery to a moment, by the commands of docs/backup.md, on a real PostgreSQL; `verify` ends it."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Literal

from tests.documents import commands, document, fences, section
from tests.servers import or_skipped
from tests.shop import Shop, order
from tests.workers_fixtures import Mill, clean_environment
from workers.child import wait_until
from workers.database import connect
from workers.embedded import EmbeddedPostgres
from workers.embedded_postgres import _environment, _shared_memory
from workers.migrate import migrate
from workers.unprivileged import SHARED, server_account

CHAPTER = document("docs/backup.md")
PASSWORD = "only-for-this-test"
BIN = Path(sys.executable).parent


class Host:
    """A machine with PostgreSQL and a folder for backups; commands run as the server's user."""

    def __init__(self, folder: Path) -> None:
        self.account = server_account()
        self.server = EmbeddedPostgres(folder / "home")
        self.server.start()
        assert self.server._child
        programs = Path(self.server._child.command[0]).parent
        self.folder = Path(tempfile.mkdtemp(prefix="ordermill-backup-", dir=SHARED))
        (self.folder / "wal").mkdir()
        if self.account:
            for path in (self.folder, self.folder / "wal"):
                os.chown(path, self.account.uid, self.account.gid)
        self.restored = self.folder / "restored"
        self.env = _environment() | {
            "PATH": f"{programs}:/usr/bin:/bin",
            "BACKUP": str(self.folder),
            "BASE": str(self.folder / "base"),
            "PGDATA": str(self.server.data),
            "RESTORED": str(self.restored),
            "BACKUP_URL": self.url("ordermill_backup", PASSWORD, "postgres"),
        }
        self._configure()

    def url(self, user: str, password: str, database: str = "ordermill") -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.server.port}/{database}"

    def _configure(self) -> None:
        """As the document's `Set up` has it; what the wheel's start gives on a command line is in the file too."""
        [conf] = fences(section(CHAPTER, "Set up"), "conf")
        lines = [line.partition(" = ") for line in conf.replace("/backup", str(self.folder)).splitlines()]
        values = {name: value.strip("'") for name, _, value in lines}
        values |= {
            "port": str(self.server.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
        }
        [role] = fences(section(CHAPTER, "Set up"), "sql")
        with connect(self.server.url) as root:
            for name, value in (values | _shared_memory()).items():
                root.execute(SQL("ALTER SYSTEM SET {} = {}").format(SQL(name), Literal(value)))
            root.execute(role.replace("change-me-7", PASSWORD).encode())
        self.server.stop()
        self.server.start()

    def run(self, command: str, **env: str) -> str:
        as_server = self.account.popen_arguments() if self.account else {}
        done = subprocess.run(  # type: ignore[call-overload]
            ["sh", "-c", command],
            cwd="/",
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **({} if "bin/ordermill " in command else as_server),
        )
        log = self.folder / "restored.log"
        words = log.read_text() if done.returncode and log.exists() else ""
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}{words}"
        return str(done.stdout)

    def stop(self) -> None:
        if (self.restored / "postmaster.pid").exists():
            self.run(f"pg_ctl --pgdata {self.restored} stop --mode immediate")
        self.server.stop()
        self.server.erase()
        shutil.rmtree(self.folder)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with or_skipped():
        made = Host(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def mill(host: Host, redis_url: str, broker_url: str) -> Iterator[Mill]:
    migrate(host.server.url)
    made = Mill(host.server.url, redis_url, broker_url, host.server.home)
    yield made
    made.stop()


def test_the_shop_is_restored_to_a_moment_and_nothing_accepted_is_lost_for_good(host: Host, mill: Mill) -> None:
    kept, late, lost, waiting = (order(None, ("A", 1)) for _ in range(4))
    mill.shop.stock("A", "E1", 10)
    [before] = mill.shop.place(kept)
    for command in commands(section(CHAPTER, "Each night")):
        host.run(command)
    mill.shop.place(late)
    moment = str(mill.shop.value("SELECT clock_timestamp()"))
    mill.shop.place(lost)
    mill.db.execute("UPDATE shop.stock_levels SET available = 1000000")  # the accident
    assert mill.shop.verify()
    archived(host)
    mill.db.close()

    for command in commands(section(CHAPTER, "To a moment")):
        if ".venv" not in command:
            host.run(command, MOMENT=moment)
    assert wait_until(lambda: not recovering(host), 60)
    said = [ordermill(host, command, mill.env) for command in commands(CHAPTER) if ".venv" in command]
    assert "clean" in " ".join(said)

    mill.db = connect(host.server.url)
    mill.shop = Shop(mill.db)
    assert mill.shop.outcome(kept["key"]) == before
    assert (mill.shop.outcome(late["key"]) or {})["status"] == "placed"
    assert mill.shop.outcome(lost["key"]) is None
    assert mill.shop.level("A", "E1") == {"available": 8, "committed": 2}
    # What waited in Redis meanwhile, and what the application sends again, since the moment and before.
    sent = [mill.send("orders.place", each) for each in (waiting, lost, kept)]
    mill.living(1)
    again = [each.get(timeout=60) for each in sent]
    assert [each["status"] for each in again] == ["placed"] * 3
    assert again[2]["order_id"] == before["order_id"]
    assert mill.shop.level("A", "E1") == {"available": 6, "committed": 4}
    assert mill.shop.verify() == []


def archived(host: Host) -> None:
    """Waits until all that was written until now is in the archive, as it is within archive_timeout by itself."""
    with connect(host.server.url) as root:
        row = root.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
        assert row
        assert wait_until((host.folder / "wal" / row[0]).exists, 60)
        [watch] = fences(section(CHAPTER, "Each night"), "sql")
        found = root.execute(watch.encode()).fetchone()
        assert found
        assert found[2] == 0


def recovering(host: Host) -> bool:
    try:
        with connect(host.server.url) as session:
            return session.execute("SELECT pg_is_in_recovery()").fetchone() != (False,)
    except psycopg.OperationalError:
        return True


def ordermill(host: Host, command: str, env: dict[str, str]) -> str:
    return host.run(command.replace(".venv/bin/", f"{BIN}/"), **clean_environment() | env)
