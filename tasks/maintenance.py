"""Jobs that beat starts, each in its slot: one successful run a slot. Without a cadence they run now, for a person."""

from functools import partial
from typing import Any

from workers.app import app
from workers.base_task import JobTask
from workers.database import call, call_one
from workers.dead_letters import collect
from workers.errors import OrdermillError
from workers.jobs import repeat, run_job
from workers.queue_names import ALL_QUEUES
from workers.replay import broker_of
from workers.settings import get_settings


@app.task(name="maintenance.ensure_partitions", base=JobTask)
def ensure_partitions(cadence: float | None = None) -> dict[str, Any]:
    """Keeps six months of partitions ahead."""
    return run_job(
        "maintenance.ensure_partitions",
        cadence,
        lease=120,
        work=lambda session: {
            "made": call_one("api.ensure_partitions", on=session),
            "ahead": call_one("api.partitions_ahead", on=session),
        },
    )


@app.task(name="maintenance.prune", base=JobTask)
def prune(cadence: float | None = None) -> dict[str, Any]:
    """Deletes decided request keys, settled dead letters and job runs that are older than the policy keeps them."""
    keep = f"{get_settings().keys_kept_days} days"
    return run_job(
        "maintenance.prune",
        cadence,
        lease=300,
        work=lambda session: {"pruned": repeat(session, "api.prune", keep, 1000)},
    )


@app.task(name="maintenance.expire_holds", base=JobTask)
def expire_holds(cadence: float | None = None) -> dict[str, Any]:
    """Expires holds that ran out and gives their stock back."""
    return run_job(
        "maintenance.expire_holds",
        cadence,
        lease=60,
        work=lambda session: {"expired": repeat(session, "api.expire_holds", 100)},
    )


@app.task(name="maintenance.collect_undecodable", base=JobTask)
def collect_undecodable(cadence: float | None = None) -> dict[str, Any]:
    """Makes dead letters of what workers could not read, or had no task for, and so set aside in Redis."""

    def work(session: Any) -> dict[str, Any]:
        with broker_of(app) as broker:
            return dict(collect(broker, ALL_QUEUES, partial(call_one, "api.bury_unread", on=session)))

    return run_job("maintenance.collect_undecodable", cadence, lease=60, work=work)


@app.task(name="maintenance.verify", base=JobTask)
def verify(cadence: float | None = None) -> dict[str, Any]:
    """Recomputes the shop; raises, so that the run counts as failed and is seen, when anything does not agree."""

    def work(session: Any) -> dict[str, Any]:
        findings = call("api.verify", 1, on=session)
        if findings:
            first = findings[0]
            raise OrdermillError(f"verify: {first['check_name']}: {first['entry']}: {first['detail']}")
        return {"verify": "clean"}

    # One statement, so no longer than ORDERMILL_JOB_STATEMENT_TIMEOUT_MS.
    return run_job("maintenance.verify", cadence, lease=get_settings().job_statement_timeout_ms / 1000 + 30, work=work)
