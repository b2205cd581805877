"""Refreshing materialized views: which are due, one after another, each within its deadline.

What is stale, the lock that lets one refresh a view at a time, and the record of each refresh are `api.stale_views` and
`api.refresh_view`. Here is only what a routine cannot do: set the time limit of the statement that calls it.
"""

import time
from typing import Any

from sqlalchemy.engine import Connection

from workers.database import call
from workers.errors import OrdermillError
from workers.settings import get_settings

# A run begins no refresh that may end after this; the next run does. Celery ends a task's process at 870 seconds.
RUN_SECONDS = 800


def refresh_stale(connection: Connection) -> dict[str, Any]:
    """Refreshes what is due, sources before what is built from them; gives how many by outcome, and their rows.

    The connection is of this alone: its statement timeout is changed. A view that fails does not stop the others;
    raises OrdermillError that names those that failed, once all were tried.
    """
    began = time.monotonic()
    tried: dict[str, dict[str, Any]] = {}
    while view := _next(connection, set(tried), RUN_SECONDS - (time.monotonic() - began)):
        tried[view["view"]] = refresh(connection, view["view"], view["deadline_ms"])
    if failed := [f"{name}: {done['error']}" for name, done in tried.items() if done["outcome"] == "failed"]:
        raise OrdermillError(f"{len(failed)} of {len(tried)} views could not be refreshed: {'; '.join(failed)}")
    outcomes = [done["outcome"] for done in tried.values()]
    return {
        "refreshed": outcomes.count("refreshed"),
        "skipped": outcomes.count("skipped"),
        "rows": sum(done["rows"] or 0 for done in tried.values()),
    }


def refresh(connection: Connection, view: str, deadline_ms: int) -> dict[str, Any]:
    """Refreshes one view now; gives view, outcome (refreshed, skipped, failed), rows, ms, staleness_before and error.

    `skipped`: another session is at it. Raises BusinessError OM038 for a view that there is not.
    """
    _limit(connection, deadline_ms)
    try:
        done: dict[str, Any] = call("api.refresh_view", view, on=connection)[0]
    finally:
        if not connection.invalidated:
            _limit(connection, get_settings().job_statement_timeout_ms)
    return done


def _next(connection: Connection, tried: set[str], seconds: float) -> dict[str, Any] | None:
    """The first that is due, was not tried and fits; asked anew each time: a refresh makes others due."""
    due: list[dict[str, Any]] = call("api.stale_views", on=connection)
    return next((each for each in due if each["view"] not in tried and each["deadline_ms"] <= seconds * 1000), None)


def _limit(connection: Connection, ms: int) -> None:
    connection.exec_driver_sql("SELECT set_config('statement_timeout', %s, false)", (f"{ms}ms",))
