"""What an endpoint is sent verifies with the field's own verifier, also while its secret is rotated."""

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from workers.webhook_message import body_of, signed
from workers.webhooks import retry_after

SECRETS = ["whsec_" + base64.b64encode(bytes([number]) * 32).decode() for number in range(3)]
EVENT: dict[str, Any] = {
    "kind": "order.placed",
    "created_at": datetime(2026, 1, 31, 10, 0, tzinfo=timezone(timedelta(hours=2))),
    "position": 7,
    "stream": "order:1",
    "payload": '{"key": "Grün \\u2028", "total_amount": 9007199254740993}',
}


def test_a_body_tells_kind_time_place_and_the_payload_as_it_is() -> None:
    assert json.loads(body_of(EVENT)) == {
        "type": "order.placed",
        "timestamp": "2026-01-31T08:00:00Z",
        "position": 7,
        "stream": "order:1",
        "data": {"key": "Grün \u2028", "total_amount": 9007199254740993},
    }


@pytest.mark.parametrize("secrets", [SECRETS[:1], SECRETS[:2]])
def test_each_of_the_secrets_verifies_and_no_other_does(secrets: list[str]) -> None:
    body = body_of(EVENT)
    headers = signed("id-1", body, secrets, datetime.now(UTC))

    for secret in secrets:
        assert Webhook(secret).verify(body, headers) == json.loads(body)
    for other in (SECRETS[2],):
        with pytest.raises(WebhookVerificationError):
            Webhook(other).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secrets[0]).verify(body + b" ", headers)


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("120", 120, 120),
        (" 7 ", 7, 7),
        ("0", 0, 0),
        ("9" * 30, 10**9, 10**9),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, least: float, most: float) -> None:
    found = retry_after(text)
    assert found is not None
    assert least <= found <= most


def test_retry_after_may_be_a_date_to_come() -> None:
    found = retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True))
    assert found is not None
    assert 60 <= found <= 90


@pytest.mark.parametrize("text", [None, "", "soon", "-5", "1.5", "٣", "Wed, 99 Oct 2015 07:28:00 GMT"])
def test_a_retry_after_that_says_nothing_is_passed_over(text: str | None) -> None:
    assert retry_after(text) is None
