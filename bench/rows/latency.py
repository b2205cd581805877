"""Rows of latency: from the moment an order was to be submitted until it is committed, at half of the door's capacity.

Capacity is what the same producer and workers reach when it sends as quickly as it can: one order a call or a message,
on one connection. The schedule is random and seeded; three runs, each on a fresh shop.
"""

from typing import Any

from bench.block import at_work
from bench.celery_sides import OURS
from bench.harness import COMPONENTS, Block, Run, console
from bench.latency import described, measured, schedule
from bench.measuring import summary
from bench.mixes import THREE_LINES
from bench.produced import SQL_DOOR
from bench.rows.registry import row
from bench.sides import Side

CAPACITY_ORDERS = 1_500
RUNS, SECONDS = 3, 20.0
QUICK_SECONDS = 3.0
SHOWN = ("p50_ms", "p95_ms", "p99_ms", "max_ms", "sent_p50_ms", "sent_p99_ms", "rate")


@row("latency_celery")
def celery(run: Run) -> None:
    """`orders.place`, sent one by one, to two workers."""
    measure(run, "latency_celery", OURS.tuned(workers=2), "celery")


@row("latency_sql")
def sql(run: Run) -> None:
    """`submit_order`, one a call, and one drain."""
    measure(run, "latency_sql", SQL_DOOR, "sql")


def measure(run: Run, identity: str, side: Side, door: str) -> Block:
    """Capacity, then the runs, and the row of their medians."""
    runs, capacities = [], []
    for number in range(1 if run.quick else RUNS):
        with at_work(run.rig, side, THREE_LINES) as block, console.status(f"{identity} {number + 1}"):
            free, _ = measured(block, door, THREE_LINES.requests(run.orders(CAPACITY_ORDERS), "c"), None)
            capacities.append(free["rate"])
            rate = free["rate"] / 2
            orders = int(rate * (QUICK_SECONDS if run.quick else SECONDS))
            run.rig.admin.execute("CHECKPOINT")
            due = schedule(rate, orders, seed=number)
            runs.append(described(*measured(block, door, THREE_LINES.requests(orders, "b"), due)))
            side.check(block)
        console.print(
            f"{identity} {number + 1}: p50 {runs[-1]['p50_ms']} ms, p99 {runs[-1]['p99_ms']} ms, {rate:.0f}/s"
        )
    return run.save(of_runs(runs, capacities) | {"id": identity, "unit": "ms", "setting": side.setting})


def of_runs(runs: list[dict[str, Any]], capacities: list[float]) -> Block:
    """The row: medians over the runs, the most of their greatest, how far they lay apart, all drops."""
    spread = {name: summary(each[name] for each in runs) for name in SHOWN}
    medians = {name: spread[name]["median"] for name in SHOWN}
    return medians | {
        "ours": medians["p50_ms"],
        "max_ms": spread["max_ms"]["max"],
        "spread": spread,
        "capacity": summary(capacities)["median"],
        "orders": sum(each["orders"] for each in runs),
        "drops": sum(each["drops"] for each in runs),
        "cpu_ms": {name: summary(each["cpu_ms"][name] for each in runs)["median"] for name in COMPONENTS},
        "runs": len(runs),
    }
