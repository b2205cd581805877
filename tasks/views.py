"""Materialized views, refreshed when they are stale."""

from typing import Any

from workers.app import app
from workers.base_task import JobTask
from workers.jobs import run_job
from workers.views import RUN_SECONDS, refresh_stale


@app.task(name="views.refresh", base=JobTask)
def refresh(cadence: float | None = None) -> dict[str, Any]:
    """Refreshes the materialized views that are older than their freshness allows, if something happened since."""
    return run_job("views.refresh", cadence, lease=RUN_SECONDS + 60, work=refresh_stale)
