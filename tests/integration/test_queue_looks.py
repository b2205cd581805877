"""How a pool with a limit knows how long an order would wait: what its drain saw, and what came since."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.limits import LOOK, expected, look, make_busy, patient, submit
from tests.shop import Shop, order
from workers.drain import drain
from workers.settings import get_settings

Connect = Callable[[str], psycopg.Connection[Any]]


def test_how_fast_it_goes_is_learned_while_there_is_always_something_to_take(limited: Shop) -> None:
    submit(limited, *(f"k{n}" for n in range(40)))
    assert look(limited, 50) == 0.2
    [first] = limited.maps(LOOK)
    assert (first["waiting"], first["rate"]) == (40, None)  # perhaps there was nothing before

    patient(limited)
    look(limited, 3_000, after=12)
    [second] = limited.maps(LOOK)
    look(limited, 1_200, after=12)
    [third] = limited.maps(LOOK)

    assert second["rate"] == pytest.approx(250, rel=0.2)
    assert third["rate"] == pytest.approx((second["rate"] + 100) / 2, rel=0.2)
    assert third["expected_wait"].total_seconds() == pytest.approx(40 / third["rate"], rel=1e-4)


def test_a_drain_with_nothing_to_do_does_not_look_slow(limited: Shop) -> None:
    make_busy(limited, orders=5, rate=1_000)
    limited.drain()

    look(limited, 5)  # it emptied the queue: that says only that it is no slower
    look(limited, 1, after=60)

    assert limited.rows("SELECT rate FROM shop.queue_looks") == [1_000]
    limited.db.execute("UPDATE shop.queue_looks SET rate = 1")
    patient(limited)
    look(limited, 3_000, after=12)
    assert limited.rows("SELECT rate FROM shop.queue_looks")[0] == pytest.approx(250, rel=0.2)


def test_two_drains_of_a_pool_are_as_fast_as_both(limited: Shop) -> None:
    patient(limited)
    submit(limited, *(f"k{n}" for n in range(40)))
    look(limited, after=12)
    look(limited, 25, after=0.05)  # the other one: too soon, so it is only added
    [before] = limited.maps(LOOK)
    look(limited, 2_975, after=12)

    assert (before["taken"], before["rate"]) == (25, None)
    assert limited.rows("SELECT rate FROM shop.queue_looks")[0] == pytest.approx(250, rel=0.2)


def test_a_look_counts_no_more_than_tells_whether_it_is_too_much(limited: Shop) -> None:
    keys = [f"k{n}" for n in range(1_200)]
    submit(limited, *keys)

    look(limited)
    [unknown] = limited.maps(LOOK)
    limited.db.execute("UPDATE shop.queue_looks SET rate = 550")
    look(limited)
    [known] = limited.maps(LOOK)
    ids = limited.rows("SELECT id FROM shop.order_queue ORDER BY id")
    look(limited, floor=ids[999])
    [above] = limited.maps(LOOK)

    assert (unknown["waiting"], known["waiting"], above["waiting"]) == (1_000, 1_100, 200)
    assert above["floor_id"] == ids[999]


def test_a_look_that_did_not_count_all_tells_nothing_of_a_part(limited: Shop) -> None:
    submit(limited, *(f"k{n}" for n in range(1_200)))
    look(limited)
    limited.value("SELECT api.set_queue_limit('EAST', NULL)")
    submit(limited, *(f"more-{n}" for n in range(100)))
    limited.value("SELECT api.set_queue_limit('EAST', '1 s')")
    look(limited)

    assert limited.maps("SELECT waiting, share FROM shop.queue_looks") == [{"waiting": 1_000, "share": 1}]


def test_what_came_since_the_look_counts_and_what_came_to_other_pools_does_not(limited: Shop) -> None:
    patient(limited, "20 s")
    make_busy(limited, orders=5, rate=1, after=3)
    assert expected(limited) == 5

    submit(limited, "more")
    assert expected(limited) == 6
    submit(limited, *(f"west-{n}" for n in range(3)), pool="WEST")
    look(limited, 0, after=3)
    # It took each number for EAST's; of the last four one was.
    assert limited.rows("SELECT share FROM shop.queue_looks") == [(1 + 1 / 4) / 2]
    limited.db.execute("UPDATE shop.queue_looks SET rate = 1, expected_wait = '6 s', looked_at = looked_at + '10 s'")
    submit(limited, "a", "b", "c", "d", pool="WEST")
    assert expected(limited) == 6 + 4 * 0.625


def test_however_many_come_between_two_looks_no_more_are_taken_than_may_wait(limited: Shop) -> None:
    patient(limited, "20 s")
    make_busy(limited, orders=2, rate=2, after=3)
    outcomes = [submit(limited, f"burst-{n}")[0] for n in range(100)]

    accepted = outcomes.count("accepted")
    assert 2 + accepted <= 20 * 2 + 1
    assert 2 + accepted > 20 * 2 / 2  # none is refused before half of that waits
    assert outcomes[:18] == ["accepted"] * 18


def test_what_went_since_the_look_is_taken_off_until_the_next_is_due(limited: Shop) -> None:
    patient(limited, "20 s")
    make_busy(limited, orders=9, rate=1, after=3)
    moved = "UPDATE shop.queue_looks SET looked_at = clock_timestamp() - interval '{} s'"

    limited.db.execute(moved.format(1).encode())
    assert 9 - 4 <= expected(limited) <= 9 - 1
    limited.db.execute(moved.format(10).encode())
    assert expected(limited) == 9 - 4


def test_what_a_look_writes_is_a_hot_update_and_moves_no_row_elsewhere(limited: Shop) -> None:
    submit(limited, "a")
    look(limited)
    updated = "SELECT pg_stat_get_xact_tuples_{}('shop.queue_looks'::regclass)"
    before = [limited.value(updated.format(kind)) for kind in ("updated", "hot_updated")]

    for _ in range(20):
        look(limited, 1)

    after = [limited.value(updated.format(kind)) for kind in ("updated", "hot_updated")]
    assert after[0] - before[0] == after[1] - before[1] == 40


def test_neither_a_look_nor_a_new_limit_keeps_a_submission_waiting(shop: Shop, connect_as: Connect) -> None:
    shop.stock("A", "E1", 10)
    shop.value("SELECT api.set_queue_limit('EAST', '1 s')")
    shop.value("SELECT api.note_queue(%s, 0, 0)", shop.pool_id())
    drains, operator, application = (connect_as(role) for role in ("ordermill_worker", "owner", "ordermill_app"))
    application.execute("SET statement_timeout = '5s'")
    with drains.transaction(), operator.transaction():
        drains.execute("SELECT api.note_queue(%s, 1, 0)", [shop.pool_id()])
        operator.execute("SELECT api.set_queue_limit('EAST', '2 s')")
        [found] = application.execute(
            "SELECT api.submit_order(%s::text)", [json.dumps(order("a", ("A", 1)))]
        ).fetchall()

    assert found[0]["status"] == "accepted"


def test_a_drain_looks_as_it_goes(shop: Shop, runtime: None) -> None:
    shop.stock("A", "E1", 1_000)
    shop.value("SELECT api.set_queue_limit('EAST', '100 ms')")
    submit(shop, *(f"k{n}" for n in range(300)))

    result = drain(get_settings(), 20, until_empty=True)

    assert (result or {})["placed"] == 300
    [seen] = shop.maps(LOOK)
    assert seen["floor_id"] > 0
    assert shop.verify() == []
