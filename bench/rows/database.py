"""Rows beside a routine that was written by hand for one order, called by pgbench; and beside the bare placing loop."""

from bench.celery_sides import OURS
from bench.database_sides import BULK, BY_HAND, CLIENTS, DOOR, PgbenchSide
from bench.harness import Block, Run
from bench.limit_side import LIMIT
from bench.mixes import JOURNEY, THREE_LINES, Mix
from bench.rows.registry import row

TUNED_ORDERS = 4_000
ORDERS, BULK_ORDERS, MANY_ORDERS, BASKETS, LIMIT_ORDERS = 6_000, 8_000, 8_000, 3_000, 6_000


def tuned(run: Run, side: PgbenchSide, clients: tuple[int, ...] = CLIENTS) -> tuple[PgbenchSide, list[Block]]:
    """The side with as many clients as serve it best; the side says how many did before."""
    # Thousands: a drain that has all the time of a short round decides nothing about the clients.
    return run.tune([side, *(side.tuned(clients=n) for n in clients if n != side.clients)], orders=TUNED_ORDERS)


def bulk(run: Run) -> tuple[PgbenchSide, list[Block]]:
    """The SQL door with 100 orders a call."""
    return tuned(run, BULK, (2, 1, 4))


@row("durable_vs_pgbench")
def one_a_call(run: Run) -> None:
    """One order a call on both sides; ours from the first submit to the last placed."""
    peer, tuning = tuned(run, BY_HAND)
    ours, also = tuned(run, DOOR)
    run.compare("durable_vs_pgbench", ours, peer, ORDERS, tuning=tuning + also)


@row("durable_bulk_vs_pgbench")
def many_a_call(run: Run) -> None:
    """100 orders a call of ours, from the first submit to the last placed."""
    beside_hand(run, "durable_bulk_vs_pgbench", BULK_ORDERS, THREE_LINES)


@row("durable_bulk_vs_pgbench_journey")
def baskets(run: Run) -> None:
    """The same for real baskets."""
    beside_hand(run, "durable_bulk_vs_pgbench_journey", BASKETS, JOURNEY)


def beside_hand(run: Run, identity: str, orders: int, mix: Mix) -> None:
    """The SQL door with 100 orders a call beside the routine for one order."""
    peer, tuning = tuned(run, BY_HAND)
    ours, also = bulk(run)
    run.compare(identity, ours, peer, orders, mix, tuning=tuning + also)


@row("place_many_vs_pgbench")
def many_a_message(run: Run) -> None:
    """100 orders a message, from the first publish to the last acknowledgement."""
    peer, tuning = tuned(run, BY_HAND)
    many = OURS.tuned(many=100)
    ours, also = run.tune([many.tuned(workers=2), many])
    run.compare("place_many_vs_pgbench", ours, peer, MANY_ORDERS, tuning=tuning + also)


@row("place_vs_limit")
def limit(run: Run) -> None:
    """What the database could do if nothing but `place_orders` were called."""
    peer, tuning = run.tune([LIMIT, LIMIT.tuned(connections=1)])
    ours, also = run.tune([OURS.tuned(workers=2), OURS])
    run.compare("place_vs_limit", ours, peer, LIMIT_ORDERS, tuning=tuning + also)
