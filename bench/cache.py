"""The cache: a cached read against the same read of PostgreSQL, and how long after a commit a stale value is gone.

    .venv/bin/python bench/cache.py                   # both; JSON on the last line
    .venv/bin/python bench/cache.py --pairs 7 --changes 500

Uses DATABASE_URL (a scratch database is made there and dropped) and REDIS_URL, which must be of this machine, or the
embedded servers; CPU is read from /proc. The dispatcher is a process of its own; the changes come while others place
orders, 50 in a batch, `--orders` of them a second.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import redis
from psycopg.types.json import Jsonb
from sqlalchemy import make_url

from bench.cached_reads import interleaved, load_product
from bench.harness import paired
from bench.measuring import machine
from bench.orders import CATALOG, Orders
from bench.placing import erased
from workers.cache import Cache, key_of, load
from workers.database import connect, forget, session
from workers.dispatch import dispatch
from workers.embedded import Servers
from workers.migrate import migrate
from workers.settings import get_settings

READS = 2_000  # a block


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
    given = os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL")
    with (
        tempfile.TemporaryDirectory() as folder,
        erased(Path(folder)),
        Servers(Path(folder), database_url=given[0], redis_url=given[1]) as servers,
    ):
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
                load_product(db)
            yield url
        finally:
            forget()
            with connect(servers.database_url) as admin:
                admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


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
            servers = {"redis": [client.info("server")["process_id"]]}
        with session() as connection:  # the pool has no other yet
            servers["postgres"] = [connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()]
        for name, kind, names in (
            ("product", "product", ["tee"]),
            ("availability", "availability", ["S1"]),
            ("availability, 24 at once", "availability", [f"S{number}" for number in range(1, 25)]),
        ):
            works = partial(cache.read, kind, names), partial(load, kind, names)
            results[name] = paired(interleaved(*works, asked.pairs, READS, servers))
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
