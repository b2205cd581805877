"""The row of the cache: a product of 12 variants read through it, against the same read of PostgreSQL."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench.block import OURS as ENVIRONMENT
from bench.cached_reads import asking, interleaved, load_product
from bench.harness import Run, console, paired
from bench.mixes import THREE_LINES, Connection, Mix
from bench.rig import Rig
from bench.rows.registry import row
from workers.cache import Cache, load
from workers.database import forget
from workers.settings import get_settings

READS = 8_000  # a block


def _load(db: Connection) -> None:
    THREE_LINES.load(db)
    load_product(db)


WITH_PRODUCT = Mix("3 lines and a product", _load, THREE_LINES.requests)


@row("cache_hit", "cache_hit_redis")
def cache_hit(run: Run) -> None:
    """Reads a second, by one process."""
    pairs, count = 1 if run.quick else run.pairs, run.orders(READS)
    with settings_of(run.rig, "bench_cache"), console.status("cache_hit"):
        cache = Cache(get_settings())
        cached, uncached = partial(cache.read, "product", ["tee"]), partial(load, "product", ["tee"])
        if cached().values != uncached() or cached().loaded:
            raise RuntimeError("the cache does not give what PostgreSQL has, or does not keep it")
        far = partial(asking, cache, "product", ["tee"])
        for name, read in (("cache_hit", cached), ("cache_hit_redis", far)):
            done = interleaved(read, uncached, pairs, count, run.rig.server_pids())
            if read().loaded:
                raise RuntimeError("the value left the cache meanwhile")
            run.save(paired(done) | {"id": name, "unit": "reads/s", "reads": count})


@contextmanager
def settings_of(rig: Rig, name: str) -> Iterator[None]:
    """This process is Ordermill's for a while, with default settings, over a shop of its own."""
    mine = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(ENVIRONMENT)}
    rig.redis.flushall()
    os.environ |= {"DATABASE_URL": rig.shop(name, WITH_PRODUCT), "REDIS_URL": rig.servers.redis_url}
    # After one late answer Redis would be left alone for a second, and the block be void.
    os.environ["ORDERMILL_CACHE_TIMEOUT_MS"] = "5000"
    get_settings.cache_clear()
    forget()
    try:
        yield
    finally:
        forget()
        for given in ("DATABASE_URL", "REDIS_URL", "ORDERMILL_CACHE_TIMEOUT_MS"):
            del os.environ[given]
        os.environ |= mine
        get_settings.cache_clear()
        rig.drop(name)
