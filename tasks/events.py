"""Events: giving them positions and feeding their consumers."""

from typing import Any

from workers.app import app
from workers.base_task import JobTask
from workers.settings import get_settings


@app.task(name="events.dispatch", base=JobTask)
def dispatch(seconds: float | None = None) -> dict[str, Any] | None:
    """Feeds the consumers of events for some seconds, then starts its successor; None when another dispatches.

    Beside a dispatcher that stands still it does what is late, and starts none: beat does, as long as that is so.
    """
    from workers.dispatch import dispatch as dispatch_events  # noqa: PLC0415  # not in the memory of a worker of orders

    settings = get_settings()
    done = dispatch_events(settings, settings.dispatch_seconds if seconds is None else seconds)
    if done is not None and not done["beside"] and seconds is None:
        # As of a drain: if this is lost, beat starts the next; on a lone process two chains must not go on for ever.
        dispatch.apply_async(retry=False, expires=settings.dispatch_seconds)
    return done
