"""PostgreSQL cut off or restarted while workers work: messages wait, and everything is decided once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from tests.servers import stoppable
from tests.shop import Shop, order
from tests.workers_fixtures import Mill, watched
from workers import queues
from workers.child import Child, wait_until
from workers.database import connect
from workers.drain import LOCK_CLASS
from workers.embedded import EmbeddedPostgres
from workers.migrate import migrate

# A drain that only has its pools cannot start when it is cut: one whose last question was for orders is stopped.
DRAINING = """SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory'
    AND classid = %s AND query LIKE '%%api.claim_orders%%'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


def cut(mill: Mill) -> int:
    """Ends each session that a worker has in this database now, and gives how many."""
    with connect(mill.database_url) as admin:
        rows = admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ordermill'"
            " AND datname = current_database()"
        ).fetchall()
        return len(rows)


def test_sessions_cut_again_and_again_lose_no_order_of_either_door(fresh_mill: Mill) -> None:
    mill = fresh_mill
    mill.shop.stock("A", "E1", 150)
    mill.begin_orders_worker()
    mill.general_worker("-c", "2", ORDERMILL_DRAIN_SECONDS="1")
    mill.beat()
    mill.living(1)
    by_celery, by_sql = [order(None, ("A", 1)) for _ in range(200)], [order(None, ("A", 1)) for _ in range(100)]
    for request in by_celery[:100]:
        mill.send("orders.place", request)
    many = mill.send("orders.place_many", by_celery[100:])
    mill.shop.submit(*by_sql)
    ended = 0

    def cut_again() -> bool:
        nonlocal ended
        ended += cut(mill)
        return ended > 10 or mill.all_decided(by_celery + by_sql, 0)

    assert wait_until(cut_again, 40, 0.15)
    assert ended > 0
    assert mill.all_decided(by_celery + by_sql)
    assert many.get(timeout=60) == mill.outcomes(by_celery[100:])
    assert sum(mill.orders_by_key(by_celery + by_sql)) == 150
    assert mill.shop.level("A", "E1") == {"committed": 150}


def test_a_session_cut_inside_its_transaction_is_done_again(fresh_mill: Mill) -> None:
    fresh_mill.shop.stock("A", "E1", 5)
    fresh_mill.orders_worker()
    with fresh_mill.locked_stock("A"):
        result = fresh_mill.send("orders.place", order("cut", ("A", 1)))
        fresh_mill.terminate(fresh_mill.wait_blocked())

    assert result.get(timeout=60)["status"] == "placed"
    assert fresh_mill.shop.level("A", "E1") == {"available": 4, "committed": 1}


def test_a_drain_that_an_outage_ends_has_a_successor_also_without_beat(fresh_mill: Mill) -> None:
    fresh_mill.shop.stock("A", "E1", 5)
    general, request = fresh_mill.general_worker(), order(None, ("A", 1))
    fresh_mill.send("orders.drain", queue="maintenance")
    assert wait_until(lambda: fresh_mill.shop.value(DRAINING, LOCK_CLASS) > 0, 30, 0.01)
    assert cut(fresh_mill) > 0
    assert wait_until(lambda: "the drain stops" in general.log.read_text(), 30)

    fresh_mill.shop.submit(request)

    assert fresh_mill.all_decided([request], 30)


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server of this test's own, which it may stop."""
    server = EmbeddedPostgres(tmp_path / "postgres home")
    with stoppable(server):
        yield server


@pytest.fixture
def mill_on_postgres(
    postgres: EmbeddedPostgres, redis_url: str, broker_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Mill]:
    migrate(postgres.url)
    (tmp_path / "mill").mkdir()
    made = Mill(postgres.url, redis_url, broker_url, tmp_path / "mill")
    made.env["ORDERMILL_RETRY_SLOW_SECONDS"] = "0.5"  # messages go back to the queue while it is away
    try:
        yield from watched(made, request)
    finally:
        made.stop()


def test_while_the_database_is_away_orders_wait_and_then_are_all_decided(
    mill_on_postgres: Mill, postgres: EmbeddedPostgres
) -> None:
    mill = mill_on_postgres
    mill.shop.stock("A", "E1", 25)
    workers = [mill.orders_worker(), mill.general_worker("-c", "2", ORDERMILL_DRAIN_SECONDS="1"), mill.beat()]
    first, behind_sql = order(None, ("A", 1)), [order(None, ("A", 1)) for _ in range(10)]
    assert mill.call("orders.place", first)["status"] == "placed"
    mill.shop.submit(*behind_sql)
    postgres.stop()
    requests = [order(None, ("A", 1)) for _ in range(20)]

    results = [mill.send("orders.place", request) for request in requests]
    many = mill.send("orders.place_many", requests)
    assert wait_until(lambda: "back to the queue" in workers[0].log.read_text(), 30)
    mill.send("maintenance.expire_holds", queue="maintenance", kwargs={"cadence": 1.0})
    assert wait_until(lambda: "maintenance.expire_holds" in not_done(workers[1]), 30)
    assert "Traceback" not in workers[0].log.read_text()  # one line for each message is enough
    assert "Traceback" not in workers[1].log.read_text()  # and for each job
    paused_and_resumed_in_an_outage(mill)
    postgres.start()
    reconnected(mill)

    assert [result.get(timeout=60)["status"] in {"placed", "rejected"} for result in results] == [True] * 20
    assert many.get(timeout=60) == mill.outcomes(requests)
    assert mill.all_decided([first, *behind_sql, *requests])
    assert sum(mill.orders_by_key([first, *behind_sql, *requests])) == 25
    assert all(child.alive() for child in workers)


def paused_and_resumed_in_an_outage(mill: Mill) -> None:
    """The queue `orders`, which its worker does not take back while it waits for the database."""

    def told() -> Any:
        return next((each for each in queues.workers(mill.broker) if each["waits_for_database"]), {"queues": None})

    def reported_at() -> int:
        found = mill.broker.hget(queues.WORKERS, told()["worker"])
        assert found is not None
        return int(found.split(b" ")[0])

    assert wait_until(lambda: told()["queues"] == ["orders"], 20)
    queues.pause(mill.broker, "orders")
    assert wait_until(lambda: told()["queues"] == [], 20)
    queues.resume(mill.broker, "orders")
    resumed = int(mill.broker.time()[0])
    assert wait_until(lambda: reported_at() > resumed + 3, 30)  # the second report since: the first was heeded
    assert told()["queues"] == []


def not_done(worker: Child) -> str:
    """The lines of a worker's log about tasks that an outage ended."""
    return "\n".join(line for line in worker.log.read_text().splitlines() if " was not done: " in line)


def reconnected(mill: Mill) -> None:
    """The test's own session was cut too."""
    with redis.Redis.from_url(mill.broker_url) as client:
        assert client.ping()

    def opened() -> bool:
        try:
            mill.db = connect(mill.database_url)
        except psycopg.OperationalError:
            return False
        return True

    assert wait_until(opened, 30)
    mill.db.execute("SET ROLE ordermill_owner")
    mill.shop = Shop(mill.db)
