"""Ordermill beside stock Celery: the application as it is, and a task that does nothing, taken in batches.

celery -A bench.peers.ours_app worker -Q orders -P solo
"""

import sys
from typing import Any

from celery.signals import worker_ready

from workers.app import app
from workers.batching import BatchTask, Call

__all__ = ["app"]


class Noop(BatchTask):
    """Does nothing, for as many messages as one fetch brought."""

    name = "bench.noop"
    ignore_result = True

    def run(self, *_args: Any, **_kwargs: Any) -> None:
        """Nothing, for one message."""

    def run_batch(self, calls: list[Call]) -> list[Any]:
        """Nothing, for each."""
        return [None] * len(calls)


app.register_task(Noop())


@worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
def _say_ready(**_: Any) -> None:
    """Both sides are silent at this log level; the bench waits for this line."""
    print("bench: ready.", file=sys.stderr, flush=True)
