"""Deliveries of events to endpoints elsewhere."""

from typing import Any

from workers.app import app
from workers.base_task import JobTask
from workers.jobs import repeat, run_job
from workers.settings import get_settings


@app.task(name="webhooks.deliver", base=JobTask)
def deliver(seconds: float | None = None) -> dict[str, int] | None:
    """Delivers webhooks for some seconds, then starts its successor; None when another delivers."""
    from workers.webhooks import deliver as deliver_webhooks  # noqa: PLC0415  # not in the memory of a worker of orders

    settings = get_settings()
    done = deliver_webhooks(settings, settings.webhooks_seconds if seconds is None else seconds)
    if done is not None and seconds is None:
        # As of a drain: if this is lost, beat starts the next; on a lone process two chains must not go on for ever.
        deliver.apply_async(retry=False, expires=settings.webhooks_seconds)
    return done


@app.task(name="webhooks.prune", base=JobTask)
def prune(cadence: float | None = None) -> dict[str, Any]:
    """Deletes deliveries that ended longer ago than they are kept."""
    keep = f"{get_settings().webhooks_kept_days} days"
    return run_job(
        "webhooks.prune",
        cadence,
        lease=300,
        work=lambda session: {"pruned": repeat(session, "api.prune_deliveries", keep, 5000)},
    )
