"""Receives webhooks: verifies the signature, refuses what is old, and has each event take effect once.

Standard library only. WEBHOOK_SECRETS has the endpoint's secret; while one is rotated, both, separated by a space.
Deliveries are at least once: the id goes into a table in the transaction of the effect, which here counts orders.

    WEBHOOK_SECRETS=whsec_... python examples/webhook_receiver.py 8080 received.sqlite
"""

import base64
import hashlib
import hmac
import json
import os
import sqlite3
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE = 300  # seconds that the clocks may differ; older messages may have been recorded and sent again by others
LARGEST = 1_000_000
if len(sys.argv) != 3 or "WEBHOOK_SECRETS" not in os.environ:
    sys.exit("usage: WEBHOOK_SECRETS=whsec_... python webhook_receiver.py PORT DATABASE.sqlite")
SECRETS = [base64.b64decode(secret.removeprefix("whsec_")) for secret in os.environ["WEBHOOK_SECRETS"].split()]
DATABASE = sys.argv[2]


def verified(headers, body):
    """Whether one of the secrets signed this, and not long ago."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if len(timestamp) > 20 or not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    content = f"{message_id}.{timestamp}.".encode() + body
    expected = [base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode() for secret in SECRETS]
    given = [each.removeprefix("v1,") for each in headers.get("webhook-signature", "").split() if each[:3] == "v1,"]
    return any(hmac.compare_digest(ours.encode(), theirs.encode()) for ours in expected for theirs in given)


def take(message_id, event):
    """The effect and the id in one transaction; false when this event was taken before."""
    with sqlite3.connect(DATABASE, timeout=10) as database:
        new = database.execute("INSERT OR IGNORE INTO taken (id) VALUES (?)", [message_id]).rowcount
        if new:
            database.execute(
                "INSERT INTO counts VALUES (?, 1) ON CONFLICT (kind) DO UPDATE SET events = events + 1", [event["type"]]
            )
    return bool(new)


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 when an event has taken effect, now or before: then it is not sent again."""

    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_POST(self):
        """Takes one message."""
        length = self.headers.get("content-length", "")
        if len(length) > 20 or not length.isdecimal() or int(length) > LARGEST:
            self.answer(413)
            return
        body = self.rfile.read(int(length))
        if not verified(self.headers, body):
            self.answer(401)
            return
        new = take(self.headers["webhook-id"], event := json.loads(body))
        print(f"{event['type']} at position {event['position']}" + ("" if new else ": had it"), flush=True)
        self.answer(204)

    def answer(self, status):
        """Says the status and nothing else."""
        self.send_response_only(status)
        self.send_header("content-length", "0")
        if status >= 400:
            self.send_header("connection", "close")
            self.close_connection = True
        self.end_headers()


if __name__ == "__main__":
    with sqlite3.connect(DATABASE) as made:
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("CREATE TABLE IF NOT EXISTS taken (id TEXT PRIMARY KEY) WITHOUT ROWID")
        made.execute("CREATE TABLE IF NOT EXISTS counts (kind TEXT PRIMARY KEY, events INTEGER NOT NULL)")
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
    print(f"listening on port {server.server_address[1]}", flush=True)
    server.serve_forever()
