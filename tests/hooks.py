"""A receiver of webhooks for tests: a real HTTP server in a thread, which answers as told and notes what it got."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.shop import Shop

LOCAL = "127.0.0.0/8"


@dataclass
class Got:
    """A request: `told` is its body."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


Answering = Callable[[Got], tuple[int, dict[str, str]]]


class Receiver:
    """Notes each request, and answers 200 unless `answer` says otherwise; `trickle` sends a byte at a time."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.answer: Answering = lambda _got: (200, {})
        self.trickle: str | None = None
        self.gate: threading.Event | None = None
        self.connections = 0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def positions(self) -> list[int]:
        return [got.told["position"] for got in self.got]

    def by_stream(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for got in list(self.got):
            found.setdefault(got.told["stream"], []).append(got.told["position"])
        return found

    def doubles(self) -> int:
        return sum(count - 1 for count in Counter(self.positions()).values())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                receiver.connections += 1

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = self.rfile.read(length)
                if len(body) < length:  # its sender was killed in the middle: nothing was told
                    self.close_connection = True
                    return
                got = Got(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                status, headers = receiver.answer(got)
                receiver.got.append(got)
                if receiver.gate:
                    receiver.gate.wait(60)
                if receiver.trickle:
                    self.drip(status, receiver.trickle)
                    return
                self.send_response(status)
                for name, value in ({"content-length": "0"} | headers).items():
                    self.send_header(name, value)
                self.end_headers()

            def drip(self, status: int, where: str) -> None:
                """A byte each 50 ms for a minute: of a header, or of the body."""
                self.close_connection = True
                begin = f"HTTP/1.1 {status} OK\r\nx-slow: " if where == "headers" else f"HTTP/1.1 {status} OK\r\n\r\n"
                try:
                    self.wfile.write(begin.encode())
                    for _ in range(1200):
                        self.wfile.write(b"x")
                        self.wfile.flush()
                        threading.Event().wait(0.05)
                except OSError:
                    return

            def log_message(self, *_: Any) -> None:
                return

        return Handler


@contextmanager
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    try:
        yield made
    finally:
        if made.gate:
            made.gate.set()
        made.server.shutdown()
        made.server.server_close()


def add(shop: Shop, name: str, url: str, kinds: list[str] | None = None, timeout_ms: int = 30_000) -> str:
    """Adds an endpoint, patient with a busy machine; gives its secret. It is not told of the opening of the shop."""
    forget(shop)
    return str(shop.value("SELECT api.add_webhook(%s, %s, %s, %s)", name, url, kinds or ["*"], timeout_ms))


def forget(shop: Shop) -> None:
    """Forgets what happened and has no position yet."""
    shop.db.execute("DELETE FROM shop.events_inbox")


def dispatch(shop: Shop) -> None:
    """Gives all that happened its position and then to the consumer."""
    while shop.value("SELECT api.sequence_events(1000)"):
        pass
    while shop.value("SELECT api.dispatch_events('webhooks', 500)"):
        pass


def waiting(shop: Shop) -> int:
    return int(shop.value("SELECT count(*) FROM shop.webhook_deliveries WHERE ended_at IS NULL"))
