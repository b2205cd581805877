"""The floor of a drain's reading: it spares the dead rows of what was placed, and hides no order for long."""

import json
from collections.abc import Iterator

import pytest

from tests.shop import Shop, order
from workers.child import wait_until
from workers.database import connect, session
from workers.drain import Drain
from workers.settings import Settings, get_settings


@pytest.fixture
def drain(shop: Shop, runtime: None) -> Iterator[Drain]:
    shop.stock("A", "E1", 1_000)
    settings: Settings = get_settings()
    with session() as connection:
        connection.detach()
        made = Drain(settings, connection)
        assert made.take_pools()
        yield made


def test_an_order_that_commits_just_after_younger_ones_were_read_is_in_the_next_batch(
    shop: Shop, drain: Drain, database_url: str
) -> None:
    pool = shop.pool_id()
    with connect(database_url) as late, late.transaction():
        late.execute("SELECT api.submit_order(%s::text)", [json.dumps(order("late", ("A", 1)))])
        shop.submit(order("early", ("A", 1)))
        assert drain.turn(pool) == 1

    assert drain.turn(pool) == 1
    assert (shop.outcome("late") or {})["status"] == "placed"


def test_the_floor_rises_behind_what_was_read_and_all_is_read_each_second(
    shop: Shop, drain: Drain, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = shop.pool_id()
    monkeypatch.setattr("workers.drain.FLOOR_LAG", 0.0)
    monkeypatch.setattr("workers.drain.FLOOR_SECONDS", 60.0)

    def runs() -> None:
        drain.run(0.2)  # on a busy machine no more than one look

    with connect(database_url) as late, late.transaction():
        late.execute("SELECT api.submit_order(%s::text)", [json.dumps(order("late", ("A", 1)))])
        shop.submit(order("early", ("A", 1)))
        newest = shop.value("SELECT max(id) FROM shop.order_queue")
        assert wait_until(lambda: runs() or drain.floors.get(pool) == newest, 30)  # type: ignore[func-returns-value]

    assert drain.turn(pool) == 0
    monkeypatch.setattr("workers.drain.FLOOR_SECONDS", 0.0)
    assert wait_until(lambda: runs() or (shop.outcome("late") or {})["status"] == "placed", 30)  # type: ignore[func-returns-value]
