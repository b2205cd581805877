"""`ordermill status` and /healthz: what they tell, and each state of affairs that is a problem."""

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import redis

from tests.shop import Shop, order
from tests.workers_fixtures import clean_environment
from workers import queues
from workers.child import wait_until
from workers.database import CONNECTING, connect
from workers.problems import problems_of
from workers.queue_names import ALL_QUEUES
from workers.status import collect, of_database
from workers.timetable import CADENCES

STATUS = [sys.executable, "-m", "workers.cli", "status"]
NOBODY = "127.0.0.1:1"
Ask = Callable[[], dict[str, Any]]


@pytest.fixture
def broker(broker_url: str) -> Any:
    with redis.Redis.from_url(broker_url) as client:
        yield client


@pytest.fixture
def ask(database_url: str, redis_url: str, broker_url: str) -> Ask:
    """The state of this test's database and Redis."""
    return lambda: collect(database_url, redis_url, broker_url)


def names(state: dict[str, Any]) -> list[tuple[str, str]]:
    return [(problem["problem"], problem["subject"]) for problem in state["problems"]]


def run(database_url: str, redis_url: str, broker_url: str, *options: str) -> subprocess.CompletedProcess[str]:
    env = clean_environment() | {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "COLUMNS": "80"}
    env |= {"CELERY_BROKER_URL": broker_url}
    return subprocess.run([*STATUS, *options], env=env, capture_output=True, text=True, check=False, timeout=60)


def ran(db: psycopg.Connection[Any], job: str, age: float, state: str = "succeeded") -> None:
    """A run of a job in a slot so many seconds ago."""
    db.execute(
        """INSERT INTO shop.job_runs (job, slot, state, started_at, finished_at, result)
           SELECT %s, s, %s, s, s, '{"error": "out of luck"}'
           FROM (SELECT now() - make_interval(secs => %s)) AS t (s)""",
        [job, state, age],
    )


# What is told


def test_a_fresh_shop_is_healthy_and_json_has_each_part(
    ask: Ask, shop: Shop, database_url: str, redis_url: str, broker_url: str
) -> None:
    done = run(database_url, redis_url, broker_url, "--json")

    state = json.loads(done.stdout)
    assert (done.returncode, state["problems"], state["errors"]) == (0, [], [])
    assert set(state) == set(ask()) == {
        *("database", "redis", "broker", "workers", "queues", "strays", "in_hand", "order_queue", "events"),
        *("dead_letters", "alerts", "jobs", "partitions", "connections", "connection_limit", "old_orders"),
        *("orders_last_day", "cache", "errors", "problems"),
    }  # fmt: skip
    assert set(state["queues"]) == set(ALL_QUEUES)
    assert state["queues"]["orders"] == {
        "waiting": 0, "oldest_seconds": None, "undecodable": 0, "consumers": 0, "paused": False,
    }  # fmt: skip
    assert [job["job"] for job in state["jobs"]] == list(CADENCES)
    assert state["partitions"] == [{"months_ahead": 6}]
    assert 0 < state["connection_limit"]["used"] < state["connection_limit"]["usable"]
    assert {row["waits_for"] for row in state["events"]} >= {"inbox"}


def test_the_tables_fit_eighty_columns_and_the_exit_code_tells_of_a_problem(
    shop: Shop, broker: Any, database_url: str, redis_url: str, broker_url: str
) -> None:
    broker.lpush("views\x06\x166", "a message")
    for job, cadence in CADENCES.items():
        ran(shop.db, job, cadence / 2)
    shown = run(database_url, redis_url, broker_url)
    probed = run(database_url, redis_url, broker_url, "--probe")

    assert (shown.returncode, probed.returncode) == (1, 1)
    line = "problem no_consumer views: no worker consumes this queue; 1 wait, the oldest for at least "
    assert shown.stdout.splitlines()[-1].startswith(line)
    assert probed.stdout.startswith(line)
    assert probed.stdout.count("\n") == 1
    assert max(len(line) for line in shown.stdout.splitlines()[:-1]) <= 80
    assert (shown.stderr, probed.stderr) == ("", "")
    for job in CADENCES:  # each in one line, whole
        cells = r" +\d+ (s|min|h|d) +│ +\d+ (s|min|h|d) ago +│ succeeded +│ in time +│"
        assert re.search(rf"^│ {re.escape(job)} +│{cells}$", shown.stdout, re.MULTILINE), job


# What is a problem


def test_a_silent_server_is_a_problem_and_the_others_are_still_shown(
    database_url: str, redis_url: str, broker_url: str
) -> None:
    lost = collect(f"postgresql://u@{NOBODY}/x", redis_url, f"redis://{NOBODY}/0")
    found = collect(database_url, f"redis://{NOBODY}/0", broker_url)

    assert names(lost)[0][0] == names(lost)[1][0] == "silent"
    assert [subject for _, subject in names(lost)] == ["database", "broker"]
    assert (lost["database"], lost["jobs"], lost["queues"]) == (None, None, None)
    assert lost["redis"]
    assert names(found) == [("silent", "redis")]
    assert found["database"]
    assert found["queues"]["orders"]["waiting"] == 0


def test_a_database_that_is_not_migrated_or_not_to_be_read_says_what_to_do(
    database_url: str, empty_database_url: str
) -> None:
    [unmigrated] = of_database(empty_database_url, 5)["errors"]
    [refused] = of_database(f"{database_url}?options=-crole%3Dordermill_app", 5)["errors"]

    assert unmigrated.startswith("database: the database is not migrated (")
    assert unmigrated.endswith("): run `ordermill migrate`")
    assert refused.startswith("database: permission denied for ")
    assert refused.endswith(": set DATABASE_URL to a login that is a member of ordermill_reader")


def test_verify_gives_up_on_a_frozen_database_unless_its_url_has_more_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        url = f"postgresql://u@127.0.0.1:{frozen.getsockname()[1]}/x"
        env = clean_environment() | {"DATABASE_URL": url}
        done = subprocess.run(
            [*STATUS[:-1], "verify"], env=env, capture_output=True, text=True, check=False, timeout=40
        )
        monkeypatch.setitem(CONNECTING, "connect_timeout", 60)  # the 2 of the URL are told from it on a busy machine
        started = time.monotonic()
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            connect(f"{url}?connect_timeout=2")
        assert time.monotonic() - started < 30

    assert (done.returncode, done.stderr) == (
        2,
        "ordermill: PostgreSQL: connection timeout expired: check DATABASE_URL\n",
    )


def test_what_is_no_report_of_a_worker_hides_nothing_and_is_forgotten(ask: Ask, broker: Any) -> None:
    now = broker.time()[0]
    bad = ["", "no time", f"{now} no JSON", f"{now} 7", f"{now} []", f'{now} {{"queues": 7}}', f"{now} " + "[" * 99_999]
    for number, value in enumerate(
        [*bad, b"\xff", f'{now} {{"processes": 2}}', f'{now} {{"queues": [], "processes": []}}']
    ):
        broker.hset(queues.WORKERS, f"bad{number}", value)
    broker.hset(queues.WORKERS, b"\xff@there", f'{now} {{"queues": ["views"]}}')

    state = ask()

    assert names(state) == []
    assert [(each["worker"], each["processes"], each["waits_for_database"]) for each in state["workers"]] == [
        ("\\xff@there", 1, False)
    ]
    assert broker.hlen(queues.WORKERS) == 1


def test_a_worker_that_was_silent_for_a_day_is_forgotten(broker: Any) -> None:
    ago = broker.time()[0] - queues.FORGOTTEN_SECONDS
    for name, at in (("lately", ago + 60), ("long", ago - 1)):
        broker.hset(queues.WORKERS, name, f'{at} {{"queues": []}}')

    assert [each["worker"] for each in queues.workers(broker)] == ["lately"]
    assert broker.hkeys(queues.WORKERS) == [b"lately"]


def test_what_waits_with_no_consumer_is_a_problem_unless_its_queue_is_paused(ask: Ask, broker: Any) -> None:
    broker.lpush("orders", "a message")
    assert names(ask()) == [("no_consumer", "orders")]

    queues.report(broker, "orders1@there", {"queues": ["orders"], "processes": 1, "waits_for_database": False})
    consumed = ask()
    assert names(consumed) == []
    assert consumed["queues"]["orders"]["consumers"] == 1
    assert consumed["workers"][0]["worker"] == "orders1@there"

    long_ago = broker.time()[0] - queues.SILENT_SECONDS - 2
    broker.hset(queues.WORKERS, "orders1@there", f"{long_ago} " + json.dumps({"queues": ["orders"]}))
    assert names(ask()) == [("no_consumer", "orders")]

    queues.pause(broker, "orders")
    assert names(ask()) == []
    assert ask()["queues"]["orders"]["paused"]


def test_the_oldest_message_is_at_least_as_old_as_the_newest_that_was_seen_before(broker: Any) -> None:
    look = lambda: queues.look(broker, ("views",), [])["views"]  # noqa: E731
    broker.lpush("views", "first", "second")
    assert look()["oldest_seconds"] == 0
    assert wait_until(lambda: look()["oldest_seconds"] > 0.2, 10)

    broker.lpush("views", "third")
    assert broker.rpop("views") == b"first"
    assert look()["oldest_seconds"] > 0.2  # `second` was there then, and is now

    assert broker.rpop("views") == b"second"
    assert look()["oldest_seconds"] == 0  # of `third` nothing is known
    broker.delete("views")
    assert look()["oldest_seconds"] is None
    assert broker.hlen(queues.MARKS) == 0


AGED = """
local marks = cmsgpack.unpack(redis.call('HGET', KEYS[1], ARGV[1]))
for _, mark in ipairs(marks) do mark[1] = mark[1] - ARGV[2] end
redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(marks))
return #marks"""


def test_the_age_falls_short_by_a_quarter_at_most_in_a_queue_that_moves(broker: Any) -> None:
    """Each message waits for 600 s; ten seconds pass between two looks."""
    shown, marks = [], []
    for number in range(240):
        broker.lpush("views", f"message {number}")
        if number >= 60:
            broker.rpop("views")
        shown.append(queues.look(broker, ("views",), [])["views"]["oldest_seconds"])
        marks.append(broker.eval(AGED, 1, queues.MARKS, "views", 10))

    assert min(shown[60:]) > 600 * 0.7
    assert max(shown) < 600 + 60  # the test's own time passes too
    assert max(marks) <= 10


def test_the_age_of_a_queue_deeper_than_is_looked_through_is_that_of_what_is_taken_next(
    broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "LAST_SEEN", 100)
    look = lambda: queues.look(broker, ("views",), [])["views"]["oldest_seconds"]  # noqa: E731
    broker.lpush("views", *(f"message {number}" for number in range(300)))
    assert look() == 0
    broker.eval(AGED, 1, queues.MARKS, "views", 60)
    broker.lpush("views", *(f"later {number}" for number in range(300)))
    for _ in range(90):
        broker.rpop("views")

    assert look() >= 60


def test_a_long_message_has_an_age_too(broker: Any) -> None:
    broker.lpush("views", "x" * 500_000)
    queues.look(broker, ("views",), [])
    broker.eval(AGED, 1, queues.MARKS, "views", 60)

    assert queues.look(broker, ("views",), [])["views"]["oldest_seconds"] >= 60


def test_what_waits_for_long_is_a_problem_though_it_is_consumed_unless_its_queue_is_paused(
    ask: Ask, broker: Any
) -> None:
    broker.lpush("views", "a message")
    queues.report(broker, "general@there", {"queues": ["views"], "processes": 1, "waits_for_database": False})
    assert names(ask()) == []
    broker.eval(AGED, 1, queues.MARKS, "views", 290)
    assert names(ask()) == []
    broker.eval(AGED, 1, queues.MARKS, "views", 11)
    assert names(ask()) == [("queue_old", "views")]

    queues.pause(broker, "views")
    assert names(ask()) == []


def test_a_job_that_is_overdue_for_its_paused_queue_says_so(ask: Ask, broker: Any, db: psycopg.Connection[Any]) -> None:
    for job, cadence in CADENCES.items():
        ran(db, job, 200 if job == "orders.sweep" else cadence / 2)
    assert "paused" not in ask()["problems"][0]["detail"]
    queues.pause(broker, "maintenance")

    state = ask()

    assert names(state) == [("job_overdue", "orders.sweep")]
    assert state["problems"][0]["detail"].endswith("due each 10 s: its queue maintenance is paused")


def test_too_few_partitions_are_a_problem(ask: Ask, db: psycopg.Connection[Any]) -> None:
    third = datetime.now(UTC).replace(day=1) + timedelta(days=31 * 3)
    db.execute(f"DROP TABLE shop.stock_movements_{third:%Y_%m}".encode())

    state = ask()

    assert names(state) == [("partitions", "partitions")]
    assert state["problems"][0]["detail"] == "made for 2 months ahead, below 3"


def test_a_job_is_overdue_when_slots_passed_without_a_success_and_a_failed_daily_job_is_seen_at_once(
    ask: Ask, db: psycopg.Connection[Any]
) -> None:
    for job, cadence in CADENCES.items():
        ran(db, job, cadence / 2)
    assert names(ask()) == []

    ran(db, "maintenance.verify", 1, "failed")
    ran(db, "orders.sweep", 1, "failed")  # it is tried again in seconds
    state = ask()
    assert names(state) == [("job_failed", "maintenance.verify")]
    assert state["problems"][0]["detail"] == "its last run failed: out of luck"

    db.execute("DELETE FROM shop.job_runs WHERE job = 'orders.sweep'")
    ran(db, "orders.sweep", 200)
    assert names(ask()) == [("job_overdue", "orders.sweep"), ("job_failed", "maintenance.verify")]


def test_a_job_that_never_ran_is_overdue_once_beat_is_known_to_have_worked(
    ask: Ask, db: psycopg.Connection[Any]
) -> None:
    ran(db, "orders.sweep", 5)
    assert names(ask()) == []
    ran(db, "orders.sweep", 1_000)

    assert {("job_overdue", "maintenance.prune"), ("job_overdue", "maintenance.verify")} <= {*names(ask())}


def test_old_orders_and_old_events_are_problems(ask: Ask, shop: Shop, db: psycopg.Connection[Any]) -> None:
    shop.stock("A", "E1", 5)
    shop.submit(order("web-1", ("A", 1)))
    assert names(ask()) == []

    db.execute("UPDATE shop.order_queue SET received_at = now() - interval '61 seconds'")
    db.execute(
        """INSERT INTO shop.events_inbox (id, stream, kind, payload, created_at)
           VALUES (shop.uuid7(), 'order:1', 'order.placed', '{}', now() - interval '2 minutes')"""
    )

    assert names(ask()) == [("orders_old", "EAST"), ("event_lag", "inbox")]


def test_orders_without_any_job_say_that_beat_is_missing(ask: Ask, shop: Shop, db: psycopg.Connection[Any]) -> None:
    shop.stock("A", "E1", 5)
    shop.place_one(order("web-1", ("A", 1)))
    state = ask()
    assert names(state) == []

    state["old_orders"] = [{"found": True}]  # an order's id cannot be made old

    assert names({"problems": problems_of(state)}) == [("job_overdue", "all")]


def test_connections_near_their_limit_are_a_problem(ask: Ask) -> None:
    state = ask()
    state["connection_limit"] |= {"used": 90, "usable": 100}

    assert names({"problems": problems_of(state)}) == [("connections", "PostgreSQL")]


def test_dead_letters_are_shown_and_are_no_problem(ask: Ask, db: psycopg.Connection[Any]) -> None:
    db.execute("SELECT api.bury_message('orders.place', 't-1', '{}', 'poison', 1)")

    state = ask()

    assert state["dead_letters"] == [{"source": "celery", "code": "OM091", "letters": 1}]
    assert names(state) == []
