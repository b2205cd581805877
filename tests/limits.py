"""Pools whose orders may wait only so long: submitting to them, and looking at their queues as a drain does."""

from typing import Any

import psycopg
import pytest

from tests.shop import Shop, order

LOOK = "SELECT waiting, rate, expected_wait, taken, floor_id FROM shop.queue_looks"


@pytest.fixture
def limited(scratch: Shop) -> Shop:
    """In EAST an order may wait for a second; WEST has no limit."""
    for location in ("E1", "W1"):
        scratch.stock("A", location, 1_000)
    scratch.value("SELECT api.set_queue_limit('EAST', '1 s')")
    return scratch


def submit(shop: Shop, *keys: str, pool: str = "EAST") -> list[str]:
    """The statuses of orders of one A each, in one call."""
    return [each["status"] for each in shop.submit(*(order(key, ("A", 1), pool=pool) for key in keys))]


def submit_one(shop: Shop, key: str, **fields: Any) -> dict[str, Any]:
    """The outcome of one, by the routine for one."""
    given = psycopg.types.json.Jsonb(order(key, ("A", 1), **fields))
    outcome: dict[str, Any] = shop.value("SELECT api.submit_order(%s)", given)
    return outcome


def age(shop: Shop, seconds: float) -> None:
    """As if all that waits had waited for so much longer, and nobody had looked meanwhile."""
    shop.db.execute("UPDATE shop.order_queue SET received_at = received_at - make_interval(secs => %s)", [seconds])
    shop.db.execute("UPDATE shop.queue_looks SET looked_at = looked_at - make_interval(secs => %s)", [seconds])


def look(shop: Shop, taken: int = 0, *, after: float = 0.2, floor: int = 0, pool: str = "EAST") -> float:
    """A drain's look, so many seconds after the last."""
    shop.db.execute("UPDATE shop.queue_looks SET looked_at = clock_timestamp() - make_interval(secs => %s)", [after])
    pause: float = shop.value("SELECT api.note_queue(%s, %s, %s)", shop.pool_id(pool), taken, floor)
    return pause


def make_busy(shop: Shop, orders: int = 30, rate: float = 10, *, after: float = 0.2) -> None:
    """So many orders wait, and a drain that takes `rate` a second has just looked."""
    shop.db.execute("DELETE FROM shop.order_queue")
    assert set(submit(shop, *(f"waits-{n}" for n in range(orders)))) == {"accepted"}
    look(shop, after=after)
    shop.db.execute("UPDATE shop.queue_looks SET rate = %s, waiting = 0", [rate])
    look(shop, after=after)
    # A look in the future: what is taken off for the time since is not the subject.
    shop.db.execute(
        "UPDATE shop.queue_looks SET looked_at = looked_at + max_wait / 2 FROM shop.pools WHERE id = pool_id"
    )


def patient(shop: Shop, limit: str = "25 s") -> None:
    """A limit so long that no pause of a busy machine counts beside it."""
    assert shop.value("SELECT api.set_queue_limit('EAST', %s)", limit)


def expected(shop: Shop) -> float:
    """Seconds that an order for EAST would wait, as told."""
    seconds: float = shop.value("SELECT extract(epoch FROM expected_wait)::float8 FROM api.queue WHERE pool = 'EAST'")
    return seconds
