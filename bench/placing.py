"""What placing costs PostgreSQL, by the way an order comes: CPU of the one backend, and rate, as the shop fills.

    .venv/bin/python bench/placing.py             # all ways, 3 lines an order
    .venv/bin/python bench/placing.py --unpinned  # batches, with and without pinned plans, on tables never analysed

Uses DATABASE_URL (a scratch database is made there and dropped) or the embedded server. Linux: reads /proc.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy import make_url

from bench.orders import CATALOG, Orders
from workers.database import connect
from workers.embedded import Servers, erase
from workers.migrate import migrate


class Bench:
    """One connection to one fresh shop."""

    def __init__(self, url: str) -> None:
        migrate(url)
        self.db = connect(url)
        self.db.execute(CATALOG.encode())
        self.stat = Path(f"/proc/{self.db.info.backend_pid}/stat")
        self.orders = Orders()

    def cpu(self) -> float:
        """CPU seconds of the backend so far."""
        fields = self.stat.read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def measure(self, name: str, orders: int, work: Callable[[], None]) -> None:
        """Prints the rate and the CPU of one way."""
        began, before = time.monotonic(), self.cpu()
        work()
        seconds, cpu = time.monotonic() - began, self.cpu() - before
        print(f"{name:<28} {orders / seconds:8.0f} orders/s {1000 * cpu / orders:8.2f} ms CPU an order", flush=True)

    def place_each(self, orders: int) -> None:
        """One call an order."""
        for _ in range(orders):
            self.db.execute("SELECT api.place_order(%s)", [Jsonb(self.orders.typed())])

    def place_batches(self, orders: int, size: int) -> None:
        """One call a batch."""
        for _ in range(orders // size):
            self.db.execute("SELECT api.place_orders(%s)", [Jsonb([self.orders.typed() for _ in range(size)])])

    def submit_each(self, orders: int) -> None:
        """The SQL door, one call an order."""
        for _ in range(orders):
            self.db.execute("SELECT api.submit_order(%s)", [json.dumps(self.orders.request())])

    def submit(self, orders: int, size: int) -> None:
        """The SQL door."""
        for _ in range(orders // size):
            self.db.execute(
                "SELECT api.submit_orders(%s::text[])", [[json.dumps(self.orders.request()) for _ in range(size)]]
            )

    def drain(self, size: int = 50) -> None:
        """What the drain does, without its pauses."""
        floor = 0
        while claim := self.db.execute("SELECT * FROM api.claim_orders(1, %s, 60, %s)", [size, floor]).fetchone():
            floor = claim[3]
            self.db.execute("SELECT api.place_claim(%s)", [claim[0]])

    def unpin(self) -> None:
        """Takes the pinned plans away, to see what they are for."""
        for (statement,) in self.db.execute(
            "SELECT format('ALTER FUNCTION %s RESET enable_seqscan', oid::regprocedure) FROM pg_proc "
            "WHERE 'enable_seqscan=off' = ANY (proconfig)"
        ).fetchall():
            self.db.execute(statement)


@contextmanager
def fresh(server: str, name: str) -> Iterator[Bench]:
    """A bench on a database of its own, dropped afterwards."""
    with connect(server) as admin:
        admin.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
        bench = Bench(make_url(server).set(database=name).render_as_string(hide_password=False))
        try:
            yield bench
        finally:
            bench.db.close()
            admin.execute(psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(psycopg.sql.Identifier(name)))


@contextmanager
def erased(home: Path) -> Iterator[None]:
    """Afterwards nothing of this home is left; as root a part of it lies elsewhere."""
    try:
        yield
    finally:
        erase(home)


def main() -> None:
    """Runs what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unpinned", action="store_true", help="compare plans pinned and not")
    compare = parser.parse_args().unpinned
    given = os.environ.get("DATABASE_URL")
    with (
        tempfile.TemporaryDirectory() as home,
        erased(Path(home)),
        Servers(Path(home), database_url=given, redis_url="redis://unused") as servers,
    ):
        if compare:
            for pinned in (True, False):
                with fresh(servers.database_url, f"ordermill_bench_{os.getpid()}") as bench:
                    bench.db.execute("ALTER TABLE shop.request_keys SET (autovacuum_enabled = false)")
                    if not pinned:
                        bench.unpin()
                    for step in range(6):
                        name = f"{'pinned' if pinned else 'free'}, after {step * 3000:,}"
                        bench.measure(name, 3000, lambda b=bench: b.place_batches(3000, 50))  # type: ignore[misc]
            return
        with fresh(servers.database_url, f"ordermill_bench_{os.getpid()}") as bench:
            bench.place_each(50)
            bench.measure("place_order", 1000, lambda: bench.place_each(1000))
            bench.measure("place_orders, 10 a call", 3000, lambda: bench.place_batches(3000, 10))
            bench.measure("place_orders, 50 a call", 6000, lambda: bench.place_batches(6000, 50))
            bench.measure("submit_orders, 50 a call", 6000, lambda: bench.submit(6000, 50))
            bench.measure("claim and place, 50 a claim", 6000, bench.drain)


if __name__ == "__main__":
    main()
