"""`ordermill jobs`: each entry of the timetable with its last run, how long, what came of it, and the next."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb

from beat_schedule import BEAT_SCHEDULE
from tests.shop import Shop
from workers.status import of_database
from workers.timetable import collect, in_short, span

NOON = datetime(2026, 1, 15, 12, 0, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


def run(shop: Shop, job: str, slot: datetime, state: str = "succeeded", result: Any = None) -> None:
    end = None if state == "running" else slot + timedelta(seconds=1.5)
    shop.db.execute(
        "INSERT INTO shop.job_runs (job, slot, state, started_at, finished_at, leased_until, result)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
        [job, slot, state, slot, end, slot if state == "running" else None, Jsonb(result)],
    )


def jobs(shop: Shop, now: datetime = NOON) -> dict[str, dict[str, Any]]:
    return {job["job"]: job for job in collect(shop.db, now)}


def test_each_entry_is_there_with_queue_cadence_and_expiry_also_before_it_ever_ran(scratch: Shop) -> None:
    found = collect(scratch.db, NOON)

    assert [job["name"] for job in found] == list(BEAT_SCHEDULE)
    for job in found:
        entry = BEAT_SCHEDULE[job["name"]]
        assert (job["job"], job["queue"], job["expires"]) == (
            entry["task"], entry["options"]["queue"], entry["options"]["expires"])  # fmt: skip
        assert job["cadence"] == entry.get("kwargs", {}).get("cadence")
        assert (job["overdue"], job.get("state"), job["next_at"]) == (False, None, job["cadence"] and NOON)


def test_the_next_slot_opens_half_a_cadence_after_the_last_that_succeeded(scratch: Shop) -> None:
    noon = NOON.replace(second=0)
    run(scratch, "maintenance.prune", noon, result={"pruned": 3})
    run(scratch, "maintenance.verify", noon - 13 * HOUR)

    prune, verify = jobs(scratch)["maintenance.prune"], jobs(scratch)["maintenance.verify"]

    assert prune["next_at"] == noon + HOUR / 2
    assert (prune["state"], prune["seconds"], prune["result"], prune["overdue"]) == (
        "succeeded", 1.5, {"pruned": 3}, False)  # fmt: skip
    assert verify["next_at"] == NOON  # open since an hour


def test_a_job_is_overdue_by_the_rule_of_status(scratch: Shop) -> None:
    noon = NOON.replace(second=0)
    run(scratch, "maintenance.prune", noon - HOUR)
    run(scratch, "maintenance.prune", noon, "failed", result={"error": "a lock"})
    last_moment = noon + HOUR / 2 + timedelta(seconds=90)

    assert not jobs(scratch, last_moment)["maintenance.prune"]["overdue"]
    late = jobs(scratch, last_moment + timedelta(seconds=1))["maintenance.prune"]
    assert late["overdue"]
    assert (late["state"], late["result"]) == ("failed", {"error": "a lock"})
    assert late["succeeded_slot"] == noon - HOUR
    run(scratch, "upkeep.locks", noon, "failed")
    assert jobs(scratch)["upkeep.locks"]["overdue"]  # it has never succeeded, and others ran


def test_a_slot_of_a_clock_that_ran_ahead_does_not_hide_a_job_that_no_longer_runs(scratch: Shop) -> None:
    run(scratch, "upkeep.locks", NOON - HOUR)
    run(scratch, "upkeep.locks", NOON + 36_500 * 24 * HOUR)
    run(scratch, "orders.sweep", NOON + timedelta(seconds=4))  # claimed a moment early
    run(scratch, "maintenance.verify", NOON + 36_500 * 24 * HOUR, "failed")

    found = jobs(scratch)

    assert (found["upkeep.locks"]["overdue"], found["upkeep.locks"]["succeeded_slot"]) == (True, NOON - HOUR)
    assert found["upkeep.locks"]["started_at"] == NOON - HOUR
    assert found["upkeep.locks"]["next_at"] == NOON
    assert not found["orders.sweep"]["overdue"]
    assert found["maintenance.verify"]["overdue"]  # it has not run since the clock is right, and others did


def test_a_job_that_left_the_timetable_is_still_shown(scratch: Shop) -> None:
    run(scratch, "old.job", NOON, "running")

    assert jobs(scratch)["old.job"]["state"] == "running"
    assert jobs(scratch)["old.job"]["name"] is None


def test_results_are_words() -> None:
    assert (
        in_short({"retired": [], "waiting": {"2025-01": ["a key"]}, "ms": 3}) == "retired: none, waiting: 2025-01 a key"
    )
    assert in_short({"to_do": "set X"}) == "to do: set X"
    assert in_short(None) == ""
    assert [span(value) for value in (None, 0.04, 59, 60, 7_200, 172_800)] == [
        "-", "40 ms", "59 s", "1 min", "2 h", "2 d"]  # fmt: skip


def test_the_command_fits_80_columns_gives_json_and_fails_where_a_job_is_overdue(shop: Shop, database_url: str) -> None:
    def ordermill(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("ordermill")), "jobs", *arguments],
            env=os.environ | {"DATABASE_URL": database_url}, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    now = datetime.now(UTC)
    run(shop, "maintenance.collect_undecodable", now, result={"collected": "long " * 50})
    shown = ordermill()
    assert (shown.returncode, shown.stderr) == (0, "")
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert "maintenance.collect_undecodable" in shown.stdout

    run(shop, "upkeep.locks", now - timedelta(days=8))
    shop.db.execute("SELECT api.prune()")
    late = ordermill("--json")
    assert late.returncode == 1
    overdue = [job["job"] for job in json.loads(late.stdout) if job["overdue"]]
    assert "upkeep.locks" in overdue
    state = of_database(database_url, 5)
    assert sorted(overdue) == sorted(job["job"] for job in state["jobs"] if job["overdue"])
    assert "OVERDUE" in ordermill().stdout
