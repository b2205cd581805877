"""A read through the cache beside the same read of PostgreSQL: for the row `cache_hit`, and for `bench/cache.py`."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg

from bench.measuring import cpu_seconds

VARIANTS = 12  # of a product that is worth a cache: sizes and colours
PRODUCT = """
    WITH p AS (INSERT INTO shop.products (code, category_id, title, brand)
        VALUES ('tee', 1, 'T-shirt', 'Bench') RETURNING id)
    INSERT INTO shop.product_variants (product_id, sku, title, price_amount, currency)
    SELECT p.id, 'T' || n, 'Size ' || n, 1000 + n, 'USD' FROM p, generate_series(1, %s) AS n"""


def load_product(db: psycopg.Connection[Any]) -> None:
    """Adds product `tee`."""
    db.execute(PRODUCT, [VARIANTS])


def reads(which: str, work: Callable[[], Any], count: int, servers: Mapping[str, list[int]]) -> dict[str, Any]:
    """A block of so many reads by this process, in the form of `bench.harness`; the reader is the worker."""
    before, own, began = cpu_seconds(servers), time.process_time(), time.perf_counter()
    for _ in range(count):
        work()
    seconds, own = time.perf_counter() - began, time.process_time() - own
    after = cpu_seconds(servers)
    each = {name: 1000 * (after[name] - before[name]) / count for name in servers}
    each |= {"worker": 1000 * own / count, "producer": 0.0}
    return {
        "which": which,
        "side": "cached" if which == "A" else "uncached",
        "setting": "one process, one connection",
        "rate": round(count / seconds, 1),
        "cpu_ms": {name: round(spent, 5) for name, spent in (each | {"total": sum(each.values())}).items()},
        "event_consumer_cpu_ms": 0,
    }


def interleaved(
    cached: Callable[[], Any], uncached: Callable[[], Any], pairs: int, count: int, servers: Mapping[str, list[int]]
) -> list[dict[str, Any]]:
    """Blocks A-B-B-A after a warm-up: A through the cache, B without it."""
    works = {"A": cached, "B": uncached}
    for work in works.values():
        reads("A", work, count // 4, servers)
    order = [which for number in range(pairs) for which in ("AB" if number % 2 == 0 else "BA")]
    return [reads(which, works[which], count, servers) for which in order]
