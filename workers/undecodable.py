"""What came to a queue and is no message that a worker can take is set aside in `<queue>.undecodable`, not lost.

Stock kombu ends the worker at a list item that is not JSON. Here it goes, whole and with the reason, to a list beside
its queue, from which `workers.dead_letters` makes dead letters.
"""

import base64
import contextlib
import json
import uuid
from datetime import UTC, datetime
from queue import Empty
from typing import Any, ClassVar

from kombu.log import get_logger
from kombu.transport import redis as stock
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

NOT_A_MESSAGE, UNKNOWN_TASK, INVALID_MESSAGE = "OM092", "OM093", "OM094"
HIGHEST_PRIORITY = 9
DEEPEST = 100
log = get_logger(__name__)


class UnreadableError(Exception):
    """A list item that is not a Celery message; `args[0]` says why."""


def undecodable_key(queue: str) -> str:
    """The list of what was set aside from a queue."""
    return f"{queue}.undecodable"


def record(queue: str, item: bytes | str, code: str, reason: str) -> str:
    """An element of that list: the item as text, or in base64 where it is none, and why it is there."""
    element = {"id": str(uuid.uuid4()), "at": datetime.now(UTC).isoformat(), "queue": queue, "code": code}
    element["reason"] = reason.encode(errors="backslashreplace").decode()[:2000]
    try:
        element["item"] = item.decode() if isinstance(item, bytes) else item
    except UnicodeDecodeError:
        element["base64"] = base64.b64encode(bytes(item)).decode()  # type: ignore[arg-type]
    return json.dumps(element)


def read(item: bytes) -> dict[str, Any]:
    """The message in a list item, its envelope made whole; raises UnreadableError, never another."""
    try:
        payload = loads(bytes_to_str(item)) if b"__type__" in item else json.loads(item.decode())
    except Exception as error:  # whatever it was, it came with the item: too deep, too long a number, not UTF-8 ...
        raise UnreadableError(f"It is not JSON that can be read: {type(error).__name__}: {str(error)[:200]}") from None
    if not isinstance(payload, dict):
        raise UnreadableError(f"It is JSON, but no message: {type(payload).__name__}.")
    if too_deep(payload):
        raise UnreadableError(f"It is nested more than {DEEPEST} levels deep.")
    for part in ("properties", "headers"):
        payload[part] = {} if payload.get(part) is None else payload[part]
        if not isinstance(payload[part], dict):
            raise UnreadableError(f"The message's {part} are no object.")
    properties = payload["properties"]
    properties["delivery_info"] = properties.get("delivery_info") or {}
    if not isinstance(properties["delivery_info"], dict):
        raise UnreadableError("The message's delivery_info is no object.")
    properties["priority"] = priority(properties.get("priority"))
    return payload


def too_deep(value: Any) -> bool:
    """Whether JSON is nested deeper than can surely be written again, or handed to a pool's processes."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def priority(value: object) -> int:
    """A message's priority as kombu needs it; 0 for what is none."""
    try:
        return max(0, min(HIGHEST_PRIORITY, int(value)))  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError, OverflowError):
        return 0


class Message(virtual.Message):
    """A message whose body could be unpacked; raises UnreadableError for another."""

    def __init__(self, payload: dict[str, Any], channel: Any = None, **kwargs: Any) -> None:
        try:
            super().__init__(payload, channel=channel, **kwargs)
        except Exception as error:
            raise UnreadableError(f"The message's body cannot be unpacked: {error!r}") from None

    def _decode(self) -> Any:
        # What kombu does where there is nothing for its hooks to do, in a fifth of the time.
        body = self.body.encode() if isinstance(self.body, str) else self.body
        json_wanted = self.content_type == "application/json" and "application/json" in (self.accept or ())
        if json_wanted and isinstance(body, bytes) and b"__type__" not in body:
            with contextlib.suppress(ValueError, RecursionError):
                return json.loads(body.decode())
        return super()._decode()


class QoS(stock.QoS):
    """kombu's bookkeeping of a channel, whose connection may be gone when it is to be left in order.

    What was in hand then is put back as soon as Redis takes it, and not only when its visibility timeout is over.
    """

    left: ClassVar[set[str]] = set()  # tags of this process's earlier channels
    done: ClassVar[set[str]] = set()  # those of them that were acknowledged since
    homeless: ClassVar[list[tuple[bytes, bytes]]] = []  # list and item: taken out, when Redis let nobody note it

    @property
    def gone(self) -> bool:
        """Whether the channel was closed: its messages may be decided later, and asking Redis would end the worker."""
        return getattr(self.channel.connection, "client", None) is None

    def ack(self, delivery_tag: str) -> None:
        """Acknowledges; of a closed channel, with the next look for what is overdue."""
        if self.gone:
            self.left.discard(delivery_tag)
            self.done.add(delivery_tag)
        else:
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """The same; what a closed channel requeues was left to be put back."""
        if not self.gone:
            super().reject(delivery_tag, requeue)
        elif not requeue:
            self.ack(delivery_tag)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Gives back what is in hand; without a connection it stays in Redis for a while."""
        if self.gone:
            self._leave()
        super().restore_unacked_once(stderr)

    def restore_unacked(self, client: Any = None) -> None:
        """The same, with a connection; a Redis that is away, or refuses all writes, has it back later."""
        try:
            self._bring_home()
            super().restore_unacked(client)
        except (*self.channel.connection_errors, self.channel.ResponseError):
            self._leave()

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Forgets what is done, puts back what was left, then what nobody has touched for the visibility timeout."""
        self._bring_home()
        while self.done:
            tag = next(iter(self.done))
            self._remove_from_indices(tag).execute()
            self.done.discard(tag)
        while self.left:
            tag = next(iter(self.left))
            self.restore_by_tag(tag)
            self.left.discard(tag)
        super().restore_visible(*args, **kwargs)

    def _bring_home(self) -> None:
        while self.homeless:
            with self.channel.conn_or_acquire() as client:
                client.rpush(*self.homeless[0])
            self.homeless.pop(0)

    def _leave(self) -> None:
        self.left.update(tag for tag in self._delivered if tag not in self._dirty)
        self._delivered.clear()


class Guarded:
    """For a kombu Redis channel: sets aside what is no message, and puts what is restored where it came from."""

    Message = Message
    QoS = QoS

    def hand_over(self: Any, queue: str, item: bytes, tag: str) -> None:
        """Gives an item to the queue's consumer under this tag, or sets it aside."""
        try:
            payload = read(item)
            # A tag of our own, for clients send none, or the same twice. To which exchange it was sent no longer
            # matters, but kombu would restore a message of an exchange that it does not know to nowhere.
            payload["properties"]["delivery_tag"] = tag
            payload["properties"]["delivery_info"].update(exchange="", routing_key=queue)
            self.connection._deliver(payload, queue)
        except UnreadableError as error:
            log.error("an item of %s is set aside in %s: %s", queue, undecodable_key(queue), error)
            self.set_aside(queue, record(queue, item, NOT_A_MESSAGE, str(error)), tag)

    def set_aside(self: Any, queue: str, element: str, tag: str) -> None:
        """Keeps an element of `record`, and forgets the message of this tag, in one transaction."""
        with self.conn_or_acquire() as client, client.pipeline() as pipe:
            pipe.lpush(undecodable_key(queue), element)
            pipe.hdel(self.unacked_key, tag)
            pipe.zrem(self.unacked_index_key, tag)
            pipe.execute()

    def _brpop_read(self: Any, **options: Any) -> bool:
        try:
            try:
                reply = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not reply:
                raise Empty
            queue = bytes_to_str(reply[0]).rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            tag = str(uuid.uuid4())
            try:
                self.hand_over(queue, reply[1], tag)
            except (*self.connection_errors, self.ResponseError):
                # A full or read-only Redis gives, and notes nothing. What it noted after all runs again, by its key.
                if tag not in self.qos._delivered:
                    self.qos.homeless.append((reply[0], reply[1]))
                raise
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _deliver_fanout_message(self: Any, message: Any, exchange: str) -> Any:
        try:
            return super()._deliver_fanout_message(message, exchange)  # type: ignore[misc]
        except (UnreadableError, AttributeError, TypeError, ValueError, KeyError) as error:
            log.error("what was broadcast to %s is no message: %r", exchange, error)
            raise Empty from None


class Channel(Guarded, stock.Channel):
    """Stock kombu's channel, guarded."""


class Transport(stock.Transport):
    """Stock kombu's Redis transport, except that no item in a queue can end the worker."""

    Channel = Channel


class SentinelChannel(Guarded, stock.SentinelChannel):
    """The same behind Sentinel."""


class SentinelTransport(stock.SentinelTransport):
    """The same behind Sentinel."""

    Channel = SentinelChannel
