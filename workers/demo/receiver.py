"""The demo's receiver of webhooks: a server on loopback that verifies each message, and counts it once."""

import json
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import TracebackType
from typing import Self

from workers.webhook_message import signed

LOOPBACK = "127.0.0.0/8"


class Receiver:
    """Takes messages while it is open, at `url`, once it has the endpoint's `secret`."""

    def __init__(self) -> None:
        self.secret = ""
        self.verified = 0
        self.refused = 0
        self.again = 0
        self.out_of_order = 0
        self._seen: set[str] = set()
        self._last: dict[str, int] = {}
        self._lock = Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/events"

    def take(self, message_id: str, timestamp: str, signature: str, body: bytes) -> bool:
        """Counts a message; false when it was not signed with the secret."""
        at = datetime.fromtimestamp(int(timestamp), UTC) if timestamp.isdecimal() else None
        good = at is not None and signed(message_id, body, [self.secret], at)["webhook-signature"] in signature.split()
        with self._lock:
            if not good:
                self.refused += 1
                return False
            if message_id in self._seen:
                self.again += 1
                return True
            self._seen.add(message_id)
            self.verified += 1
            event = json.loads(body)
            self.out_of_order += event["position"] < self._last.get(event["stream"], 0)
            self._last[event["stream"]] = event["position"]
        return True

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, name="webhook receiver", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Takes one message."""
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            given = {name: self.headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")}
            good = receiver.take(given["id"], given["timestamp"], given["signature"], body)
            self.send_response_only(204 if good else 401)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: the demo shows how many came."""

    return Handler
