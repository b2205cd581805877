"""How long orders may wait behind the SQL door: what a pool that is too busy refuses, and who sets it."""

import json
import re
import subprocess
import sys

import psycopg
import pytest

from tests.limits import age, look, make_busy, patient, submit, submit_one
from tests.shop import Shop, fingerprint, order
from tests.workers_fixtures import clean_environment
from workers.status import of_database, untold, whole


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
    age(limited, 12.5)
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
