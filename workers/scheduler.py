"""Celery beat's own scheduler, except that a clock which is set back does not silence it.

Stock beat waits until the clock has reached the time of the last run again, for hours if need be, also after a restart.
"""

from datetime import timedelta
from typing import Any

from celery.beat import PersistentScheduler
from celery.utils.log import get_logger

TOLERATED = timedelta(seconds=2)  # a clock that is corrected by less delays beat by less
log = get_logger(__name__)


class Scheduler(PersistentScheduler):
    """Chosen by `beat_scheduler`."""

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """One iteration; what seems to have run in the future is due now."""
        now = self.app.now()
        ahead = [entry for entry in self.schedule.values() if entry.last_run_at > now + TOLERATED]
        for entry in ahead:
            entry.last_run_at = now - entry.schedule.run_every
        if ahead:
            log.warning("the clock was set back: %d entries of the timetable are due", len(ahead))
            self._heap = None
        return float(super().tick(*args, **kwargs))
