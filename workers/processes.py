"""Everything `demo` and `up` keep running, as one thing that starts and stops: servers, workers, beat and Flower."""

import atexit
import contextlib
import http.client
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import redis
from psycopg.sql import SQL, Identifier

from workers.child import Child, signals_held, termination_raised, wait_until
from workers.database import connect
from workers.embedded import Servers
from workers.embedded_server import Started
from workers.embedded_valkey import free_port
from workers.home_folder import STACK_LOCK, STATE, HomeLock, ServiceError, prepare, write_private
from workers.queue_names import GENERAL_QUEUES
from workers.settings import Settings, get_settings

# The drain, the dispatcher of events and the deliveries take one each, all the time; jobs have the rest.
GENERAL_PROCESSES = 6
WATCHED = ("-E", "--without-gossip", "--without-mingle", "--loglevel=INFO")  # task events, which Flower shows
READY_SECONDS = 90
STOP_SECONDS = 10
DEATHS, DEATHS_SECONDS = 3, 60.0  # a child that dies more often does not get over it
# A warm stop waits for their turns to end; whoever presses Ctrl-C should not wait ten seconds.
TURNS, TURN_SECONDS = ("drain_seconds", "dispatch_seconds", "webhooks_seconds"), 3


def _ignore(_line: str) -> None:
    return


class Stack(Started):
    """A whole Ordermill over one home, for the length of a `with` block; one at a time over the same home.

    While it is open, this process's settings name its addresses. Whatever ends the block, Ctrl-C twice included,
    nothing is left running. `fresh` forgets what the embedded servers held; `fast` gives up durability, for tests.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        fresh: bool = False,
        fast: bool = False,
        report: Callable[[str], None] = _ignore,
    ) -> None:
        self.settings = settings.model_copy(update={"home": settings.home.absolute()})
        self.home: Path = self.settings.home
        self.servers = Servers.from_settings(self.settings, fast=fast, fresh=fresh)
        self.database_url = ""
        self.redis_url = ""
        self.broker_url = ""
        self.flower_url = ""
        self.metrics_url = ""
        self.flower_auth = (settings.flower_user, settings.flower_password or secrets.token_urlsafe(12))
        self.children: list[Child] = []
        self._report = report
        self._lock = HomeLock(self.home / STACK_LOCK, "Ordermill")
        self._locked = False
        self._deaths: dict[str, list[float]] = {}
        self._saved_environment: dict[str, str | None] = {}
        self._signals = contextlib.ExitStack()

    def start(self) -> None:
        """Start all, each part ready before the next needs it; stops what was started when one fails."""
        prepare(self.home)
        self._signals.enter_context(termination_raised())
        atexit.register(self.stop)  # a signal between `start` and the first line of the block
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        self._lock.acquire()
        self._locked = True
        for child in self.planned():
            child.clean_up()
        if self.servers.started:
            self._report(f"starting {' and '.join(self.servers.started)}")
        self.servers.start()
        self.database_url, self.redis_url = self.servers.database_url, self.servers.redis_url
        own_broker = self.settings.broker_url not in ("", self.settings.redis_url)
        self.broker_url = self.settings.broker_url if own_broker else self.redis_url
        self._ping()
        self._publish_settings()
        self._migrate()
        self._try_role()
        self._report("starting workers, beat, Flower and metrics")
        port = free_port(self.settings.flower_port)
        if self.settings.flower_port not in (0, port):
            self._report(f"port {self.settings.flower_port} is in use: Flower is at {port}")
        self.flower_url = f"http://127.0.0.1:{port}"
        metrics_port = free_port(self.settings.metrics_port)
        if self.settings.metrics_port not in (0, metrics_port):
            self._report(f"port {self.settings.metrics_port} is in use: metrics are at {metrics_port}")
        self.metrics_url = f"http://127.0.0.1:{metrics_port}"
        for child in self.planned(f"{self.flower_auth[0]}:{self.flower_auth[1]}", port, metrics_port):
            if child.name == "flower":
                self.wait_ready()  # it asks the workers once, at its start
            self.children.append(child)
            child.start()
        self.wait_ready()
        self._write_state()

    def _ping(self) -> None:
        for name, url in (("REDIS_URL", self.redis_url), ("CELERY_BROKER_URL", self.broker_url)):
            try:
                with redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5, retry=None) as client:
                    client.ping()
            except (redis.RedisError, ValueError) as error:
                first = str(error).partition("\n")[0]
                raise ServiceError(f"Redis cannot be used: {first}: start it, or correct {name}") from error

    def _try_role(self) -> None:
        if self.settings.role:
            with connect(self.database_url) as connection:
                try:
                    connection.execute(SQL("SET ROLE {}").format(Identifier(self.settings.role)))
                except psycopg.Error as error:
                    raise ServiceError(
                        f"{error}: correct ORDERMILL_ROLE, or leave it out".replace("\n", " ")
                    ) from error

    def _migrate(self) -> None:
        from workers.migrate import migrate  # noqa: PLC0415  # after the settings name this stack's addresses

        self._report("migrating the database")
        migrate(self.database_url, self._report)

    def _publish_settings(self) -> None:
        given = self.settings.model_fields_set
        values = {
            f"ORDERMILL_{name.upper()}": str(getattr(self.settings, name) if name in given else TURN_SECONDS)
            for name in TURNS
        } | {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "CELERY_BROKER_URL": self.broker_url,
            "ORDERMILL_HOME": str(self.home),
            "ORDERMILL_METRICS_DIR": str(self.counts),
            "ORDERMILL_WEBHOOKS_ALLOW": self.settings.webhooks_allow,
            "ORDERMILL_REFUSE_SOLD_OUT": str(self.settings.refuse_sold_out),
        }
        self._saved_environment = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        get_settings.cache_clear()

    def planned(self, flower_login: str = "", flower_port: int = 0, metrics_port: int = 0) -> list[Child]:
        """The children in the order in which they start."""
        workers = [
            self._celery(
                f"orders{number}",
                ["worker", "-Q", "orders", "-P", "solo", *WATCHED],
                hostname=f"orders{number}@%h",
            )
            for number in range(1, self.settings.orders_workers + 1)
        ]
        general = ["worker", "-Q", ",".join(GENERAL_QUEUES), "-c", str(GENERAL_PROCESSES), *WATCHED]
        beat = ["beat", f"--schedule={self.home / 'beat-schedule'}", "--pidfile=", "--loglevel=INFO"]
        flower = ["flower", "--address=127.0.0.1", f"--port={flower_port}"]
        return [
            *workers,
            self._celery("general", general, hostname="general@%h"),
            self._celery("beat", beat),
            # By environment: a command line can be read by every user of the machine.
            self._celery("flower", flower, {"FLOWER_BASIC_AUTH": flower_login}),
            self._child(
                "metrics", ["workers.cli", "metrics", f"--port={metrics_port}"], mark=f"--folder={self.counts}", env={}
            ),
        ]

    @property
    def counts(self) -> Path:
        """Where the workers keep what they count."""
        return (self.settings.metrics_dir or self.home / "metrics").absolute()

    def _celery(
        self, name: str, arguments: list[str], env: dict[str, str] | None = None, *, hostname: str | None = None
    ) -> Child:
        named = ("-n", hostname) if hostname else ()
        mark = f"--workdir={self.home}"  # where it works, and how a left-over one is recognised
        module = ["workers.entry"] if arguments[0] == "worker" else ["celery", "-A", "workers.app", mark]
        return self._child(name, [*module, *arguments, *named], mark=mark, env=env or {})

    def _child(self, name: str, module: list[str], *, mark: str, env: dict[str, str]) -> Child:
        return Child(
            name=name,
            command=[sys.executable, "-m", *module, *(() if mark in module else (mark,))],
            mark=mark,
            log=self.home / "logs" / f"{name}.log",
            pid_file=self.home / "run" / f"{name}.pid",
            env={**os.environ, **env},
            cwd=self.home,
        )

    def wait_ready(self) -> None:
        """Wait until each child says that it is ready; raises `ServiceError` with the log of one that dies."""
        for child in self.children:

            def ready_or_dead(child: Child = child) -> bool:
                self.check()
                return self._flower_answers() if child.name == "flower" else _said_ready(child)

            if not wait_until(ready_or_dead, READY_SECONDS, 0.05):
                raise ServiceError(f"{child.name} is not ready after {READY_SECONDS} s; its log is {child.log}")

    def _flower_answers(self) -> bool:
        host, _, port = self.flower_url.removeprefix("http://").partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=2)
        try:
            connection.request("GET", "/healthcheck")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def check(self) -> None:
        """Raise `ServiceError` if a server or a child has died."""
        self.servers.check()
        for child in self.children:
            child.check()

    def keep(self) -> None:
        """Start a child that died anew; raise `ServiceError` when it dies too often, or when a server has died."""
        self.servers.check()
        for child in self.children:
            if child.alive():
                continue
            deaths = self._deaths.setdefault(child.name, [])
            deaths[:] = [*(at for at in deaths if at > time.monotonic() - DEATHS_SECONDS), time.monotonic()]
            if len(deaths) > DEATHS:
                child.check()
            self._report(f"{child.name} stopped by itself; it is started again, its last log is {child.log}.1")
            child.clean_up()  # a pool's processes outlive their killed parent
            child.start()

    def _write_state(self) -> None:
        write_private(
            self.home / STATE,
            {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "started_at": time.time(),
                "database_url": self.database_url,
                "redis_url": self.redis_url,
                "broker_url": self.broker_url,
                "cache_url": self.settings.cache_url,
                "flower_url": self.flower_url,
                "flower_user": self.flower_auth[0],
                "flower_password": self.flower_auth[1],
                "metrics_url": self.metrics_url,
            },
        )

    def stop(self) -> None:
        """Stop all, children before servers; a second Ctrl-C waits until that is done. Harmless to repeat."""
        with signals_held():
            atexit.unregister(self.stop)
            if self._locked:
                (self.home / STATE).unlink(missing_ok=True)
            self._stop_children()
            self.servers.stop()
            for name, value in self._saved_environment.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            if self._saved_environment:
                get_settings.cache_clear()
                self._saved_environment = {}
            self._lock.release()
            self._locked = False
        self._signals.close()

    def _stop_children(self) -> None:
        if self.children:
            self._report("stopping")
        for child in self.children:
            child.ask()
        deadline = time.monotonic() + STOP_SECONDS
        for child in reversed(self.children):
            child.stop(max(0.0, deadline - time.monotonic()))
        self.children = []


def _said_ready(child: Child) -> bool:
    words = {"beat": "beat: Starting"}.get(child.name, " ready.")
    with contextlib.suppress(OSError):
        return words in child.log.read_text(errors="replace")
    return False
