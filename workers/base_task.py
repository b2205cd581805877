"""What all tasks of a kind have in common, so that a task is only: validate, call one routine, report."""

import json
import logging
import time
from typing import Any

from celery import Task
from celery.exceptions import Reject
from celery.utils.log import get_task_logger

from workers.database import call, holdable
from workers.errors import FaultError, OutageError, TransientError

log = get_task_logger(__name__)


def _said_already(record: logging.LogRecord) -> bool:
    """Drops Celery's own report, a traceback each time, of what `back_to_the_queue` has said in one line."""
    reported = record.exc_info[1] if record.exc_info else None
    return not (isinstance(reported, Reject) and reported.requeue and isinstance(reported.reason, Exception))


logging.getLogger("celery.app.trace").addFilter(_said_already)


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
            raise self.back_to_the_queue(error) from None
        except FaultError as error:
            time.sleep(1)  # it will be the same for each message until somebody mends it: do not spin
            raise self.back_to_the_queue(error) from None
        except Exception as error:
            # A bug. The message is acknowledged with the failure, so it is kept first, to be replayed once mended.
            message = as_text({"args": args, "kwargs": kwargs})
            try:
                call("api.bury_message", self.name, holdable(self.request.id)[:200], message, holdable(repr(error)))
            except Exception as second:
                time.sleep(1)  # nothing can be kept now: do not spin
                log.exception("%s %s failed, and cannot be kept now", self.name, self.request.id)
                raise self.back_to_the_queue(second) from None
            raise

    def back_to_the_queue(self, error: Exception) -> Reject:
        """What to raise so that the message is not lost: the broker has it again."""
        log.warning("%s %s goes back to the queue: %s", self.name, self.request.id, error)
        return Reject(error, requeue=True)


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
