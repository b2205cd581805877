"""The timetable: which job, how often, on which queue. No logic.

Each job gets its cadence and claims the slot of it that is nearest, so that two beats, or a beat that was away, still
give one successful run a slot. A job that waited longer than its tick expires: a backlog of ticks cannot pile up.

Hourly and daily jobs tick more often than their slots come, so that a run that failed is tried again soon, and one that
fails on ever more seldom; the other ticks find the slot taken. A slot can be claimed from half a cadence ahead: the one
of 10:00 is taken at 9:30, and the daily one of 00:00 UTC at noon of the day before. Only how often a job succeeds
matters, not the hour.
"""

from typing import Any

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
LONGEST_TICK = 5 * MINUTE


def _every(task: str, cadence: float, queue: str = "maintenance") -> dict[str, Any]:
    tick = min(cadence, LONGEST_TICK)
    return {
        "task": task,
        "schedule": tick,
        "kwargs": {"cadence": cadence},
        "options": {"queue": queue, "expires": tick},
    }


BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    # A drain starts its own successor; this is for when that was lost. No slot: it ends at once where another drains.
    "drain": {"task": "orders.drain", "schedule": 5.0, "options": {"queue": "maintenance", "expires": 5.0}},
    # Likewise for the dispatcher of events.
    "dispatch": {"task": "events.dispatch", "schedule": 5.0, "options": {"queue": "events", "expires": 5.0}},
    # Likewise for the deliverer of webhooks.
    "deliver-webhooks": {"task": "webhooks.deliver", "schedule": 5.0, "options": {"queue": "events", "expires": 5.0}},
    "prune-deliveries": _every("webhooks.prune", HOUR),
    "sweep": _every("orders.sweep", 10.0),
    "collect-undecodable": _every("maintenance.collect_undecodable", 10.0),
    "expire-holds": _every("maintenance.expire_holds", 15.0),
    "warm-cache": _every("cache.warm", 10 * MINUTE, "cache"),
    "ensure-partitions": _every("maintenance.ensure_partitions", HOUR),
    "prune": _every("maintenance.prune", HOUR),
    "verify": _every("maintenance.verify", DAY),
    "retire-partitions": _every("upkeep.retire_partitions", DAY),
    "statistics": _every("upkeep.statistics", HOUR),
    "slow-queries": _every("upkeep.slow_queries", HOUR),
    "unused-indexes": _every("upkeep.unused_indexes", DAY),
    "locks": _every("upkeep.locks", MINUTE),
    "refresh-views": _every("views.refresh", MINUTE, "views"),
    "alerts-notify": _every("alerts.notify", 10.0, "alerts"),
    "alerts-escalate": _every("alerts.escalate", MINUTE, "alerts"),
    "alerts-scan": _every("alerts.scan", DAY, "alerts"),
}
