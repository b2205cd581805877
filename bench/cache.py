"""The cache: a cached read against the same read of PostgreSQL, and how long after a commit a stale value is gone.

    .venv/bin/python bench/cache.py                   # both; JSON on the last line
    .venv/bin/python bench/cache.py --pairs 7 --changes 500

Uses DATABASE_URL (a scratch database is made there and dropped) and REDIS_URL, or the embedded servers. The dispatcher
is a process of its own; the changes come while others place orders, 50 in a batch, as fast as `--orders` a second.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis
from psycopg.types.json import Jsonb
from sqlalchemy import make_url

from bench.measuring import machine, summary
from bench.orders import CATALOG, Orders
from workers.cache import Cache, key_of, load
from workers.database import connect, forget
from workers.dispatch import dispatch
from workers.embedded import Servers, erase
from workers.migrate import migrate
from workers.settings import get_settings

READS = 400  # a block
VARIANTS = 12  # of a product that is worth a cache: sizes and colours


def dispatcher(seconds: float) -> None:
    """What a worker of queue `events` does."""
    dispatch(get_settings(), seconds)


def placer(url: str, rate: float, seconds: float) -> None:
    """Others who order meanwhile."""
    orders, ends = Orders(), time.monotonic() + seconds
    with connect(url) as db:
        while rate and time.monotonic() < ends:
            started = time.monotonic()
            db.execute("SELECT api.place_orders(%s)", [Jsonb([orders.typed() for _ in range(50)])])
            time.sleep(max(0.0, 50 / rate - (time.monotonic() - started)))


def timed(work: Callable[[], Any]) -> float:
    """Seconds of a block."""
    started = time.perf_counter()
    for _ in range(READS):
        work()
    return time.perf_counter() - started


def ratio(uncached: Callable[[], Any], cached: Callable[[], Any], pairs: int) -> dict[str, Any]:
    """Blocks A-B-B-A: how many times quicker the cached read is, and how long each takes."""
    for work in (uncached, cached):
        timed(work)
    ratios, slow, quick, control = [], [], [], []
    for pair in range(pairs):
        order = (uncached, cached) if pair % 2 else (cached, uncached)
        first = {work: timed(work) for work in order}
        second = {work: timed(work) for work in reversed(order)}
        ratios.append((first[uncached] + second[uncached]) / (first[cached] + second[cached]))
        control.append(first[cached] / second[cached])
        slow.append((first[uncached] + second[uncached]) / 2 / READS * 1e6)
        quick.append((first[cached] + second[cached]) / 2 / READS * 1e6)
    return {
        "ratio": summary(ratios),
        "control": summary(control),
        "uncached_us": round(statistics.median(slow)),
        "cached_us": round(statistics.median(quick)),
        "pairs": pairs,
    }


def staleness(cache: Cache, url: str, changes: int) -> dict[str, float]:
    """From the commit of a change to the moment in which the value is in no cache, in milliseconds."""
    sku, took = "S1", []
    with connect(url) as db, redis.Redis.from_url(get_settings().cache_address) as client:
        key = key_of("availability", sku)
        for number in range(changes):
            cache.read("availability", [sku])
            if number % 2:
                db.execute("SELECT api.adjust_inventory(gen_random_uuid()::text, %s, 'P1', 1, 'count')", [sku])
            else:
                db.execute("UPDATE shop.product_variants SET title = title WHERE sku = %s", [sku])
            committed = time.perf_counter()
            while client.exists(key):
                time.sleep(0.0005)
            took.append((time.perf_counter() - committed) * 1000)
            time.sleep(0.005)
    took.sort()
    return {
        "changes": changes,
        "p50_ms": round(statistics.median(took), 2),
        "p99_ms": round(took[int(len(took) * 0.99)], 2),
        "max_ms": round(took[-1], 2),
    }


@contextlib.contextmanager
def ground() -> Iterator[str]:
    """A scratch database on the servers of the environment or on embedded ones, and settings that name them."""
    home = Path(tempfile.mkdtemp(prefix="ordermill-bench-"))
    given = os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL")
    with Servers(home, database_url=given[0], redis_url=given[1]) as servers:
        name = f"ordermill_bench_{os.getpid()}"
        with connect(servers.database_url) as admin:
            admin.execute(f"CREATE DATABASE {name}".encode())
        url = make_url(servers.database_url).set(database=name).render_as_string(hide_password=False)
        os.environ |= {"DATABASE_URL": url, "REDIS_URL": servers.redis_url}
        get_settings.cache_clear()
        try:
            migrate(url)
            with connect(url) as db:
                db.execute(CATALOG.encode())
                db.execute(
                    """WITH p AS (INSERT INTO shop.products (code, category_id, title, brand)
                           VALUES ('tee', 1, 'T-shirt', 'Bench') RETURNING id)
                       INSERT INTO shop.product_variants (product_id, sku, title, price_amount, currency)
                       SELECT p.id, 'T' || n, 'Size ' || n, 1000 + n, 'USD' FROM p, generate_series(1, %s) AS n""",
                    [VARIANTS],
                )
            yield url
        finally:
            forget()
            with connect(servers.database_url) as admin:
                admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
    erase(home)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--changes", type=int, default=500)
    parser.add_argument("--orders", type=float, default=200, help="orders a second meanwhile")
    asked = parser.parse_args()
    results: dict[str, Any] = {"machine": machine()}
    with ground() as url:
        cache = Cache(get_settings())
        with redis.Redis.from_url(get_settings().cache_address) as client:
            client.delete(*(client.keys("ordermill:*") or ["-"]))
        for name, kind, names in (
            ("product", "product", ["tee"]),
            ("availability", "availability", ["S1"]),
            ("availability, 24 at once", "availability", [f"S{number}" for number in range(1, 25)]),
        ):
            results[name] = ratio(
                lambda k=kind, n=names: load(k, n), lambda k=kind, n=names: cache.read(k, n), asked.pairs
            )
            print(name, json.dumps(results[name]), flush=True)
        context = multiprocessing.get_context("spawn")
        seconds = 20 + asked.changes * 0.2
        helpers = [
            context.Process(target=dispatcher, args=(seconds,)),
            context.Process(target=placer, args=(url, asked.orders, seconds)),
        ]
        for helper in helpers:
            helper.start()
        staleness(cache, url, 20)  # until all is warm
        results["staleness"] = staleness(cache, url, asked.changes) | {"orders_per_second": asked.orders}
        print("staleness", json.dumps(results["staleness"]), flush=True)
        for helper in helpers:
            helper.terminate()
            helper.join()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
