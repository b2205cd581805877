"""Celery's consumer, made unable to lose a message or to die of one.

Celery logs and drops a message of an unknown task, or one that it cannot read, and a few forms of message end the
worker. Here each is set aside first, with the reason, and becomes a dead letter: see `workers.undecodable`.
"""

from collections.abc import Callable
from typing import Any

from celery.utils.log import get_logger
from celery.worker.consumer import Consumer as CelerysConsumer
from kombu.utils.json import dumps
from redis.exceptions import RedisError

from workers.database import reachable
from workers.errors import SetupError
from workers.transport import Taking
from workers.undecodable import NOT_A_MESSAGE, record

PROBE_SECONDS = 1.0
UNKNOWN_TASK, INVALID_MESSAGE = "OM093", "OM094"
log = get_logger(__name__)


class Consumer(CelerysConsumer):
    """Chosen by `worker_consumer`."""

    paused = False

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """Celery's handler, behind a check of the message's form; what it raises about a message is the message's."""
        handle = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Any) -> Any:
            try:
                problem = malformed(message)
                return self.on_invalid_task(None, message, problem) if problem else handle(message)
            except (OSError, RedisError):
                raise  # the connection; the message is safe in Redis
            except Exception as error:
                if message.acknowledged:
                    raise
                return self.on_invalid_task(None, message, error)

        return on_task_received

    def on_unknown_message(self, body: Any, message: Any) -> Any:
        """A message that names no task."""
        self._set_aside(message, NOT_A_MESSAGE, "It names no task, as a Celery message does in its headers.")
        return super().on_unknown_message(body, message)

    def on_unknown_task(self, body: Any, message: Any, exc: Any) -> Any:
        """A message for a task that this worker does not have."""
        self._set_aside(message, UNKNOWN_TASK, f"No task is named {exc}.")
        try:
            return super().on_unknown_task(body, message, exc)
        except (OSError, RedisError):
            raise
        except Exception as error:  # it reports to the client, by ids that may be anything
            log.error("the sender of a message for the unknown task %s cannot be told: %r", exc, error)
            if not message.acknowledged:
                message.reject()

    def on_invalid_task(self, body: Any, message: Any, exc: Any) -> Any:
        """A message for a task of ours that cannot be run."""
        self._set_aside(message, INVALID_MESSAGE, f"It cannot be run: {exc!r}")
        return super().on_invalid_task(body, message, exc)

    def on_decode_error(self, message: Any, exc: Any) -> Any:
        """A message whose body is not what its content type says, or is of a type that is not accepted."""
        self._set_aside(message, NOT_A_MESSAGE, f"Its body cannot be read: {exc!r}")
        return super().on_decode_error(message, exc)

    def add_task_queue(self, queue: str, *args: Any, **kwargs: Any) -> Any:
        """As the remote control's `add_consumer`; raises SetupError for a second queue of a transport for one."""
        channel = self.task_consumer.channel
        if isinstance(channel, Taking) and queue != channel.queue:
            raise SetupError(f"this worker serves {channel.queue} alone: consume {queue} with another worker")
        return super().add_task_queue(queue, *args, **kwargs)

    def pause(self, reason: Exception) -> None:
        """Stops consuming until PostgreSQL answers; everything else that a worker does goes on."""
        if not self.paused:
            self.paused = True
            log.warning("consuming stops until the database answers: %s", reason)
            self.task_consumer.cancel()
            self.timer.call_after(PROBE_SECONDS, self._resume, (self.task_consumer,))

    def _resume(self, paused: Any) -> None:
        if paused is self.task_consumer and not reachable():
            self.timer.call_after(PROBE_SECONDS, self._resume, (paused,))
            return
        self.paused = False
        if paused is self.task_consumer:  # else the connection was lost meanwhile, and the new one consumes
            log.warning("consuming starts again")
            self.task_consumer.consume()

    def _set_aside(self, message: Any, code: str, reason: str) -> None:
        queue = message.delivery_info["routing_key"]
        message.channel.set_aside(queue, record(queue, dumps(message._raw), code, reason), None)


def malformed(message: Any) -> Exception | None:
    """Why the arguments of a message of Celery's second protocol are none, if they are not.

    Celery finds out when it runs the task, and then keeps nothing.
    """
    if "task" not in message.headers or message.content_type != "application/json":
        return None
    body = message.payload
    if isinstance(body, dict) and "args" in body:
        return None  # a hybrid of both protocols, which Celery checks
    if not isinstance(body, list) or len(body) != 3:
        return ValueError("the body is not a list of arguments, keywords and the rest")
    if not isinstance(body[0], list) or not isinstance(body[1], dict) or not isinstance(body[2] or {}, dict):
        return ValueError("its arguments are no list, or its keywords or the rest no object")
    return None
