"""Rows beside stock Celery: no-ops, orders of both mixes, results, and a worker's memory."""

from bench.block import at_work
from bench.celery_sides import OURS, OURS_NOOP, STOCK, STOCK_NOOP, CelerySide
from bench.harness import Run, console
from bench.measuring import slope
from bench.mixes import JOURNEY, THREE_LINES
from bench.rows.registry import row

NOOPS, ORDERS, MEMORY_ORDERS, CHUNK = 6_000, 4_000, 1_000_000, 5_000
POINTS = 20


@row("noop_vs_celery")
def noop(run: Run) -> None:
    """No-op tasks, preloaded, one solo worker each."""
    peer, tuning = run.tune([STOCK_NOOP.tuned(prefetch=n) for n in (64, 16, 256)])
    run.compare("noop_vs_celery", OURS_NOOP, peer, NOOPS, unit="messages/s", tuning=tuning)


@row("place_vs_celery", "cpu_vs_celery", "place_vs_celery_journey")
def place(run: Run) -> None:
    """One order a message, from the first publish to the last acknowledgement."""
    peer, tuning = tuned_stock(run)
    ours, also = run.tune([OURS.tuned(workers=2), OURS])
    measured = run.compare("place_vs_celery", ours, peer, ORDERS, tuning=tuning + also)
    run.save({**measured, "id": "cpu_vs_celery", "unit": "CPU an order"})
    run.compare("place_vs_celery_journey", ours, peer, ORDERS // 2, JOURNEY)


def tuned_stock(run: Run) -> tuple[CelerySide, list[dict[str, object]]]:
    """Stock's pool and workers first, then its prefetch; by default the one that won before."""
    kinds = [STOCK] + [STOCK.tuned(pool=pool, workers=n) for pool, n in (("prefork", 2), ("solo", 2), ("solo", 4))]
    kind, tried = run.tune(kinds)
    best, more = run.tune([kind.tuned(prefetch=n) for n in (16, 4, 64)])
    return best, tried + more


@row("results_on_vs_off")
def results(run: Run) -> None:
    """Results stored against not, in the message."""
    run.compare("results_on_vs_off", OURS, OURS.tuned(name="results not stored", ignore_result=True), ORDERS)


@row("worker_rss_mb")
def memory(run: Run) -> None:
    """Resident memory of one worker as orders pass."""
    wanted, points = run.orders(MEMORY_ORDERS) if not run.quick else CHUNK, []
    step = max(1, wanted // CHUNK // POINTS)
    with at_work(run.rig, OURS, THREE_LINES) as block, console.status("worker_rss_mb"):
        for number in range(wanted // CHUNK):
            # Not all at once: this process is on the same machine.
            block.run(THREE_LINES.requests(CHUNK, f"m{number}-"))
            if number % step == 0 or number == wanted // CHUNK - 1:
                points.append(((number + 1) * CHUNK, round(block.rss(), 2)))
                console.print(f"worker_rss_mb: {points[-1][0]:,} orders, {points[-1][1]:.1f} MiB")
        OURS.check(block)
    later = [point for point in points if point[0] >= wanted / 4]
    run.save(
        {
            "id": "worker_rss_mb",
            "unit": "MB",
            "ours": round(max(size for _, size in points) * 1.048576, 1),
            "orders": wanted,
            "points": points,
            "kib_per_1000_orders": round(slope(later) * 1024 * 1000, 3) if len(later) > 1 else None,
        }
    )
