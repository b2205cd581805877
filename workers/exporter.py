"""`ordermill metrics`: serves /metrics for Prometheus, and /healthz.

It adds up what this host's workers have counted, and asks PostgreSQL, Redis and the broker for the rest: at most each
five seconds, however often it is asked itself. A server that does not answer costs it three seconds, and is shown.
"""

import contextlib
import json
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from workers import status
from workers.child import termination_raised
from workers.errors import SetupError
from workers.metrics import Slots, form_of
from workers.settings import Settings
from workers.state_metrics import families, gauge

FRESH_SECONDS = 5.0
SERVER_SECONDS, ANSWER_SECONDS = 2, 3.0
REQUEST_SECONDS = 10  # for a client to send its request


class Asked(threading.Thread):
    """One question to one server; a daemon, for a frozen server must not keep this process from ending."""

    def __init__(self, ask: Callable[[], dict[str, Any]]) -> None:
        super().__init__(daemon=True)
        self.ask, self.answer = ask, None  # type: tuple[Callable[[], dict[str, Any]], dict[str, Any] | None]
        self.start()

    def run(self) -> None:
        """Asks."""
        self.answer = self.ask()


class Watch:
    """The state of this Ordermill, asked for at most each five seconds and known within three."""

    def __init__(self, settings: Settings) -> None:
        master = settings.sentinel_master
        self.parts: dict[str, Callable[[], dict[str, Any]]] = {
            "database": lambda: status.of_database(settings.database_url, SERVER_SECONDS, thorough=False),
            "redis": lambda: status.of_redis(settings.redis_url, SERVER_SECONDS, master),
            "broker": lambda: status.of_broker(settings.broker_url, SERVER_SECONDS, master, thorough=False),
            "cache": lambda: status.of_cache(settings),
        }
        self.asked: dict[str, Asked] = {}
        self.lock = threading.Lock()
        self.known: dict[str, Any] = {}
        self.until = 0.0

    def state(self) -> dict[str, Any]:
        """The state, not older than five seconds."""
        with self.lock:
            if time.monotonic() >= self.until:
                self.known = self._ask()
                self.until = time.monotonic() + FRESH_SECONDS
            return self.known

    def _ask(self) -> dict[str, Any]:
        for name, ask in self.parts.items():
            if name not in self.asked:  # else it still waits for an answer: not a second time
                self.asked[name] = Asked(ask)
        ends, answers = time.monotonic() + ANSWER_SECONDS, []
        for name in self.parts:
            asked = self.asked[name]
            asked.join(max(0.0, ends - time.monotonic()))
            if asked.is_alive():
                answers.append(status.untold(name, f"{name}: no answer within {ANSWER_SECONDS:.0f} s"))
                continue
            del self.asked[name]
            answers.append(asked.answer or status.untold(name, f"{name}: it could not be asked; see the log"))
        return status.whole(*answers)


class StateCollector(Collector):
    """The state as metrics."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        yield from families(self.watch.state())


class CountsCollector(Collector):
    """What the workers of this host have counted."""

    def __init__(self, folder: Path) -> None:
        self.folder = form_of(folder)

    def collect(self) -> Iterator[Metric]:
        """The sums over all processes, dead ones too; of gauges over the living; and whether all could be read."""
        all_read, files = True, []
        try:
            for slot in Slots(self.folder).free():
                mark_process_dead(slot, str(self.folder))  # type: ignore[no-untyped-call]
        except OSError:
            all_read = False
        try:
            paths = sorted(path for path in self.folder.iterdir() if path.suffix == ".db")
        except OSError:
            all_read, paths = False, []
        for path in paths:
            try:
                files += [str(path)] if _whole(path) else []
            except OSError:
                all_read = False
        yield gauge("counts_up", "Whether all that workers of this host count can be read.", value=float(all_read))
        yield from MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]


def _whole(path: Path) -> bool:
    # One that a process just makes is empty; one that a full disk cut short is not worth all the others.
    try:
        for _ in MmapedDict.read_all_values_from_file(str(path)):  # type: ignore[no-untyped-call]
            pass
    except (struct.error, RuntimeError, ValueError):
        return False
    return True


class Handler(BaseHTTPRequestHandler):
    """Answers one client."""

    timeout = REQUEST_SECONDS
    watch: Watch
    registry: CollectorRegistry

    def do_GET(self) -> None:  # the library's name
        """Answers /metrics and /healthz."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept") or "")
            self._answer(HTTPStatus.OK, content_type, encode(self.registry))
        elif path == "/healthz":
            problems = self.watch.state()["problems"]
            health = {"status": "problems" if problems else "ok", "problems": problems}
            how = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
            self._answer(how, "application/json", json.dumps(health, indent=2).encode() + b"\n")
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"ask for /metrics or /healthz\n")

    do_HEAD = do_GET  # the library's name

    def _answer(self, how: HTTPStatus, content_type: str, body: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # it did not wait
            self.send_response(how)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Not each scrape."""


def server(settings: Settings, host: str, port: int) -> ThreadingHTTPServer:
    """A server that listens; raises SetupError when it cannot."""
    watch, registry = Watch(settings), CollectorRegistry()
    registry.register(StateCollector(watch))
    if settings.metrics_dir:
        registry.register(CountsCollector(settings.metrics_dir))
    handler = type("Handler", (Handler,), {"watch": watch, "registry": registry})
    try:
        made = ThreadingHTTPServer((host, port), handler)
    except (OSError, OverflowError) as error:
        raise SetupError(f"cannot listen on {host}:{port} ({error}): give another --host or --port") from error
    made.daemon_threads = True
    return made


def serve(settings: Settings, host: str, port: int | None, report: Callable[[str], None]) -> None:
    """Serves until Ctrl-C or SIGTERM."""
    with server(settings, host, settings.metrics_port if port is None else port) as made, termination_raised():
        address = f"http://{host}:{made.server_address[1]}"
        report(f"{address}/metrics and {address}/healthz are ready.")
        if not settings.metrics_dir:
            report("ORDERMILL_METRICS_DIR is not set: what workers count is left out")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            made.serve_forever()
