"""Where cached reads are kept: a dogpile.cache backend over Redis that lets no stale value in and makes nobody wait.

A value is JSON, `{"generation": ..., "at": ..., "value": ...}`, under `ordermill:<kind>:<name>`, for any language.
What is read, and for how long it is kept, is in `workers.cache`.
"""

import json
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import redis
from dogpile.cache.api import NO_VALUE, CacheBackend, CachedValue, CacheMutex
from dogpile.cache.region import value_version

from workers.cache_near import Near

PREFIX = "ordermill:"
GENERATION, COUNTERS, LOCK = f"{PREFIX}generation", f"{PREFIX}counters", f"{PREFIX}lock:"
# Chosen, not measured: a load lasts at most as long as a statement may; who waits longer than this reads by itself.
LEASE_MS, WAIT_SECONDS, POLL_SECONDS = 5_000, 1.0, 0.004
REST_SECONDS = 1.0  # how long Redis is left alone after it did not answer
JITTER = 0.2  # the part of its lifetime that an entry may lose, so that what was stored together does not end together
DELETED_AT_ONCE = 1_000

# A value is stored only by whoever still has the lease that was taken before the value was read. Deleting a value
# deletes its lease too, so what was read before a deletion cannot be stored after it.
STORE = """
local stored = 0
for n = 1, #KEYS, 2 do
    local a = (n - 1) / 2 * 3
    if redis.call('GET', KEYS[n + 1]) == ARGV[a + 1] then
        redis.call('SET', KEYS[n], ARGV[a + 2], 'PX', ARGV[a + 3])
        redis.call('DEL', KEYS[n + 1])
        stored = stored + 1
    end
end
return stored
"""
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
# A server that was restarted, or put in place of another, may have come up with what it held some time ago, and so with
# what was deleted since. Each connection begins with this, so nobody reads of such a server before its past is void.
NEW_SERVER = """
local generation = redis.call('GET', KEYS[1])
if generation and string.sub(generation, 1, #ARGV[1]) == ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2])
return 1
"""


@dataclass
class Lease:
    """The right to store one value: its token, and the generation in which it was taken."""

    token: str
    generation: str


class Current(threading.local):
    """What one read, in its thread, has taken and how long it still waits."""

    deadline = 0.0
    generation: str | None = None

    def __init__(self, client: Any) -> None:
        self.leases: dict[str, Lease] = {}
        self.near = Near(client, GENERATION)


class Store(CacheBackend):
    """Redis as dogpile.cache sees it. Where Redis is away every value is a miss, and nothing is stored or waited for.

    `lifetime` gives the milliseconds that a value may live, by its key and itself.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self.lifetime: Callable[[str, Any], int] = arguments["lifetime"]
        seconds = arguments["timeout_ms"] / 1000
        self.client: Any = redis.Redis.from_url(
            arguments["url"],
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            retry=None,
            redis_connect_func=_begin,
            decode_responses=False,
        )
        self.errors = 0
        self._store = self.client.register_script(STORE)
        self._release = self.client.register_script(RELEASE)
        self._current = Current(self.client)
        self._rests_until = 0.0

    # What dogpile calls

    def get_multi(self, keys: Iterable[str]) -> list[Any]:
        """The values, NO_VALUE for each that is not there, not readable, or of another generation."""
        names = list(keys)
        answer = self._ask(lambda: self._current.near.read(names))
        if answer is None:
            return [NO_VALUE] * len(names)
        generation, texts = answer
        self._current.generation = _text(generation)
        return [_read(text, self._current.generation) for text in texts]

    def set_multi(self, mapping: Mapping[str, Any]) -> None:
        """Stores those whose lease is still there."""
        keys: list[str] = []
        arguments: list[str | int] = []
        for key, cached in mapping.items():
            lease = self._current.leases.pop(key, None)
            if lease:
                keys += [key, _lock(key)]
                text = json.dumps(
                    {"generation": lease.generation, "at": round(cached.metadata["ct"], 3), "value": cached.payload}
                )
                life = self.lifetime(key, cached.payload)
                arguments += [lease.token, text, max(1, round(life * (1 - JITTER * random.random())))]  # noqa: S311
        if keys:
            self._ask(lambda: self._store(keys=keys, args=arguments))

    def get_mutex(self, key: str) -> CacheMutex:
        """The lock of dogpile: its holder loads the value for all."""
        return Mutex(self, key)

    def get(self, key: str) -> Any:
        """As `get_multi`, of one."""
        return self.get_multi([key])[0]

    def set(self, key: str, value: Any) -> None:
        """As `set_multi`, of one."""
        self.set_multi({key: value})

    def delete(self, key: str) -> None:
        """As `delete_multi`, of one."""
        self.delete_multi([key])

    def delete_multi(self, keys: Iterable[str]) -> None:
        """Deletes values with their leases; raises `redis.RedisError`, because a deletion must not be lost."""
        names = [name for key in dict.fromkeys(keys) for name in (key, _lock(key))]
        with self.client.pipeline(transaction=False) as pipe:
            for start in range(0, len(names), DELETED_AT_ONCE):
                pipe.unlink(*names[start : start + DELETED_AT_ONCE])
            pipe.execute()
        self.forget()  # Redis answers the sender before it tells the others

    # Beyond dogpile

    def clear(self) -> None:
        """Makes all values misses at once; raises `redis.RedisError`. What is void ends with its lifetime."""
        server = (_text(self.client.get(GENERATION)) or ":").partition(":")[0]
        self.client.set(GENERATION, f"{server}:{secrets.token_hex(8)}")
        self.forget()

    def forget(self) -> None:
        """Has the next reads of this thread ask Redis, whatever it gave just now."""
        self._current.near.forget()

    def begin(self) -> None:
        """Begins a read in this thread: nothing is held, and all its waiting together is bounded."""
        self._current.leases.clear()
        self._current.generation = None
        self._current.deadline = time.monotonic() + WAIT_SECONDS

    def away(self) -> bool:
        """Whether Redis is being left alone, because it did not answer just now."""
        return time.monotonic() < self._rests_until

    def acquire(self, key: str, wait: bool) -> bool:
        """Takes the lease of a key, or waits until somebody else has stored its value, or until patience ends.

        The last two leave the caller without a lease: it may read for itself, and stores nothing.
        """
        while True:
            taken = self._ask(lambda: self._take(key))
            if taken is not False:
                return True  # where Redis does not answer nobody waits for it
            if not wait:
                return False
            if time.monotonic() >= self._current.deadline or self.get(key) is not NO_VALUE:
                return True
            time.sleep(POLL_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311

    def release(self, *keys: str) -> None:
        """Gives back leases with which nothing was stored; those that are not held are left alone."""
        for key in keys:
            lease = self._current.leases.pop(key, None)
            if lease:
                self._ask(partial(self._release, keys=[_lock(key)], args=[lease.token]))

    def _take(self, key: str) -> bool:
        generation, token = self._generation(), secrets.token_hex(16)
        if not self.client.set(_lock(key), token, nx=True, px=LEASE_MS):
            return False
        self._current.leases[key] = Lease(token, generation)
        return True

    def _generation(self) -> str:
        """The generation before the value is read, which is made where an eviction or a flush took it."""
        if self._current.generation is None:
            self.client.set(GENERATION, f":{secrets.token_hex(8)}", nx=True)
            self._current.generation = _text(self.client.get(GENERATION))
        return self._current.generation or ""

    def _ask(self, question: Callable[[], Any]) -> Any:
        """What Redis answers; None where it does not. After that it is left alone for a while."""
        if self.away():
            return None
        try:
            return question()
        except (redis.ConnectionError, redis.TimeoutError):
            self._rests_until = time.monotonic() + REST_SECONDS
        except redis.RedisError:
            pass  # it is full, or forbids this command: others may still be answered
        self.errors += 1
        return None


class Mutex(CacheMutex):
    """A key's lease in the form of a lock."""

    def __init__(self, store: Store, key: str) -> None:
        self.store, self.key = store, key

    def acquire(self, wait: bool = True) -> bool:
        """Takes the lease, or ends waiting for it; see `Store.acquire`."""
        return self.store.acquire(self.key, wait)

    def release(self) -> None:
        """Gives the lease back, if there is one."""
        self.store.release(self.key)

    def locked(self) -> bool:
        """Whether anybody has it."""
        return bool(self.store.client.exists(_lock(self.key)))


def _begin(connection: Any) -> None:
    connection.on_connect()
    connection.send_command("INFO", "server")
    told = connection.read_response()
    lines = told.decode() if isinstance(told, bytes) else str(told)
    run_id = next(line.partition(":")[2].strip() for line in lines.splitlines() if line.startswith("run_id:"))
    connection.send_command("EVAL", NEW_SERVER, 1, GENERATION, f"{run_id}:", secrets.token_hex(8))
    connection.read_response()


def _lock(key: str) -> str:
    return LOCK + key.removeprefix(PREFIX)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")


def _read(text: bytes | None, generation: str | None) -> Any:
    """A stored value; NO_VALUE for what is none, such as what another program wrote there."""
    if text is None or generation is None:
        return NO_VALUE
    try:
        entry = json.loads(text)
        if entry["generation"] != generation:
            return NO_VALUE
        return CachedValue(entry["value"], {"ct": float(entry["at"]), "v": value_version})
    except (ValueError, TypeError, KeyError, RecursionError):
        return NO_VALUE
