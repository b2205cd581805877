"""Alerts of low stock: found, told, escalated."""

from functools import partial
from typing import Any

from workers import alerts
from workers.app import app
from workers.base_task import JobTask
from workers.jobs import run_job
from workers.settings import get_settings


@app.task(name="alerts.notify", base=JobTask)
def notify(cadence: float | None = None) -> dict[str, Any]:
    """Tells of alerts that opened or were escalated: a line each in the log, and mails, each of many alerts."""
    return run_job("alerts.notify", cadence, lease=300, work=lambda _session: dict(alerts.notify(get_settings())))


@app.task(name="alerts.escalate", base=JobTask)
def escalate(cadence: float | None = None) -> dict[str, Any]:
    """Escalates alerts that nobody has looked after for too long, and wakes those whose snooze ran out."""
    return run_job("alerts.escalate", cadence, lease=120, work=partial(alerts.escalate, settings=get_settings()))


@app.task(name="alerts.scan", base=JobTask)
def scan(cadence: float | None = None) -> dict[str, Any]:
    """Compares every level with its alert: opens and resolves what events could not, as after a new threshold."""
    return run_job("alerts.scan", cadence, lease=900, work=partial(alerts.scan, settings=get_settings()))
