"""The proxy of the faults does what it is told: else a fault would pass because nothing was broken."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import redis

from tests.faults.storm.proxy import Proxy
from workers.database import connect


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    with connect(database_url) as db:
        db.execute("CREATE TABLE noted (n int)")
    made = Proxy(database_url, seed=1).start()
    yield made
    made.stop()


def noted(url: str) -> list[int]:
    with connect(url) as db:
        return [n for (n,) in db.execute("SELECT n FROM noted ORDER BY n")]


def test_a_lost_answer_is_of_a_commit_that_was_done(proxy: Proxy, database_url: str) -> None:
    alone, block, undone = connect(proxy.url), connect(proxy.url), connect(proxy.url)
    block.execute("BEGIN")
    undone.execute("BEGIN")
    proxy.lost_commits = 1.0

    with pytest.raises(psycopg.OperationalError):  # by itself in autocommit
        alone.execute("INSERT INTO noted VALUES (%s)", [1])
    block.execute("INSERT INTO noted VALUES (%s)", [2])
    with pytest.raises(psycopg.OperationalError):
        block.execute("COMMIT")
    undone.execute("INSERT INTO noted VALUES (3)")
    undone.execute("ROLLBACK")  # its answer is not lost, nor that of an error
    with pytest.raises(psycopg.errors.UndefinedTable):
        undone.execute("SELECT * FROM nowhere")
    undone.execute("SET lock_timeout = '1s'")

    assert noted(database_url) == [1, 2]
    assert proxy.lost == 2


def test_all_answers_but_the_lost_ones_arrive_whole(proxy: Proxy) -> None:
    with connect(proxy.url) as db:
        rows = db.execute("SELECT n, repeat('x', n %% 5000) FROM generate_series(1, %s) AS n", [3_000]).fetchall()
        with db.pipeline():
            cursors = [db.execute("SELECT %s::int", [n]) for n in range(200)]
        assert [cursor.fetchone() for cursor in cursors] == [(n,) for n in range(200)]
    assert [len(text) for _, text in rows] == [n % 5000 for n in range(1, 3_001)]


def test_in_a_cut_network_nothing_arrives_until_it_is_whole(proxy: Proxy, database_url: str) -> None:
    db = connect(proxy.url)
    proxy.cut()
    with ThreadPoolExecutor() as threads:
        says = threads.submit(db.execute, "INSERT INTO noted VALUES (1) RETURNING n")
        with pytest.raises(psycopg.OperationalError):
            connect(proxy.url, connect_timeout=2)
        assert noted(database_url) == []
        assert not says.done()
        proxy.heal()
        assert says.result(10).fetchone() == (1,)


def test_a_reset_is_an_error_to_the_client_and_another_server_can_take_over(proxy: Proxy, redis_url: str) -> None:
    db = connect(proxy.url)
    assert proxy.reset() == 1
    with pytest.raises(psycopg.OperationalError):
        db.execute("SELECT 1")
    other = Proxy(redis_url).start()
    try:
        client = redis.Redis.from_url(other.url, retry=None)
        other.delay = 0.2
        started = time.monotonic()
        assert client.ping()
        assert time.monotonic() - started >= 0.2
        other.retarget("redis://127.0.0.1:1")
        with pytest.raises(redis.ConnectionError):
            client.ping()
        other.retarget(redis_url)
        assert client.ping()
    finally:
        other.stop()
