"""A kombu Redis transport that takes many messages of one queue at once, with none ever outside a key of Redis.

One round trip removes what was acknowledged, peeks with a blocking `BLMOVE q q RIGHT RIGHT`, and moves messages
straight into the unacknowledged set with one EVAL. Why it exists, and what would let it go: docs/decisions/0003.
tests/unit/test_transport_pins.py holds still what it overrides.
"""

from queue import Empty
from time import monotonic
from typing import Any
from uuid import uuid4

from kombu.transport import redis as stock
from redis.exceptions import ResponseError

from workers.errors import SetupError
from workers.unacknowledged import ENDING, MOST, TAKE, QoS
from workers.undecodable import Guarded

# Of messages at once, and one more: room for a hundred single orders, while lists of orders are shared out among the
# workers. Measured with lists of a hundred: one worker had taken all forty, and another none.
MOST_BYTES = 200_000
HANDING_SECONDS = 1.0  # what is run alone is run here, where nothing is touched: well under the visibility timeout
PEEK_SECONDS = 0.1  # only priority 0 wakes a waiting worker: any other waits so long at most


class Taking(Guarded):
    """For a kombu Redis channel of one queue."""

    QoS = QoS
    queue, takes, sent = "", False, ()

    def basic_consume(self: Any, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        """Consumes the one queue; raises SetupError for a second. Broadcasts, and replies to them, are none."""
        if not no_ack and queue not in self._fanout_queues:
            if self.queue not in {"", queue}:
                raise SetupError(f"a worker of {self.queue} has no second queue: consume {queue} with another worker")
            self.queue = queue
        return super().basic_consume(queue, no_ack, *args, **kwargs)  # type: ignore[misc]

    def _brpop_start(self: Any, timeout: float | None = None) -> Any:
        """Sends acknowledgements, the peek and the take together, where kombu sends BRPOP."""
        self.takes = self.queue in self.active_queues
        if not self.takes:  # replies that this process waits for, or nothing
            self.qos.flush_acknowledged()
            return super()._brpop_start(timeout)  # type: ignore[misc]
        room, ending = self.qos.can_consume_max_estimate(), ENDING % self.queue
        lists = [self._q_for_pri(self.queue, step) for step in self.priority_steps]
        keys = [self.unacked_key, self.unacked_index_key, *lists]
        self._in_poll, self._brpop_sent_at = self.client.connection, monotonic()
        peek = ("BLMOVE", self.queue, self.queue, "RIGHT", "RIGHT", timeout or self.brpop_timeout)
        allowance = (MOST if room is None else min(room, MOST), MOST_BYTES)
        take = ("EVAL", TAKE, len(keys), *keys, *allowance, f"{uuid4().hex}:", ending)
        self.sent = commands = [*self.qos.take_acknowledged(), peek, take]
        return self._in_poll.send_packed_command(self._in_poll.pack_commands(commands))

    def _brpop_read(self: Any, **options: Any) -> Any:
        if not self.takes:
            return super()._brpop_read(**options)
        try:
            refused, taken = self._replies(self.client.connection)
            unwanted, until = [], monotonic() + HANDING_SECONDS
            for tag, item in zip(taken[::2], taken[1::2], strict=True):
                if self.queue in self.connection._callbacks and monotonic() < until:
                    self.hand_over(self.queue, item, tag.decode())
                else:  # it stopped consuming, perhaps at the last of these; or they are run alone, and others may
                    unwanted.append(tag.decode())
            self.qos.give_back(unwanted)
            if refused and not taken:
                raise refused  # a key that is no list: the consumer connects again, in a while
            if not taken:
                raise Empty
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _replies(self: Any, connection: Any) -> tuple[ResponseError | None, list[bytes]]:
        """What was taken; and the first refusal: a full Redis moves nothing, but taking makes room there."""
        refused, reply = None, []
        try:
            for name, _key, *rest in self.sent:
                try:
                    reply = self.client.parse_response(connection, name)
                except ResponseError as error:
                    refused, reply = refused or error, []
                    if name == "HDEL":
                        self.qos.acknowledged += rest  # a Redis that takes no writes now: again with the next fetch
        except BaseException:
            connection.disconnect()  # what is not read yet must not be taken for the answers to the next fetch
            raise
        return refused, reply


class Channel(Taking, stock.Channel):
    """One queue of Redis."""


class SentinelChannel(Taking, stock.SentinelChannel):
    """One queue of Redis behind Sentinel."""


class Transport(stock.Transport):
    """The transport of a process that consumes one queue."""

    Channel = Channel
    brpop_timeout = PEEK_SECONDS


class SentinelTransport(stock.SentinelTransport):
    """The same behind Sentinel."""

    Channel = SentinelChannel
    brpop_timeout = PEEK_SECONDS
