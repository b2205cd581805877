"""Upkeep of the database itself: old partitions, statistics, and reports of what an operator should see."""

from typing import Any

from workers.app import app
from workers.base_task import JobTask
from workers.database import call, call_one
from workers.jobs import run_job
from workers.retiring import retire_due
from workers.settings import get_settings

ANALYZED_A_RUN = 20


@app.task(name="upkeep.retire_partitions", base=JobTask)
def retire_partitions(cadence: float | None = None) -> dict[str, Any]:
    """Retires the partitions of months that are older than the policy keeps them: detached, archived, dropped."""
    # Killed midway, the next run goes on; two at once are kept apart by a lock of their own.
    return run_job(
        "upkeep.retire_partitions",
        cadence,
        lease=3600,
        work=lambda session: retire_due(get_settings(), call("api.months_to_retire", on=session)),
    )


@app.task(name="upkeep.statistics", base=JobTask)
def statistics(cadence: float | None = None) -> dict[str, Any]:
    """Analyzes tables whose statistics are old, notes sizes, and reports old statistics, dead rows and bloat."""

    def work(session: Any) -> dict[str, Any]:
        analyzed: list[str] = []
        while len(analyzed) < ANALYZED_A_RUN and (names := call_one("api.analyze_stale", 1, on=session)):
            analyzed += names
        return {"analyzed": analyzed, **_found("statistics", session)}

    return run_job("upkeep.statistics", cadence, lease=get_settings().job_statement_timeout_ms / 1000 + 30, work=work)


@app.task(name="upkeep.slow_queries", base=JobTask)
def slow_queries(cadence: float | None = None) -> dict[str, Any]:
    """Reports the statements that took the most time, where pg_stat_statements is there."""
    return run_job("upkeep.slow_queries", cadence, lease=60, work=lambda session: _found("slow", session))


@app.task(name="upkeep.unused_indexes", base=JobTask)
def unused_indexes(cadence: float | None = None) -> dict[str, Any]:
    """Reports indexes that no query uses."""
    return run_job("upkeep.unused_indexes", cadence, lease=60, work=lambda session: _found("indexes", session))


@app.task(name="upkeep.locks", base=JobTask)
def locks(cadence: float | None = None) -> dict[str, Any]:
    """Reports who waits for whom, and what keeps locks or WAL for long."""
    return run_job("upkeep.locks", cadence, lease=30, work=lambda session: _found("locks", session))


def _found(report: str, session: Any) -> dict[str, Any]:
    return {"findings": call_one("api.record_findings", report, on=session)}
