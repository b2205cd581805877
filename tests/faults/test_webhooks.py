"""Deliveries by real workers: handed over, killed, standing still, without PostgreSQL or Redis; nothing is lost, and
each stream stays in order."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hooks import LOCAL, Receiver, add, receiver, waiting
from tests.noted import happen
from tests.servers import Running, drop_database, or_skipped
from tests.shop import order
from tests.workers_fixtures import Mill, kill, own_database
from workers.child import Child, wait_until
from workers.database import connect
from workers.embedded import EmbeddedValkey
from workers.webhooks import LOCK

STREAMS = 5
SPARED = "UPDATE shop.webhook_endpoints SET rests_until = NULL"


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def telling(mill: Mill, there: Receiver) -> Iterator[Mill]:
    """The module's mill with two processes, which dispatch and deliver, and an endpoint of this test's own."""
    # A successor expires after as long: a machine that stands still meanwhile ends the chain, and here is no beat.
    mill.env |= {"ORDERMILL_WEBHOOKS_SECONDS": "3", "ORDERMILL_DISPATCH_SECONDS": "3"}
    mill.env |= {"ORDERMILL_WEBHOOKS_ALLOW": LOCAL}
    if not deliverers(mill):
        mill.general_worker("-c", "2")
    begin(mill)
    add(mill.shop, "a", there.url, timeout_ms=5_000)
    yield mill
    if there.gate:
        there.gate.set()
    mill.shop.value("SELECT api.remove_webhook('a')")


def deliverers(mill: Mill) -> list[Child]:
    """The living workers, the newest last; beat may be beside them."""
    return [child for child in mill.children if child.alive() and child.name.startswith("general")]


def begin(mill: Mill) -> None:
    for task in ("events.dispatch", "webhooks.deliver"):
        mill.send(task, queue="events")


def tell(mill: Mill, count: int) -> None:
    for number in range(count):
        happen(mill.shop, "test.a", stream=f"test:{number % STREAMS}")


def all_told(mill: Mill, there: Receiver, count: int) -> bool:
    """Whether so many events were told, and written down, and each stream in order."""
    delivered = "SELECT count(*) FROM shop.webhook_deliveries WHERE ended_at IS NOT NULL AND letter_id IS NULL"

    def told() -> bool:
        return bool(mill.shop.value(delivered) == count and waiting(mill.shop) == 0)

    for _ in range(12):
        if wait_until(told, 5, 0.05):
            break
        begin(mill)  # as beat does: a machine that stands still ends the chain
    else:
        return False
    streams = [list(dict.fromkeys(positions)) for positions in there.by_stream().values()]
    return sum(map(len, streams)) == count and all(each == sorted(each) for each in streams)


def holders(mill: Mill) -> int:
    held = """SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
    return int(mill.shop.value(held, LOCK[0]))


def test_orders_are_told_over_many_turns_with_nobody_but_the_tasks_themselves(
    telling: Mill, there: Receiver, sku: str
) -> None:
    log = deliverers(telling)[-1].log
    turns = log.read_text().count("Task webhooks.deliver")
    for told in (5, 10):
        telling.shop.place(*(order(None, (sku, 1)) for _ in range(5)))
        assert wait_until(lambda least=told: placed(there) >= least, 30, 0.02)
        turns += 6  # received and done, three times
        assert wait_until(lambda least=turns: log.read_text().count("Task webhooks.deliver") >= least, 60, 0.1)

    assert wait_until(lambda: waiting(telling.shop) == 0, 30, 0.02)
    assert (placed(there), there.doubles()) == (10, 0)


def placed(there: Receiver) -> int:
    return [got.told["type"] for got in there.got].count("order.placed")


def test_what_a_killed_deliverer_had_in_hand_is_told_by_the_next(telling: Mill, there: Receiver) -> None:
    there.gate = threading.Event()
    tell(telling, 20)
    assert wait_until(lambda: len(there.got) > 0, 30, 0.01)
    kill(deliverers(telling)[-1])
    telling.broker.flushdb()  # its successor is lost with it
    there.gate.set()
    telling.db.execute(SPARED)

    telling.general_worker("-c", "2")
    begin(telling)

    assert all_told(telling, there, 20)
    assert there.doubles() > 0  # at least once: the receiver drops them by their id
    assert len({got.headers["webhook-id"] for got in there.got}) == 20


def test_where_a_deliverer_stands_still_another_goes_on_and_the_first_changes_nothing_when_it_wakes(
    telling: Mill, there: Receiver
) -> None:
    there.gate = threading.Event()
    tell(telling, 20)
    # All were given to the endpoint: else the dispatcher may stand still with some, and with the lock of its own.
    assert wait_until(lambda: len(there.got) > 0 and waiting(telling.shop) == 20 and holders(telling) > 0, 30, 0.01)
    standing = deliverers(telling)[-1]
    assert standing.process is not None
    os.killpg(standing.process.pid, signal.SIGSTOP)
    try:
        there.gate.set()
        telling.general_worker("-c", "2")
        # As if half a minute had gone by; its leases are over.
        telling.db.execute("UPDATE shop.delivery_streams SET due_at = clock_timestamp() - interval '31 s'")
        assert holders(telling) > 0
        begin(telling)
        assert all_told(telling, there, 20)
    finally:
        os.killpg(standing.process.pid, signal.SIGCONT)
    told = len(there.got)
    tell(telling, 5)
    assert wait_until(lambda: len(there.got) >= told + 5 and waiting(telling.shop) == 0, 60, 0.05)
    kill(standing)


def test_deliveries_go_on_when_redis_comes_back(there: Receiver, tmp_path: Path, servers: Running) -> None:
    """Without Redis no task starts; what happens meanwhile waits in PostgreSQL."""
    valkey = EmbeddedValkey(tmp_path / "valkey home")
    with or_skipped():
        valkey.start()
    name, database_url = own_database(servers)
    (tmp_path / "mill").mkdir()
    broker = f"{valkey.url.removesuffix('/0')}/1"
    mill = Mill(database_url, valkey.url, broker, tmp_path / "mill")
    mill.env |= {"ORDERMILL_WEBHOOKS_ALLOW": LOCAL, "ORDERMILL_WEBHOOKS_SECONDS": "1"}
    mill.env |= {"ORDERMILL_DISPATCH_SECONDS": "1", "ORDERMILL_DRAIN_SECONDS": "1"}
    try:
        worker = mill.general_worker("-c", "3")
        mill.beat()
        add(mill.shop, "a", there.url, timeout_ms=500)
        tell(mill, 5)
        assert all_told(mill, there, 5)
        valkey.stop()
        assert wait_until(lambda: "Connection" in worker.log.read_text(), 30)
        tell(mill, 10)
        valkey.start()
        assert all_told(mill, there, 15), mill.logs()
        assert mill.shop.verify() == []
    finally:
        mill.stop()
        drop_database(servers, name)
        valkey.stop()
        valkey.erase()


def test_sessions_cut_and_redis_emptied_again_and_again_lose_nothing(telling: Mill, there: Receiver) -> None:
    telling.beat()
    cut = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'ordermill' AND datname = current_database()"""
    with connect(telling.database_url) as admin:
        for number in range(4):
            told = len(there.got)  # before: all may have come when the last is told
            tell(telling, 10)
            assert wait_until(lambda least=told: len(there.got) > least, 60, 0.01)
            admin.execute(cut)
            if number % 2:
                telling.broker.flushdb()

    assert all_told(telling, there, 40)
