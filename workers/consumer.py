"""Celery's consumer, made unable to lose a message or to die of one.

Celery logs and drops a message of an unknown task, or one that it cannot read, and a few forms of message end the
worker. Here each is set aside first, with the reason, and becomes a dead letter: see `workers.undecodable`.
"""

import contextlib
from collections.abc import Callable
from time import monotonic
from typing import Any

from celery.utils.log import get_logger
from celery.worker.consumer import Consumer as CelerysConsumer
from celery.worker.control import Panel
from celery.worker.control import add_consumer as celerys_add_consumer
from kombu.utils.json import dumps
from redis.exceptions import RedisError, ResponseError

from workers import alive, queues
from workers.base_task import take_back
from workers.database import reachable
from workers.errors import DatabaseError
from workers.message_form import malformed
from workers.transport import Taking
from workers.undecodable import INVALID_MESSAGE, NOT_A_MESSAGE, UNKNOWN_TASK, Guarded, record

PROBE_SECONDS = 1.0
NO_GUARD = "its form gives stock kombu, which loses what it cannot read: use redis://, rediss:// or sentinel://"
log = get_logger(__name__)


class Consumer(CelerysConsumer):
    """Chosen by `worker_consumer`."""

    paused = False
    signed_off = False
    batch_waits = False  # messages have come that are run together in the next turn of the loop
    events_pause = 0.0  # seconds between two sendings of task events, for a worker that runs many at once
    _events_at, _events_wait = 0.0, False
    held: frozenset[str] = frozenset()  # queues that an operator has paused and this worker gave up for it

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """Celery's handler, behind a check of the message's form; what it raises about a message is the message's."""
        if not isinstance(self.task_consumer.channel, Guarded):
            raise SystemExit(f"ordermill: CELERY_BROKER_URL: {NO_GUARD}")
        handle = super().create_task_handler(*args, **kwargs)
        self._report()  # so that nothing of a paused queue is consumed
        self.timer.call_repeatedly(PROBE_SECONDS, self._touch)
        self.timer.call_repeatedly(queues.REPORT_SECONDS, self._report_again)

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

    def _flush_events(self) -> None:
        """Celery's, except that a batch does not wait for the events before it, nor for each of its own to be sent.

        Celery asks for this in the same turn of the loop in which a batch is run, before it or after it by chance.
        Where batches follow one another closely, their events go together.
        """
        if self.batch_waits or self._events_wait:
            return
        left = self._events_at + self.events_pause - monotonic()
        if left > 0:
            self._events_wait = True
            self.timer.call_after(left, self._send_events)
        else:
            self._send_events()

    def _send_events(self) -> None:
        self._events_wait, self._events_at = False, monotonic()
        super()._flush_events()

    def pause(self, reason: Exception) -> None:
        """Stops consuming until PostgreSQL answers; remote control and events go on."""
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
        with contextlib.suppress(DatabaseError):
            take_back()
        if paused is self.task_consumer:  # else the connection was lost meanwhile, and the new one consumes
            log.warning("consuming starts again")
            self.task_consumer.consume()

    def stop(self) -> None:
        """Celery's end of a worker, which is told to those who watch."""
        self.signed_off = True  # the timer goes on while what is in hand is finished
        with contextlib.suppress(OSError, RedisError, AttributeError), self._redis() as client:
            queues.sign_off(client, self.hostname)
        with contextlib.suppress(OSError, RedisError, AttributeError):
            super()._flush_events()
        super().stop()

    def _redis(self) -> Any:
        return self.task_consumer.channel.conn_or_acquire()

    def _report(self) -> None:
        """Says that it lives, and heeds which queues are paused; raises where Redis is away."""
        try:
            with self._redis() as client:
                while self._obey(queues.report(client, self.hostname, self._facts())):
                    pass  # and says so
        except ResponseError as error:
            log.error("which queues are paused cannot be read: %s", error)
        alive.touch()

    def _facts(self) -> dict[str, Any]:
        return {
            "queues": sorted(queue.name for queue in self.task_consumer.queues),
            "processes": self.pool.num_processes if self.pool else 1,
            "waits_for_database": self.paused,
        }

    def _report_again(self) -> None:
        # Celery itself notices that the connection is lost, and connects anew.
        with contextlib.suppress(OSError, RedisError):
            if self.task_consumer and not self.signed_off:
                self._report()

    def _obey(self, paused: set[str]) -> bool:
        """Gives up the queues that are paused, and takes back those that no longer are, but no others; whether any."""
        given_up = paused & {each.name for each in self.task_consumer.queues}
        for queue in given_up:
            self.held |= {queue}
            self.cancel_task_queue(queue)
        taken_back = frozenset() if self.paused else self.held - paused
        for queue in taken_back:
            self.held -= {queue}
            self.add_task_queue(queue)
        return bool(given_up or taken_back)

    def _touch(self) -> None:
        """Keeps what waits here for its time from being taken for a dead worker's; kombu does so while it consumes."""
        channel = self.task_consumer and self.task_consumer.channel
        if isinstance(channel, Taking) and not channel.active_queues:  # type: ignore[attr-defined]
            with contextlib.suppress(*channel.connection_errors):  # type: ignore[attr-defined]
                channel.qos.restore_visible()  # type: ignore[attr-defined]

    def _set_aside(self, message: Any, code: str, reason: str) -> None:
        queue = message.delivery_info["routing_key"]
        message.channel.set_aside(queue, record(queue, dumps(message._raw), code, reason), message.delivery_tag)

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
        if queue in state.consumer.held:  # since before this worker began
            return {"error": f"{queue} is paused: ordermill queues resume {queue}"}
        return {"error": f"this worker serves {channel.queue} alone: consume {queue} with another worker"}
    return dict(celerys_add_consumer(state, queue, *args, **options))


Panel.data["add_consumer"] = add_consumer


def free_places(consumer: Any) -> int:
    """How many tasks the pool can take now; 0 where it does not count them."""
    semaphore = getattr(consumer.controller, "semaphore", None)
    return int(semaphore.value) if semaphore else 0
