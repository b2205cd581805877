"""What an order for a sold-out sku costs: rejected by the full path, against refused at the door. CPU, from /proc.

    .venv/bin/python bench/sold_out.py                   # all rows, 5 pairs of interleaved blocks each
    .venv/bin/python bench/sold_out.py --pairs 3 --scale 0.25
    .venv/bin/python bench/sold_out.py --json results.json

`decide`: what a worker does with decoded orders, by how many come together: this process and PostgreSQL, all of its
processes. `celery`: a real worker with Redis, results and events too, 100 messages a fetch. `sql`: submitted and
drained in batches of 50, against `api.sold_out` asked before submitting, and nothing submitted.
Three lines an order, the first one of 20 skus that are sold out. Durable servers of this run's own. Linux.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.door_block import OURS, PLACE, Block, Rig, at_work
from bench.measuring import cpu_seconds, machine, summary, versions
from bench.orders import Orders
from bench.placing import erased
from workers.child import termination_raised
from workers.database import call, forget
from workers.settings import get_settings

HOT = 20
TYPED_NULLS = {"currency": None, "ordered_at": None, "ship_to": None}
TOGETHER = (100, 50, 10, 1)
PASS = {100: 12_000, 50: 12_000, 10: 8_000, 1: 1_600}  # orders of a block, by how many come together
REFUSING = OURS.tuned(name="refused", app="bench.refusing_app", ignore_result=True)
FULL = OURS.tuned(name="full path", ignore_result=True)
Costs = dict[str, float]
Row = dict[str, Any]
console = Console(stderr=True, highlight=False)


class HotOrders(Orders):
    """New orders that each need a sku that is sold out."""

    def typed(self) -> dict[str, Any]:
        """A new order as the placing routines take it."""
        order = super().typed()
        order["skus"][0] = f"S{self.random.randint(1, HOT)}"
        return order


def sell_out(db: Any) -> None:
    """Takes all units of the hot skus away, as somebody's orders would."""
    db.execute(
        """SELECT shop.apply_movements(array_agg(ROW(variant_id, location_id, 'available', NULL, 'adjustment',
               available, 'bench', NULL, NULL, NULL)::shop.stock_move))
           FROM shop.stock_levels WHERE variant_id <= %s""",
        [HOT],
    )


def total(lists: list[list[Any]]) -> int:
    """How many orders these are."""
    return sum(map(len, lists))


def each(costs: Costs, orders: int) -> Costs:
    """Microseconds an order by component, and their total."""
    shown = {name: 1e6 * seconds / orders for name, seconds in costs.items()}
    return shown | {"total": sum(shown.values())}


def interleaved(pairs: int, ours: Callable[[], Costs], full: Callable[[], Costs]) -> tuple[list[Costs], list[Costs]]:
    """Blocks of both sides in the order A-B-B-A."""
    done: dict[Callable[[], Costs], list[Costs]] = {ours: [], full: []}
    for number in range(pairs):
        for side in (ours, full) if number % 2 == 0 else (full, ours):
            done[side].append(side())
    return done[ours], done[full]


def row(identity: str, refused: list[Costs], full: list[Costs]) -> Row:
    """A row: medians of both sides, and the ratios within the pairs."""

    def middle(blocks: list[Costs]) -> Costs:
        return {name: summary(block[name] for block in blocks)["median"] for name in blocks[0]}

    made = {
        "id": identity,
        "unit": "µs CPU an order",
        "ours": middle(refused),
        "peer": middle(full),
        "cpu_ratio": summary(a["total"] / b["total"] for a, b in zip(refused, full, strict=True)),
        "times_cheaper": summary(b["total"] / a["total"] for a, b in zip(refused, full, strict=True)),
        "pairs": len(full),
    }
    times = made["times_cheaper"]
    console.print(f"{identity}: {times['median']:.1f} times cheaper ({times['min']:.1f} to {times['max']:.1f})")
    return made


class Bench:
    """The servers, and how much work a block has."""

    def __init__(self, rig: Rig, pairs: int, scale: float) -> None:
        self.rig, self.pairs, self.scale = rig, pairs, scale
        self.made = 0

    def orders(self) -> HotOrders:
        """Orders with keys that nobody has had."""
        self.made += 1
        return HotOrders(seed=self.made, prefix=f"o{self.made}-")

    @contextmanager
    def shop(self) -> Iterator[Any]:
        """A fresh shop whose hot skus are sold out, which this process's `workers.database.call` works on."""
        name = f"bench_sold_out_{os.getpid()}"
        url = self.rig.create(name)
        os.environ |= {"DATABASE_URL": url, "ORDERMILL_REFUSE_SOLD_OUT": "on"}
        forget()
        get_settings.cache_clear()
        from workers.database import connect, engine  # noqa: PLC0415

        try:
            with connect(url) as db:
                sell_out(db)
                yield db
                if found := db.execute("SELECT * FROM api.verify()").fetchall():
                    raise RuntimeError(f"the shop does not verify: {found}")
            engine().dispose()
        finally:
            self.rig.drop(name)

    def cpu(self, work: Callable[[], None], orders: int) -> Costs:
        """What some work costs this process and PostgreSQL."""
        roots = {"postgres": self.rig.server_pids()["postgres"]}
        before, own = cpu_seconds(roots), time.process_time()
        work()
        own = time.process_time() - own
        return each({"worker": own, "postgres": cpu_seconds(roots)["postgres"] - before["postgres"]}, orders)

    def decide(self) -> list[Row]:
        """From typed values to outcomes, as the task does it."""
        rows = []
        for together in TOGETHER:
            with self.shop():
                self.place(self.typed(500, 500), again=False)  # it learns what is sold out
                refused, full = partial(self.refused, together), partial(self.rejected_by_all, together)
                rows.append(row(f"sold_out_decide_{together}", *interleaved(self.pairs, refused, full)))
        return rows

    def refused(self, together: int) -> Costs:
        """Orders that come so many together, refused: the same again and again, for their keys stay unused."""
        lists = self.typed(int(PASS[together] * self.scale), together)
        passes = 20 if together > 10 else 4
        return self.cpu(lambda: self.place(lists * passes, again=False, want="refused"), passes * total(lists))

    def rejected_by_all(self, together: int) -> Costs:
        """The same by the full path, which is what an order that is delivered again takes."""
        lists = self.typed(int(PASS[together] * self.scale), together)
        return self.cpu(lambda: self.place(lists, again=True, want="rejected"), total(lists))

    def typed(self, number: int, together: int) -> list[list[dict[str, Any]]]:
        """So many decoded orders, in lists of those that come together."""
        source = self.orders()
        return [[source.typed() | TYPED_NULLS for _ in range(together)] for _ in range(number // together)]

    @staticmethod
    def place(lists: list[list[dict[str, Any]]], again: bool, want: str = "") -> None:
        """Has them decided; raises where one had another outcome than this."""
        from tasks.orders import place_all  # noqa: PLC0415  # it reads the settings

        seen = {outcome["status"] for requests in lists for outcome in place_all(requests, again=again)}
        if want and seen != {want}:
            raise RuntimeError(f"{want} was to be measured, and these came: {seen}")

    def celery(self) -> list[Row]:
        """The whole door: from a queue of messages to the last acknowledgement."""

        def side(refuses: bool) -> Costs:
            number = int(16_000 * self.scale)
            with at_work(self.rig, REFUSING if refuses else FULL, PLACE) as block:
                sell_out(block.db)
                self.warm(block, refuses)
                before = self.rejected(block.db)
                cpu = block.run([[order] for order in self.requests(number)], preloaded=True)["cpu_ms"]
                rejected = self.rejected(block.db) - before
                if rejected != (0 if refuses else number) or block.db.execute("SELECT * FROM api.verify()").fetchall():
                    raise RuntimeError(f"{block.side}: {rejected} of {number} rejected")
            return {name: 1000 * cpu[name] for name in ("worker", "redis", "postgres", "total")}

        return [row("sold_out_celery", *interleaved(self.pairs, lambda: side(True), lambda: side(False)))]

    def warm(self, block: Block, refuses: bool) -> None:
        """Sends orders for what is sold out, until a worker that refuses knows all of it."""
        for _ in range(10):
            before = self.rejected(block.db)
            block.warm_up([[order] for order in self.requests(300)])
            if not refuses or self.rejected(block.db) == before:
                return
        raise RuntimeError("the worker goes on rejecting what it should refuse")

    def requests(self, number: int) -> list[dict[str, Any]]:
        """So many new orders as an application sends them."""
        source = self.orders()
        return [source.request() for _ in range(number)]

    @staticmethod
    def rejected(db: Any) -> int:
        """How many rejections are stored."""
        return int(db.execute("SELECT count(*) FROM shop.request_keys WHERE status = 'rejected'").fetchone()[0])

    def sql(self) -> list[Row]:
        """What an application spends that asks first, against one that submits."""
        with self.shop() as db:

            def asked(number: int = int(20_000 * self.scale)) -> Costs:
                lists = [(["P"] * 3, order["skus"]) for [order] in self.typed(number, 1)]

                def work() -> None:
                    for pools, skus in lists:
                        db.execute("SELECT * FROM api.sold_out(%s, %s)", [pools, skus]).fetchone()

                return self.cpu(work, number)

            def submitted(number: int = int(6_000 * self.scale)) -> Costs:
                texts = [json.dumps(request) for request in self.requests(number)]

                def work() -> None:
                    for text in texts:
                        db.execute("SELECT api.submit_order(%s::text)", [text]).fetchone()
                    while claims := call("api.claim_orders", 1, 50, 60, 0):
                        call("api.place_claim", claims[0]["claim_id"])

                return self.cpu(work, number)

            return [row("sold_out_sql_one_a_call", *interleaved(self.pairs, asked, submitted))]


def show(report: Row) -> None:
    """The rows as a table."""
    out = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    table = Table(title="µs CPU an order, medians; times: median (least to most) of the pairs", title_justify="left")
    for name in ("", "refused", "of it PostgreSQL", "full path", "of it PostgreSQL", "times cheaper"):
        table.add_column(name, justify="right" if name else "left")
    for each_row in report["results"]:
        ours, peer, times = each_row["ours"], each_row["peer"], each_row["times_cheaper"]
        cells = [f"{side[name]:.1f}" for side in (ours, peer) for name in ("total", "postgres")]
        table.add_row(each_row["id"], *cells, f"{times['median']:.1f} ({times['min']:.1f} to {times['max']:.1f})")
    out.print(table)


def main() -> None:
    """Runs what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", nargs="?", choices=["decide", "celery", "sql", "all"], default="all")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of blocks, interleaved")
    parser.add_argument("--scale", type=float, default=1.0, help="larger or smaller blocks: 0.25 takes two minutes")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    asked = parser.parse_args()
    results: list[Row] = []
    with termination_raised(), tempfile.TemporaryDirectory() as home, erased(Path(home)), Rig(Path(home)) as rig:
        bench = Bench(rig, asked.pairs, asked.scale)
        facts = rig.facts()
        for mode in ("decide", "sql", "celery") if asked.mode == "all" else (asked.mode,):
            results += getattr(bench, mode)()
    report = {
        "command": f"python bench/sold_out.py {shlex.join(sys.argv[1:])}".strip(),
        "machine": machine(),
        "versions": versions("celery", "kombu", "redis", "psycopg") | facts,
        "results": results,
    }
    show(report)
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
