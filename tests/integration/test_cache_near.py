"""What a process has read of the cache just now: given again without Redis, and never after it was deleted."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import redis

import workers.cache
import workers.cache_near
from tests.shop import Shop
from workers.cache import Cache
from workers.child import wait_until
from workers.embedded import EmbeddedValkey
from workers.settings import Settings, get_settings


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path_factory.mktemp("near")) as valkey:
        yield valkey


@pytest.fixture
def client(server: EmbeddedValkey) -> Iterator[Any]:
    with redis.Redis.from_url(server.url) as made:
        made.flushall()
        yield made


@pytest.fixture
def settings(
    runtime: None, server: EmbeddedValkey, client: Any, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    monkeypatch.setattr(workers.cache_near, "SEEN_SECONDS", 60)  # this machine may be busy
    shop.stock("A", "E1", 10)
    return get_settings().model_copy(update={"cache_url": server.url, "cache_timeout_ms": 5_000})


@pytest.fixture
def hot(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """A cache that has just read A so often that it need not ask for it."""
    monkeypatch.setattr(workers.cache_near, "UNASKED_SECONDS", 60)
    cache = Cache(settings)
    for _ in range(3):
        assert available(cache) == 10
    return cache


def available(cache: Cache) -> int:
    [item] = cache.read("availability", ["A"]).values
    return sum(pool["available"] for pool in item["pools"])


def sell(shop: Shop) -> None:
    shop.value("SELECT api.adjust_inventory(gen_random_uuid()::text, 'A', 'E1', -1, 'sold')")


def asked(client: Any) -> int:
    """How often Redis was asked for values."""
    return int(client.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"])


def watched(client: Any) -> int:
    return int(client.info("stats")["tracking_total_keys"])


def test_what_was_read_again_and_again_is_given_without_asking_redis(hot: Cache, client: Any) -> None:
    before = asked(client)

    given = hot.read("availability", ["A"]).values
    given[0]["pools"].clear()  # whoever has it may do with it what he likes

    assert available(hot) == 10
    assert asked(client) == before


@pytest.mark.parametrize("how", ["delete", "clear", "flush"])
def test_once_redis_has_no_value_nobody_gives_it(
    hot: Cache, settings: Settings, shop: Shop, client: Any, how: str
) -> None:
    other = Cache(settings)
    assert available(other) == 10
    sell(shop)

    if how == "delete":
        other.delete({"availability": ["A"]})
    elif how == "clear":
        other.clear()
    else:
        client.flushall()

    # Redis sends what it tells to a process just after its answer to another.
    assert wait_until(lambda: available(hot) == 9, 10, 0.001)
    assert available(other) == 9


def test_who_deletes_does_not_give_it_either(hot: Cache, shop: Shop) -> None:
    sell(shop)
    hot.delete({"availability": ["A"]})
    assert available(hot) == 9


def test_what_is_read_once_costs_redis_no_memory(settings: Settings, client: Any) -> None:
    cache = Cache(settings)
    for number in range(50):
        cache.read("availability", [f"no-{number}"])
    assert watched(client) == 0

    for _ in range(3):
        available(cache)
    assert watched(client) == 2  # it, and the generation


def test_while_redis_says_nothing_at_all_what_was_read_is_given_for_a_moment_only(
    settings: Settings, shop: Shop, server: EmbeddedValkey
) -> None:
    cache = Cache(settings.model_copy(update={"cache_timeout_ms": 200}))
    for _ in range(5):
        assert available(cache) == 10
    assert server.pid
    os.kill(server.pid, signal.SIGSTOP)
    try:
        sell(shop)
        assert wait_until(lambda: available(cache) == 9, 10)
    finally:
        os.kill(server.pid, signal.SIGCONT)


def test_a_connection_that_redis_closed_is_made_anew_and_what_it_had_given_is_read_again(
    hot: Cache, shop: Shop, client: Any
) -> None:
    sell(shop)
    client.client_kill_filter(_type="normal", skipme=True)
    client.delete("ordermill:availability:A")

    assert wait_until(lambda: available(hot) == 9, 10, 0.001)
    assert hot.store
    assert hot.store.errors == 0


@pytest.mark.parametrize("why", ["a login that may not", "the older protocol"])
def test_where_redis_cannot_tell_it_is_asked_each_time(
    settings: Settings, client: Any, shop: Shop, server: EmbeddedValkey, why: str
) -> None:
    url = f"{server.url}?protocol=2"
    if why == "a login that may not":
        client.acl_setuser("plain", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-client|tracking"])
        url = f"redis://plain:pw@{server.url.rpartition('@')[2]}"
    cache = Cache(settings.model_copy(update={"cache_url": url}))
    for _ in range(3):
        assert available(cache) == 10
    before = asked(client)
    assert available(cache) == 10
    assert asked(client) == before + 1

    sell(shop)
    client.delete("ordermill:availability:A")
    assert available(cache) == 9
    assert cache.store
    assert cache.store.errors == 0


def test_what_a_process_keeps_is_bounded(hot: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hot.store
    near = hot.store._current.near
    for _ in range(3):
        near._answered -= 61  # so that it is asked again
        available(hot)
        assert near._bytes == sum(map(len, near._kept.values())) > 0
    monkeypatch.setattr(workers.cache_near, "MOST_BYTES", near._bytes - 1)
    near.forget()
    for _ in range(3):
        available(hot)
        assert (near._bytes, near._kept) == (0, {})


def test_nothing_is_kept_for_longer_than_a_second(hot: Cache) -> None:
    for _ in range(3):
        hot.read("product", ["A"])
    assert hot.store
    near = hot.store._current.near
    assert len(near._kept) == 2
    near._seen_since -= 61
    near._answered -= 61

    available(hot)
    assert "ordermill:product:A" not in near._kept


def test_a_forked_process_connects_anew(runtime: None) -> None:
    parent = workers.cache.cache()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if workers.cache.cache() is not parent else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    workers.cache.forget()
