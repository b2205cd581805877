"""One lever at a time: the CPU of the backend for the same orders with the SQL of two revisions, in A-B-B-A blocks.

    .venv/bin/python bench/ablate.py HEAD~ HEAD            # a revision, or a folder of SQL
    .venv/bin/python bench/ablate.py HEAD . --ways place_orders:50,drain:100 --pairs 12

Each side has a database of its own on one server, both filled alike. Printed: ms of CPU an order, and the median of the
pairs' ratios with the least and the most. An A-A run (the same revision twice) shows what the noise is. Linux.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from bench.placing import Bench, erased, fresh
from workers import migrate
from workers.embedded import Servers

Result = TypeVar("Result")
ROOT = Path(__file__).parent.parent
WAYS = (
    "place_order:1,place_orders:10,place_orders:50,place_orders:100,place_orders:500,"
    "submit_order:1,submit_orders:100,drain:50,drain:100"
)
ORDERS = 600  # a block; one call more where a call has more


def sql_of(revision: str, into: Path) -> Path:
    """The folder `sql` of a revision, or of a folder."""
    if Path(revision).is_dir():
        return Path(revision) / "sql"
    archive = subprocess.run(["git", "archive", revision, "sql"], cwd=ROOT, capture_output=True, check=True)
    into.mkdir()
    subprocess.run(["tar", "-x", "-C", str(into)], input=archive.stdout, check=True)
    return into / "sql"


class Side:
    """One revision's shop, and what its backend spends."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.clock = Path(f"/proc/{bench.db.info.backend_pid}/schedstat")

    def milliseconds(self, work: Callable[[], None]) -> float:
        """CPU of the backend during the work: of the scheduler's clock, which counts nanoseconds."""
        before = int(self.clock.read_text().split()[0])
        work()
        return (int(self.clock.read_text().split()[0]) - before) / 1e6

    def run(self, way: str, size: int, orders: int, meter: Callable[[Callable[[], None]], Result]) -> Result:
        """What the meter says of so many orders by one way; what the drain needs is queued outside of it."""
        bench = self.bench
        work: dict[str, Callable[[], None]] = {
            "place_order": lambda: bench.place_each(orders),
            "place_orders": lambda: bench.place_batches(orders, size),
            "submit_order": lambda: bench.submit_each(orders),
            "submit_orders": lambda: bench.submit(orders, size),
            "drain": lambda: bench.drain(size),
        }
        if way == "drain":
            bench.submit(orders, 100)
        found = meter(work[way])
        if way.startswith("submit"):
            bench.drain(100)
        return found

    def block(self, way: str, size: int, orders: int) -> float:
        """Milliseconds an order of one block."""
        return self.run(way, size, orders, self.milliseconds) / orders


def compare(before: Side, after: Side, way: str, size: int, pairs: int) -> dict[str, float | str]:
    """The row of one way, from `pairs` times A-B-B-A."""
    orders = max(ORDERS, 2 * size)
    for side in (before, after):
        side.block(way, size, size * 6)
    rows = []
    for _ in range(pairs):
        a, b, c, d = (side.block(way, size, orders) for side in (before, after, after, before))
        rows.append(((a + d) / 2, (b + c) / 2))
    ratios = [b / a for a, b in rows]
    return {
        "way": f"{way}, {size} a call",
        "before": round(statistics.median(a for a, _ in rows), 4),
        "after": round(statistics.median(b for _, b in rows), 4),
        "ratio": round(statistics.median(ratios), 3),
        "least": round(min(ratios), 3),
        "most": round(max(ratios), 3),
    }


def main() -> None:
    """Compares what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--ways", default=WAYS, help="routine:orders a call, with commas between them")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = []
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(erased(home / "servers"))
        given = os.environ.get("DATABASE_URL")
        servers = stack.enter_context(Servers(home / "servers", database_url=given, redis_url="redis://unused"))
        sides = []
        for number, revision in enumerate((asked.before, asked.after)):
            migrate.SQL = sql_of(revision, home / f"sql{number}")
            name = f"ordermill_bench_{os.getpid()}_{number}"
            sides.append(Side(stack.enter_context(fresh(servers.database_url, name))))
        print(f"CPU of the backend, ms an order: A {asked.before}, B {asked.after}, {asked.pairs} times A-B-B-A")
        print(f"{'':<26}{'A':>9}{'B':>9}{'B/A':>8}   from   to")
        for way in asked.ways.split(","):
            name, _, size = way.partition(":")
            row = compare(*sides, name, int(size), asked.pairs)
            rows.append(row)
            print("{way:<26}{before:9.4f}{after:9.4f}{ratio:8.3f}  {least:.3f} {most:.3f}".format(**row), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
