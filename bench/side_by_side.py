"""How much connections at work side by side add, with the SQL of two revisions: orders a second by one, two, three.

    .venv/bin/python -m bench.side_by_side HEAD~ .     # a revision, or a folder of SQL

Each revision has a database of its own on one server, both filled alike; the rounds take turns. Printed: the median.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import make_url

from bench.ablate import sql_of
from bench.placing import Bench, erased, fresh
from workers import migrate
from workers.database import connect
from workers.embedded import Servers

ORDERS, SIZE, ROUNDS, CONNECTIONS = 6_000, 100, 3, (1, 2, 3)


def at_once(works: list[Callable[[], None]]) -> float:
    """Seconds until all have ended."""
    began = time.monotonic()
    with ThreadPoolExecutor(len(works)) as pool:
        for done in [pool.submit(work) for work in works]:
            done.result()
    return time.monotonic() - began


def place(url: str, batches: list[str]) -> None:
    """A bare loop of `place_orders`; an error ends the bench."""
    with connect(url) as db:
        for batch in batches:
            db.execute("SELECT api.place_orders(%s)", [batch]).fetchall()


def drain(url: str) -> None:
    """A bare loop of claiming and placing, until nothing waits."""
    floor = 0
    with connect(url) as db:
        while claim := db.execute("SELECT * FROM api.claim_orders(1, %s, 60, %s)", [SIZE, floor]).fetchone():
            floor = claim[3]
            db.execute("SELECT api.place_claim(%s)", [claim[0]]).fetchall()


def rate(bench: Bench, url: str, way: str, connections: int) -> float:
    """Orders a second of so many connections, after a checkpoint."""
    if way == "drain":
        bench.submit(ORDERS, SIZE)
        works: list[Callable[[], None]] = [lambda: drain(url)] * connections
    else:
        batches = [json.dumps([bench.orders.typed() for _ in range(SIZE)]) for _ in range(ORDERS // SIZE)]
        works = [lambda at=at: place(url, batches[at::connections]) for at in range(connections)]  # type: ignore[misc]
    bench.db.execute("CHECKPOINT")
    found = ORDERS / at_once(works)
    if bench.db.execute("SELECT count(*) FROM shop.order_queue").fetchone() != (0,):
        raise RuntimeError("orders are left")
    return found


def main() -> None:
    """Compares what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revisions", nargs="+")
    asked = parser.parse_args().revisions
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(erased(home / "servers"))
        servers = stack.enter_context(Servers(home / "servers", database_url=None, redis_url="redis://unused"))
        sides = []
        for number, revision in enumerate(asked):
            migrate.SQL = sql_of(revision, home / f"sql{number}")
            name = f"side_{number}"
            url = make_url(servers.database_url).set(database=name).render_as_string(hide_password=False)
            sides.append((revision, stack.enter_context(fresh(servers.database_url, name)), url))
        ways = [(way, connections) for way in ("place_orders", "drain") for connections in CONNECTIONS]
        found: dict[tuple[str, str, int], list[float]] = {}
        for _ in range(ROUNDS):
            for revision, bench, url in sides:
                for way, connections in ways:
                    found.setdefault((revision, way, connections), []).append(rate(bench, url, way, connections))
        print(f"orders/s, {SIZE} a call, the median of {ROUNDS} rounds: {', '.join(asked)}")
        for way, connections in ways:
            medians = [statistics.median(found[revision, way, connections]) for revision in asked]
            print(f"{way:<14}x{connections}" + "".join(f"{each:9.0f}" for each in medians), flush=True)


if __name__ == "__main__":
    main()
