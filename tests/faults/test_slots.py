"""Slots under faults: a beat that was down over one, a worker killed in a job: one successful run each."""

from pathlib import Path
from typing import Any

import pytest

from tests.shop import order
from tests.workers_fixtures import Mill, kill, lock_levels
from workers.child import wait_until
from workers.database import connect

# Beat with two jobs alone: one whose slots go by while a test waits, one whose only slot comes in the test.
TIMETABLE = """
from workers.app import app

def entry(task, cadence):
    return {"task": task, "schedule": 1.0, "kwargs": {"cadence": cadence},
        "options": {"queue": "maintenance", "expires": 10.0}}

app.conf.beat_schedule = {"often": entry("upkeep.locks", 2.0)}
if ONCE:
    app.conf.beat_schedule["once"] = entry("maintenance.verify", ONCE)
"""
EXPIRE = "maintenance.expire_holds"


def timetable(mill: Mill, once: float = 0) -> str:
    (Path(mill.folder) / "timetable.py").write_text(TIMETABLE.replace("ONCE", repr(once)))
    return "timetable"


def runs(mill: Mill, job: str) -> list[dict[str, Any]]:
    return mill.shop.maps(
        "SELECT extract(epoch FROM slot)::float8 AS slot, state, attempt FROM shop.job_runs"
        " WHERE job = %s ORDER BY slot",
        job,
    )


def now(mill: Mill) -> float:
    return mill.shop.value("SELECT extract(epoch FROM clock_timestamp())::float8")


def test_a_slot_that_came_while_beat_was_down_is_run_once_when_it_is_back_and_none_is_made_up_twice(mill: Mill) -> None:
    worker = mill.general_worker("-c", "2")
    first = mill.beat(timetable(mill))
    assert wait_until(lambda: len(runs(mill, "upkeep.locks")) >= 2, 60, 0.1)
    kill(first)
    mill.broker.flushdb()
    # Beat is down when the slot comes, and while slots of the other job go by.
    missed = now(mill)
    once = missed + 2.0  # a cadence as long as the time since 1970: its first slot is in two seconds
    app = timetable(mill, once)
    assert wait_until(lambda: now(mill) > missed + 5, 60, 0.1)
    assert runs(mill, "maintenance.verify") == []

    back = now(mill)
    beats = [mill.beat(app) for _ in range(2)]

    def ran_again() -> bool:
        return sum(run["slot"] > back for run in runs(mill, "upkeep.locks") if run["state"] == "succeeded") >= 2

    def verified() -> bool:
        return [run["state"] for run in runs(mill, "maintenance.verify")] == ["succeeded"]

    taken = "{'skipped': 'the slot is taken'}"
    assert wait_until(lambda: ran_again() and verified() and worker.log.read_text().count(taken) >= 4, 60, 0.1)
    [only] = runs(mill, "maintenance.verify")
    assert (round(only["slot"], 3), only["state"], only["attempt"]) == (round(once, 3), "succeeded", 1)
    often = [run for run in runs(mill, "upkeep.locks") if run["state"] == "succeeded"]
    assert all(run["attempt"] == 1 and run["slot"] % 2 == 0 for run in often)
    assert len({run["slot"] for run in often}) == len(often)
    assert not [run for run in often if missed + 1.1 < run["slot"] < back - 1.1]  # what went by is not made up
    for beat in beats:
        kill(beat)
    kill(worker)
    mill.broker.flushdb()


def test_a_job_whose_worker_is_killed_in_the_middle_of_its_statement_succeeds_once_in_its_slot(mill: Mill) -> None:
    mill.shop.stock("HELD", "E1", 9)
    mill.shop.hold(order("held", ("HELD", 2)))
    mill.db.execute("UPDATE shop.order_allocations SET expires_at = now() WHERE state = 'held'")
    for child in mill.children:
        if child.alive():
            kill(child)
    worker = mill.general_worker("-c", "1")
    cadence = now(mill)  # one slot, for the whole test

    def tick() -> None:
        mill.send(EXPIRE, queue="maintenance", kwargs={"cadence": cadence})

    with connect(mill.database_url) as blocker, blocker.transaction():
        lock_levels(blocker, "HELD")
        tick()
        pids = mill.wait_blocked()
        kill(worker)
        mill.terminate(pids)
    assert [(run["state"], run["attempt"]) for run in runs(mill, EXPIRE)] == [("running", 1)]
    assert mill.shop.level("HELD", "E1") == {"available": 7, "held": 2}

    worker = mill.general_worker("-c", "1")
    tick()
    assert wait_until(lambda: "the slot is taken" in worker.log.read_text(), 60, 0.1)  # for as long as the lease is
    mill.db.execute("UPDATE shop.job_runs SET leased_until = clock_timestamp() WHERE state = 'running'")
    for _ in range(3):
        tick()

    assert wait_until(lambda: worker.log.read_text().count("the slot is taken") >= 3, 60, 0.1)
    assert [(run["state"], run["attempt"]) for run in runs(mill, EXPIRE)] == [("succeeded", 2)]
    assert mill.shop.level("HELD", "E1") == {"available": 9}
    assert mill.shop.value("SELECT count(*) FROM shop.stock_movements WHERE cause LIKE '%%expired%%'") == 1


@pytest.mark.parametrize("job", ["upkeep.statistics", "upkeep.retire_partitions"])
def test_the_jobs_of_upkeep_run_in_a_worker_with_its_role(mill: Mill, job: str) -> None:
    if not any(child.alive() for child in mill.children):
        mill.general_worker("-c", "1")
    mill.send(job, queue="maintenance", kwargs={"cadence": now(mill)})

    assert wait_until(lambda: [run["state"] for run in runs(mill, job)] == ["succeeded"], 60, 0.1)
