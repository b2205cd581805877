"""The cache over a real Redis: one load for all, no stale value let in, and Redis missed by nobody when it is away."""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

import workers.cache
import workers.cache_store
from tests.shop import Shop
from tests.waiting import waiting_once_a_second
from workers.cache import Cache, key_of, load
from workers.cache_store import GENERATION, LOCK
from workers.child import wait_until
from workers.embedded import EmbeddedValkey
from workers.settings import Settings, get_settings


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A Valkey of this module's own: it is stopped, frozen and filled."""
    with EmbeddedValkey(tmp_path_factory.mktemp("cache")) as valkey:
        yield valkey


@pytest.fixture
def client(server: EmbeddedValkey) -> Iterator[Any]:
    with redis.Redis.from_url(server.url) as made:
        made.config_set("maxmemory", 0)
        made.flushall()
        yield made


class Counted:
    """Loads from PostgreSQL and counts by name how often."""

    def __init__(self) -> None:
        self.names: Counter[str] = Counter()
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def __call__(self, kind: str, names: list[str]) -> list[Any]:
        self.names.update(names)
        self.before()
        values = load(kind, names)
        self.after()
        return values


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def settings(runtime: None, server: EmbeddedValkey, client: Any) -> Settings:
    return get_settings().model_copy(update={"cache_url": server.url, "cache_timeout_ms": 5_000})


@pytest.fixture
def cache(settings: Settings, counted: Counted) -> Cache:
    return Cache(settings, counted)


@pytest.fixture
def stocked(shop: Shop) -> Shop:
    shop.stock("A", "E1", 10, cap=5, threshold=3)
    shop.stock("A", "W1", 2)
    return shop


def read(cache: Cache, kind: str, *names: str) -> list[Any]:
    return cache.read(kind, names).values


def available(cache: Cache, sku: str = "A") -> list[int]:
    [item] = read(cache, "availability", sku)
    return [pool["available"] for pool in item["pools"]]


def sell(shop: Shop, quantity: int = 1) -> None:
    assert shop.value("SELECT api.adjust_inventory(gen_random_uuid()::text, 'A', 'E1', %s, 'sold')", -quantity)


def test_what_is_read_is_what_the_shop_has_and_the_second_read_asks_no_database(
    cache: Cache, counted: Counted, stocked: Shop
) -> None:
    for _ in range(2):
        assert read(cache, "product", "A", "nothing", "A") == [
            {
                "code": "A",
                "title": "A",
                "brand": None,
                "category": "CAT",
                "variants": [{"sku": "A", "title": "A", "price_amount": 100, "currency": "USD", "active": True}],
            },
            None,
            *read(cache, "product", "A"),
        ]
        assert read(cache, "availability", "A") == [
            {
                "sku": "A",
                "pools": [
                    {"pool": "EAST", "available": 10, "can_order": 15, "low": False},
                    {"pool": "WEST", "available": 2, "can_order": 2, "low": False},
                ],
            }
        ]
        [category] = read(cache, "category", "CAT")
        assert (category["name"], category["products"], category["product_count"]) == ("All", ["A"], 1)

    assert counted.names == {"A": 2, "nothing": 1, "CAT": 1}


@pytest.mark.parametrize("names", [["A"], ["A", "B", "nothing"]], ids=["one key", "three keys"])
def test_of_200_readers_who_all_miss_at_once_one_asks_the_database(
    settings: Settings, counted: Counted, stocked: Shop, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, much in (("WAIT_SECONDS", 60), ("LEASE_MS", 60_000)):  # on a busy machine the 200 are long in coming
        monkeypatch.setattr(workers.cache_store, name, much)
    stocked.stock("B", "E1", 1)
    caches = [Cache(settings, counted) for _ in range(8)]  # each with connections of its own, as a process has
    arrived = threading.Semaphore(0)

    def all_have_come() -> None:
        assert all(arrived.acquire(timeout=60) for _ in range(200))

    counted.before = all_have_come

    def one(number: int) -> list[Any]:
        arrived.release()
        return read(caches[number % 8], "availability", *names)

    with ThreadPoolExecutor(200) as pool:
        results = list(pool.map(one, range(200)))

    assert counted.names == dict.fromkeys(names, 1)
    assert all(result == load("availability", names) for result in results)


def test_who_waits_too_long_for_another_reads_for_himself_and_stores_nothing(
    cache: Cache, counted: Counted, stocked: Shop, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.cache_store, "WAIT_SECONDS", 0.05)
    client.set(f"{LOCK}availability:A", "somebody who was killed", px=5_000)

    assert available(cache) == [10, 2]

    assert not client.exists(key_of("availability", "A"))
    assert 0 < client.pttl(f"{LOCK}availability:A") <= 5_000  # the dead one's lease ends by itself
    assert counted.names == {"A": 1}


def test_a_load_that_fails_gives_its_lease_back(cache: Cache, counted: Counted, stocked: Shop, client: Any) -> None:
    def fail() -> None:
        raise RuntimeError("the database is away")

    counted.after = fail
    with pytest.raises(RuntimeError):
        available(cache)

    assert client.keys(f"{LOCK}*") == []


def test_a_value_read_before_a_deletion_cannot_be_stored_after_it(
    cache: Cache, settings: Settings, counted: Counted, stocked: Shop
) -> None:
    loaded, go_on = threading.Event(), threading.Event()

    def stand_still() -> None:
        counted.after = lambda: None
        loaded.set()
        assert go_on.wait(60)

    counted.after = stand_still
    with ThreadPoolExecutor(1) as pool:
        # 1. A reader misses, and has read the old value.
        slow = pool.submit(available, cache)
        assert loaded.wait(60)
        # 2. The stock changes, and the event's deletion is done.
        sell(stocked)
        cache.delete({"availability": ["A"]})
        # 3. Another reader reads and stores the new value.
        other = Cache(settings, counted)
        assert available(other) == [9, 2]
        # 4. The first goes on to store what it has, too late.
        go_on.set()
        assert slow.result(60) == [10, 2]

    assert (available(cache), available(other)) == ([9, 2], [9, 2])


def test_a_value_read_before_all_was_cleared_is_not_seen_after(
    cache: Cache, counted: Counted, stocked: Shop, client: Any
) -> None:
    def clear_meanwhile() -> None:
        counted.after = lambda: None
        sell(stocked)
        cache.clear()

    counted.after = clear_meanwhile

    assert available(cache) == [10, 2]
    assert client.exists(key_of("availability", "A"))  # its lease was not touched, but its generation is over
    assert available(cache) == [9, 2]


def test_clearing_makes_each_next_read_one_of_the_database(cache: Cache, counted: Counted, stocked: Shop) -> None:
    available(cache)
    read(cache, "product", "A")

    cache.clear()
    available(cache)
    read(cache, "product", "A")

    assert counted.names == {"A": 4}


def test_that_there_is_no_such_thing_is_kept_too_but_not_for_long(
    cache: Cache, counted: Counted, stocked: Shop, client: Any, settings: Settings
) -> None:
    assert read(cache, "availability", "new", "new") == [None, None]
    assert read(cache, "availability", "new") == [None]

    assert counted.names == {"new": 1}
    assert 0 < client.pttl(key_of("availability", "new")) <= settings.cache_negative_seconds * 1000


def test_lifetimes_are_bounded_and_spread(cache: Cache, stocked: Shop, client: Any, settings: Settings) -> None:
    for number in range(60):
        stocked.variant(f"V{number}")
    names = [f"V{number}" for number in range(60)]
    for kind, seconds in (
        ("availability", settings.cache_availability_seconds),
        ("product", settings.cache_seconds),
    ):
        read(cache, kind, *names)
        lives = [client.pttl(key_of(kind, name)) / 1000 / seconds for name in names]

        assert 0.7 < min(lives) < 0.85
        assert 0.95 < max(lives) <= 1.0


@pytest.mark.parametrize(
    "foreign",
    [b"", b"\x80\x04pickle", b"null", b'"text"', b"[1]", b"{}", b"[" * 100_000, b'{"generation": "%s", "at": "now"}'],
    ids=["empty", "pickle", "null", "text", "list", "object", "deep", "no value"],
)
def test_what_another_program_wrote_under_a_key_is_a_miss_and_is_overwritten(
    cache: Cache, stocked: Shop, client: Any, foreign: bytes
) -> None:
    available(cache)
    client.set(key_of("availability", "A"), foreign.replace(b"%s", client.get(GENERATION)))

    assert available(cache) == [10, 2]
    assert json.loads(client.get(key_of("availability", "A")))["value"]["sku"] == "A"


def test_a_key_of_another_type_is_a_miss(cache: Cache, stocked: Shop, client: Any) -> None:
    client.rpush(key_of("availability", "A"), "x")

    assert available(cache) == [10, 2]
    assert client.type(key_of("availability", "A")) == b"string"


def test_any_language_can_read_what_is_stored(cache: Cache, stocked: Shop, client: Any) -> None:
    read(cache, "product", "A")

    entry = json.loads(client.get("ordermill:product:A"))
    assert entry["generation"] == client.get("ordermill:generation").decode()
    assert abs(entry["at"] - time.time()) < 60
    assert entry["value"] == load("product", ["A"])[0]


def test_names_with_colons_are_not_taken_for_one_another(cache: Cache, stocked: Shop) -> None:
    stocked.stock("A:B", "E1", 7)

    assert available(cache, "A:B") == [7]
    assert available(cache, "A:B") == [7]


def test_without_an_address_each_read_is_one_of_the_database(settings: Settings, stocked: Shop) -> None:
    off = settings.model_copy(update={"cache_url": "", "redis_url": "sentinel://localhost:26379/0"})
    cache = Cache(off)

    assert available(cache) == [10, 2]
    sell(stocked)
    assert available(cache) == [9, 2]
    assert cache.stats()["answers"] is False


def test_while_redis_is_stopped_reads_are_right_and_quick_and_after_a_restart_nothing_old_is_served(
    settings: Settings, counted: Counted, stocked: Shop, server: EmbeddedValkey
) -> None:
    cache = Cache(settings, counted)
    assert available(cache) == [10, 2]
    server.stop()
    try:
        sell(stocked)
        with waiting_once_a_second(cache.store):
            assert [available(cache) for _ in range(20)] == [[9, 2]] * 20
        with pytest.raises(redis.RedisError):
            cache.delete({"availability": ["A"]})  # so the event is not taken as done
    finally:
        server.start()

    # It comes up with what its file has, and so with the value that nobody could delete.
    with redis.Redis.from_url(server.url) as client:
        assert b'"available": 10' in client.get(key_of("availability", "A"))
    loads = counted.names["A"]
    assert wait_until(lambda: not cache.store.away(), 10)  # type: ignore[union-attr]
    assert available(cache) == [9, 2]
    assert available(cache) == [9, 2]
    assert counted.names["A"] == loads + 1


def test_while_redis_stands_still_reads_are_right_and_wait_for_it_once_a_second_at_most(
    settings: Settings, stocked: Shop, server: EmbeddedValkey
) -> None:
    cache = Cache(settings.model_copy(update={"cache_timeout_ms": 200}))
    assert available(cache) == [10, 2]
    assert server.pid
    os.kill(server.pid, signal.SIGSTOP)
    try:
        sell(stocked)
        with waiting_once_a_second(cache.store):
            assert [available(cache) for _ in range(20)] == [[9, 2]] * 20
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert wait_until(lambda: cache.stats()["errors"] > 0, 10)


def test_a_full_redis_that_evicts_nothing_still_gives_hits_and_keeps_nobody_waiting(
    cache: Cache, counted: Counted, stocked: Shop, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.cache_store, "WAIT_SECONDS", 60.0)
    monkeypatch.setattr(workers.cache_store, "LEASE_MS", 60_000)
    available(cache)
    client.config_set("maxmemory", 1)

    started = time.monotonic()
    for _ in range(10):
        assert available(cache) == [10, 2]
        assert read(cache, "product", "A")[0]["code"] == "A"
    assert time.monotonic() - started < 30  # who waits for a value or a lease waits for a minute here
    assert counted.names == {"A": 11}


def test_what_redis_evicts_is_read_again_even_its_generation(cache: Cache, stocked: Shop, client: Any) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 1_000_000)  # buffers, too
    try:
        for batch in range(200):
            assert read(cache, "availability", *(f"no-{batch}-{n}" for n in range(100))) == [None] * 100
            if cache.stats()["evicted"]:  # how soon depends on what Redis had freed before
                break
        assert cache.stats()["evicted"] > 0
        assert available(cache) == [10, 2]
        client.delete(GENERATION)
        assert available(cache) == [10, 2]
    finally:
        client.config_set("maxmemory-policy", "noeviction")


def test_hits_misses_and_size_of_all_processes_are_shown(settings: Settings, stocked: Shop) -> None:
    first, second = Cache(settings), Cache(settings)
    read(first, "availability", "A", "no")
    for each in (first, second):
        read(each, "availability", "A", "no")
        read(each, "product", "A")
    second.stats()  # sends what it has counted

    shown = first.stats()

    assert shown["answers"] is True
    assert (shown["hits"], shown["misses"], shown["negative"]) == (5, 3, 3)
    assert shown["hit_ratio"] == 0.625
    assert shown["kinds"]["product"] == {"hits": 1, "misses": 1, "negative": 0, "hit_ratio": 0.5}
    assert shown["entries"] >= 3
    assert shown["memory_bytes"] > 0
    assert "@" not in shown["address"]


def test_warming_loads_what_is_not_there_once(cache: Cache, counted: Counted, stocked: Shop) -> None:
    names = {"availability": ["A", "A"], "product": ["A"], "category": ["CAT", "CAT"]}

    assert cache.warm(names) == {"availability": 1, "product": 1, "category": 1}
    assert cache.warm(names) == {"availability": 0, "product": 0, "category": 0}
