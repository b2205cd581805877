"""What is broken: PostgreSQL and Valkey of its own, durable, orders workers, a general worker, beat, and the load.

The product's own settings hold unless a fault says otherwise. A piece is a function of the rig that is called when the
servers run and before anything else does: it may set `seen_database_url` and `seen_redis_url`, the addresses that
workers and load are given, add to `env`, keep what it made in `parts` and register its end with `stack`.
"""

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import redis

from tests.faults.storm.journal import Journal, Note, read_all
from tests.faults.storm.plan import DOORS, FEW, LOCATION, PLENTY, SCARCE, SKUS
from tests.noted import add_noted
from tests.nursery import Nursery, Seedling
from tests.shop import Shop
from tests.workers_fixtures import IMPATIENT, QUIET, Mill, end, kill, ready
from workers.app import app
from workers.child import Child, wait_until
from workers.database import connect
from workers.embedded import EmbeddedPostgres, EmbeddedValkey
from workers.migrate import migrate
from workers.processes import GENERAL_PROCESSES, GENERAL_QUEUES

ROOT = Path(__file__).parents[3]
ORDERS_WORKERS = 2
MESSAGES = ("orders", "orders.unacked", "inventory", "unacked")
Piece = Callable[["Rig"], None]
# In one look: what leaves the inbox is behind then, and a consumer may write another event.
LEFT = """SELECT (SELECT count(*) FROM shop.order_queue) AS order_queue, (SELECT count(*) FROM shop.claims) AS claims,
        (SELECT count(*) FROM shop.events_inbox) AS events_inbox,
        (SELECT count(*) FROM shop.order_allocations WHERE state = 'held') AS holds,
        (SELECT coalesce(sum(behind), 0)::bigint FROM api.event_consumers) AS "events behind"
"""


class Rig:
    """For the length of a `with` block; nothing of it is left afterwards.

    `orders_app` is what the orders workers run, and `general_app` the general worker, with a beat; None: there is none.
    """

    def __init__(
        self,
        home: Path,
        *,
        settings: Mapping[str, str] | None = None,
        pieces: tuple[Piece, ...] = (),
        orders_app: str = "workers.app",
        general_app: str | None = "workers.app",
    ) -> None:
        self.home, self.settings, self.pieces = home.absolute(), dict(settings or {}), pieces
        self.orders_app, self.general_app = orders_app, general_app
        self.points = self.home  # where `points.arm` is told a point
        self.stack = contextlib.ExitStack()
        self.parts: dict[str, Any] = {}
        self.postgres = EmbeddedPostgres(self.home, fresh=True)
        self.valkey = EmbeddedValkey(self.home, fresh=True)
        self.env: dict[str, str] = {}
        self.orders: list[Seedling] = []
        self.general: list[Child] = []
        self.beats: list[Child] = []
        self._schedules: dict[int, Child] = {}
        self.loads: dict[str, Child] = {}
        self._load_arguments: dict[str, tuple[str, ...]] = {}
        self.journals = self.home / "journals"
        self.seed = ""  # of the round

    # From start to end

    def __enter__(self) -> "Rig":
        try:
            self._start()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def _start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.journals.mkdir(exist_ok=True)
        for server in (self.postgres, self.valkey):
            self.stack.callback(server.erase)
            self.stack.callback(server.stop)
            server.start()
            server.fresh = False  # a fault may start it again
        migrate(self.database_url)
        self.seen_database_url, self.seen_redis_url = self.database_url, self.redis_url
        for piece in self.pieces:
            piece(self)
        folder = self.home / "mill"
        folder.mkdir(exist_ok=True)
        self.mill = Mill(self.database_url, self.redis_url, self.redis_url, folder)
        self.stack.callback(self.mill.stop)
        self._open_shop()
        seen = {"DATABASE_URL": self.seen_database_url, "REDIS_URL": self.seen_redis_url}
        seen |= {"CELERY_BROKER_URL": self.seen_redis_url, "ORDERMILL_CACHE_URL": ""}
        self.mill.env = {name: value for name, value in self.mill.env.items() if name not in IMPATIENT}
        # The checkout, for applications that are not installed, such as the load and the peers.
        self.mill.env |= seen | {"PYTHONPATH": str(ROOT), "STORM_POINTS": str(self.points)} | self.settings | self.env
        self.nursery = self.stack.enter_context(Nursery(self.mill, self.orders_app))
        self.mend()

    def _open_shop(self) -> None:
        for sku in SKUS:
            self.mill.shop.stock(sku, LOCATION, FEW if sku in SCARCE else PLENTY)
        add_noted(self.mill.shop)
        self.mill.shop.db.execute("ALTER TABLE shop.noted ADD COLUMN seq bigint GENERATED ALWAYS AS IDENTITY")

    # Addresses and looking: always the servers' own, whatever lies between

    @property
    def database_url(self) -> str:
        """The owner's login."""
        return self.postgres.url

    @property
    def redis_url(self) -> str:
        """Where Valkey itself answers."""
        return self.valkey.url

    @contextlib.contextmanager
    def looking(self) -> Iterator[Shop]:
        """A new session of the owner of the tables."""
        with connect(self.database_url) as session:
            session.execute("SET ROLE ordermill_owner")
            yield Shop(session)

    def look_again(self) -> None:
        """Gives the mill its own session anew: the fault before may have ended it."""
        self.mill.db.close()
        self.mill.db = self.mill.shop.db = connect(self.database_url)
        self.mill.db.execute("SET ROLE ordermill_owner")

    @contextlib.contextmanager
    def admin(self) -> Iterator[psycopg.Connection[Any]]:
        """A new session of the administrator."""
        with connect(self.database_url) as session:
            yield session

    @contextlib.contextmanager
    def broker(self) -> Iterator[redis.Redis]:
        """A new connection to Valkey itself."""
        with redis.Redis.from_url(self.redis_url, socket_timeout=5) as client:
            yield client

    # Processes

    def mend(self) -> None:
        """What a supervisor does: as many workers and beats as there should be, all ready."""
        self.orders = [worker for worker in self.orders if worker.alive()]
        new: list[Seedling] = [self.nursery.begin() for _ in range(ORDERS_WORKERS - len(self.orders))]
        if self.general_app:
            self.general = [child for child in self.general if child.alive()] or [self.begin_general()]
            self.beats = [child for child in self.beats if child.alive()] or [self.begin_beat()]
        for worker in new:
            worker.ready()
        self.orders += new
        self.wait_ready()

    def wait_ready(self) -> None:
        """Waits for general workers and beats that were begun."""
        for child in self.general:
            ready(child)
        for child in self.beats:
            ready(child, "beat: Starting")

    def begin_general(self, app: str | None = None) -> Child:
        """Another worker of all other queues; it is not ready yet."""
        queues, node = ",".join(GENERAL_QUEUES), f"general-{secrets.token_hex(3)}@test"
        arguments = ("worker", "-Q", queues, "-n", node, *QUIET, "-c", str(GENERAL_PROCESSES))
        return self.mill.start("general", *arguments, app=app or self.general_app or "workers.app")

    def begin_beat(self, **env: str) -> Child:
        """Another beat, which knows what one before it did when; it is not ready yet."""
        taken = {number for number, child in self._schedules.items() if child.alive()}
        number = next(each for each in range(1, len(taken) + 2) if each not in taken)
        schedule = self.mill.folder / f"beat-{number}"
        child = self.mill.start("beat", "beat", "-s", str(schedule), "--pidfile=", "-l", "INFO", **env)
        self._schedules[number] = child
        return child

    def replace(self, worker: Seedling) -> None:
        """Kills an orders worker, while the one that takes its place is already on its way."""
        new = self.nursery.begin()
        worker.kill()
        self.orders = [each for each in self.orders if each is not worker] + [new.ready()]

    def kill(self, child: Child) -> None:
        """SIGKILL to a process of Celery's and its forks."""
        kill(child)

    def end(self, child: Child) -> int:
        """A warm stop."""
        return end(child)

    def died(self) -> list[str]:
        """The names of workers and beats that are gone though nobody killed them; call it before `mend`."""
        children = [child.name for child in (*self.general, *self.beats) if not child.alive()]
        return children + [worker.log.stem for worker in self.orders if not worker.alive()]

    # The load

    def start_load(self, seed: str, rate: float = 200.0, doors: tuple[str, ...] = DOORS, *more: str) -> float:
        """Starts an application a door; gives when the plan began."""
        began = time.time() + 1.0
        for door in doors:
            journal = self.journals / f"{seed.replace(':', '-')}-{door}.jsonl"
            only = ("--only", "all" if len(doors) > 1 else "place")
            self._load_arguments[door] = (
                *("--door", door, "--seed", seed, "--journal", str(journal), "--began", str(began)),
                *("--rate", str(rate), *only, *more),
            )
            self.begin_load(door)
        for child in self.loads.values():
            ready(child, "load: ready.")
        return began

    def begin_load(self, door: str) -> Child:
        """Starts the application of a door, anew where it ran before: it goes on from its journal."""
        module = "tests.faults.storm.load"
        self.loads[door] = self.mill.start_module(f"load-{door}", module, module, *self._load_arguments[door])
        return self.loads[door]

    def stop_load(self, seconds: float = 90.0) -> dict[str, int]:
        """No new intents; waits until all is decided, and gives the exit codes: 0, or 3 where something is not."""
        codes = {}
        for child in self.loads.values():
            child.ask(signal.SIGTERM)
        for door, child in self.loads.items():
            assert child.process is not None
            codes[door] = child.process.wait(seconds)
        self.loads.clear()
        return codes

    def journal(self, name: str) -> Journal:
        """A journal beside those of the load, for what a fault orders by itself."""
        return Journal(self.journals / f"{self.seed.replace(':', '-')}-{name}.jsonl")

    def notes(self, seed: str) -> list[Note]:
        """What the load of this seed has noted until now."""
        return read_all(self.journals.glob(f"{seed.replace(':', '-')}-*.jsonl"))

    # The end of a round

    def waiting(self) -> dict[str, int]:
        """What is left where nothing should be: in Redis, in the queue behind the SQL door, of holds and events."""
        with self.broker() as client, self.looking() as shop:
            kinds = {name: client.type(name) for name in MESSAGES}
            found = {
                name: int(client.hlen(name) if kind == b"hash" else client.llen(name))
                for name, kind in kinds.items()
                if kind != b"none"
            }
            if not any(found.values()):
                found["messages on their way"] = client.exists(*MESSAGES)  # one look: what was here may now be there
            if self.general_app:
                found |= shop.maps(LEFT)[0]
        return {name: count for name, count in found.items() if count}

    def at_rest(self, seconds: float = 60.0) -> dict[str, int]:
        """Waits until nothing is left, and gives what is.

        A job of beat whose acknowledgement was lost with its connection has longer: until its message comes again.
        """
        found: dict[str, int] = {}

        def empty() -> bool:
            nonlocal found
            try:
                found = self.waiting()
            except (psycopg.Error, redis.RedisError) as error:
                found = {repr(error): 1}
            return not found

        wait_until(empty, seconds, 0.2)
        if self.general_app and set(found) == {"unacked"}:
            wait_until(empty, app.conf.broker_transport_options["visibility_timeout"] + 10, 0.2)
        return found

    def logs(self) -> str:
        """The ends of all logs, for where something went wrong."""
        parts = [self.mill.logs()]
        for worker in self.nursery.workers[-4:]:
            parts.append(
                f"==== {worker.log.stem}\n" + "\n".join(worker.log.read_text(errors="replace").splitlines()[-40:])
            )
        return "\n".join(parts)


def freeze(child: Child) -> None:
    """SIGSTOP to a process and its forks."""
    assert child.process is not None
    os.killpg(child.process.pid, signal.SIGSTOP)


def thaw(child: Child) -> None:
    """SIGCONT to a process and its forks."""
    assert child.process is not None
    os.killpg(child.process.pid, signal.SIGCONT)
