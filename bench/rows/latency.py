"""Rows of latency: from the moment an order was to be submitted until it is committed, at half of the door's capacity.

Capacity is the highest rate at which the same producer and worker keep up with such a schedule: one order a call or a
message, on one connection; each step of the search is a quarter faster than the last, from a quarter of what is reached
without a schedule, or from half of that, and so on, where that is too much. A step that fails is tried once more, so
that one hiccup of the machine does not end the search. The schedule is random and seeded; three runs, each on a fresh
shop.
"""

from dataclasses import replace
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
from workers.settings import Settings

CAPACITY_ORDERS = 1_500
RUNS, SECONDS = 3, 20.0
QUICK_SECONDS, STEP_SECONDS, STEP, ATTEMPTS = 3.0, 3.0, 1.25, 2
LEAST = 10.0  # orders a second
KEEPS_UP_MS = 100.0  # p99; whoever does not keep up is soon later than that
SHOWN = ("p50_ms", "p95_ms", "p99_ms", "max_ms", "sent_p50_ms", "sent_p99_ms", "rate")


@row("latency_celery")
def celery(run: Run) -> None:
    """`orders.place`, sent one by one, to one worker."""
    measure(run, "latency_celery", OURS, "celery")


@row("latency_sql")
def sql(run: Run) -> None:
    """`submit_order`, one a call."""
    # Else a drain hands over each 3 s, so that a block ends soon; who waits for a successor would be most of the p99.
    by_default = Settings.model_fields["drain_seconds"].default
    measure(run, "latency_sql", replace(SQL_DOOR, seconds=by_default), "sql")


def measure(run: Run, identity: str, side: Side, door: str) -> Block:
    """Capacity, then the runs, and the row of their medians."""
    runs, capacities = [], []
    for number in range(1 if run.quick else RUNS):
        with at_work(run.rig, side, THREE_LINES) as block, console.status(f"{identity} {number + 1}"):
            capacities.append(capacity(run, block, door))
            rate = round(capacities[-1], 4) / 2  # as the row has it
            orders = int(rate * (QUICK_SECONDS if run.quick else SECONDS))
            run.rig.admin.execute("CHECKPOINT")
            due = schedule(rate, orders, seed=number)
            runs.append(described(*measured(block, door, THREE_LINES.requests(orders, "b"), due)))
            side.check(block)
        console.print(
            f"{identity} {number + 1}: p50 {runs[-1]['p50_ms']} ms, p99 {runs[-1]['p99_ms']} ms, {rate:.0f}/s"
        )
    return run.save(of_runs(runs, capacities) | {"id": identity, "unit": "ms", "setting": side.setting})


def capacity(run: Run, block: Block, door: str) -> float:
    """The highest rate of the search, in orders a second, at which this door keeps up."""
    free, _ = measured(block, door, THREE_LINES.requests(run.orders(CAPACITY_ORDERS), "c"), None)
    kept, rate, step = 0.0, free["rate"] / 4, 0

    def keeps_up(attempt: int) -> bool:
        orders = int(rate * (1 if run.quick else STEP_SECONDS))
        due = schedule(rate, orders, seed=step)
        found = described(*measured(block, door, THREE_LINES.requests(orders, f"c{step}-{attempt}-"), due))
        return not found["drops"] and found["p99_ms"] <= KEEPS_UP_MS

    while True:
        if any(map(keeps_up, range(ATTEMPTS))):
            kept, rate, step = rate, rate * STEP, step + 1
        elif kept:
            return kept
        elif rate / 2 < LEAST:
            raise RuntimeError(f"{door}: does not keep up with {rate:.0f} orders/s")
        else:
            rate, step = rate / 2, step + 1


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
