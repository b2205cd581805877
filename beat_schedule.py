"""The timetable: which job, how often, on which queue. No logic.

Each job gets its cadence and claims the slot of it that is nearest, so that two beats, or a beat that was away, still
give one successful run a slot. A job that waited longer than its cadence expires: a backlog of ticks cannot pile up.
"""

from typing import Any

from celery.schedules import crontab

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


def _every(task: str, cadence: float, when: crontab | None = None) -> dict[str, Any]:
    return {
        "task": task,
        "schedule": when or cadence,
        "kwargs": {"cadence": cadence},
        "options": {"queue": "maintenance", "expires": cadence},
    }


BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    # A drain starts its own successor; this is for when that was lost. No slot: it ends at once where another drains.
    "drain": {"task": "orders.drain", "schedule": 5.0, "options": {"queue": "maintenance", "expires": 5.0}},
    "sweep": _every("orders.sweep", 10.0),
    "expire-holds": _every("maintenance.expire_holds", 15.0),
    "ensure-partitions": _every("maintenance.ensure_partitions", HOUR, crontab(minute="3")),
    "prune": _every("maintenance.prune", HOUR, crontab(minute="33")),
    "verify": _every("maintenance.verify", DAY, crontab(hour="0", minute="13")),
}
