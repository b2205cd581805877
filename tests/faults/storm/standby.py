"""A synchronous standby of the rig's PostgreSQL, from the same programs, and clients that go to whichever is primary.

Two ports for two servers: the one that dies leaves its port to the next standby.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg

from tests.faults.storm.rig import Rig
from workers.child import Child, wait_until
from workers.database import connect
from workers.embedded_valkey import free_port
from workers.unprivileged import server_account

NAME = "standby"
IN_STEP = "SELECT count(*) FROM pg_stat_replication WHERE application_name = %s AND sync_state = 'sync'"
SECONDS = 60


def at_either_port(rig: Rig) -> None:
    """A piece: workers and load are given both servers' addresses, and find the one that can be written to."""
    parts = urlsplit(rig.database_url)
    rig.parts["ports"] = ports = (rig.postgres.port, free_port())
    login = parts.netloc.rpartition("@")[0]
    query = f"host=127.0.0.1,127.0.0.1&port={ports[0]},{ports[1]}&target_session_attrs=read-write"
    rig.seen_database_url = urlunsplit(parts._replace(netloc=f"{login}@", query=query))


class Standby:
    """A copy of the rig's primary on the other port, which can take its place; then the rig has it as `postgres`."""

    fresh = False

    def __init__(self, rig: Rig) -> None:
        self._rig, self._primary = rig, rig.postgres
        self.port = next(port for port in rig.parts["ports"] if port != rig.postgres.port)
        self.data = rig.postgres.data.with_name(f"{NAME}-{self.port}")
        account = server_account()
        self._run_as: Any = account.popen_arguments() if account else {}
        process = Path(f"/proc/{rig.postgres.pid}")
        command = process.joinpath("cmdline").read_bytes().decode().rstrip("\0").split("\0")
        environment = process.joinpath("environ").read_bytes().decode().rstrip("\0").split("\0")
        own = {str(rig.postgres.data): str(self.data), f"port={rig.postgres.port}": f"port={self.port}"}
        self._child = Child(
            name="the standby",
            command=[own.get(word, word) for word in command],
            mark=str(self.data),
            log=rig.home / "logs" / f"{self.data.name}.log",
            pid_file=rig.home / "run" / f"{self.data.name}.pid",
            env=dict(entry.split("=", 1) for entry in environment),
            cwd=self.data.parent,
            run_as=self._run_as,
            gently=signal.SIGINT,
        )

    @property
    def url(self) -> str:
        """The owner's login."""
        parts = urlsplit(self._primary.url)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self.port}"))

    @property
    def pid(self) -> int | None:
        """The postmaster's process, while it runs."""
        return self._child.process.pid if self._child.process else None

    def follow(self) -> None:
        """Copies the primary, and from now on each of its commits waits until it is on disk here too."""
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700)
        if self._run_as:
            os.chown(self.data, self._run_as["user"], self._run_as["group"])
        parts = urlsplit(self._primary.url)
        source = urlunsplit(parts._replace(path="/", query=f"application_name={quote(NAME)}"))
        command: list[Any] = [Path(self._child.command[0]).with_name("pg_basebackup"), "-D", self.data, "-d", source]
        done = subprocess.run(
            [*command, "--wal-method=stream", "--checkpoint=fast", "--write-recovery-conf", "--no-sync"],
            cwd=self.data.parent, env=dict(self._child.env), capture_output=True, text=True, check=False,
            **self._run_as,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        self._rig.stack.callback(self.stop)
        self.start()
        with connect(self._primary.url) as primary:
            primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'")
            primary.execute("SELECT pg_reload_conf()")
            assert wait_until(lambda: primary.execute(IN_STEP, [NAME]).fetchone() == (1,), SECONDS)

    def take_over(self) -> None:
        """Kills the primary with all its processes, and is the primary."""
        pid = self._primary.pid
        assert pid is not None
        sessions = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, sessions)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self._primary.stop()
        with connect(self.url) as session:
            session.execute("SELECT pg_promote(false)")  # one that waits may be cancelled by what is replayed meanwhile
        assert wait_until(self._is_primary, SECONDS)
        self._rig.postgres = self  # type: ignore[assignment]  # it has all that is asked of one

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        self._child.start()
        assert wait_until(self._answers, SECONDS), "\n".join(self._child.last_lines())

    def stop(self) -> None:
        """Stops it; harmless to repeat."""
        self._child.stop(15)

    def _is_primary(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), connect(self.url) as session:
            return session.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
        return False

    def _answers(self) -> bool:
        self._child.check()
        try:
            with connect(self.url, connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False
