"""The rows of `make bench`: what is compared, and at least how good ours is to be."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """A row's promise: `value` of the field at `path` is at least, or with `most` at most, this; each of several."""

    what: str
    against: str
    goals: tuple[tuple[str, str, float], ...] = ()  # (path into the row, ">=" or "<=", value)

    def met(self, row: dict[str, Any]) -> bool | None:
        """Whether a row reaches it; None where nothing is asked or the row is void."""
        if row.get("void") or not self.goals:
            return None
        return all(compares(value_at(row, path), sign, value) for path, sign, value in self.goals)

    @property
    def words(self) -> str:
        """The promise, for a table."""
        signs = {">=": "≥", "<=": "≤"}
        return " and ".join(f"{path.split('.')[0]} {signs[sign]} {value:g}" for path, sign, value in self.goals)


def value_at(row: dict[str, Any], path: str) -> float:
    """The number at a dotted path of a row."""
    found: Any = row
    for name in path.split("."):
        found = found[name]
    return float(found)


def compares(found: float, sign: str, value: float) -> bool:
    """Whether the comparison holds."""
    return found >= value if sign == ">=" else found <= value


def faster(times: float) -> tuple[tuple[str, str, float], ...]:
    """The rate is at least so many times the peer's."""
    return (("ratio.median", ">=", times),)


def _latency(p50: float, p99: float) -> tuple[tuple[str, str, float], ...]:
    return (("p50_ms", "<=", p50), ("p99_ms", "<=", p99))


DOOR = "SQL door, one order a call, from submit to placed"
HAND = "a hand-written routine for one order, pgbench -M prepared, best of 2, 4, 8, 16 clients"
BULK = "sent in bulk as documented, one job an order"
SINGLE = "tuned; no release has a bulk way, so one message an order"
TARGETS: dict[str, Target] = {
    "durable_vs_pgbench": Target(DOOR, HAND, faster(1.5)),
    "durable_bulk_vs_pgbench": Target("submit_orders, 100 a call", HAND, faster(3)),
    "place_many_vs_pgbench": Target("orders.place_many, 100 a message", HAND, faster(2.5)),
    "place_vs_celery": Target("orders.place, one a message, publishing included", "stock Celery, tuned", faster(5)),
    "place_vs_celery_journey": Target("the same, real baskets", "stock Celery, tuned"),
    "place_vs_limit": Target("orders.place, one a message", "a bare loop of place_orders(50)", faster(0.5)),
    "vs_dramatiq": Target("the best durable door", f"Dramatiq, {SINGLE}", faster(2)),
    "vs_pgqueuer": Target("the best durable door", f"PgQueuer, {BULK}", faster(2)),
    "vs_taskiq": Target("the best durable door", f"taskiq, {SINGLE}", faster(2)),
    "vs_procrastinate": Target("the best durable door", f"Procrastinate, {BULK}", faster(4)),
    "durable_bulk_vs_pgbench_journey": Target("submit_orders, 100 a call, real baskets", HAND),
    "cpu_vs_celery": Target("CPU an order, orders.place", "stock Celery, tuned", (("cpu_ratio", "<=", 0.4),)),
    "noop_vs_celery": Target(
        "no-op tasks that run as a batch, as orders do; one solo worker", "stock Celery, tuned", faster(5)
    ),
    "hot_sku_vs_for_update": Target(
        "one SKU, 16 producers", "SELECT … FOR UPDATE, one order each", (*faster(5), ("p99_ms", "<=", 100))
    ),
    "hot_sku_vs_guarded": Target(
        "one SKU, 16 producers", "a guarded UPDATE, one order each", (*faster(2.5), ("p99_ms", "<=", 100))
    ),
    "latency_celery": Target(
        "orders.place, from submit to placed, at half of what one publisher and one worker keep up with",
        "",
        _latency(5, 25),
    ),
    "latency_sql": Target(
        "submit_order, from submit to placed, at half of what one connection keeps up with", "", _latency(10, 40)
    ),
    "history_5m_vs_10k": Target("5 million orders stored", "10 thousand", faster(0.9)),
    "cores": Target("orders/s by pools and workers, on one core and on two", ""),
    "cache_hit": Target("a cached product read, the same product again and again", "the uncached read", faster(5)),
    "cache_hit_redis": Target("the same where Redis is asked each time", "the uncached read"),
    "results_on_vs_off": Target("results stored", "not stored", (("cpu_ratio", "<=", 1.2),)),
    "worker_rss_mb": Target("an orders worker's memory over 1 million orders", "", (("ours", "<=", 100),)),
    "sold_out": Target(
        "a sold-out order refused at the door, 50 together, once decoded", "the full path", (("cpu_ratio", "<=", 0.1),)
    ),
    "sold_out_alone": Target("the same, one alone", "the full path"),
    "sold_out_celery": Target("the same, the whole Celery door", "the full path"),
}
