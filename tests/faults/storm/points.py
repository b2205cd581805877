"""Named points at which a real process kills itself, once, when it is told to: a SIGKILL exactly there.

As a Celery application it is Ordermill's own, with these points. A fault writes the name of a point into the file
`armed` of the rig's folder; the first process that comes by takes the file away and dies.
"""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH = ("fetched", "before place", "after commit", "amid results", "amid acknowledgements")
DISPATCH = ("while it sequences", "sequenced", "while it gives", "outside done")
CLIENT = ("client before commit", "client after commit", "client before publish", "client after publish")
FEW_MS = 0.003  # a statement is at work so long after it was sent


def file_of(folder: Path) -> Path:
    """Where a point is named."""
    return folder / "armed"


def arm(folder: Path, point: str) -> Path:
    """Tells whoever comes by this point to die there; the file is gone when one has."""
    file = file_of(folder)
    unfinished = file.with_suffix(".new")
    unfinished.write_text(point)
    unfinished.replace(file)
    return file


def told(point: str) -> bool:
    """Whether this process is the one that dies at this point."""
    file = file_of(Path(os.environ["STORM_POINTS"]))
    try:
        if file.read_text() != point:
            return False
        file.rename(file.with_suffix(f".{os.getpid()}"))
    except OSError:  # not armed, or another process was quicker
        return False
    return True


def reach(point: str) -> None:
    """Dies here, if this is where somebody should."""
    if told(point):
        die()


def die() -> None:
    """SIGKILL to this very process."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_soon(point: str) -> None:
    """Dies here in a few milliseconds, when the statement that is sent now is at work."""
    if told(point):
        threading.Timer(FEW_MS, die).start()


def before(owner: Any, name: str, act: Callable[..., None]) -> None:
    """Has a method or function call this first, with its arguments."""
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        act(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def in_batches() -> None:
    """The points of a batch of an orders worker."""
    import tasks.orders
    from workers.batching import Batch
    from workers.unacknowledged import QoS

    def amid_results(batch: Batch, requests: list[Any], results: list[Any], _runtime: float) -> None:
        reach("after commit")
        if told("amid results"):
            half = len(requests) // 2
            batch.store(list(zip(requests[:half], results[:half], strict=True)))
            die()

    def amid_acknowledgements(qos: QoS) -> None:
        if len(qos.acknowledged) > 1 and told("amid acknowledgements"):
            half = qos.acknowledged[: len(qos.acknowledged) // 2]
            with qos.channel.conn_or_acquire() as client:
                client.hdel(qos.unacked_key, *half)  # and not from the index
            die()

    before(Batch, "flush", lambda _batch: reach("fetched"))
    before(tasks.orders, "place_batch", lambda _requests: reach("before place"))
    before(Batch, "finish", amid_results)
    before(QoS, "take_acknowledged", amid_acknowledgements)


def in_dispatching() -> None:
    """The points of the dispatcher of events and of the sequencer."""
    import workers.dispatch
    from workers.dispatch import Dispatcher

    def calling(routine: str, *_: Any, **__: Any) -> None:
        if routine == "api.sequence_events":
            die_soon("while it sequences")
        elif routine == "api.dispatch_events":
            die_soon("while it gives")
        elif routine == "api.advance_consumer":
            reach("outside done")

    def sequenced(_dispatcher: Dispatcher, _consumer: Any) -> None:
        reach("sequenced")

    before(workers.dispatch, "call_one", calling)
    before(Dispatcher, "turn", sequenced)


def __getattr__(name: str) -> Any:
    """`app`, where Celery or the nursery asks for it: a client of these points imports no worker."""
    if name != "app":
        raise AttributeError(name)
    from workers.app import app

    app.loader.import_default_modules()
    in_batches()
    in_dispatching()
    globals()["app"] = app
    return app
