"""The timetable beside what came of it: for each job its last run and success, and when its next slot is."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row

from beat_schedule import BEAT_SCHEDULE
from workers.problems import is_overdue

CADENCES: dict[str, float] = {
    entry["task"]: entry["kwargs"]["cadence"]
    for entry in BEAT_SCHEDULE.values()
    if "cadence" in entry.get("kwargs", {})
}
HEALTH = "SELECT * FROM api.job_health(%(jobs)s, %(cadences)s, coalesce(%(now)s, clock_timestamp()))"


def collect(connection: psycopg.Connection[Any], now: datetime | None = None) -> list[dict[str, Any]]:
    """One mapping a job, in the order of the timetable; then jobs that have run and are no longer in it.

    `next_at`: from then on its next slot may be claimed; `overdue`: as in `workers.problems`.
    A job without slots, such as the drain, runs at each tick and keeps no runs.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        runs = {row["job"]: row for row in cursor.execute("SELECT * FROM api.jobs").fetchall()}
        known = judged(cursor.execute(HEALTH, asked(now)).fetchall())
    now = now or datetime.now(UTC)
    entries = []
    for name, entry in BEAT_SCHEDULE.items():
        run = runs.pop(entry["task"], None)
        entries.append(_entry(name, entry, run, known.get(entry["task"]), now))
    left = (
        {"name": None, "cadence": None, "queue": None, "overdue": False, "next_at": None} | run for run in runs.values()
    )
    return entries + [_plain(each) for each in left]


def asked(now: datetime | None = None) -> dict[str, Any]:
    """What `HEALTH` asks for: each job with slots; without a time, as it is now."""
    return {"jobs": list(CADENCES), "cadences": list(CADENCES.values()), "now": now}


def judged(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The rows of `HEALTH` by job, each with its cadence and whether it is overdue."""
    for row in rows:
        row["cadence_seconds"] = CADENCES[row["job"]]
    for row in rows:
        row["overdue"] = is_overdue(row, rows)
    return {row["job"]: row for row in rows}


def _entry(
    name: str, entry: dict[str, Any], run: dict[str, Any] | None, health: dict[str, Any] | None, now: datetime
) -> dict[str, Any]:
    cadence = entry.get("kwargs", {}).get("cadence")
    known = {
        "name": name,
        "job": entry["task"],
        "queue": entry["options"]["queue"],
        "cadence": cadence,
        "tick": entry["schedule"],
        "expires": entry["options"]["expires"],
        "overdue": False,
        "next_at": None,
    }
    if health is None:
        return _plain(known | (run or {}))
    slot = health["succeeded_slot"]
    known["next_at"] = max(now, slot + timedelta(seconds=cadence / 2)) if slot else now
    return _plain(known | (run or {}) | {"succeeded_slot": slot, "overdue": health["overdue"]})


def _plain(job: dict[str, Any]) -> dict[str, Any]:
    took = job.pop("took", None)
    return job | {"seconds": round(took.total_seconds(), 3) if took is not None else None}


def in_short(result: Any) -> str:
    """What a run came to, as words on one line."""
    if not isinstance(result, dict):
        return "" if result is None else json.dumps(result)
    return ", ".join(f"{name.replace('_', ' ')}: {_words(value)}" for name, value in result.items() if name != "ms")


def _words(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_words, value)) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{name} {_words(each)}" for name, each in value.items()) or "none"
    return str(value)


def span(seconds: float | None) -> str:
    """A length of time in one unit: 40 ms, 12 s, 5 min, 3 h, 2 d."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    raise AssertionError("unreachable: the last size is one second")
