"""A drain looks at the queues of pools with a limit as it goes, and loses nothing of what it counted."""

from collections import Counter
from typing import Any

import pytest

from tests.shop import Shop, order
from workers.database import call_one as call_for_one
from workers.drain import drain
from workers.settings import get_settings


def test_a_drain_looks_as_it_goes(shop: Shop, runtime: None) -> None:
    shop.stock("A", "E1", 1_000)
    shop.value("SELECT api.set_queue_limit('EAST', '100 ms')")
    shop.submit(*(order(None, ("A", 1)) for _ in range(300)))

    result = drain(get_settings(), 20, until_empty=True)

    assert (result or {})["placed"] == 300
    [seen] = shop.maps("SELECT floor_id FROM shop.queue_looks")
    assert seen["floor_id"] > 0
    assert shop.verify() == []


def test_all_that_a_drain_took_is_noted_when_it_ends(
    shop: Shop, runtime: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: Counter[int] = Counter()

    def call_one(name: str, pool: int, taken: int, *rest: Any, **more: Any) -> Any:
        noted[pool] += taken if name == "api.note_queue" else 0
        return call_for_one(name, pool, taken, *rest, **more)

    monkeypatch.setattr("workers.drain.call_one", call_one)
    for location in ("E1", "W1"):
        shop.stock("A", location, 1_000)
    shop.value("SELECT api.set_queue_limit('EAST', '1 h')")  # it looks once in five seconds
    shop.submit(*(order(None, ("A", 1)) for _ in range(300)))
    shop.submit(*(order(None, ("A", 1), pool="WEST") for _ in range(150)))

    drain(get_settings(), 20, until_empty=True)

    assert noted == {shop.pool_id(): 300, shop.pool_id("WEST"): 150}
