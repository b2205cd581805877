"""What all tasks of a kind have in common, so that a task is only: validate, call one routine, report."""

import json
from typing import Any

from celery import Task
from celery.exceptions import Reject
from celery.utils.log import get_task_logger

from workers.database import call
from workers.errors import OutageError, TransientError

log = get_task_logger(__name__)


class CommandTask(Task):
    """A command with a key: acknowledged after its commit, and given back to the queue while the database is away.

    Its result is kept, because somebody may wait for it; a message's own `ignore_result` is honoured. It may be
    called with anything: what does not fit is refused with a reason, not with a TypeError.
    """

    abstract = True
    typing = False
    acks_late = True
    reject_on_worker_lost = True
    ignore_result = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the task; what no retry in place could mend goes back to the queue, where it is safe."""
        try:
            return super().__call__(*args, **kwargs)
        except (OutageError, TransientError) as error:
            log.warning("%s %s goes back to the queue: %s", self.name, self.request.id, error)
            raise Reject(error, requeue=True) from error

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """A failure is a bug, and the message is acknowledged: keep it as a dead letter, so that it can be replayed."""
        call("api.bury_message", self.name, task_id, as_text({"args": args, "kwargs": kwargs}), f"{exc!r}")


class JobTask(Task):
    """Maintenance that beat starts: acknowledged early; what is lost with a worker is done at the next slot."""

    abstract = True
    acks_late = False
    ignore_result = True


def payload_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The one JSON value of a message: its only positional argument, or else its keywords."""
    if len(args) == 1 and not kwargs:
        return args[0]
    return {"args": list(args), **kwargs} if args else kwargs


def as_text(payload: Any) -> str:
    """A payload as JSON in ASCII, so that PostgreSQL can be shown whatever came; `null` for what JSON cannot hold."""
    try:
        return json.dumps(payload)
    except (TypeError, ValueError, RecursionError):
        return "null"
