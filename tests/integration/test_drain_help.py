"""A second drain helps while whole batches wait, and only then."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.shop import Shop, order
from tests.waiting import waits_for_long
from tests.workers_fixtures import PATIENT, Mill
from workers.child import wait_until
from workers.database import connect
from workers.drain import LOCK_CLASS, PLACE, drain
from workers.errors import OutageError
from workers.settings import Settings, get_settings

Connect = Callable[[str], psycopg.Connection[Any]]
PLACES = """SELECT classid::integer FROM pg_locks JOIN pg_database AS d ON d.oid = database
    WHERE locktype = 'advisory' AND classid IN (%s, %s) AND datname = current_database()"""


@pytest.fixture
def settings(runtime: None, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Ten orders are a whole batch."""
    monkeypatch.setenv("ORDERMILL_PLACE_BATCH", "10")
    get_settings.cache_clear()
    return get_settings()


@pytest.fixture
def stocked(shop: Shop) -> Shop:
    for sku, location in (("A", "E1"), ("W", "W1")):
        shop.stock(sku, location, 1_000)
    return shop


@pytest.fixture
def first_drain(stocked: Shop, connect_as: Connect) -> psycopg.Connection[Any]:
    """Somebody has the first place at each pool."""
    assert stocked.count("pools") == 2
    holder = connect_as("ordermill_worker")
    holder.execute("SELECT pg_try_advisory_lock(%s, id) FROM api.pools", [LOCK_CLASS])
    return holder


def submit(shop: Shop, count: int, sku: str = "A", **fields: Any) -> None:
    shop.submit(*(order(None, (sku, 1), **fields) for _ in range(count)))


def submit_in_parts(shop: Shop, requests: list[Any], size: int) -> None:
    for at in range(0, len(requests), size):
        shop.submit(*requests[at : at + size])


def places(shop: Shop) -> list[int]:
    return sorted((found - LOCK_CLASS) // PLACE for found in shop.rows(PLACES, LOCK_CLASS, LOCK_CLASS + PLACE))


@pytest.mark.usefixtures("first_drain")
def test_who_helps_takes_whole_batches_leaves_the_rest_and_ends(stocked: Shop, settings: Settings) -> None:
    submit(stocked, 25)
    submit(stocked, 9, "W", pool="WEST")

    done = drain(settings, 60)

    assert done == {"pools": 0, "helped": 2, "placed": 20, "rejected": 0, "returned": 0, "released": 0}
    assert stocked.count("order_queue") == 14
    assert drain(settings, 60) == {**done, "placed": 0}


@pytest.mark.usefixtures("first_drain")
def test_only_so_many_drains_have_a_place_at_a_pool(
    stocked: Shop, settings: Settings, connect_as: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = connect_as("ordermill_worker")
    second.execute("SELECT pg_try_advisory_lock(%s, id) FROM api.pools", [LOCK_CLASS + PLACE])
    submit(stocked, 10)
    assert drain(settings, 60) is None

    monkeypatch.setenv("ORDERMILL_DRAINS", "3")
    get_settings.cache_clear()
    assert (drain(get_settings(), 60) or {})["placed"] == 10


def test_the_first_calls_for_help_where_a_whole_batch_waits_and_not_for_fewer(
    stocked: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.drain.HELP_SECONDS", 60.0)
    calls: list[None] = []
    submit(stocked, 9)
    drain(settings, 60, until_empty=True, for_help=lambda: calls.append(None))
    assert not calls

    submit(stocked, 100)
    done = drain(settings, 60, until_empty=True, for_help=lambda: calls.append(None)) or {}
    assert (done["pools"], done["helped"], done["placed"]) == (2, 0, 100)
    assert len(calls) == 1  # not for each batch


def test_where_nobody_can_be_called_it_goes_on_alone_and_does_not_try_again(
    stocked: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[None] = []
    monkeypatch.setattr("workers.drain.HELP_SECONDS", 0.0)

    def away() -> None:
        calls.append(None)
        raise OutageError("Redis is away")

    submit(stocked, 50)

    assert (drain(settings, 60, until_empty=True, for_help=away) or {})["placed"] == 50
    assert len(calls) == 1


@pytest.fixture
def busy(mill: Mill) -> Mill:
    """A general worker with two processes, and the first drain at work."""
    if not mill.children:
        mill.env |= PATIENT | {"ORDERMILL_PLACE_BATCH": "10"}
        waits_for_long(mill.shop, "await_earlier_claims", "claims_before")
        mill.general_worker("-c", "2")
        mill.send("orders.drain", queue="maintenance")
    assert wait_until(lambda: 0 in places(mill.shop), 30)
    return mill


def test_two_real_drains_serve_a_pile_in_its_order_and_the_second_goes(busy: Mill, sku: str) -> None:
    """The stock ends within the pile, under both drains."""
    requests, seen = [order(None, (sku, 1)) for _ in range(3_000)], set[int]()
    busy.shop.stock(sku, "E2", 990)

    with ThreadPoolExecutor(1) as pool:
        # Watched until all is decided: the second may come when all has been sent.
        decided = pool.submit(lambda: submit_in_parts(busy.shop, requests, 500) or busy.all_decided(requests))
        with connect(busy.database_url) as session:
            watching = Shop(session)
            assert wait_until(lambda: seen.update(places(watching)) or decided.done(), 90, 0.005)
    assert decided.result()

    assert 1 in seen
    statuses = [outcome and outcome["status"] for outcome in busy.outcomes(requests)]
    assert statuses == ["placed"] * 1_000 + ["rejected"] * 2_000
    assert wait_until(lambda: 1 not in places(busy.shop), 30)
