"""Events: giving them positions and feeding their consumers."""

import time
from typing import Any

from workers.app import app
from workers.base_task import JobTask
from workers.dispatch import dispatch as dispatch_events
from workers.settings import get_settings

FOLLOWED_SECONDS = 1.0  # the task that has work now drains it whole: it need not be told of each event
_sent: dict[str, float] = {}  # this process's own


@app.task(name="events.dispatch", base=JobTask)
def dispatch(seconds: float | None = None) -> dict[str, Any] | None:
    """Feeds the consumers of events for some seconds, then starts its successor; None when another dispatches."""
    settings = get_settings()
    done = dispatch_events(settings, settings.dispatch_seconds if seconds is None else seconds, follow=follow)
    if done is not None and seconds is None:
        # As of a drain: if this is lost, beat starts the next; on a lone process two chains must not go on for ever.
        dispatch.apply_async(retry=False, expires=settings.dispatch_seconds)
    return done


def follow(task: str) -> None:
    """Starts a task that has work now, unless it was just started."""
    now = time.monotonic()
    if now - _sent.get(task, -FOLLOWED_SECONDS) >= FOLLOWED_SECONDS:
        _sent[task] = now
        app.send_task(task, retry=False, expires=60, ignore_result=True)
