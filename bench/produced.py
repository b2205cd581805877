"""Sides whose orders come from a process of their own (`bench.producer`): the SQL door, and a worker's bare loop."""

import json
import secrets
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.block import Block
from bench.database_sides import DRAIN_SECONDS, start_drain
from bench.sides import Side
from workers.child import Child, wait_until

PRODUCER_SECONDS = 600


@dataclass
class Producer:
    """The process: ready to send, at rest until it is told to begin."""

    block: Block
    child: Child
    job: Path  # what it does; it writes beside it

    def begin(self) -> dict[str, Any]:
        """Has it send all it has; gives what `bench.producer.run` did."""
        if self.child.process:
            self.child.process.send_signal(signal.SIGUSR1)
        told = self.job.with_suffix(".done")
        self._wait(told)
        done: dict[str, Any] = json.loads(told.read_text())
        return done

    def _wait(self, file: Path) -> None:
        def there() -> bool:
            self.block.check_children()
            return file.exists()

        if not wait_until(there, PRODUCER_SECONDS, 0.01):
            raise RuntimeError(f"the producer has no {file.suffix} after {PRODUCER_SECONDS} s")

    @classmethod
    def of(
        cls, block: Block, door: str, orders: list[dict[str, Any]], per_call: int = 1, due: list[float] | None = None
    ) -> "Producer":
        """Starts one for these orders and waits until it could begin; `due`: the moment of each call, in seconds."""
        job = block.rig.home / f"job-{secrets.token_hex(4)}.json"
        job.write_text(json.dumps({"door": door, "per_call": per_call, "orders": orders, "due": due}))
        made = cls(block, block.child("producer", "producer", str(job), "bench.producer", str(job)), job)
        made._wait(job.with_suffix(".ready"))
        return made


@dataclass(frozen=True)
class Produced(Side):
    """So many orders a call, by a producer."""

    door: str = "sql"
    per_call: int = 1

    def prepare(self, block: Block, orders: list[dict[str, Any]]) -> None:
        """Starts the producer."""
        block.held["producer"] = Producer.of(block, self.door, orders, self.per_call)

    def submit(self, block: Block, orders: list[dict[str, Any]]) -> None:
        """Has it send."""
        if "producer" not in block.held:  # the warm-up
            self.prepare(block, orders)
        done = block.held.pop("producer").begin()
        block.held["done"] = done
        wanted = "placed" if self.door == "place" else "accepted"
        if done["statuses"] != {wanted: len(orders)}:
            raise RuntimeError(f"{self.name}: {len(orders)} orders sent, {done['statuses']}")


@dataclass(frozen=True)
class SqlSide(Produced):
    """The SQL door: so many orders a call, and so many drains, each a process of a general worker."""

    drains: int = 1
    seconds: float = DRAIN_SECONDS  # of each drain, until it hands over

    @property
    def setting(self) -> str:
        """Orders a call, drains."""
        return f"{self.per_call} a call, {self.drains} drain{'s' if self.drains > 1 else ''}"

    def start(self, block: Block) -> None:
        """Starts the worker and, in it, the drains, which go on by themselves."""
        start_drain(block, self.drains, self.seconds)


@dataclass(frozen=True)
class PlacingLoop(Produced):
    """A bare loop of `place_orders` on one connection: what placing costs, without a queue before it."""

    door: str = "place"
    per_call: int = 50

    @property
    def setting(self) -> str:
        """Orders a call."""
        return f"place_orders, {self.per_call} a call"

    def start(self, block: Block) -> None:
        """It has no worker."""

    def wait(self, block: Block, orders: int) -> float:
        """The moment in which the last call had returned."""
        return min(time.monotonic(), float(block.held["done"]["ended_monotonic"]))

    def check(self, block: Block) -> None:
        """Raises unless the shop verifies; that each order was placed is known from the answers."""
        if found := block.db.execute("SELECT * FROM api.verify()").fetchall():
            raise RuntimeError(f"{self.name}: verify: {found}")


SQL_DOOR = SqlSide("Ordermill, SQL door")
