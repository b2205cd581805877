"""What an endpoint is sent: a body, and the headers of Standard Webhooks that sign it."""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

PREFIX = "whsec_"


def body_of(event: dict[str, Any]) -> bytes:
    """The event as JSON in UTF-8: `type`, `timestamp`, `data`, `position` and `stream`; `payload` is JSON already."""
    told = {
        "type": event["kind"],
        "timestamp": event["created_at"].astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "position": event["position"],
        "stream": event["stream"],
    }
    head = json.dumps(told, separators=(",", ":"), ensure_ascii=False)
    return f'{head[:-1]},"data":{event["payload"]}}}'.encode()


def signed(message_id: str, body: bytes, secrets: Sequence[str], at: datetime) -> dict[str, str]:
    """The three headers; one signature a secret, so that each of a rotation verifies it."""
    timestamp = str(int(at.timestamp()))
    content = f"{message_id}.{timestamp}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signature(secret, content) for secret in secrets),
    }


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
