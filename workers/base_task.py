"""What all tasks of a kind have in common, so that a task is only: validate, call one routine, report."""

import json
import logging
import time
from typing import Any

from celery import Task
from celery.exceptions import Reject
from celery.utils.log import get_task_logger

from workers import metrics
from workers.database import call, call_one, holdable
from workers.errors import DatabaseError, FaultError, OutageError, TransientError
from workers.logs import about_outcome, about_request
from workers.settings import get_settings
from workers.traces import ids_of, message_span, tell

# Attempts to take back when PostgreSQL answers, by the message: whether all of them. This process's own.
owed: dict[str, bool] = {}
log = get_task_logger(__name__)


def _said_already(record: logging.LogRecord) -> bool:
    """Drops Celery's own report, a traceback each time, of what `back_to_the_queue` has said in one line."""
    reported = record.exc_info[1] if record.exc_info else None
    return not (isinstance(reported, Reject) and reported.requeue and isinstance(reported.reason, Exception))


def _in_one_line(record: logging.LogRecord) -> bool:
    """Has Celery report a task that an outage ended without a traceback, which would say no more."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, OutageError):
        record.msg, record.exc_info = "Task %(name)s[%(id)s] was not done: %(exc)s", None
        record.args = {**record.args, "exc": str(error)} if isinstance(record.args, dict) else record.args
    return True


logging.getLogger("celery.app.trace").addFilter(_said_already)
logging.getLogger("celery.app.trace").addFilter(_in_one_line)


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
    Strategy = "workers.batching:strategy"
    # Why the last call in this process could not be done now: an orders worker then stops fetching.
    stopped_by: DatabaseError | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the task; what no retry in place could mend goes back to the queue, where it is safe.

        A redelivered message may have killed its worker. Its attempts are counted, so that it does not do so for ever.
        """
        with message_span(self.name, self.request.id, vars(self.request)) as span:
            about_request(payload_of(args, kwargs), self.request.id, ids_of(span))
            result = self.attempt(args, kwargs)
            tell(span, result)
        about_outcome(result)
        return result

    def attempt(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One attempt at the message, for its result; raises `Reject` for what goes back to the queue."""
        attempts, started = 0, time.monotonic()
        try:
            take_back()
            if (self.request.delivery_info or {}).get("redelivered"):
                attempts = call_one("api.count_attempt", self.message_name())
            if attempts > get_settings().claim_attempts:
                result = self.give_up(args, kwargs, attempts - 1)
            else:
                result = super().__call__(*args, **kwargs)
        except (OutageError, TransientError) as error:
            if not error.midway:
                self.forget(attempts)
            raise self.back_to_the_queue(error) from None
        except FaultError as error:
            self.forget(attempts)
            time.sleep(1)  # it will be the same for each message until somebody mends it: do not spin
            raise self.back_to_the_queue(error) from None
        except Exception as error:
            # A bug. The message is acknowledged with the failure, so it is kept first, to be replayed once mended.
            try:
                self.keep(args, kwargs, repr(error), attempts or 1)
            except Exception as second:
                time.sleep(1)  # nothing can be kept now: do not spin
                log.exception("%s %s failed, and cannot be kept now", self.name, self.request.id)
                raise self.back_to_the_queue(second) from None
            self.forget(attempts, all_of_them=True)
            metrics.failed(self.name)
            raise
        self.forget(attempts, all_of_them=True)
        answers = result if isinstance(result, list) else [result]
        metrics.answered(self.name, answers, time.monotonic() - started)
        return result

    def message_name(self) -> str:
        """The message by its task id, as PostgreSQL can hold it."""
        return holdable(self.request.id)

    def forget(self, attempts: int, all_of_them: bool = False) -> None:
        """Takes back the attempt just counted, because it was not the message's fault; or all, because it is done."""
        if attempts:
            owed[self.message_name()] = all_of_them
            try:
                take_back()
            except DatabaseError as error:
                log.info("an attempt of %s stays counted until PostgreSQL answers: %s", self.request.id, error)

    def give_up(self, args: tuple[Any, ...], kwargs: dict[str, Any], attempts: int) -> Any:
        """The outcome of a message none of whose attempts ended: it is a dead letter now."""
        reason = f"Each of its {attempts} attempts ended with its worker, or with its connection to the database."
        letter = self.keep(args, kwargs, reason, attempts)
        return {
            "key": key_of(payload_of(args, kwargs), self.request.id),
            "status": "dead",
            "order_id": None,
            "code": "OM091",
            "field": "request",
            "message": f"This could not be done; the reason is in dead letter {letter}.",
        }

    def keep(self, args: tuple[Any, ...], kwargs: dict[str, Any], reason: str, attempts: int) -> Any:
        """Makes the message a dead letter, and gives its id."""
        message = as_text({"args": args, "kwargs": kwargs})
        return call_one("api.bury_message", self.name, self.message_name(), message, holdable(reason), attempts)

    def back_to_the_queue(self, error: Exception) -> Reject:
        """What to raise so that the message is not lost: the broker has it again."""
        log.warning("%s %s goes back to the queue: %s", self.name, self.request.id, error)
        metrics.returned(self.name)
        if isinstance(error, OutageError | FaultError):
            self.stopped_by = error
        return Reject(error, requeue=True)


def take_back() -> None:
    """Takes back the attempts that are owed; raises DatabaseError, and owes them still, where it cannot."""
    for message, all_of_them in list(owed.items()):
        call("api.forget_attempt", message, all_of_them, patience=0.0)
        del owed[message]


class ReadTask(Task):
    """A read: it changes nothing, so it has no key, is acknowledged early, and is asked again where it is lost.

    Its result is kept, because somebody waits for it. It may be called with anything: what does not fit is refused.
    """

    abstract = True
    typing = False
    acks_late = False
    ignore_result = False


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


def key_of(payload: Any, task_id: str) -> Any:
    """The key under which a payload is decided: its own, else its message's id."""
    return (payload.get("key") if isinstance(payload, dict) else None) or task_id


def as_text(payload: Any) -> str:
    """A payload as JSON in ASCII, so that PostgreSQL can be shown whatever came; `null` for what JSON cannot hold."""
    try:
        return json.dumps(payload)
    except (TypeError, ValueError, RecursionError):
        return "null"
