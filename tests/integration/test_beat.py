"""Beat: the timetable runs, once a slot however many beats there are, and revives a drain that was lost."""

from pathlib import Path

import pytest

from tests.shop import new_key, order
from tests.workers_fixtures import Mill, kill
from workers.child import wait_until
from workers.drain import LOCK_CLASS

# Of the same timetable the jobs of two queues, each cadence a second: slots go by while a test waits.
HURRIED = """
from workers.app import app

areas = ("orders.", "maintenance.")
app.conf.beat_schedule = {
    name: entry for name, entry in app.conf.beat_schedule.items() if entry["task"].startswith(areas)
}
for entry in app.conf.beat_schedule.values():
    entry["schedule"], entry["options"] = 1.0, entry["options"] | {"expires": 10.0}
    if "kwargs" in entry:
        entry["kwargs"] = {"cadence": 1.0}
"""


@pytest.fixture
def hurried(mill: Mill) -> str:
    (Path(mill.folder) / "hurried.py").write_text(HURRIED)
    return "hurried"


def test_two_beats_give_one_successful_run_a_slot_and_slots_advance(mill: Mill, hurried: str) -> None:
    general = mill.general_worker("-c", "2", ORDERMILL_DRAIN_SECONDS="1")
    beats = [mill.beat(hurried) for _ in range(2)]
    jobs = ("orders.sweep", "maintenance.expire_holds", "maintenance.ensure_partitions", "maintenance.verify")

    def runs(job: str) -> int:
        return mill.shop.value("SELECT count(*) FROM shop.job_runs WHERE job = %s AND state = 'succeeded'", job)

    def skipped() -> int:
        """How many messages found their slot taken by the other beat's, or by their own a little earlier."""
        return general.log.read_text().count("{'skipped': 'the slot is taken'}")

    assert wait_until(lambda: all(runs(job) >= 3 for job in jobs) and skipped() >= len(jobs), 60, 0.1)
    for beat in beats:
        kill(beat)
    assert mill.shop.value("SELECT count(*) FROM shop.job_runs WHERE attempt > 1 OR state = 'failed'") == 0
    kill(general)
    mill.broker.flushdb()


def test_beat_starts_a_drain_and_revives_it_when_it_is_lost(mill: Mill) -> None:
    sku = f"SKU-{new_key()}"
    mill.shop.stock(sku, "E1", 10)
    first, second, third = (order(None, (sku, 1)) for _ in range(3))
    mill.shop.submit(first)
    general = mill.general_worker("-c", "3")
    mill.beat()
    assert mill.all_decided([first])

    mill.broker.flushdb()  # a successor that was waiting is gone
    kill(general)  # and so is the drain, in the middle of its run
    mill.shop.submit(second)
    mill.general_worker("-c", "3")
    assert mill.all_decided([second])

    drains = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND database = %s"
    here = mill.shop.value("SELECT oid FROM pg_database WHERE datname = current_database()")

    def drain_is_there() -> bool:
        return bool(mill.shop.value(drains, LOCK_CLASS, here))

    # A sweep, which decides what it finds and ends, may have been before it.
    assert wait_until(lambda: drain_is_there() and wait_until(lambda: not drain_is_there(), 1, 0.05) is False, 15)
    mill.shop.submit(third)
    assert mill.all_decided([third], 5)
    assert mill.orders_by_key([first, second, third]) == [1, 1, 1]
