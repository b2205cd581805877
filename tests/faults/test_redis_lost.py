"""Redis emptied or restarted: orders behind the SQL door are all decided, and workers come back by themselves."""

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from tests.servers import Running, drop_database, stoppable
from tests.shop import order
from tests.workers_fixtures import Mill, own_database, watched
from workers.child import wait_until
from workers.embedded import EmbeddedValkey


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A server of this test's own, which it may stop."""
    server = EmbeddedValkey(tmp_path / "valkey home")
    with stoppable(server):
        yield server


@pytest.fixture
def mill_on_valkey(
    valkey: EmbeddedValkey, servers: Running, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Mill]:
    name, database_url = own_database(servers)
    (tmp_path / "mill").mkdir()
    made = Mill(database_url, valkey.url, valkey.url, tmp_path / "mill")
    try:
        yield from watched(made, request)
    finally:
        made.stop()
        drop_database(servers, name)


def test_redis_flushed_with_orders_waiting_behind_the_sql_door_all_are_decided(mill_on_valkey: Mill) -> None:
    mill = mill_on_valkey
    mill.env["ORDERMILL_DRAIN_SECONDS"] = "1"
    mill.shop.stock("A", "E1", 100)
    mill.general_worker("-c", "2")
    mill.beat()
    requests = [order(None, ("A", 1)) for _ in range(150)]
    # Some are claimed by a drain that is gone, the rest wait; and Redis, with all that was in it, is empty.
    mill.shop.submit(*requests[:100])
    mill.shop.claim(lease=1, limit=30)
    mill.broker.flushall()
    mill.shop.submit(*requests[100:])
    mill.broker.flushall()

    assert mill.all_decided(requests)

    assert sum(mill.orders_by_key(requests)) == 100
    assert mill.shop.count("order_queue") == mill.shop.count("claims") == mill.shop.count("dead_letters") == 0


def test_redis_stopped_and_started_again_workers_come_back(mill_on_valkey: Mill, valkey: EmbeddedValkey) -> None:
    mill = mill_on_valkey
    mill.env["ORDERMILL_DRAIN_SECONDS"] = "1"
    mill.shop.stock("A", "E1", 100)
    workers = [mill.orders_worker(), mill.general_worker("-c", "2"), mill.beat()]
    first, later = order(None, ("A", 1)), [order(None, ("A", 1)) for _ in range(2)]
    assert mill.call("orders.place", first)["status"] == "placed"
    due = datetime.now(UTC) + timedelta(seconds=15)
    for request, queue in zip(later, ("orders", "celery"), strict=True):  # in hand, for either kind of worker
        mill.send("orders.place", request, queue=queue, eta=due, ignore_result=True)
    assert wait_until(lambda: mill.broker.hlen("orders.unacked") == mill.broker.hlen("unacked") == 1, 30)
    waiting, behind_sql = [order(None, ("A", 1)) for _ in range(20)], [order(None, ("A", 1)) for _ in range(20)]

    with mill.locked_stock("A"):  # messages are taken and not acknowledged, others wait, when it goes
        for request in waiting:
            mill.send("orders.place", request, ignore_result=True)
        mill.wait_blocked()
        valkey.stop()
        mill.shop.submit(*behind_sql)
    # A worker may say nothing: where its heartbeat is the first to fail, Celery tries it again and again in silence.
    assert wait_until(lambda: "Connection" in workers[2].log.read_text(), 30)
    assert all(child.alive() for child in workers)
    valkey.start()

    assert mill.all_decided(waiting + behind_sql + later[:1])
    assert mill.orders_by_key(waiting + behind_sql + later[:1]) == [1] * 41
    last = mill.send("orders.place", order(None, ("A", 1)))
    assert wait_until(last.ready, 60)  # looked for: Celery's client may miss what it is told as it subscribes anew
    assert last.get(timeout=60)["status"] == "placed"
    assert all(child.alive() for child in workers)


def test_scripts_flushed_under_load_are_not_missed(mill_on_valkey: Mill) -> None:
    mill = mill_on_valkey
    mill.shop.stock("A", "E1", 1_000)
    worker = mill.orders_worker()
    requests = [order(None, ("A", 1)) for _ in range(300)]
    for place, request in enumerate(requests):
        if place % 20 == 0:
            mill.broker.script_flush()
        mill.send("orders.place", request, ignore_result=True)

    assert mill.all_decided(requests)
    assert mill.orders_by_key(requests) == [1] * 300
    assert worker.alive()


def test_a_redis_whose_memory_is_full_is_emptied_by_its_workers(mill_on_valkey: Mill) -> None:
    mill = mill_on_valkey
    mill.shop.stock("A", "E1", 1_000)
    worker = mill.orders_worker()
    requests = [order(None, ("A", 1)) for _ in range(250)]
    with mill.locked_stock("A"):
        for request in requests:
            mill.send("orders.place", request, ignore_result=True)
        mill.wait_blocked()
        mill.broker.config_set("maxmemory", mill.broker.info("memory")["used_memory"] // 2)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            mill.broker.lpush("more", "x")

    assert mill.all_decided(requests, 30)
    assert mill.orders_by_key(requests) == [1] * 250
    assert worker.alive()


def test_a_command_that_a_full_redis_let_nobody_note_is_done_when_it_takes_writes(mill_on_valkey: Mill) -> None:
    mill = mill_on_valkey
    mill.shop.stock("A", "E1", 5)
    worker = mill.general_worker()
    assert worker.process is not None
    os.kill(worker.process.pid, signal.SIGSTOP)
    for number in range(5):
        receipt = {"key": f"receipt-{number}", "location": "E1", "lines": [{"sku": "A", "quantity": 2}]}
        mill.send("inventory.receive", receipt, queue="inventory", ignore_result=True)
    assert mill.waiting("inventory") >= 4  # one was given to the worker, which waits for it
    mill.broker.config_set("maxmemory", mill.broker.info("memory")["used_memory"] // 2)
    os.kill(worker.process.pid, signal.SIGCONT)
    assert wait_until(lambda: "used memory > 'maxmemory'" in worker.log.read_text(), 30)
    mill.broker.config_set("maxmemory", 0)

    assert wait_until(lambda: mill.shop.level("A", "E1") == {"available": 15}, 30)
    assert wait_until(lambda: not mill.broker.exists("unacked", "inventory"), 30)
    assert worker.alive()


def test_what_a_full_redis_let_nobody_acknowledge_is_settled_as_soon_as_it_takes_writes(mill_on_valkey: Mill) -> None:
    mill = mill_on_valkey
    mill.shop.stock("A", "E1", 5)
    worker = mill.general_worker()
    receipt = {"key": "receipt", "location": "E1", "lines": [{"sku": "A", "quantity": 2}]}
    with mill.locked_stock("A"):
        mill.send("inventory.receive", receipt, queue="inventory", ignore_result=True)
        mill.wait_blocked()
        mill.broker.config_set("min-replicas-to-write", 1)  # refuses each write, as where its disk is full
    assert wait_until(lambda: "Connection to broker lost" in worker.log.read_text(), 30)
    mill.broker.config_set("min-replicas-to-write", 0)

    assert wait_until(lambda: not mill.broker.exists("unacked", "inventory"), 30)
    assert mill.shop.level("A", "E1") == {"available": 7}
    assert worker.alive()
