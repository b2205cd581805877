"""What a shop window reads most (products, availability, categories), through Redis, with PostgreSQL behind it.

A value is loaded by one reader for all who want it (dogpile's lock), kept for a bounded time, and deleted when an event
says that it changed (`workers.cache_events`). How it is kept is in `workers.cache_store`.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import redis
from dogpile.cache import make_region, register_backend
from dogpile.cache.api import NO_VALUE

from workers.cache_store import COUNTERS, PREFIX, Store
from workers.database import call_one
from workers.settings import Settings, get_settings

# For the kind of each key: the routine that reads such values.
ROUTINES = {
    "product": "api.read_products",
    "availability": "api.read_availability",
    "category": "api.read_categories",
}
LOADED_AT_ONCE = 100
COUNTED_SECONDS = 1.0  # counters are sent this often, not with each read
BACKEND = "ordermill.redis"
register_backend(BACKEND, "workers.cache_store", "Store")  # type: ignore[no-untyped-call]

Load = Callable[[str, list[str]], list[Any]]


def load(kind: str, names: list[str]) -> list[Any]:
    """Reads values from PostgreSQL, None for each that there is not; raises the errors of `workers.errors`."""
    values: list[Any] = call_one(ROUTINES[kind], names)
    return values


@dataclass(frozen=True)
class Found:
    """What a read gave, in the order asked, and how many of it PostgreSQL was asked for."""

    values: list[Any]
    loaded: int


class Cache:
    """Reads by kind and name. Without an address, or while Redis is away, each read is one of PostgreSQL."""

    def __init__(self, settings: Settings, load: Load = load) -> None:
        self.settings = settings
        self._load = load
        self._counted: Counter[str] = Counter()
        self._sent_at = 0.0
        self.store: Store | None = None
        if settings.cache_address:
            self._region = make_region().configure(
                BACKEND,
                arguments={
                    "url": settings.cache_address,
                    "timeout_ms": settings.cache_timeout_ms,
                    "lifetime": self._lifetime,
                },
            )
            self.store = self._region.actual_backend

    def read(self, kind: str, names: Sequence[str]) -> Found:
        """Values by name, None for each that there is not; any number, of which each 100 are one look into Redis."""
        values: list[Any] = []
        loaded = 0
        for start in range(0, len(names), LOADED_AT_ONCE):
            found = self._read(kind, names[start : start + LOADED_AT_ONCE])
            values += found.values
            loaded += found.loaded
        return Found(values, loaded)

    def _read(self, kind: str, names: Sequence[str]) -> Found:
        store = self.store
        if store is None:
            return Found(self._load(kind, list(names)), len(names))
        loaded = 0

        def create(*missing: str) -> list[Any]:
            nonlocal loaded
            # Of several keys dogpile does not look again once it has the locks: others may have stored them meanwhile.
            made = dict(zip(missing, store.get_multi(missing), strict=True))
            store.release(*(key for key, value in made.items() if value is not NO_VALUE))
            wanted = [key for key in missing if made[key] is NO_VALUE]
            loaded = len(wanted)
            fresh = self._load(kind, [_name(key) for key in wanted]) if wanted else []
            values = dict(zip(wanted, fresh, strict=True))
            return [values[key] if key in values else made[key].payload for key in missing]

        store.begin()
        keys = [key_of(kind, name) for name in names]
        found = {
            key: cached.payload
            for key, cached in zip(keys, store.get_multi(keys), strict=True)
            if cached is not NO_VALUE
        }
        missing = list(dict.fromkeys(key for key in keys if key not in found))
        if missing:  # else dogpile has nothing to do, and would take a third of the time of a hit for it
            found |= zip(missing, self._region.get_or_create_multi(missing, create), strict=True)
        values = [found[key] for key in keys]
        self._count(kind, len(found) - loaded, loaded, values.count(None))
        return Found(values, loaded)

    def delete(self, names: Mapping[str, Iterable[str]]) -> None:
        """Deletes values by kind and name; raises `redis.RedisError`: then they may still be there."""
        keys = [key_of(kind, name) for kind, each in names.items() for name in each]
        if self.store and keys:
            self.store.delete_multi(keys)

    def clear(self) -> None:
        """Makes every read a miss once; raises `redis.RedisError`."""
        if self.store:
            self.store.clear()

    def warm(self, names: Mapping[str, Iterable[str]]) -> dict[str, int]:
        """Loads what is not there; gives by kind how many values were loaded: none where there is no cache now."""
        if self.store is None or self.store.away():
            return {}
        return {kind: self.read(kind, list(dict.fromkeys(each))).loaded for kind, each in names.items()}

    def stats(self) -> dict[str, Any]:
        """Hits, misses and hit ratio, by kind and together, of all processes; entries and memory of the server.

        `negative` are the answers that there is no such thing, `errors` how often Redis did not do what it was asked.
        Where it is away `answers` is false, and what only it knows is None.
        """
        shown: dict[str, Any] = {"address": _without_login(self.settings.cache_address), "answers": False}
        shown |= dict.fromkeys(("entries", "memory_bytes", "memory_limit_bytes", "policy", "evicted"))
        told: dict[str, int] = {}
        if self.store:
            try:
                self._send()
                told = {name.decode(): int(count) for name, count in self.store.client.hgetall(COUNTERS).items()}
                memory, statistics = self.store.client.info("memory"), self.store.client.info("stats")
                shown |= {
                    "answers": True,
                    "entries": self.store.client.dbsize(),
                    "memory_bytes": memory["used_memory"],
                    "memory_limit_bytes": memory["maxmemory"] or None,
                    "policy": memory["maxmemory_policy"],
                    "evicted": statistics["evicted_keys"],
                }
            except redis.RedisError as error:
                shown["error"] = str(error).partition("\n")[0]
        kinds = {kind: _ratio(told, f"{kind}.") for kind in ROUTINES}
        shown |= {name: sum(kinds[kind][name] or 0 for kind in kinds) for name in ("hits", "misses", "negative")}
        shown["hit_ratio"] = _of(shown["hits"], shown["misses"])
        return shown | {"errors": told.get("errors", 0), "kinds": kinds}

    def _lifetime(self, key: str, value: Any) -> int:
        settings = self.settings
        if value is None:
            return settings.cache_negative_seconds * 1000
        short = key.startswith(key_of("availability", ""))
        return 1000 * (settings.cache_availability_seconds if short else settings.cache_seconds)

    def _count(self, kind: str, hits: int, misses: int, negative: int) -> None:
        counted = self._counted
        counted[f"{kind}.hits"] += hits
        counted[f"{kind}.misses"] += misses
        counted[f"{kind}.negative"] += negative
        if time.monotonic() - self._sent_at >= COUNTED_SECONDS:
            self.tell()

    def tell(self) -> None:
        """Adds what this process has counted to the counts of all; nothing is raised, and kept while Redis is away."""
        if self.store and not self.store.away():
            try:
                self._send()
            except redis.RedisError:
                self.store.errors += 1

    def _send(self) -> None:
        if not self.store:
            return
        self._sent_at = time.monotonic()
        counted, self._counted = self._counted, Counter()
        errors, self.store.errors = self.store.errors, 0
        try:
            with self.store.client.pipeline(transaction=False) as pipe:
                for name, count in (counted | Counter(errors=errors)).items():
                    pipe.hincrby(COUNTERS, name, count)
                pipe.execute()
        except redis.RedisError:
            self._counted.update(counted)
            self.store.errors += errors
            raise


def key_of(kind: str, name: str) -> str:
    """The key in Redis of a value."""
    return f"{PREFIX}{kind}:{name}"


def _name(key: str) -> str:
    return key.split(":", 2)[2]


def _ratio(told: Mapping[str, int], prefix: str) -> dict[str, Any]:
    counts: dict[str, Any] = {name: told.get(prefix + name, 0) for name in ("hits", "misses", "negative")}
    return counts | {"hit_ratio": _of(counts["hits"], counts["misses"])}


def _of(hits: int, misses: int) -> float | None:
    return round(hits / (hits + misses), 4) if hits + misses else None


def _without_login(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


@lru_cache(maxsize=1)
def _cache_of(process: int) -> Cache:
    return Cache(get_settings())


def cache() -> Cache:
    """This process's cache: never with a connection that a parent made before the fork."""
    return _cache_of(os.getpid())


def forget() -> None:
    """Drops it, so that the next read connects anew."""
    _cache_of.cache_clear()


def stats(settings: Settings | None = None) -> dict[str, Any]:
    """What `ordermill status` and metrics show of the cache; see `Cache.stats`."""
    return (Cache(settings) if settings else cache()).stats()
