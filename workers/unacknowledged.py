"""The set of messages that an orders worker has taken and not yet acknowledged, in kombu's own form.

A hash of `[payload, exchange, routing_key]` and an index of when each was taken, by the clock of Redis: written by the
EVAL of `workers.transport`, here acknowledged together, given back, and restored when their worker died.
"""

import contextlib
from typing import Any

from kombu.transport import virtual
from kombu.utils.json import dumps, loads
from redis.exceptions import ResponseError

from workers import undecodable
from workers.undecodable import NOT_A_MESSAGE, UnreadableError, read, record, undecodable_key

MOST = 100  # acknowledged, or restored, at once
ENDING = ',"","%s"]'  # the default exchange finds any queue by its name, whatever exchange a client named

# A key of another type fails before anything is moved, for Redis takes nothing back. Then RPOP first: a Redis whose
# memory is full refuses HSET, but not in a script that has already written.
TAKE = """
redis.call('HLEN', KEYS[1])
redis.call('ZCARD', KEYS[2])
for list = 3, #KEYS do redis.call('LLEN', KEYS[list]) end
local time, room, bytes, taken = redis.call('TIME'), tonumber(ARGV[1]), tonumber(ARGV[2]), {}
for list = 3, #KEYS do
    while room > 0 and bytes > 0 do
        local item = redis.call('RPOP', KEYS[list])
        if not item then break end
        local tag = ARGV[3] .. room
        redis.call('HSET', KEYS[1], tag, '[' .. item .. ARGV[4])
        redis.call('ZADD', KEYS[2], time[1] + time[2] / 1000000, tag)
        room, bytes = room - 1, bytes - #item
        taken[#taken + 1] = tag
        taken[#taken + 1] = item
    end
end
return taken"""
# The messages of the living are touched: one that waits for its time is not taken for one of the dead.
OVERDUE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
for i = 3, #ARGV do redis.call('ZADD', KEYS[1], 'XX', now, ARGV[i]) end
return redis.call('ZRANGE', KEYS[1], '-inf', now - ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])"""
# Once, whoever restores it; kombu watches the whole hash instead, which under load never stands still.
RESTORE = """
redis.call('LLEN', KEYS[3])
if redis.call('HDEL', KEYS[1], ARGV[1]) == 1 then redis.call(ARGV[2], KEYS[3], ARGV[3]) end
redis.call('ZREM', KEYS[2], ARGV[1])"""


class QoS(undecodable.QoS):
    """kombu's bookkeeping of a channel; a message comes back as `redelivered` if its worker died or requeued it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.acknowledged: list[str] = []

    def append(self, message: Any, delivery_tag: str) -> None:
        """Notes a message that the EVAL has put into the set."""
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledges, with the next fetch or with the hundredth."""
        self.acknowledged.append(delivery_tag)
        virtual.QoS.ack(self, delivery_tag)
        if len(self.acknowledged) >= MOST:
            self.flush_acknowledged()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Acknowledges, or puts it behind all others in its queue, as redelivered: its next attempt is counted."""
        if requeue:
            self.put_last(delivery_tag, died=True)
        else:
            self.ack(delivery_tag)

    def put_last(self, tag: str, died: bool = False) -> None:
        """Puts this behind all others in its queue; of a closed channel it is soon overdue."""
        if self.gone:
            return
        self.restore_by_tag(tag, leftmost=True, died=died)
        virtual.QoS.ack(self, tag)

    def give_back(self, tags: list[str], died: bool = False) -> None:
        """Puts these in front of all others in their queue, in their order; as restored, if something died of them."""
        for tag in reversed(tags):
            self.restore_by_tag(tag, died=died)
            if tag in self._delivered:
                virtual.QoS.ack(self, tag)

    def can_consume(self) -> bool:
        """Whether there is room for more; asked before each wait, so acknowledgements that no fetch takes go here."""
        room = bool(super().can_consume())
        if not room or self.channel._in_poll:
            self.flush_acknowledged()
        return room

    def take_acknowledged(self) -> list[tuple[str, ...]]:
        """The commands that remove what was acknowledged; what they do not remove is redelivered, and answered from
        its key."""
        tags, self.acknowledged = self.acknowledged, []
        return [("HDEL", self.unacked_key, *tags), ("ZREM", self.unacked_index_key, *tags)] if tags else []

    def flush_acknowledged(self) -> None:
        """Removes what was acknowledged now, where no fetch takes it along; of a closed channel it is redelivered."""
        if self.gone:
            return
        if commands := self.take_acknowledged():
            with self.channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                pipe.execute()

    def restore_visible(self, start: int = 0, num: int | None = None, interval: int = 1) -> None:
        """Puts back what nobody has touched for the visibility timeout, the oldest in front."""
        if not self.channel.queue:
            return
        self.flush_acknowledged()  # while its queue is paused there is no fetch to take it along
        mine = [tag for tag in self._delivered if tag not in self._dirty]
        with self.channel.conn_or_acquire() as client:
            tags = client.eval(OVERDUE, 1, self.unacked_index_key, self.visibility_timeout, num or MOST, *mine)
            for tag in reversed(tags):
                self.restore_by_tag(tag, client, died=True)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """As the channel closes; kombu itself looks no further where nothing is left to give back."""
        if not self.gone:
            with contextlib.suppress(*self.channel.connection_errors, ResponseError):
                self.flush_acknowledged()
        super().restore_unacked_once(stderr)

    def restore_unacked(self, client: Any = None) -> None:
        """Gives back what a worker that stops has left; where Redis is away, or refuses it, it is soon overdue."""
        with contextlib.suppress(*self.channel.connection_errors, ResponseError):
            self.give_back([tag for tag in self._delivered if tag not in self._dirty])
        self._delivered.clear()

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False, died: bool = False) -> None:
        """Moves one message back into its queue, or what is none to where it is set aside; once, by whomever."""
        with self.channel.conn_or_acquire(client) as redis:
            kept = redis.hget(self.unacked_key, tag) or b""
            where, item = self._origin(kept, died) if kept else ("", b"")
            end = "LPUSH" if leftmost else "RPUSH"
            redis.eval(RESTORE, 3, self.unacked_key, self.unacked_index_key, where, tag, end, item)

    def _origin(self, kept: bytes, died: bool) -> tuple[str, bytes | str]:
        """The list and the item that a record of the set, ours or stock kombu's, came from."""
        queue = self.channel.queue
        ending = (ENDING % queue).encode()
        item = kept[1 : -len(ending)] if kept.endswith(ending) else dumps(loads(kept)[0]).encode()
        try:
            payload = read(item)
        except UnreadableError as error:
            return undecodable_key(queue), record(queue, item, NOT_A_MESSAGE, str(error))
        if died:
            payload["headers"]["redelivered"] = payload["properties"]["delivery_info"]["redelivered"] = True
            item = dumps(payload)
        return self.channel._q_for_pri(queue, payload["properties"]["priority"]), item
