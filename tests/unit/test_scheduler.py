"""Beat goes on when its clock was wrong and is set right."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from workers.app import app
from workers.scheduler import Scheduler


class Noting(Scheduler):
    """Notes what is due, where beat would send it."""

    producer = None
    sent: list[str]

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        self.sent.append(entry.name)


def opened(file: Path) -> Noting:
    scheduler = Noting(app, schedule_filename=str(file))
    scheduler.sent = []
    return scheduler


def all_due(scheduler: Noting) -> list[str]:
    while scheduler.tick() == 0:
        pass
    return scheduler.sent


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_when_a_clock_that_was_two_hours_ahead_is_set_right_beat_sends_at_once(tmp_path: Path, restarted: bool) -> None:
    scheduler = opened(tmp_path / "schedule")
    all_due(scheduler)
    for entry in scheduler.schedule.values():
        entry.last_run_at += timedelta(hours=2)
    scheduler.populate_heap()
    if restarted:
        scheduler.close()
        scheduler = opened(tmp_path / "schedule")
    scheduler.sent.clear()

    assert sorted(all_due(scheduler)) == sorted(app.conf.beat_schedule)
    assert scheduler.tick() > 0
    assert len(scheduler.sent) == len(app.conf.beat_schedule)
    scheduler.close()
