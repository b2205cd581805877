"""Celery's solo pool, in which there is no process beside the worker to be killed: being told to is no error."""

from typing import Any

from celery.concurrency import ALIASES, solo


class TaskPool(solo.TaskPool):  # type: ignore[misc]  # Celery ships no types
    """`-P solo`. Stock Celery's raises, in whatever the worker does, where a cold shutdown would kill a process."""

    def terminate_job(self, pid: Any, signal: Any = None) -> None:
        """Does nothing: what runs is the worker itself, which ends by itself; its message stays in Redis."""


ALIASES["solo"] = f"{__name__}:TaskPool"
