"""How long orders may wait behind the SQL door: what a pool that is too busy refuses, and how it knows that it is."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.shop import Shop, fingerprint, order
from tests.workers_fixtures import clean_environment
from workers.status import of_database, untold, whole

Connect = Callable[[str], psycopg.Connection[Any]]
LOOK = "SELECT waiting, rate, expected_wait, taken, floor_id FROM shop.queue_looks"


@pytest.fixture
def limited(scratch: Shop) -> Shop:
    """In EAST an order may wait for a second; WEST has no limit."""
    for location in ("E1", "W1"):
        scratch.stock("A", location, 1_000)
    scratch.value("SELECT api.set_queue_limit('EAST', '1 s')")
    return scratch


def submit(shop: Shop, *keys: str, pool: str = "EAST") -> list[str]:
    return [each["status"] for each in shop.submit(*(order(key, ("A", 1), pool=pool) for key in keys))]


def submit_one(shop: Shop, key: str, **fields: Any) -> dict[str, Any]:
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


def patient(shop: Shop, limit: str = "25 s") -> None:
    """A limit so long that no pause of a busy machine counts beside it."""
    assert shop.value("SELECT api.set_queue_limit('EAST', %s)", limit)


def test_what_would_wait_too_long_is_refused_with_a_message_that_says_when_to_come_again(limited: Shop) -> None:
    patient(limited, "20 s")  # as long as a look holds, and before the second refusal all tables are read
    make_busy(limited, rate=1, after=3)
    refused = {
        "key": "late",
        "status": "refused",
        "order_id": None,
        "code": "OM025",
        "field": "pool",
        "message": "Pool EAST is too busy: orders wait about 30.0 s there, of 20 s that they may."
        " Send it again under this key in 30 s.",
    }
    before = fingerprint(limited.db)

    assert submit_one(limited, "late") == refused
    assert limited.submit(order("late", ("A", 1)), order("late", ("A", 2))) == [refused, refused]

    assert fingerprint(limited.db) == before
    assert limited.outcome("late") is None  # the key is unused
    limited.drain()
    look(limited, 30, after=21)
    assert submit_one(limited, "late")["status"] == "accepted"
    limited.drain()
    assert (limited.outcome("late") or {})["status"] == "placed"


def test_of_many_only_the_new_ones_of_the_busy_pool_are_refused(limited: Shop) -> None:
    submit(limited, "known")
    limited.drain()
    make_busy(limited)
    given = [
        order("first", ("A", 1)),
        order("west", ("A", 1), pool="WEST"),
        order("known", ("A", 1)),
        order("known", ("A", 7)),
        order("bad", ("A", 0)),
        order("nowhere", ("A", 1), pool="NORTH"),
        order("waits-1", ("A", 1)),
        order("last", ("A", 1)),
        order("west", ("A", 1), pool="WEST"),
    ]

    outcomes = limited.submit(*given)

    assert [(each["key"], each["status"], each["code"]) for each in outcomes] == [
        ("first", "refused", "OM025"),
        ("west", "accepted", None),
        ("known", "placed", None),
        ("known", "rejected", "OM010"),
        ("bad", "rejected", "OM007"),
        ("nowhere", "rejected", "OM004"),
        ("waits-1", "accepted", None),
        ("last", "refused", "OM025"),
        ("west", "accepted", None),
    ]
    assert limited.rows("SELECT key FROM shop.request_keys WHERE key = ANY(%s)", ["first", "last"]) == []
    assert [limited.outcome(key) for key in ("bad", "nowhere")] == [outcomes[4], outcomes[5]]
    assert submit_one(limited, "known")["status"] == "placed"


def test_a_pool_that_is_busy_keeps_no_other_from_taking_orders(limited: Shop) -> None:
    make_busy(limited)
    limited.value("SELECT api.set_queue_limit('WEST', '1 s')")

    assert submit(limited, "a", pool="WEST") == ["accepted"]
    assert submit(limited, "b", pool="EAST") == ["refused"]


@pytest.mark.parametrize("looked", [False, True])
def test_without_a_drain_orders_are_refused_once_the_oldest_has_waited_too_long(limited: Shop, looked: bool) -> None:
    limited.value("SELECT api.set_queue_limit('EAST', '1 min')")
    submit(limited, "old")
    if looked:
        look(limited)  # the last that it did
    age(limited, 20)
    assert submit_one(limited, "in time")["status"] == "accepted"

    age(limited, 50)

    assert "orders wait about 7" in submit_one(limited, "late")["message"]
    assert submit(limited, "late") == ["refused"]
    limited.drain()  # a drain that has not looked yet
    assert submit_one(limited, "late")["status"] == "accepted"


def test_orders_that_a_drain_has_taken_are_not_those_that_wait(limited: Shop) -> None:
    submit(limited, "poison")
    limited.claim()
    age(limited, 60)

    assert submit_one(limited, "next")["status"] == "accepted"


def test_a_pool_without_a_limit_refuses_nothing_and_is_not_looked_at(limited: Shop) -> None:
    submit(limited, "old", pool="WEST")
    age(limited, 3_600)

    assert look(limited, pool="WEST") == 5
    assert limited.count("queue_looks") == 0
    assert submit(limited, "new", pool="WEST") == ["accepted"]


def test_a_limit_is_set_seen_and_taken_away(limited: Shop) -> None:
    patient(limited)
    make_busy(limited, after=3)
    seen = "SELECT extract(epoch FROM max_wait)::float8, extract(epoch FROM expected_wait)::float8 FROM api.queue"
    assert limited.db.execute(f"{seen} ORDER BY pool".encode()).fetchall() == [(25.0, 3.0), (None, None)]

    assert limited.value("SELECT api.set_queue_limit('EAST', '25 s')") is False
    assert limited.value("SELECT api.set_queue_limit('EAST', '10 s')") is True
    assert submit(limited, "a") == ["accepted"]
    assert limited.value("SELECT api.set_queue_limit('EAST', '1 s')") is True
    assert submit(limited, "b") == ["refused"]
    assert limited.value("SELECT api.set_queue_limit('EAST', NULL)") is True
    assert limited.value("SELECT api.set_queue_limit('EAST', NULL)") is False
    assert submit(limited, "b") == ["accepted"]


@pytest.mark.parametrize(
    ("pool", "limit", "code", "says"),
    [
        ("NORTH", "1 s", "OM004", "pool: there is no pool NORTH"),
        (None, "1 s", "OM004", "pool: there is no pool without a code"),
        ("EAST", "0.09 s", "OM011", "max_wait: give from 0.1 to 86400 seconds, not 0.09"),
        ("EAST", "-1 s", "OM011", "max_wait"),
        ("EAST", "25 hours", "OM011", "max_wait"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(scratch: Shop, pool: str | None, limit: str, code: str, says: str) -> None:
    before = fingerprint(scratch.db)

    with pytest.raises(psycopg.Error, match=says) as caught, scratch.db.transaction():
        scratch.value("SELECT api.set_queue_limit(%s, %s)", pool, limit)

    assert caught.value.sqlstate == code
    assert fingerprint(scratch.db) == before


def test_how_fast_it_goes_is_learned_while_there_is_always_something_to_take(limited: Shop) -> None:
    submit(limited, *(f"k{n}" for n in range(40)))
    assert look(limited, 50) == 0.1
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


def command(database_url: str, *words: str) -> subprocess.CompletedProcess[str]:
    env = clean_environment() | {"DATABASE_URL": database_url, "COLUMNS": "80"}
    line = [sys.executable, "-m", "workers.cli", "pools", *words]
    return subprocess.run(line, env=env, capture_output=True, text=True, check=False, timeout=60)


def test_an_operator_sets_sees_and_takes_away_a_limit(shop: Shop, database_url: str) -> None:
    shop.stock("A", "E1", 100)
    assert command(database_url, "limit", "EAST", "0.5").stdout == "EAST: orders may wait 0.5 s\n"
    assert command(database_url, "limit", "EAST", "0.5").stdout == "EAST: orders may wait 0.5 s, as before\n"
    submit(shop, "a")
    age(shop, 30)

    waited = "SELECT extract(epoch FROM clock_timestamp() - received_at)::float8 FROM shop.order_queue"
    least = shop.value(waited)
    state = whole(of_database(database_url, 5), *map(untold, ("redis", "broker", "cache")))
    table, listed = command(database_url, "list").stdout, command(database_url, "list", "--json").stdout
    most = shop.value(waited)
    [east, west] = json.loads(listed)
    problems = [(each["problem"], each["subject"], each["detail"]) for each in state["problems"]]

    shown = re.search(r"EAST +│ +1 +│ +0 +│ .* │ +0.5 s +│ +(\d+\.\d) s", table)
    assert shown, table
    assert max(map(len, table.splitlines())) <= 80
    assert (west["max_wait_seconds"], west["expected_wait_seconds"]) == (None, None)
    assert (east["waiting"], east["max_wait_seconds"]) == (1, 0.5)
    told = re.fullmatch(
        r"the SQL door refuses its orders: one would wait (\d+\.\d) s, and may wait 0\.5 s", problems[0][2]
    )
    assert told, problems
    assert least - 0.1 <= float(told[1]) <= float(shown[1]) + 0.1 <= most + 0.2
    assert problems[0][:2] == ("too_busy", "EAST")
    assert command(database_url, "limit", "EAST", "none").stdout == "EAST: orders wait as long as it takes\n"
    assert submit(shop, "b") == ["accepted"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("NORTH", "1"), "pool: there is no pool NORTH"),
        (("EAST", "0"), "max_wait: give from 0.1 to 86400 seconds, not 0"),
        (("EAST", "soon"), "soon is no number of seconds"),
    ],
)
def test_a_limit_that_an_operator_mistyped_is_one_clear_line(
    database_url: str, words: tuple[str, str], says: str
) -> None:
    done = command(database_url, "limit", *words)

    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_from_half_of_the_limit_on_some_are_refused_and_the_more_the_longer_orders_wait(limited: Shop) -> None:
    def refused(seconds: float) -> int:
        limited.db.execute(
            "UPDATE shop.queue_looks SET looked_at = clock_timestamp(), expected_wait = %s", [f"{seconds} hours"]
        )
        limited.value("SELECT setseed(0.5)")
        # In hours, for a look holds for as long as an order may wait.
        return int(
            limited.value(
                "SELECT count(shop.why_busy(%s, 'EAST', '1 h')) FROM generate_series(1, 100)", limited.pool_id()
            )
        )

    look(limited)

    counts = [refused(seconds) for seconds in (0.0, 0.49, 0.6, 0.8, 1.01)]

    assert (counts[0], counts[1], counts[4]) == (0, 0, 100)
    assert 5 < counts[2] < 40 < counts[3] < 80
