"""Rows of one sku that 16 producers want: beside two ways to write it by hand; and ours in an open loop."""

from typing import Any

from bench.block import at_work
from bench.harness import Run, console
from bench.hot_sku import DOOR, FOR_UPDATE, GUARDED, HOT_SKU, open_loop
from bench.measuring import summary
from bench.rows.registry import row

ORDERS, LATENCY_RUNS, SECONDS, QUICK_SECONDS = 4_000, 3, 10.0, 2.0


@row("hot_sku_vs_for_update", "hot_sku_vs_guarded")
def hot_sku(run: Run) -> None:
    """Orders for one unit each; the latency of ours is of both rows."""
    latency = latencies(run)
    for identity, peer in (("hot_sku_vs_for_update", FOR_UPDATE), ("hot_sku_vs_guarded", GUARDED)):
        run.compare(identity, DOOR, peer, ORDERS, HOT_SKU, **latency)


def latencies(run: Run) -> dict[str, Any]:
    """From submitted to decided at half of the capacity that was found just before; medians of three runs."""
    runs, capacities = [], []
    for number in range(1 if run.quick else LATENCY_RUNS):
        with at_work(run.rig, DOOR, HOT_SKU) as block:
            capacities.append(block.run(HOT_SKU.requests(run.orders(ORDERS), "c"))["rate"])
            rate = capacities[-1] / 2
            orders = HOT_SKU.requests(int(rate * (QUICK_SECONDS if run.quick else SECONDS)), "b")
            run.rig.admin.execute("CHECKPOINT")
            runs.append(open_loop(block, orders, rate, seed=number + 1))
            DOOR.check(block)
        console.print(f"hot_sku {number + 1}: p50 {runs[-1]['p50_ms']} ms, p99 {runs[-1]['p99_ms']} ms, {rate:.0f}/s")
    spread = {name: summary(each[name] for each in runs) for name in ("p50_ms", "p99_ms", "max_ms")}
    return {
        "p50_ms": spread["p50_ms"]["median"],
        "p99_ms": spread["p99_ms"]["median"],
        "latency": spread | {"capacity": summary(capacities)["median"], "drops": sum(each["drops"] for each in runs)},
    }
