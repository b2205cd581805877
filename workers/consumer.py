"""Celery's consumer, made unable to lose a message or to die of one.

Celery logs and drops a message of an unknown task, or one that it cannot read, and a few forms of message end the
worker. Here each is set aside first, with the reason, and becomes a dead letter: see `workers.undecodable`.
"""

from collections.abc import Callable
from typing import Any

from celery.utils.log import get_logger
from celery.worker.consumer import Consumer as CelerysConsumer
from celery.worker.control import Panel
from celery.worker.control import add_consumer as celerys_add_consumer
from kombu.utils.json import dumps
from redis.exceptions import RedisError

from workers.database import reachable
from workers.message_form import malformed
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
            places = free_places(self)
            try:
                problem = malformed(message)
                return self.on_invalid_task(None, message, problem) if problem else handle(message)
            except (OSError, RedisError):
                raise  # the connection; the message is safe in Redis
            except Exception as error:
                if message.acknowledged:
                    raise
                if free_places(self) < places:
                    self.controller.semaphore.release()  # else the pool has one place less for good
                return self.on_invalid_task(None, message, error)

        return on_task_received

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """A message that names no task."""
        self._set_aside(message, NOT_A_MESSAGE, "It names no task, as a Celery message does in its headers.")
        self._tell(message, super().on_unknown_message, body, message)

    def on_unknown_task(self, body: Any, message: Any, exc: Any) -> None:
        """A message for a task that this worker does not have."""
        self._set_aside(message, UNKNOWN_TASK, f"No task is named {exc}.")
        self._tell(message, super().on_unknown_task, body, message, exc)

    def on_invalid_task(self, body: Any, message: Any, exc: Any) -> None:
        """A message for a task of ours that cannot be run."""
        self._set_aside(message, INVALID_MESSAGE, f"It cannot be run: {exc!r}")
        self._tell(message, super().on_invalid_task, body, message, exc)

    def on_decode_error(self, message: Any, exc: Any) -> None:
        """A message whose body is not what its content type says, or is of a type that is not accepted."""
        self._set_aside(message, NOT_A_MESSAGE, f"Its body cannot be read: {exc!r}")
        self._tell(message, super().on_decode_error, message, exc)

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

    def _tell(self, message: Any, tell: Callable[..., Any], *args: Any) -> None:
        """Has Celery log, and answer, a message that is kept; by what is in it that may fail, whatever it is."""
        try:
            tell(*args)
        except (OSError, RedisError):
            raise  # the connection; the message is safe in Redis
        except Exception as error:
            log.error("of a message that is set aside no more can be said: %r", error)
            if not message.acknowledged:
                message.reject()


def add_consumer(state: Any, queue: str, *args: Any, **options: Any) -> dict[str, str]:
    """Celery's remote control command of this name, refused by a worker whose transport has one queue."""
    channel = state.consumer.task_consumer.channel
    if isinstance(channel, Taking) and queue != channel.queue:
        return {"error": f"this worker serves {channel.queue} alone: consume {queue} with another worker"}
    return dict(celerys_add_consumer(state, queue, *args, **options))


Panel.data["add_consumer"] = add_consumer


def free_places(consumer: Any) -> int:
    """How many tasks the pool can take now; 0 where it does not count them."""
    semaphore = getattr(consumer.controller, "semaphore", None)
    return int(semaphore.value) if semaphore else 0
