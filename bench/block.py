"""One side at work for one block: a fresh copy of the shop, an emptied Redis, its processes, and what it cost.

CPU is read from /proc before the first order is handed over and after the last one is decided. A block after which the
shop does not verify, or in which an order was not decided, raises and so has no figure. Linux.
"""

import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.measuring import cpu_seconds, rss_mb
from bench.mixes import Mix
from bench.rig import Rig
from bench.sides import Side
from workers.child import Child, wait_until
from workers.database import connect

READY_SECONDS, DECIDED_SECONDS, WARM_UP = 60, 600, 200
ROOT = Path(__file__).parent.parent
OURS = ("DATABASE_URL", "REDIS_URL", "CELERY_", "ORDERMILL_", "FLOWER_", "PG")
# Not decided is what the answer of a used key does not say yet.
DECIDED = "SELECT count(*) FROM shop.request_keys WHERE answer IS NOT NULL"


class Block:
    """One side's processes on a fresh shop; `url` is its database and `broker` its Redis."""

    def __init__(self, rig: Rig, side: Side, mix: Mix, url: str) -> None:
        self.rig, self.side, self.mix, self.url = rig, side, mix, url
        self.broker = rig.servers.redis_url
        self.db = connect(url)
        self.children: dict[str, list[Child]] = {"worker": [], "producer": [], "events": []}
        self.held: dict[str, Any] = {}  # what the side keeps for this block, such as its client
        self.sent = 0

    # Processes

    def child(self, role: str, name: str, mark: str, *module: str, env: dict[str, str] | None = None) -> Child:
        """Starts `python -m …` in the checkout as a worker, producer or consumer of events; `mark` is on its command
        line and nobody else's. The environment names this block's servers."""
        return self.program(role, name, mark, [sys.executable, "-m", *module], env)

    def program(
        self, role: str, name: str, mark: str, command: Sequence[str], env: dict[str, str] | None = None
    ) -> Child:
        """The same for any program."""
        unique = f"bench-{name}-{secrets.token_hex(3)}"
        log, pid_file = self.rig.home / "logs" / f"{unique}.log", self.rig.home / "run" / f"{unique}.pid"
        child = Child(unique, list(command), mark, log, pid_file, self.environment() | (env or {}), ROOT)
        child.start()
        self.children[role].append(child)
        return child

    def environment(self) -> dict[str, str]:
        """This process's environment without what is set of Ordermill's, and with the addresses of this block."""
        return {key: value for key, value in os.environ.items() if not key.startswith(OURS)} | {
            "DATABASE_URL": self.url,
            "REDIS_URL": self.broker,
            "CELERY_BROKER_URL": self.broker,
            "ORDERMILL_HOME": str(self.rig.home),
        }

    def wait_ready(self, text: str) -> None:
        """Waits until each worker has this in its log; raises RuntimeError with the log's last lines."""
        if not wait_until(lambda: self._all_say(text), READY_SECONDS, 0.05):
            last = "\n".join(self.children["worker"][0].last_lines(20))
            raise RuntimeError(f"{self.side.name} is not ready:\n{last}")

    def _all_say(self, text: str) -> bool:
        self.check_children()
        return all(text in child.log.read_text(errors="replace") for child in self.children["worker"])

    def check_children(self) -> None:
        """Raises ServiceError when a process has died."""
        for each in self.children.values():
            for child in each:
                child.check()

    def pids(self, role: str) -> list[int]:
        """The processes of this role."""
        return [child.process.pid for child in self.children[role] if child.process]

    def rss(self) -> float:
        """The resident memory of the largest worker, in MiB."""
        return max(rss_mb(pid) for pid in self.pids("worker"))

    def close(self) -> None:
        """Ends what was started here."""
        self.side.stop(self)
        listed = [child for each in self.children.values() for child in each]
        for child in listed:
            child.ask()
        for child in listed:
            child.stop(5)
        self.db.close()

    # Orders

    def decided(self) -> int:
        """How many orders are decided."""
        row = self.db.execute(DECIDED).fetchone()
        return int(row[0]) if row else 0

    def wait_decided(self) -> float:
        """Waits until as many orders are decided as were sent; gives that moment, to about 10 ms.

        Each question costs the database a count: once orders are being decided, it asks after half of the time that the
        others will take.
        """
        began, deadline = time.monotonic(), time.monotonic() + DECIDED_SECONDS
        first = self.decided()
        while (done := self.decided()) < self.sent:
            now = time.monotonic()
            if now > deadline:
                raise RuntimeError(f"{self.side.name}: {done} of {self.sent} orders decided in {DECIDED_SECONDS} s")
            self.check_children()
            left = (self.sent - done) * (now - began) / (done - first) if done > first else 0.0
            time.sleep(min(0.5, max(0.01, left / 2)))
        return time.monotonic()

    @staticmethod
    def now() -> float:
        """The moment, as `wait` gives it."""
        return time.monotonic()

    def warm_up(self, orders: list[dict[str, Any]]) -> None:
        """Has these done before anything is measured."""
        self._hand_over(orders)
        self.side.wait(self, len(orders))

    def _hand_over(self, orders: list[dict[str, Any]]) -> None:
        self.sent += len(orders)
        self.side.submit(self, orders)

    def run(self, orders: list[dict[str, Any]]) -> dict[str, Any]:
        """Hands these over, waits until they are decided, and gives what it cost."""
        self.side.prepare(self, orders)
        roots = self.rig.server_pids() | {role: self.pids(role) for role in self.children}
        before, began, own = cpu_seconds(roots), time.monotonic(), own_cpu()
        self._hand_over(orders)
        own = own_cpu() - own
        seconds = self.side.wait(self, len(orders)) - began
        after = cpu_seconds(roots)
        cpu = {name: after[name] - before[name] for name in roots}
        cpu["producer"] += own
        return figures(cpu, seconds, len(orders))

    def check_shop(self) -> None:
        """Raises unless each order was decided and the shop verifies."""
        decided, found = self.decided(), self.db.execute("SELECT * FROM api.verify()").fetchall()
        if decided != self.sent or found:
            raise RuntimeError(f"{self.side.name}: {self.sent} orders sent, {decided} decided; verify: {found}")


def own_cpu() -> float:
    """CPU seconds of this process and of the children that it has waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def figures(cpu: dict[str, float], seconds: float, orders: int) -> dict[str, Any]:
    """Milliseconds of CPU an order by component, their total without the event consumer, and orders a second."""
    each = {name: round(1000 * spent / orders, 4) for name, spent in cpu.items()}
    watcher = each.pop("events")
    return {
        "cpu_ms": each | {"total": round(sum(each.values()), 4)},
        "event_consumer_cpu_ms": watcher,
        "rate": round(orders / seconds, 1),
        "seconds": round(seconds, 3),
        "orders": orders,
    }


@contextmanager
def at_work(rig: Rig, side: Side, mix: Mix) -> Iterator[Block]:
    """A warmed-up block of this side; afterwards nothing of it is left."""
    rig.redis.flushall()
    name = f"bench_{secrets.token_hex(4)}"
    url = rig.shop(name, mix)
    try:
        rig.admin.execute("CHECKPOINT")
        block = Block(rig, side, mix, url)
        try:
            side.start(block)
            block.warm_up(mix.requests(WARM_UP, "w"))
            yield block
        finally:
            block.close()
    finally:
        rig.drop(name)


class Disturbed(RuntimeError):
    """The machine stood still long enough to change what the side did: there is no figure, and no fault either."""


def measure(rig: Rig, side: Side, mix: Mix, orders: int) -> dict[str, Any]:
    """What one block of so many orders cost this side; raises RuntimeError where it has no figure."""
    with at_work(rig, side, mix) as block:
        measured = block.run(mix.requests(orders, "b"))
        side.check(block)
        return {"side": side.name, "setting": side.setting} | measured
