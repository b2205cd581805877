"""Low-stock alerts: those who wait are told, the old are escalated, and all levels are scanned for what events missed.

What an alert is, and when it opens, is PostgreSQL's; here are the loops, the log, and the words of a mail.
"""

import random
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from celery.utils.log import get_task_logger
from sqlalchemy.engine import Connection

from workers.database import call, call_one, holdable
from workers.jobs import batch, repeat
from workers.letters_shown import plural, printable
from workers.mail import MailError, RefusedError, ServerError, SmtpServer, connected, send
from workers.settings import Settings

log = get_task_logger(__name__)

LEASE_SECONDS = 300  # more than a mail takes: some ten answers, each within ORDERMILL_SMTP_TIMEOUT_SECONDS
SENDING_SECONDS = 60.0  # one run sends for so long; the next goes on
LONGEST_PAUSE = 3600.0
IN_A_MAIL = 200  # alerts; of more, the number is told
LOGGED = 500  # lines under one lease
# Levels in one transaction, for which the consumer of events waits: 1,000 took 0.2 to 0.4 s on two busy cores (November
# 2026), and its events are to be there within 0.25 s.
SCANNED = 250


def notify(settings: Settings) -> dict[str, int]:
    """Writes to the log and sends by mail what is due; gives how many lines, mails sent, tried in vain, and dead."""
    done = {"logged": _log_alerts()} | {"sent": 0, "again": 0, "dead": 0, "lost": 0}
    with Mailer(settings) as mailer:
        ends = time.monotonic() + SENDING_SECONDS
        while time.monotonic() < ends and (notice := _claim(settings)):
            done[mailer.deliver(notice)] += 1
            if mailer.stopped:
                break
    return done


def escalate(connection: Connection, settings: Settings) -> dict[str, int]:
    """Escalates and wakes all alerts whose time has come."""
    ages = (f"{settings.alerts_escalate_minutes} minutes", f"{settings.alerts_escalate_again_minutes} minutes")
    return {"escalated": repeat(connection, "api.escalate_alerts", *ages)}


def scan(connection: Connection, settings: Settings) -> dict[str, int]:
    """Judges every level, as events should have had it done, and deletes alerts that are old and over."""
    after, changed = (0, 0), 0
    while rows := batch(connection, "api.scan_low_stock", *after, SCANNED):
        after, changed = (rows[0]["variant_id"], rows[0]["location_id"]), changed + rows[0]["changed"]
    pruned = repeat(connection, "api.prune_alerts", f"{settings.alerts_kept_days} days")
    return {"changed": changed, "pruned": pruned}


def _log_alerts() -> int:
    lines = 0
    while rows := call("api.claim_alert_notice", False, "0", f"{LEASE_SECONDS} seconds", 0, LOGGED):
        for alert in rows[0]["alerts"]:
            log.warning("%s", _line(alert), extra={"alert": alert})
        lines += rows[0]["total"]
        call_one("api.finish_alert_notice", rows[0]["id"], rows[0]["attempt"])
    return lines


def _claim(settings: Settings) -> dict[str, Any] | None:
    rows = call(
        "api.claim_alert_notice",
        True,
        f"{settings.alerts_gather_seconds} seconds",
        f"{LEASE_SECONDS} seconds",
        settings.mail_attempts,
        IN_A_MAIL,
    )
    return rows[0] if rows else None


@dataclass
class Mailer:
    """Sends mails over one connection, made when the first is due; outside any transaction."""

    settings: Settings
    stopped: bool = False
    _client: Any = None
    _open: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Mailer":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def deliver(self, notice: dict[str, Any]) -> str:
        """Sends a claimed mail and says in PostgreSQL how that ended: `sent`, `again`, `dead` or `lost`.

        Killed in between, or cut off from PostgreSQL, the mail is sent again under the same Message-ID.
        """
        try:
            self._send(notice)
        except MailError as error:
            self.stopped = isinstance(error, ServerError)
            ended = self._failed(notice, error)
            log.warning("a mail to %s is not sent (%s): %s", notice["address"], ended, error)
            return ended
        return str(call_one("api.finish_alert_notice", notice["id"], notice["attempt"]))

    def _send(self, notice: dict[str, Any]) -> None:
        if not self.settings.smtp_url:
            raise ServerError("there is no SMTP server: set ORDERMILL_SMTP_URL")
        if self._client is None:
            server = SmtpServer.parse(self.settings.smtp_url)
            self._client = self._open.enter_context(connected(server, self.settings.smtp_timeout_seconds))
        try:
            message = compose(notice, self.settings.mail_from)
        except ValueError as error:
            raise RefusedError(f"no mail can be made of it: {error}") from None
        send(self._client, message)

    def _failed(self, notice: dict[str, Any], error: MailError) -> str:
        attempt = notice["attempt"]
        final = isinstance(error, RefusedError) or attempt >= self.settings.mail_attempts
        # Not all at once again: a server that was away would be overrun.
        pause = min(LONGEST_PAUSE, self.settings.mail_retry_seconds * 2 ** (attempt - 1)) * random.uniform(1, 1.25)  # noqa: S311
        again_in = None if final else f"{pause} seconds"
        return str(call_one("api.finish_alert_notice", notice["id"], attempt, holdable(error), again_in))


def compose(notice: dict[str, Any], sender: str) -> EmailMessage:
    """The mail of a notice: plain text, one line an alert. Its Message-ID is the notice's, however often it is sent."""
    alerts, total = notice["alerts"], notice["total"]
    message = EmailMessage()
    message["From"] = sender
    message["To"] = notice["address"]
    message["Subject"] = _subject(alerts, total)
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = f"<{notice['id']}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    lines = [_line(alert) for alert in alerts]
    if total > len(alerts):
        lines.append(f"and {total - len(alerts):,} more: `ordermill alerts list` shows them all")
    message.set_content("\n".join([*lines, "", "Who looks after one: ordermill alerts acknowledge NUMBER", ""]))
    return message


def _subject(alerts: list[dict[str, Any]], total: int) -> str:
    first = alerts[0]
    what = f"{first['sku'][:60]} at {first['location']}" if total == 1 else plural(total, "alert")
    worst = "Out of stock" if first["level"] == "out" else "Low stock"
    escalated = max(alert["escalation"] for alert in alerts)
    return " ".join(printable(f"{worst}: {what}{f', escalated to {escalated}' if escalated else ''}").split())


def _line(alert: dict[str, Any]) -> str:
    """An alert in a line: `#12 out of stock: SKU Product at E1 (pool EAST): 0 left, threshold 5; open, since …`."""
    level = "out of stock" if alert["level"] == "out" else "low stock"
    escalated = f", escalated to {alert['escalation']}" if alert["escalation"] else ""
    product = "" if alert["product"] == alert["sku"] else f" {alert['product'][:60]}"
    by = f" by {alert['handled_by']}" if alert["handled_by"] else ""
    text = (
        f"#{alert['id']} {level}: {alert['sku']}{product} at {alert['location']} (pool {alert['pool']}): "
        f"{alert['available']} left, threshold {alert['threshold']}; {alert['state']}{by}{escalated}, "
        f"since {datetime.fromisoformat(alert['opened_at']).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    )
    return " ".join(printable(text).split())
