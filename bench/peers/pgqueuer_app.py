"""PgQueuer as a peer, in the database of the shop, one job an order.

    python -m bench.peers.pgqueuer_app 100      # the batch size, and after it the most tasks at once, if limited

Its documented bulk way ("Performance Tuning"): many jobs enqueued by one call with lists, `batch_size` jobs dequeued at
once, their ends logged as many at once, and the recommended autovacuum settings. An entrypoint is called once a job.
Of the durability levels "durable" keeps all that ours does. Its own connection is apart from those of the tasks, of
which there are BENCH_CONNECTIONS a process. Its driver is asyncpg, as its documents advise: with psycopg its queries
wait for up to a second behind its own LISTEN. It is run from here ("Running PgQueuer Programmatically"), on uvloop as
`pgq run` is: that command of 1.6.0 does not start with the typer that is locked.
"""

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pgqueuer
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench.peers.order import Connections, say_ready
from workers.settings import get_settings


@asynccontextmanager
async def create() -> AsyncIterator[PgQueuer]:
    """A worker's manager, with its task."""
    url, size = get_settings().database_url, int(os.environ.get("BENCH_CONNECTIONS", "4"))
    connection = await asyncpg.connect(url)
    async with Connections(size) as orders:
        queuer = PgQueuer(AsyncpgDriver(connection))

        @queuer.entrypoint("place")
        async def place(job: Job) -> None:
            await orders.place(json.loads(job.payload or b""))

        say_ready()
        yield queuer
    await connection.close()


async def install(url: str) -> None:
    """Makes its tables, with the autovacuum settings that it recommends."""
    connection = await asyncpg.connect(url)
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    await queries.optimize_autovacuum()
    await connection.close()


if __name__ == "__main__":
    batch_size, *most = (int(word) for word in sys.argv[1:])
    uvloop.run(pgqueuer.run(create, batch_size=batch_size, max_concurrent_tasks=most[0] if most else None))
