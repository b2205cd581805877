"""The door behind Redis Sentinel: a real sentinel over a master and its replica, from the wheel."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery

from tests.door import at_rest
from tests.servers import Running, drop_database, or_skipped
from tests.shop import order
from tests.workers_fixtures import Mill, end, kill, own_database, watched
from workers.child import Child, wait_until
from workers.embedded_valkey import free_port, valkey_binary
from workers.status import collect

MASTER = "orders-master"
PASSWORD = "only-for-this-test"


class Sentinels:
    """A master, its replica, and one sentinel that makes the one the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in ("master", "replica", "sentinel")}
        self.children: dict[str, Child] = {}
        self.options = {"master_name": MASTER}

    @property
    def url(self) -> str:
        return f"sentinel://:{PASSWORD}@127.0.0.1:{self.ports['sentinel']}/0"

    def url_of(self, name: str) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.ports[name]}/0"

    def start(self) -> None:
        secret = (f"requirepass {PASSWORD}", f"masterauth {PASSWORD}", 'save ""', "repl-diskless-sync-delay 0")
        self._start("master", *secret)
        self._start("replica", *secret, f"replicaof 127.0.0.1 {self.ports['master']}")
        assert self.replicated()  # a sentinel looks for replicas at its start, and then each ten seconds
        self._start(
            "sentinel",
            f"sentinel monitor {MASTER} 127.0.0.1 {self.ports['master']} 1",
            f"sentinel auth-pass {MASTER} {PASSWORD}",
            f"sentinel down-after-milliseconds {MASTER} 60000",
            f"sentinel failover-timeout {MASTER} 3000",
        )
        with self._client("sentinel") as sentinel:
            assert wait_until(lambda: len(sentinel.sentinel_slaves(MASTER)) == 1, 30)

    def _start(self, name: str, *lines: str) -> None:
        home = self.folder / name
        home.mkdir()
        conf = home / "valkey.conf"
        conf.write_text("\n".join((f"port {self.ports[name]}", "bind 127.0.0.1", f"dir {home}", *lines)) + "\n")
        command = [str(valkey_binary()), str(conf), *(["--sentinel"] if name == "sentinel" else [])]
        child = Child(
            name=name,
            command=command,
            mark=str(conf),
            log=home / "log",
            pid_file=home / "pid",
            env={"LC_ALL": "C"},
            cwd=home,
        )
        child.start()
        self.children[name] = child
        assert wait_until(lambda: not child.alive() or self._answers(name), 30)
        child.check()

    def _client(self, name: str) -> redis.Redis:
        password = None if name == "sentinel" else PASSWORD
        return redis.Redis(port=self.ports[name], password=password, retry=None, socket_timeout=5)

    def _answers(self, name: str) -> bool:
        try:
            with self._client(name) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def replicated(self) -> bool:
        """Whether the replica has what was written to the master until now."""
        with self._client("master") as client:
            client.set("a-write", "to wait for")
            return wait_until(lambda: client.wait(1, 100) == 1, 30)

    def lose_master(self) -> None:
        """Kills the master, and waits until the replica is in its place; until then no silence of it is a failover."""
        kill(self.children["master"])
        with self._client("sentinel") as sentinel:
            sentinel.sentinel_set(MASTER, "down-after-milliseconds", 500)

        def promoted() -> bool:
            try:
                with self._client("replica") as client:
                    return bool(client.role()[0] == b"master")
            except redis.ConnectionError:  # it drops its clients as it becomes the master
                return False

        assert wait_until(promoted, 60)

    def stop(self) -> None:
        for child in self.children.values():
            child.stop()


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[Sentinels]:
    (tmp_path / "sentinels").mkdir()
    made = Sentinels(tmp_path / "sentinels")
    with or_skipped():
        valkey_binary()
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def mill_on_sentinels(
    sentinels: Sentinels, servers: Running, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Mill]:
    """A mill whose workers and client know only the sentinel."""
    name, database_url = own_database(servers)
    (tmp_path / "mill").mkdir()
    made = Mill(database_url, sentinels.url_of("master"), sentinels.url_of("master"), tmp_path / "mill")
    made.client.close()
    made.client = Celery("a-shop", broker=sentinels.url, backend=sentinels.url, set_as_current=False)
    made.client.conf.update(
        broker_transport_options=sentinels.options, result_backend_transport_options=sentinels.options
    )
    made.env |= {
        "REDIS_URL": sentinels.url,
        "CELERY_BROKER_URL": sentinels.url,
        "ORDERMILL_SENTINEL_MASTER": MASTER,
    }
    try:
        yield from watched(made, request)
    finally:
        made.stop()
        drop_database(servers, name)


def test_orders_are_decided_before_and_after_the_master_is_lost(mill_on_sentinels: Mill, sentinels: Sentinels) -> None:
    mill = mill_on_sentinels
    mill.shop.stock("A", "E1", 100)
    worker = mill.orders_worker()
    before = [order(None, ("A", 1)) for _ in range(12)]
    results = [mill.send("orders.place", request, priority=place % 10) for place, request in enumerate(before)]
    assert [result.get(timeout=60)["status"] for result in results] == ["placed"] * 12
    assert at_rest(mill)
    state = collect(mill.database_url, sentinels.url, sentinels.url, MASTER)
    assert (state["errors"], state["queues"]["orders"]["waiting"]) == ([], 0)
    waiting = [order(None, ("A", 1)) for _ in range(20)]
    with mill.locked_stock("A"):  # some are in hand and some wait, all of them on the replica too, when it goes
        for place, request in enumerate(waiting):
            mill.send("orders.place", request, priority=place % 10, ignore_result=True)
        mill.wait_blocked()
        assert sentinels.replicated()
        sentinels.lose_master()
    mill.broker = redis.Redis.from_url(sentinels.url_of("replica"))

    assert mill.all_decided(waiting)
    assert mill.orders_by_key(before + waiting) == [1] * 32
    assert at_rest(mill)
    assert worker.alive()
    assert end(worker) == 0


def test_without_the_name_of_the_master_it_does_not_start_and_says_so(mill_on_sentinels: Mill) -> None:
    child = mill_on_sentinels.start("nameless", "worker", "-Q", "orders", "-P", "solo", ORDERMILL_SENTINEL_MASTER="")

    assert wait_until(lambda: not child.alive(), 60)
    assert [line for line in child.log.read_text().splitlines() if line] == [
        "ordermill: the settings cannot be used: ORDERMILL_SENTINEL_MASTER must name the master behind a"
        " sentinel:// address"
    ]
