"""Delivers webhooks: leases streams, posts their events in order, and writes down what became of them.

Nothing is posted inside a transaction. A stream has one holder at a time, by its lease; who has lost it can write
nothing down. So deliveries are at least once, and the receiver drops what it had by the id.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import groupby
from typing import Any

from celery.utils.log import get_task_logger
from sqlalchemy.engine import Connection

from workers.database import Jsonb, call, call_one, holdable, lock_session
from workers.errors import DatabaseError, FaultError, OutageError, TransientError
from workers.settings import Settings
from workers.webhook_message import body_of, signed
from workers.webhook_post import Answer, Poster

log = get_task_logger(__name__)

LOCK, LATE_LOCK = (0x4F4D57, 0), (0x4F4D57, 1)  # "OMW"
# Polled each 10 ms for 2 s after a find, then each 50 ms: a lone event waits for 25 ms. Chosen, not measured.
BUSY_SECONDS, BUSY_PAUSE, IDLE_PAUSE = 2.0, 0.01, 0.05
TOLD_SECONDS = 0.5  # until a new, changed or stopped endpoint is heard of
# A thread takes so many streams of one endpoint, and gives back those that it has not begun after this long: a claim a
# delivery would cost more than the delivery, and a slow endpoint must not keep what it cannot take. Not measured.
BUNDLE, BUNDLE_SECONDS = 20, 1.0
STREAM_EVENTS = 20
LEASE_SPARE = 5.0  # seconds of a lease beyond what an endpoint may take: for the way to the database and back
REPLAYED = 1000
LATE_SECONDS = 30
STOPPED_PAUSE = 1.0


@dataclass(frozen=True)
class Endpoint:
    """Where to, how signed, and how long it may take; `failing`: it is only asked whether it is back."""

    id: int
    name: str
    url: str
    secrets: list[str]
    timeout_ms: int
    failing: bool


@dataclass
class Leased:
    """A stream to be sent: its events in order, and what became of them."""

    lease: Any
    endpoint_id: int
    stream: str
    events: list[dict[str, Any]]
    sent: list[dict[str, Any]] = field(default_factory=list)

    def result(self) -> dict[str, Any]:
        """As `api.record_deliveries` takes it."""
        return {
            "lease": str(self.lease),
            "endpoint_id": self.endpoint_id,
            "stream": self.stream,
            "sent": self.sent,
        }


class Deliverer:
    """One run; counts what it did."""

    def __init__(self, settings: Settings, connection: Connection, poster: Poster) -> None:
        self.settings = settings
        self.connection = connection
        self.poster = poster
        self.threads = ThreadPoolExecutor(settings.webhooks_threads, "webhooks")
        self.flying: dict[Future[None], tuple[int, list[Leased]]] = {}
        self.endpoints: dict[int, Endpoint] = {}
        self.told_at = -TOLD_SECONDS
        self.replaying = False
        self.count: Counter[str] = Counter()

    def take(self, lock: tuple[int, int]) -> bool:
        """Takes a lock; false when another deliverer has it."""
        row = self.connection.exec_driver_sql("SELECT pg_try_advisory_lock(%s, %s)", lock).fetchone()
        return bool(row and row[0])

    def run(self, seconds: float) -> None:
        """Delivers for so many seconds, at least one round, and then waits for what is on its way."""
        try:
            self._run(time.monotonic() + seconds)
        except DatabaseError:
            wait(self.flying)
            with contextlib.suppress(DatabaseError):
                self.finish()  # else what was sent is sent again
            raise
        finally:
            self.threads.shutdown()

    def _run(self, ends: float) -> None:
        found_at = time.monotonic()
        goes_on = True
        while goes_on or self.flying:
            if goes_on and self.begin():
                found_at = time.monotonic()
            now = time.monotonic()
            goes_on = now < ends
            pause = BUSY_PAUSE if now - found_at < BUSY_SECONDS else IDLE_PAUSE
            if self.flying:
                wait(self.flying, timeout=pause, return_when=FIRST_COMPLETED)
                self.finish()
            elif goes_on:
                time.sleep(pause)

    def begin(self) -> int:
        """Leases what is due and hands it to threads; gives how many streams."""
        self.hear()
        share = self.shares()
        if not share:
            return 0
        # Longer than the slowest may take, so that nobody else sends a stream while its event is on its way.
        seconds = BUNDLE_SECONDS + LEASE_SPARE + max(self.endpoints[each].timeout_ms for each in share) / 1000
        until = time.monotonic() + seconds - LEASE_SPARE
        streams = [threads * BUNDLE for threads in share.values()]
        rows = call("api.claim_deliveries", list(share), streams, STREAM_EVENTS, seconds, on=self.connection)
        leased = [
            Leased(rows_of[0]["lease"], endpoint_id, stream, rows_of)
            for (endpoint_id, stream), each in groupby(rows, key=lambda row: (row["endpoint_id"], row["stream"]))
            for rows_of in [list(each)]
        ]
        for endpoint_id, each in groupby(leased, key=lambda stream: stream.endpoint_id):
            mine = list(each)
            bundles = min(len(mine), share[endpoint_id])
            for number in range(bundles):
                bundle = mine[number::bundles]
                future = self.threads.submit(self.deliver, self.endpoints[endpoint_id], bundle, until)
                self.flying[future] = (endpoint_id, bundle)
        return len(leased)

    def hear(self) -> None:
        """Hears, now and then, of endpoints that are new, changed or stopped, and goes on with replays."""
        now = time.monotonic()
        if now - self.told_at < TOLD_SECONDS and not self.replaying:
            return
        self.endpoints = {row["id"]: Endpoint(**row) for row in call("api.webhook_targets", on=self.connection)}
        replayed = call_one("api.advance_replays", REPLAYED, on=self.connection)
        self.count["replayed"] += replayed
        self.replaying = replayed > 0
        self.told_at = now

    def shares(self) -> dict[int, int]:
        """Free threads by endpoint: none has more than its part, and one that fails has one in all."""
        busy = Counter(endpoint_id for endpoint_id, _ in self.flying.values())
        free = self.settings.webhooks_threads - busy.total()
        found: dict[int, int] = {}
        # Who has the fewest comes first, so that no endpoint waits behind the others for ever.
        for endpoint in sorted(self.endpoints.values(), key=lambda each: (busy[each.id], each.failing)):
            most = 1 if endpoint.failing else self.settings.webhooks_per_endpoint
            share = min(free, most - busy[endpoint.id])
            if share > 0:
                found[endpoint.id] = share
                free -= share
        return found

    def deliver(self, endpoint: Endpoint, bundle: Sequence[Leased], until: float) -> None:
        """Posts the events of these streams, one after the other; runs in a thread of its own.

        It begins nothing that could end after `until`, and nothing after the endpoint itself has failed.
        """
        tired = min(until - endpoint.timeout_ms / 1000, time.monotonic() + BUNDLE_SECONDS)
        for leased in bundle:
            for event in leased.events:
                if time.monotonic() > tired:
                    return
                sent, answer = self.attempt(endpoint, event)
                leased.sent.append(sent)
                if not sent["ok"]:
                    if answer is not None and (answer.status is None or answer.status in {410, 429, 503}):
                        return
                    break

    def attempt(self, endpoint: Endpoint, event: dict[str, Any]) -> tuple[dict[str, Any], Answer | None]:
        """Posts one event; gives what is written down, and the answer."""
        if event["kind"] is None:
            gone = {"position": event["position"], "ok": False, "gone": True, "ms": 0}
            return gone | {"error": "its event was archived before it could be delivered"}, None
        started = time.monotonic()
        try:
            body = body_of(event)
            headers = {"content-type": "application/json", "user-agent": "ordermill"}
            headers |= signed(str(event["event_id"]), body, endpoint.secrets, datetime.now(UTC))
            answer = self.poster.post(endpoint.url, body, headers, endpoint.timeout_ms / 1000)
        except Exception as error:  # else it would be tried again at once, and for ever
            log.exception("a bug: event %s cannot be sent to %s", event["position"], endpoint.name)
            answer = Answer(None, f"not sent: {error!r}")
        words = None if answer.ok else answer.error or f"it answered {answer.status}"
        sent = {
            "position": event["position"],
            "ok": answer.ok,
            "status": answer.status,
            "error": None if words is None else holdable(words),
            "ms": round((time.monotonic() - started) * 1000),
            "retry_after": None if answer.ok else retry_after(answer.retry_after),
        }
        return sent, answer

    def finish(self) -> None:
        """Writes down, in one call, what became of all that has ended."""
        done = [future for future in self.flying if future.done()]
        if not done:
            return
        results = [leased for future in done for leased in self.flying.pop(future)[1]]
        kept = call_one(
            "api.record_deliveries",
            Jsonb([leased.result() for leased in results]),
            self.settings.webhooks_attempts,
            self.settings.webhooks_backoff_seconds,
            self.settings.webhooks_backoff_max_seconds,
            self.settings.webhooks_disable_hours,
            # Not on this connection: that of the lock may break while what was sent can still be written down.
        )
        sent = Counter(bool(each["ok"]) for leased in results for each in leased.sent)
        self.count.update(delivered=sent[True], failed=sent[False], lost=len(results) - kept)
        well = {leased.endpoint_id: leased.sent[-1]["ok"] for leased in results if leased.sent}
        if any(each.failing == well[each.id] for each in self.endpoints.values() if each.id in well):
            self.told_at = -TOLD_SECONDS  # it may have more threads now, or fewer


def retry_after(text: str | None) -> float | None:
    """Seconds that a Retry-After asks for, as a number or as a date; None where it says nothing that can be used."""
    if not text:
        return None
    try:
        if text.isascii() and text.strip().isdigit():
            return float(min(int(text), 10**9))
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def deliver(settings: Settings, seconds: float) -> dict[str, int] | None:
    """Delivers for so many seconds; None when another deliverer is at work.

    Where healthy endpoints have waited for long that one stands still, or is too slow: one more delivers beside it.
    An outage or a broken deployment ends it: what was leased comes back when its lease ends.
    """
    poster = Poster(settings.webhooks_networks)
    try:
        with lock_session() as connection:
            run = Deliverer(settings, connection, poster)
            if not run.take(LOCK) and not (
                call_one("api.deliveries_late", f"{LATE_SECONDS} seconds", on=connection) and run.take(LATE_LOCK)
            ):
                run.threads.shutdown()
                return None
            stopped = _until_stopped(run, seconds)
    except (TransientError, OutageError, FaultError) as error:
        log.error("no deliverer can start: %s", error)  # beat tries again
        return None
    finally:
        poster.close()
    if stopped:
        log.error("the deliverer stops: %s", stopped)
        time.sleep(STOPPED_PAUSE)
    return dict(run.count)


def _until_stopped(run: Deliverer, seconds: float) -> DatabaseError | None:
    try:
        run.run(seconds)
    except (TransientError, OutageError, FaultError) as error:
        return error
    return None
