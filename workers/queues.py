"""The queues of Celery as they are in Redis: how deep and how old, who consumes them, which are paused; and purging.

Each worker reports here every two seconds, which costs one command, where `celery inspect` would cost CPU seconds. A
paused queue is a member of a set that each worker reads with its report, so that a restarted one keeps to it.
"""

import json
from datetime import UTC, datetime
from typing import Any

import redis

from workers.undecodable import UnreadableError, read, record, undecodable_key

STEPS = ("", "\x06\x163", "\x06\x166", "\x06\x169")  # kombu keeps a list for each of its four priority steps
BINDING = "_kombu.binding."  # before a queue's name: what whoever sends or consumes leaves
WORKERS, PAUSED, MARKS = "ordermill.workers", "ordermill.paused", "ordermill.marks"
REPORT_SECONDS = 2.0
# A solo worker says nothing while it is in a batch, which lasts as long as its retries: some 13 s.
SILENT_SECONDS = 30
FORGOTTEN_SECONDS = 86_400
UNACKNOWLEDGED = {"orders": "orders.unacked", "other queues": "unacked"}
PURGED = "OM057"
TOGETHER = 100

# The set first: a Redis whose memory is full still answers, and only the report is missing there.
REPORT = """
local paused = redis.call('SMEMBERS', KEYS[2])
redis.pcall('HSET', KEYS[1], ARGV[1], redis.call('TIME')[1] .. ' ' .. ARGV[2])
return paused"""
# A message does not say when it was sent. So some are remembered with the time at which they were the newest, and as
# long as one is found in its list again, the oldest message is at least as old. A mark is dropped where its neighbours
# are no further apart than a quarter of the age: so in a queue that moves the age falls short by a quarter at most, and
# there are ten marks at most. Only the LAST_SEEN messages next to be taken are looked through, so that this is quick
# however deep the queue; of a deeper one the newest of these is marked. Measured in November 2026, 200,000 messages of
# 1 kB: 1 to 10 ms.
LAST_SEEN = 20_000
LONGEST_MARK = 1_048_576  # bytes; a mark is a copy
LOOK = """
local time, found = redis.call('TIME'), {}
local now, last_seen, longest = time[1] + time[2] / 1000000, tonumber(ARGV[1]), tonumber(ARGV[2])
for i = 2, #KEYS do
    local key, depth, kept = KEYS[i], redis.call('LLEN', KEYS[i]), {}
    if depth > 0 then
        local known = redis.call('HGET', KEYS[1], key)
        for _, mark in ipairs(known and cmsgpack.unpack(known) or {}) do
            if #kept > 0 or redis.call('LPOS', key, mark[2], 'RANK', -1, 'MAXLEN', last_seen) then
                kept[#kept + 1] = mark
            end
        end
        local item, last = redis.call('LINDEX', key, -math.min(depth, last_seen)), kept[#kept]
        local age = last and now - kept[1][1] or 0
        local due = not last or (now - last[1] > math.max(5, age / 8) and last[2] ~= item)
        if due and #item <= longest then kept[#kept + 1] = {now, item} end
        local place = 2
        while place < #kept do
            if kept[place + 1][1] - kept[place - 1][1] <= age / 4 then
                table.remove(kept, place)
            else
                place = place + 1
            end
        end
    end
    if #kept > 0 then
        redis.pcall('HSET', KEYS[1], key, cmsgpack.pack(kept))
    else
        redis.call('HDEL', KEYS[1], key)
    end
    found[#found + 1] = depth
    found[#found + 1] = kept[1] and math.floor((now - kept[1][1]) * 1000) or 0
end
return found"""
# One by one, and only what still is where it was: a worker may take messages meanwhile.
SET_ASIDE = """
redis.call('LLEN', KEYS[2])
local moved, dropped = 0, 0
for i = 1, #ARGV, 2 do
    if redis.call('LREM', KEYS[1], -1, ARGV[i]) == 1 then
        if ARGV[i + 1] == '' then
            dropped = dropped + 1
        else
            redis.call('LPUSH', KEYS[2], ARGV[i + 1])
            moved = moved + 1
        end
    end
end
return {moved, dropped}"""
DROP = """
local count = 0
for i = 1, #KEYS do
    count = count + redis.call('LLEN', KEYS[i])
    redis.call('UNLINK', KEYS[i])
end
return count"""


def lists_of(queue: str) -> list[str]:
    """The Redis lists of a queue, by priority."""
    return [queue + step for step in STEPS]


def report(client: Any, worker: str, facts: dict[str, Any]) -> set[str]:
    """Notes that a worker lives, and gives the queues that are paused."""
    return {_text(name) for name in client.eval(REPORT, 2, WORKERS, PAUSED, worker, json.dumps(facts))}


def sign_off(client: Any, worker: str) -> None:
    """Notes that a worker has stopped."""
    client.hdel(WORKERS, worker)


def workers(client: Any) -> list[dict[str, Any]]:
    """The workers that have reported lately: name, seconds since then, and what they said.

    Forgets the long silent, and what is no report; a worker that lives reports again.
    """
    now = client.time()[0]
    found = []
    for name, value in client.hgetall(WORKERS).items():
        said = _read_report(value)
        silent = max(0, now - said.pop("at")) if said else 0
        if not said or silent > FORGOTTEN_SECONDS:
            client.hdel(WORKERS, name)
        else:
            found.append({"worker": _text(name), "silent_seconds": silent, **said})
    return sorted(found, key=lambda worker: str(worker["worker"]))


def _read_report(value: bytes) -> dict[str, Any]:
    """What a report says, with `at`, when; empty where it is none."""
    try:
        at, _, text = value.decode().partition(" ")
        facts = json.loads(text)
        return {
            "at": int(at),
            "queues": [str(queue) for queue in facts["queues"]],
            "processes": int(facts.get("processes", 1)),
            "waits_for_database": bool(facts.get("waits_for_database", False)),
        }
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return {}


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")


def paused(client: Any) -> set[str]:
    """The queues that are paused."""
    return {_text(name) for name in client.smembers(PAUSED)}


def look(client: Any, names: tuple[str, ...], living: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each queue: how many wait, for how many seconds at least the oldest does (None: nothing waits), how many were set
    aside as undecodable, how many living workers consume it, and whether it is paused."""
    keys = [key for name in names for key in lists_of(name)]
    found = client.eval(LOOK, 1 + len(keys), MARKS, *keys, LAST_SEEN, LONGEST_MARK)
    stopped = paused(client)
    queues = {}
    for place, name in enumerate(names):
        part = found[place * 2 * len(STEPS) : (place + 1) * 2 * len(STEPS)]
        waiting = sum(part[::2])
        queues[name] = {
            "waiting": waiting,
            "oldest_seconds": max(part[1::2]) / 1000 if waiting else None,
            "undecodable": client.llen(undecodable_key(name)),
            "consumers": sum(name in each["queues"] for each in living if each["silent_seconds"] <= SILENT_SECONDS),
            "paused": name in stopped,
        }
    return queues


def strays(client: Any, names: tuple[str, ...]) -> dict[str, int]:
    """Queues that messages wait in though Ordermill has none of these names: how many in each. Reads all keys."""
    bound = client.scan_iter(match=f"{BINDING}*", count=10_000, _type="set")
    others = {_text(key).removeprefix(BINDING) for key in bound} - set(names)
    return {name: waiting for name in sorted(others) if (waiting := _waiting(client, name))}


def _waiting(client: Any, queue: str) -> int:
    try:
        return depth(client, queue)
    except redis.ResponseError:  # the name of something else, which is no list
        return 0


def depth(client: Any, queue: str) -> int:
    """How many messages wait."""
    return sum(int(client.llen(key)) for key in lists_of(queue))


def pause(client: Any, queue: str) -> bool:
    """Has workers stop consuming this queue, until `resume`; false when it was paused."""
    return bool(client.sadd(PAUSED, queue))


def resume(client: Any, queue: str) -> bool:
    """Has workers consume it again; false when it was not paused."""
    return bool(client.srem(PAUSED, queue))


def set_aside(client: Any, queue: str) -> tuple[int, int]:
    """Takes what waits now out of its queue, to become dead letters; none is lost on the way.

    Gives how many, and how many it dropped instead: what has expired, as beat's ticks do, no worker would run either.
    """
    moved = dropped = 0
    for key in lists_of(queue):
        for _ in range(-(-client.llen(key) // TOGETHER)):
            items = client.lrange(key, -TOGETHER, -1)
            if not items:
                break
            kept = ("" if _expired(item) else record(queue, item, PURGED, _REASON) for item in reversed(items))
            pairs = [part for pair in zip(reversed(items), kept, strict=True) for part in pair]
            counts = client.eval(SET_ASIDE, 2, key, undecodable_key(queue), *pairs)
            moved, dropped = moved + counts[0], dropped + counts[1]
    return moved, dropped


def _expired(item: bytes) -> bool:
    """Whether a message is not to be run any more, as Celery has it."""
    try:
        until = datetime.fromisoformat(read(item)["headers"]["expires"])
    except (UnreadableError, KeyError, TypeError, ValueError):
        return False
    return (until if until.tzinfo else until.replace(tzinfo=UTC)) < datetime.now(UTC)


def drop(client: Any, queue: str) -> int:
    """Deletes what waits, for good, and gives how many."""
    keys = lists_of(queue)
    return int(client.eval(DROP, len(keys), *keys))


_REASON = "An operator purged its queue."
