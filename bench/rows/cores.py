"""The curve of both doors by workers and by pools, on one core and on two: servers, workers and producer alike.

One block a door and number of workers, in which short runs of each kind follow one another in rounds. The shop has
four pools throughout; a run orders from one, two or all of them. A drain takes all pools that are free; a second one
helps while whole batches wait.
"""

import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.block import Block as Shop
from bench.block import at_work
from bench.celery_sides import OURS
from bench.harness import Block, Run, console
from bench.measuring import summary
from bench.mixes import THREE_LINES, Connection, Mix
from bench.orders import VARIANTS
from bench.produced import SQL_DOOR
from bench.rows.registry import row
from bench.sides import Side

POOLS = (1, 2, 4)
WORKERS = (1, 2)
CORES = (1, 2)
ORDERS, ROUNDS = 800, 3
MORE_POOLS = f"""
    INSERT INTO shop.pools (code, name, currency) SELECT 'P' || n, 'P' || n, 'USD' FROM generate_series(2, 4) AS n;
    INSERT INTO shop.locations (code, name, pool_id, priority)
    SELECT p.code || '-1', p.code, p.id, 1 FROM shop.pools AS p WHERE p.code <> 'P';
    SELECT shop.load_stock(array_agg(v), array_agg(l.id), array_agg(1000000::bigint), array_agg(0::bigint),
        array_agg(5::bigint)) FROM generate_series(1, {VARIANTS}) AS v, shop.locations AS l WHERE l.code LIKE '%-1'"""  # noqa: S608


def _load(db: Connection) -> None:
    THREE_LINES.load(db)
    db.execute(MORE_POOLS.encode())


FOUR_POOLS = Mix("3 lines, 4 pools", _load, THREE_LINES.requests)


@row("cores")
def cores(run: Run) -> None:
    """Orders a second of each door, by cores, workers and pools."""
    most = sorted(os.sched_getaffinity(0))
    if len(most) < max(CORES):
        raise RuntimeError(f"the curve needs {max(CORES)} cores; this process may use {len(most)}")
    points: list[Block] = []
    for workers in WORKERS[:1] if run.quick else WORKERS:
        doors = {"celery": OURS.tuned(workers=workers), "sql": SQL_DOOR.tuned(per_call=100, drains=workers)}
        for door, side in doors.items():
            points += [{"door": door, "workers": workers} | point for point in curve(run, side, most)]
    best = max(points, key=lambda point: float(point["rate"]))
    run.save({"id": "cores", "unit": "orders/s", "ours": best["rate"], "points": points, "orders": run.orders(ORDERS)})


def curve(run: Run, side: Side, most: list[int]) -> list[Block]:
    """The points of one door and number of workers: medians over the rounds."""
    kinds = list(itertools.product(CORES, POOLS))
    done: dict[tuple[int, int], list[Block]] = {kind: [] for kind in kinds}
    with at_work(run.rig, side, FOUR_POOLS) as shop:
        for number in range(1 if run.quick else ROUNDS):
            for count, pools in kinds if number % 2 == 0 else reversed(kinds):
                orders = from_pools(FOUR_POOLS.requests(run.orders(ORDERS), f"c{number}-{count}-{pools}-"), pools)
                with console.status(f"cores: {side.name} ({side.setting})"), pinned(shop, most[:count], most):
                    done[count, pools].append(shop.run(orders))
        side.check(shop)
    points = [
        {"cores": count, "pools": pools}
        | {"rate": summary(each["rate"] for each in runs)["median"]}
        | {"cpu_ms": summary(each["cpu_ms"]["total"] for each in runs)["median"]}
        for (count, pools), runs in done.items()
    ]
    for point in points:
        console.print(
            f"cores: {side.name} ({side.setting}), {point['cores']} cores, {point['pools']} pools: "
            f"{point['cpu_ms']:.3f} ms CPU an order, {point['rate']:,.0f}/s"
        )
    return points


def from_pools(orders: list[dict[str, Any]], pools: int) -> list[dict[str, Any]]:
    """These orders, in turn from each of so many pools."""
    codes = itertools.cycle(["P", "P2", "P3", "P4"][:pools])
    return [order | {"pool": code} for order, code in zip(orders, codes, strict=False)]


@contextmanager
def pinned(shop: Shop, cores: Iterable[int], back: Iterable[int]) -> Iterator[None]:
    """All that is at work in this shop, this process too, runs on these cores alone; afterwards on those of `back`."""
    roots = [os.getpid(), *itertools.chain(*shop.rig.server_pids().values())]
    confine(roots, cores)
    try:
        yield
    finally:
        confine(roots, back)


def confine(roots: Iterable[int], cores: Iterable[int]) -> None:
    """Has each thread of these processes and their descendants run on these cores, and what they start later too."""
    cores = set(cores)
    for pid in roots:
        for thread in Path(f"/proc/{pid}/task").glob("[0-9]*"):
            try:
                os.sched_setaffinity(int(thread.name), cores)
                confine([int(child) for child in (thread / "children").read_text().split()], cores)
            except OSError:
                continue  # it ended just now
