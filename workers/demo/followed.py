"""What followed the demo's orders: alerts, cached reads, refreshed views, events and webhooks, read back and shown."""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import psycopg
from celery import Celery
from rich.table import Table

from workers.child import wait_until
from workers.demo.receiver import Receiver

ENDPOINT, KINDS = "demo", ["alert.*"]
SECONDS = 60.0  # for each of the things that are waited for
AGAIN_SECONDS = 5.0  # until views that are still stale are asked for again
READ_AT_ONCE, ROUNDS = 50, 5
BEST = """SELECT v.sku FROM shop.order_lines AS l JOIN shop.product_variants AS v ON v.id = l.variant_id
    GROUP BY v.sku ORDER BY sum(l.quantity) DESC, v.sku LIMIT 500"""
WAITING = """SELECT (SELECT sum(events) FROM api.event_backlog)
    + (SELECT coalesce(sum(waiting), 0) FROM api.webhook_endpoints)"""
ALERTS = """SELECT count(*), count(*) FILTER (WHERE level = 'out'),
    count(*) FILTER (WHERE state <> 'resolved') FROM api.alerts"""
VIEWS = """SELECT count(DISTINCT view), coalesce(sum(rows), 0)::bigint, coalesce(sum(ms), 0)::bigint
    FROM (SELECT DISTINCT ON (view) view, rows, ms FROM api.view_refreshes WHERE error IS NULL
        ORDER BY view, id DESC) AS last"""
EVENTS = "SELECT coalesce(max(position), 0) FROM api.events"


class NothingFollowed(Exception):
    """Something that should have followed the orders did not, in good time; the message says what."""


@dataclass
class Followed:
    """The numbers of it; ratios are of 1."""

    alerts: int = 0
    alerts_out: int = 0
    alerts_open: int = 0
    cache_reads: int = 0
    cache_hit_ratio: float = 0.0
    cache_entries: int = 0
    views: int = 0
    view_rows: int = 0
    view_ms: int = 0
    events: int = 0
    webhooks: int = 0
    webhooks_again: int = 0


def add_endpoint(connection: psycopg.Connection[Any], receiver: Receiver) -> None:
    """Has the receiver told of alerts from now on."""
    row = connection.execute("SELECT api.add_webhook(%s, %s, %s)", [ENDPOINT, receiver.url, KINDS]).fetchone()
    receiver.secret = row[0] if row else ""


def remove_endpoint(connection: psycopg.Connection[Any]) -> None:
    """The receiver ends with the demo; the shop that stays has no endpoint that would fail for ever."""
    connection.execute("SELECT api.remove_webhook(%s)", [ENDPOINT])


def follow(
    connection: psycopg.Connection[Any], app: Celery, receiver: Receiver, progress: Callable[[str], None]
) -> Followed:
    """Waits until all that follows is done, and gives its numbers; raises NothingFollowed."""
    progress("events and webhooks")
    _wait(lambda: _row(connection, WAITING)[0] == 0, "events or webhooks still wait: see `ordermill status`")
    if receiver.refused or receiver.out_of_order:
        raise NothingFollowed(
            f"{receiver.refused} webhooks were not signed well, {receiver.out_of_order} came out of order"
        )
    progress("views")
    _refresh_views(connection, app)
    progress("cached reads")
    read, ratio, entries = _read_best_sellers(connection, app)
    alerts, out, still_open = _row(connection, ALERTS)
    views, rows, ms = _row(connection, VIEWS)
    return Followed(
        *(alerts, out, still_open, read, ratio, entries, views, rows, ms, _row(connection, EVENTS)[0]),
        *(receiver.verified, receiver.again),
    )


def _refresh_views(connection: psycopg.Connection[Any], app: Celery) -> None:
    """Has the views refreshed now: none may be stale for long meanwhile, for beat has refreshed some lately."""
    usual = connection.execute("SELECT view, max_staleness FROM api.view_freshness").fetchall()
    for view, _ in usual:
        connection.execute("SELECT api.set_view_freshness(%s, p_max_staleness => '1 s')", [view])
    stale = "SELECT count(*) FROM api.stale_views()"
    asked = float("-inf")

    def fresh() -> bool:
        nonlocal asked
        if monotonic() - asked > AGAIN_SECONDS:  # a refresh by beat, begun before, may have had ours skipped
            app.send_task("views.refresh", ignore_result=True)
            asked = monotonic()
        return bool(_row(connection, stale)[0] == 0)

    try:
        _wait(fresh, "no worker refreshes the views: see `ordermill views list`")
    finally:
        for view, staleness in usual:
            connection.execute("SELECT api.set_view_freshness(%s, p_max_staleness => %s)", [view, staleness])


def _read_best_sellers(connection: psycopg.Connection[Any], app: Celery) -> tuple[int, float, int]:
    """Reads the availability of what sold most, several times, as a shop's pages would; gives reads, ratio, entries."""
    from workers.cache import stats  # noqa: PLC0415  # only now do the settings name this stack's addresses

    skus = [row[0] for row in connection.execute(BEST).fetchall()]
    pages = [skus[start : start + READ_AT_ONCE] for start in range(0, len(skus), READ_AT_ONCE)] * ROUNDS
    results = [app.send_task("catalog.availability", args=[{"skus": page}], queue="cache") for page in pages]
    for result, page in zip(results, pages, strict=True):
        told = result.get(timeout=SECONDS)
        if [item and item["sku"] for item in told.get("items", [])] != page:
            raise NothingFollowed(f"a cached read gave something else than was asked: {str(told)[:200]}")
    known = stats()
    return sum(map(len, pages)), known["hit_ratio"] or 0.0, known["entries"] or 0


def table(found: Followed) -> Table:
    """The same for people."""
    made = Table(title="What followed", title_justify="left", title_style="bold", border_style="dim", expand=True)
    made.add_column("what")
    made.add_column("how many", justify="right")
    made.add_column("of it")
    again = f", {found.webhooks_again} of them twice" if found.webhooks_again else ""
    for row in (
        ("events delivered", f"{found.events:,}", "in order, to alerts, cache and webhooks"),
        ("alerts raised", f"{found.alerts:,}", f"{found.alerts_out:,} sold out; {found.alerts_open:,} open"),
        ("webhooks received", f"{found.webhooks:,}", f"signed, in order per stream{again}"),
        ("views refreshed", f"{found.views:,}", f"{found.view_rows:,} rows in {found.view_ms / 1000:.1f} s"),
        ("cached reads", f"{found.cache_reads:,}", f"hit ratio {found.cache_hit_ratio:.0%}, "
         f"{found.cache_entries:,} entries"),
    ):  # fmt: skip
        made.add_row(*row)
    return made


def _wait(done: Callable[[], bool], problem: str) -> None:
    if not wait_until(done, SECONDS, 0.1):
        raise NothingFollowed(f"after {SECONDS:.0f} s {problem}")


def _row(connection: psycopg.Connection[Any], statement: str) -> Any:
    return connection.execute(statement.encode()).fetchone() or (None,)
