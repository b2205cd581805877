"""How an orders worker runs its messages: plain ones together, as one fetch brought them, all others Celery's own way.

A message keeps what it would have alone: its events, its result, and its acknowledgement after the commit. Of Celery's
signals only `task_received` and `task_success` are sent for a message of a batch.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from celery import signals
from celery.bootsteps import RUN
from celery.states import SUCCESS
from celery.utils.imports import symbol_by_name
from celery.utils.log import get_logger
from celery.worker.request import create_request_cls
from celery.worker.state import revoked as revoked_tasks
from celery.worker.state import task_ready, task_reserved
from celery.worker.strategy import default
from redis.exceptions import RedisError

from workers import metrics
from workers.base_task import CommandTask
from workers.errors import DatabaseError, FaultError, OutageError, TransientError
from workers.logs import about_batch, log_outcomes
from workers.traces import batch_span, ids_of, tell
from workers.transport import Taking

EVENTS_TOGETHER = 300  # three a message; Celery sends 24 together
# Who watches hardly sees it; measured with a batch every 2 ms, sending each one's took a fifth of the worker's CPU.
EVENTS_SECONDS = 0.05
SHOWN = 1024  # characters of a result in its event, as in Celery's own
# With any of these a message is not plain. `timelimit` is a pair, and both clients and Celery send empty ones.
PARTICULARS = ("eta", "expires", "retries", "group", "stamped_headers", "replaced_task_nesting", "compression")
FOLLOWERS = ("callbacks", "errbacks", "chain", "chord")
log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """One message of a batch: with what its task would be called, and its task id."""

    args: list[Any]
    kwargs: dict[str, Any]
    id: str


def is_refused(result: Any) -> bool:
    """Whether this is the outcome of an order that left nothing behind, or one of a list is."""
    outcomes = result if isinstance(result, list) else [result]
    return any(isinstance(outcome, dict) and outcome.get("status") == "refused" for outcome in outcomes)


class BatchTask(CommandTask):
    """A command that can be run for many messages in one call; its own `run` is for one."""

    abstract = True

    def run_batch(self, calls: list[Call]) -> list[Any]:
        """The results of these calls, in order; raises what `CommandTask` gives back to the queue, having done all or
        what may be done again."""
        raise NotImplementedError


def strategy(task: CommandTask, app: Any, consumer: Any) -> Callable[..., Any]:
    """What Celery asks of each task: how its messages are handled. Its own way, unless they come many at once."""
    own_way = default(task, app, consumer)
    many_at_once = issubclass(consumer.connection.transport.Channel, Taking)
    return Batch(task, app, consumer, own_way).receive if many_at_once else own_way


class Batch:
    """The plain messages of one task that wait for the end of the fetch that brought them."""

    def __init__(self, task: CommandTask, app: Any, consumer: Any, own_way: Callable[..., Any]) -> None:
        self.task, self.app, self.consumer, self.own_way = task, app, consumer, own_way
        self.eventer = consumer.event_dispatcher
        if self.eventer:
            self.eventer.buffer_limit = EVENTS_TOGETHER
            consumer.events_pause = EVENTS_SECONDS
        self.requests: list[Any] = []
        self.new_request = create_request_cls(
            symbol_by_name(task.Request), task, consumer.pool, consumer.hostname, self.eventer, app=app
        )

    def receive(self, message: Any, body: Any, ack: Any, reject: Any, callbacks: Any) -> None:
        """Keeps a plain message for the batch; has any other run now, alone."""
        if not (isinstance(self.task, BatchTask) and self.is_plain(message)):
            self.task.stopped_by = None
            self.own_way(message, body, ack, reject, callbacks)
            if self.task.stopped_by:
                self.consumer.pause(self.task.stopped_by)
            return
        request = self.new_request(
            message,
            # At once, not in the next turn of the loop, which would not fetch while they are many.
            on_ack=message.ack_log_error,
            on_reject=message.reject_log_error,
            app=self.app,
            hostname=self.consumer.hostname,
            eventer=self.eventer,
            task=self.task,
            connection_errors=self.consumer.connection_errors,
            body=message.body,
            headers=message.headers,
            decoded=False,
            utc=True,
        )
        if request.id in revoked_tasks and request.revoked():
            return
        signals.task_received.send(sender=self.consumer, request=request)
        request.send_event(
            "task-received",
            name=request.name,
            args=request.argsrepr,
            kwargs=request.kwargsrepr,
            root_id=request.root_id,
            parent_id=request.parent_id,
            retries=0,
            eta=None,
            expires=None,
        )
        task_reserved(request)
        if not self.requests:
            self.consumer.call_soon(self.flush)
            self.consumer.batch_waits = True
        self.requests.append(request)

    def is_plain(self, message: Any) -> bool:
        """Whether nothing about a message asks for more than to be run once and answered."""
        headers = message.headers
        if (
            any(headers.get(name) for name in PARTICULARS)
            or any(headers.get("timelimit") or ())
            or message.delivery_info.get("redelivered")
            or not isinstance(headers.get("id"), str)
            or "task" not in headers
            or message.content_type != "application/json"
            or self.consumer.task_buckets[self.task.name]  # somebody has set a rate limit
        ):
            return False
        body = message.payload
        return isinstance(body, list) and not any((body[2] or {}).get(name) for name in FOLLOWERS)

    def flush(self) -> None:
        """Runs what has come, and settles each message; Celery calls it in the next turn of its loop.

        A worker that stops is called once more, when it no longer acknowledges: it has begun none of these, and they
        go back to their queue as its channel closes.
        """
        self.consumer.batch_waits = False
        if self.consumer.blueprint.state != RUN:
            return
        requests, self.requests = self.requests, []
        requests = [request for request in requests if not (request.id in revoked_tasks and request.revoked())]
        if not requests:
            return
        with about_batch(self.task.name, len(requests)):
            self.run(requests)
        # Here, since Celery's loop would wait for the next message first; and not before, for these would have waited.
        self.consumer._flush_events()

    def run(self, requests: list[Any]) -> None:
        """Runs these together, and settles each."""
        started, pid = monotonic(), os.getpid()
        for request in requests:
            request.on_accepted(pid, started)
        try:
            with batch_span(self.task.name, [(request.id, request.request_dict) for request in requests]) as spans:
                results = self.task.run_batch([Call(request.args, request.kwargs, request.id) for request in requests])
                for span, result in zip(spans, results, strict=True):
                    tell(span, result)
        except (OutageError, FaultError) as error:
            log.warning("%d messages of %s go back to the queue", len(requests), self.task.name)
            # One of them may take PostgreSQL down each time: then each is run alone, and its attempts are counted.
            self.give_back(requests, error, died=error.midway)
        except TransientError as error:
            log.warning("%d messages of %s go back to the queue: %s", len(requests), self.task.name, error)
            metrics.returned(self.task.name, len(requests))
            for request in requests:
                task_ready(request)
                request.message.channel.qos.put_last(request.message.delivery_tag)
        except Exception:
            log.exception("a batch of %d messages of %s failed: each is run alone", len(requests), self.task.name)
            self.run_alone(requests)
        else:
            self.finish(requests, results, monotonic() - started)
            messages = ({"task_id": request.id} | ids_of(span) for request, span in zip(requests, spans, strict=True))
            log_outcomes(results, messages)

    def run_alone(self, requests: list[Any]) -> None:
        """Runs each Celery's own way, until the database is away."""
        self.task.stopped_by = None
        for place, request in enumerate(requests):
            self.consumer.on_task_request(request)
            if self.task.stopped_by:
                self.give_back(requests[place + 1 :], self.task.stopped_by)
                return

    def give_back(self, requests: list[Any], error: DatabaseError, died: bool = False) -> None:
        """Puts these back in front of their queue, and stops fetching until the database answers."""
        metrics.returned(self.task.name, len(requests))
        for request in requests:
            task_ready(request)
        if requests:
            tags = [request.message.delivery_tag for request in requests]
            requests[0].message.channel.qos.give_back(tags, died)
        self.consumer.pause(error)

    def finish(self, requests: list[Any], results: list[Any], runtime: float) -> None:
        """Stores the results that are wanted, acknowledges, and tells who watches."""
        metrics.answered(self.task.name, results, runtime, batch=True)
        self.let_go([request for request, result in zip(requests, results, strict=True) if is_refused(result)])
        self.store([(request, result) for request, result in zip(requests, results, strict=True)])
        listened = signals.task_success.receivers
        for request, result in zip(requests, results, strict=True):
            task_ready(request)
            request.acknowledge()
            if listened:
                signals.task_success.send(sender=self.task, result=result)
            request.send_event("task-succeeded", result=repr(result)[:SHOWN], runtime=runtime)
        log.info("%s: %d messages in %.3f s", self.task.name, len(requests), runtime)

    def let_go(self, refused: list[Any]) -> None:
        """Acknowledges at once what was refused: it left nothing behind, and must not come again once that is told."""
        for request in refused:
            request.acknowledge()
        if refused:
            refused[0].message.channel.qos.flush_acknowledged()

    def store(self, pairs: list[tuple[Any, Any]]) -> None:
        """The results of messages that want one, in one pipeline, as Celery's Redis backend stores each.

        Where that fails they are only missing in Redis: what was decided is in PostgreSQL.
        """
        backend = self.task.backend
        form = backend._get_result_meta(result=None, state=SUCCESS, traceback=None, request=None) | {"children": []}
        entries = {
            backend.get_key_for_task(request.id): backend.encode(
                form
                | {"result": result, "task_id": request.id}
                | ({"parent_id": request.parent_id} if request.parent_id else {})
            )
            for request, result in pairs
            if not request.ignore_result
        }

        def send() -> None:
            with backend.client.pipeline(transaction=False) as pipe:
                for key, value in entries.items():
                    pipe.setex(key, backend.expires, value).publish(key, value)
                pipe.execute()

        if entries:
            try:
                backend.ensure(send, ())
            except (OSError, RedisError) as error:
                log.error("%d results of %s cannot be stored: %s", len(entries), self.task.name, error)
