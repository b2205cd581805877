"""What stops a drain and is not the orders' fault: locks, timeouts, outages. Nothing is counted, nobody kept long."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.shop import Shop, order
from tests.workers_fixtures import lock_levels
from workers import database
from workers.child import wait_until
from workers.drain import LOCK_CLASS, PLACE, Drain, drain
from workers.errors import OutageError, TransientError
from workers.settings import Settings, get_settings

Database = psycopg.Connection[Any]
Connect = Callable[[str], Database]
CLAIMS = "SELECT attempt, cardinality(queue_ids) AS orders, leased_until IS NULL AS free FROM shop.claims ORDER BY id"


@pytest.fixture
def settings(runtime: None, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Locks are waited for a tenth of a second, and statements half a second."""
    monkeypatch.setenv("ORDERMILL_LOCK_TIMEOUT_MS", "100")
    monkeypatch.setenv("ORDERMILL_STATEMENT_TIMEOUT_MS", "500")
    monkeypatch.setenv("ORDERMILL_RETRY_SLOW_SECONDS", "0.3")
    get_settings.cache_clear()
    return get_settings()


@pytest.fixture
def stocked(shop: Shop) -> Shop:
    for sku, location in (("A", "E1"), ("B", "E1"), ("W", "W1")):
        shop.stock(sku, location, 100)
    return shop


Drained = Callable[[int], "Counter[str]"]


@pytest.fixture
def draining(settings: Settings) -> Iterator[Callable[[], Drained]]:
    """Starts drains beside the test, one after the other; they end when so many are placed, with what all have done."""
    over, did = threading.Event(), Counter[str]()

    def run() -> None:
        while not over.is_set():
            did.update(drain(settings, 2))

    with ThreadPoolExecutor(1) as pool:

        def begin() -> Drained:
            running = pool.submit(run)

            def end(placed: int) -> Counter[str]:
                wait_until(lambda: running.done() or did["placed"] >= placed, 30)
                over.set()
                running.result(30)
                return did

            return end

        yield begin
        over.set()


@pytest.fixture
def stuck(stocked: Shop) -> Iterator[Callable[[str], None]]:
    """`stuck(sku)`: its lines wait for a lock of ours, longer than any statement may run."""
    stocked.db.execute("SELECT pg_advisory_lock(77)")

    def make(sku: str) -> None:
        variant = stocked.value("SELECT id FROM shop.product_variants WHERE sku = %s", sku)
        stocked.db.execute(
            f"""CREATE FUNCTION shop.stuck() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF new.variant_id = {variant} THEN
                    PERFORM set_config('lock_timeout', '0', true), pg_advisory_xact_lock(77);
                END IF;
                RETURN new; END $$;
                CREATE TRIGGER stuck BEFORE INSERT ON shop.order_lines FOR EACH ROW EXECUTE FUNCTION shop.stuck()"""
        )

    yield make
    stocked.db.execute("DROP FUNCTION shop.stuck() CASCADE")


def test_orders_whose_stock_is_locked_for_long_are_not_counted_and_are_placed_afterwards(
    stocked: Shop, connect_as: Connect, draining: Callable[[], Drained]
) -> None:
    requests = [order(None, ("A", 1)) for _ in range(3)]
    stocked.submit(*requests)
    blocker, tries = connect_as("owner"), set()

    def tried() -> bool:
        tries.update(stocked.rows("SELECT leased_until FROM shop.claims WHERE leased_until IS NOT NULL"))
        return len(tries) > 3

    with blocker.transaction():
        lock_levels(blocker, "A")
        done = draining()
        assert wait_until(tried, 20, 0.01)  # more often than an order has attempts
        assert {claim["attempt"] for claim in stocked.maps(CLAIMS)} <= {1}

    result = done(3)
    assert result["placed"] == 3
    assert result["released"] >= 3
    assert stocked.count("dead_letters") == stocked.count("claims") == 0


def test_a_pool_whose_stock_is_locked_does_not_keep_the_others(
    stocked: Shop, connect_as: Connect, draining: Callable[[], Drained]
) -> None:
    locked, others = order(None, ("A", 1)), [order(None, ("W", 1), pool="WEST") for _ in range(3)]
    stocked.submit(locked)
    blocker = connect_as("owner")
    with blocker.transaction():
        lock_levels(blocker, "A")
        done = draining()
        for other in others:
            stocked.submit(other)
            assert wait_until(lambda key=other["key"]: (stocked.outcome(key) or {})["status"] == "placed", 15)

    assert done(4)["placed"] == 4


def test_the_orders_behind_a_locked_one_have_a_turn(
    stocked: Shop, connect_as: Connect, draining: Callable[[], Drained]
) -> None:
    locked, behind = order(None, ("A", 1)), order(None, ("B", 1))
    blocker = connect_as("owner")
    stocked.submit(locked)
    with blocker.transaction():
        lock_levels(blocker, "A")
        done = draining()
        assert wait_until(lambda: stocked.count("claims") == 1, 10)
        stocked.submit(behind)
        assert wait_until(lambda: (stocked.outcome(behind["key"]) or {})["status"] == "placed", 15)
        assert (stocked.outcome(locked["key"]) or {})["status"] == "accepted"

    assert done(2)["placed"] == 2


def test_a_batch_that_is_too_much_for_one_statement_is_halved_and_nothing_is_counted(
    stocked: Shop, settings: Settings, stuck: Callable[[str], None]
) -> None:
    requests = [order(None, (sku, 1)) for sku in "AABA"]
    stocked.submit(*requests)
    stuck("B")

    result = drain(settings, 10, until_empty=False)

    assert result is not None
    assert (result["placed"], result["returned"]) == (3, 2)
    assert stocked.maps(CLAIMS) == [{"attempt": 1, "orders": 1, "free": True}]
    assert result["released"] >= settings.claim_attempts  # counted, it would be dead
    stocked.db.execute("SELECT pg_advisory_unlock(77)")
    assert (drain(settings, 5, until_empty=True) or {})["placed"] == 1
    assert stocked.count("dead_letters") == 0


def test_a_drain_goes_on_when_claiming_itself_runs_into_a_lock(
    stocked: Shop, settings: Settings, connect_as: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = order(None, ("A", 1))
    stocked.submit(request)
    blocker, tries, placed = connect_as("owner"), [], 0
    blocker.execute("BEGIN")
    blocker.execute("LOCK TABLE shop.claims IN ACCESS EXCLUSIVE MODE")

    def watched(routine: str, *arguments: object, **options: Any) -> Any:
        try:
            return database.call(routine, *arguments, **options)
        except TransientError:
            tries.append(routine)
            if len(tries) == 3:
                blocker.execute("ROLLBACK")
            raise

    monkeypatch.setattr("workers.drain.call", watched)
    monkeypatch.setattr("workers.drain.FLOOR_SECONDS", 60.0)  # no sweep meanwhile, which would wait for the lock too

    def drained() -> bool:
        nonlocal placed
        placed += (drain(settings, 2) or {}).get("placed", 0)
        return len(tries) >= 3 and placed > 0

    assert wait_until(drained, 30)
    assert placed == 1
    assert set(tries) == {"api.claim_orders"}


def test_a_drain_that_cannot_reach_the_database_ends_without_an_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/nobody")
    monkeypatch.setattr("workers.drain.STOPPED_SECONDS", 0.5)
    database.forget()
    get_settings.cache_clear()

    assert drain(get_settings(), 5) is None
    with pytest.raises(OutageError), database.session():
        pass


@pytest.mark.parametrize("late", [False, True])
def test_only_what_has_waited_for_long_is_placed_without_the_pools_lock(
    stocked: Shop, settings: Settings, connect_as: Connect, late: bool
) -> None:
    stocked.submit(order("old", ("A", 1)), order("new", ("W", 1), pool="WEST"))
    holder = connect_as("ordermill_worker")
    for place in range(settings.drains):
        holder.execute("SELECT pg_try_advisory_lock(%s, id) FROM api.pools", [LOCK_CLASS + place * PLACE])
    if late:
        stocked.db.execute("UPDATE shop.order_queue SET received_at = now() - interval '31 s' WHERE key = 'old'")

    assert drain(settings, 5, until_empty=True) is None
    result = drain(settings, 5, until_empty=True, late=True)

    assert result == (
        {"pools": 1, "helped": 0, "placed": 1, "rejected": 0, "returned": 0, "released": 0} if late else None
    )
    assert [(stocked.outcome(key) or {})["status"] for key in ("old", "new")] == [
        "placed" if late else "accepted",
        "accepted",
    ]


def test_a_drain_until_empty_ends_in_its_time_though_orders_keep_coming(
    stocked: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stocked.submit(order(None, ("A", 1)))
    drain_once = Drain.drain_once

    def one_more(run: Drain, pool: int) -> int:
        stocked.submit(order(None, ("A", 1)))
        return drain_once(run, pool)

    monkeypatch.setattr(Drain, "drain_once", one_more)

    result = drain(settings, 0.3, until_empty=True)

    assert result is not None
    assert result["placed"] >= 1
    assert stocked.count("claims") == 0


def test_each_side_of_a_workers_connection_notices_a_peer_that_is_frozen(settings: Settings) -> None:
    with database.session() as connection:
        by_tcp = database.call_one("inet_server_addr", on=connection) is not None
        shown = [
            database.call_one("current_setting", name, on=connection)
            for name in ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
        ]
        driver = connection.connection.driver_connection
        assert driver is not None
        given = driver.info.get_parameters()

    assert shown == (["5", "2", "3", "15000"] if by_tcp else ["0"] * 4)
    assert (given["keepalives_idle"], given["keepalives_count"], given["tcp_user_timeout"]) == ("5", "3", "15000")
