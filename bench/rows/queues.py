"""Rows beside other queues: the best durable door against each in its documented bulk way."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from bench.block import Block
from bench.database_sides import BULK, PgbenchSide
from bench.harness import Run
from bench.queue_sides import DRAMATIQ, PGQUEUER, PROCRASTINATE, TASKIQ, QueueSide
from bench.rows.registry import row
from workers.database import connect

ORDERS = 5_000
SUBMIT = "SELECT api.submit_orders(%s::text[])"
# What neither note says of both: an order is done once by its key, for the same routine sees to it.
OF_REDIS = (
    "The peer does not promise that orders are placed as they came, that a message is safer than Redis is, nor that it "
    "is sent or not with the application's own transaction."
)
OF_POSTGRES = "The peer does not promise that orders are placed as they came."


@dataclass(frozen=True)
class ApplicationSide(PgbenchSide):
    """The SQL door as a Python application calls it, for the peers' orders are sent from Python too."""

    @property
    def setting(self) -> str:
        """Orders a call."""
        return f"{self.a_call} orders a call"

    def prepare(self, block: Block, orders: list[dict[str, Any]]) -> None:
        """Nothing: the application makes the JSON as it sends it."""

    def submit(self, block: Block, orders: list[dict[str, Any]]) -> None:
        """Calls the routine on one connection, each call a transaction."""
        with connect(block.url) as connection:
            for at in range(0, len(orders), self.a_call):
                requests = [json.dumps(order) for order in orders[at : at + self.a_call]]
                connection.execute(SUBMIT, [requests]).fetchall()


OURS = ApplicationSide(BULK.name, BULK.routine, a_call=BULK.a_call, drain=True)


# Of each the quickest first, of these and more that were tried: a quick run takes it.
@row("vs_dramatiq")
def dramatiq(run: Run) -> None:
    """Processes and threads, and how many messages are fetched at once."""
    sizes = [(3, 2), (2, 8), (2, 4), (3, 4)]
    sides = [DRAMATIQ.tuned(processes=p, concurrency=n) for p, n in sizes]
    compare(run, "vs_dramatiq", [*sides, DRAMATIQ.tuned(concurrency=8, prefetch=64)], OF_REDIS)


@row("vs_taskiq")
def taskiq(run: Run) -> None:
    """Coroutines, and functions in threads."""
    sizes = [(2, 8), (2, 4), (2, 16), (3, 4)]
    sides = [TASKIQ.tuned(processes=p, concurrency=n) for p, n in sizes]
    compare(run, "vs_taskiq", [*sides, TASKIQ.tuned(concurrency=8, in_threads=True)], OF_REDIS)


@row("vs_pgqueuer")
def pgqueuer(run: Run) -> None:
    """Connections, and how many jobs are dequeued at once."""
    sizes = [(2, 8), (2, 4), (3, 4)]
    sides = [PGQUEUER.tuned(processes=p, concurrency=n, limited=True) for p, n in sizes]
    others = [PGQUEUER.tuned(concurrency=8, batch=batch) for batch in (100, 25)]
    compare(run, "vs_pgqueuer", [*sides, *others], OF_POSTGRES)


@row("vs_procrastinate")
def procrastinate(run: Run) -> None:
    """How many jobs at once, in coroutines and in threads, told of by notifications and by polling."""
    sizes = [(2, 4), (2, 8), (3, 2)]
    sides = [PROCRASTINATE.tuned(processes=p, concurrency=n, listen=False) for p, n in sizes]
    others = [PROCRASTINATE, PROCRASTINATE.tuned(in_threads=True)]
    compare(run, "vs_procrastinate", [*sides, *others], OF_POSTGRES)


def compare(run: Run, identity: str, peers: Sequence[QueueSide], note: str) -> None:
    """Our best durable door beside the quickest of these."""
    peer, tuning = run.tune(peers)
    run.compare(identity, OURS, peer, ORDERS, tuning=tuning, note=note, peer_version=version(peer.name))
