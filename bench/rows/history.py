"""The row of a shop's past: does placing cost more with millions of orders stored?

A bare loop of `place_orders`, 50 a call on one connection: what would grow is in those tables and their indexes, and no
queue or worker is beside it. The large shop is kept for the whole row, and grows by what its blocks order; the small
one is a fresh copy each block, which verifies after it. The large one verifies at the end, as a whole.
"""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from bench.block import WARM_UP, measure
from bench.block import Block as Shop
from bench.harness import Block, Run, console, paired
from bench.history import load_past
from bench.mixes import THREE_LINES, Connection, Mix
from bench.produced import PlacingLoop
from bench.rows.registry import row
from workers.database import connect

LARGE, QUICK_LARGE, SMALL = 5_000_000, 50_000, 10_000
ORDERS = 6_000
LOOP = PlacingLoop("a loop of place_orders")


def _load_small(db: Connection) -> None:
    THREE_LINES.load(db)
    load_past(db, SMALL, lambda _: None)


SMALL_MIX = Mix(f"3 lines, {SMALL:,} stored", _load_small, THREE_LINES.requests)


@row("history_5m_vs_10k")
def history(run: Run) -> None:
    """Orders a second with a long past against a short one."""
    stored = run.history or (QUICK_LARGE if run.quick else LARGE)
    with large_shop(run, stored) as (url, loading):
        done = blocks(run, url, run.orders(ORDERS))
        with connect(url) as db, console.status("history_5m_vs_10k: verify"):
            began = time.monotonic()
            # It joins all that there is: with little memory it would sort on disk.
            db.execute("SET work_mem = '512MB'")
            if found := db.execute("SELECT * FROM api.verify()").fetchall():
                raise RuntimeError(f"the shop with {stored:,} orders: verify: {found}")
            verified = time.monotonic() - began
            size = db.execute("SELECT pg_database_size(current_database())").fetchone()
    about = {"stored": stored, "stored_peer": SMALL, "orders": run.orders(ORDERS), "mix": THREE_LINES.name}
    costs = {"load_s": round(loading), "verify_s": round(verified), "gib": round(size[0] / 2**30, 2) if size else None}
    run.save(paired(done) | about | costs | {"id": "history_5m_vs_10k", "unit": "orders/s"})


@contextmanager
def large_shop(run: Run, stored: int) -> Iterator[tuple[str, float]]:
    """The address of a shop with so many orders stored, and the seconds that loading took; dropped afterwards."""
    name, began = "bench_large", time.monotonic()
    url = run.rig.shop(name, THREE_LINES)
    try:
        columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
        with connect(url) as db, Progress(*columns, console=console) as progress:
            task = progress.add_task("loading orders", total=stored)
            load_past(db, stored, lambda done: progress.update(task, completed=done))
        yield url, time.monotonic() - began
    finally:
        run.rig.drop(name)


def blocks(run: Run, url: str, orders: int) -> list[Block]:
    """Interleaved blocks of both shops, A the large one, in the order in which they ran."""
    done, pairs = [], 1 if run.quick else run.pairs
    for number in range(pairs):
        for which in "AB" if number % 2 == 0 else "BA":
            label = f"history_5m_vs_10k {number + 1}/{pairs} {which}"
            with console.status(label):
                block = kept_block(run, url, orders) if which == "A" else measure(run.rig, LOOP, SMALL_MIX, orders)
            done.append({"which": which, "side": LOOP.name, "setting": LOOP.setting} | block)
            console.print(f"{label}: {block['cpu_ms']['total']:.3f} ms CPU an order, {block['rate']:,.0f}/s")
    return done


def kept_block(run: Run, url: str, orders: int) -> dict[str, Any]:
    """A block on the large shop, as `bench.block.measure` has it on a copy, with keys of its own."""
    prefix = secrets.token_hex(3)
    run.rig.admin.execute("CHECKPOINT")
    shop = Shop(run.rig, LOOP, THREE_LINES, url)
    try:
        shop.warm_up(THREE_LINES.requests(WARM_UP, f"w{prefix}-"))
        return shop.run(THREE_LINES.requests(orders, f"b{prefix}-"))
    finally:
        shop.close()
