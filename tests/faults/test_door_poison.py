"""An order, or a command, that kills its worker each time: a dead letter after its attempts, and the others are done.

What is only slow, or met an outage, has used up no attempt.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.faults.test_database_away import mill_on_postgres, postgres, reconnected
from tests.nursery import Nursery
from tests.shop import order
from tests.workers_fixtures import Mill, kill, ready
from workers.child import wait_until
from workers.database import connect
from workers.embedded import EmbeddedPostgres

__all__ = ["mill_on_postgres", "postgres"]

ATTEMPTS = 3  # ORDERMILL_CLAIM_ATTEMPTS
# Ordermill, but that a process which is about to place or adjust what is called POISON dies of it, as by a fault in the
# driver: whatever it does with the others, PostgreSQL has not heard of this statement.
POISON_APP = """
import os
import signal

from sqlalchemy import Engine, event

from workers.app import app


@event.listens_for(Engine, "before_cursor_execute")
def die(connection, cursor, statement, parameters, context, executemany):
    deadly = "api.place_order" in statement or "api.adjust_inventory" in statement
    if deadly and "POISON" in repr([getattr(each, "obj", each) for each in parameters]):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def poisoned(fresh_mill: Mill) -> Mill:
    """A mill with `poison_app`, and enough stock of A."""
    (fresh_mill.folder / "poison_app.py").write_text(POISON_APP)
    fresh_mill.shop.stock("A", "E1", 1_000)
    return fresh_mill


@pytest.fixture
def poison_nursery(poisoned: Mill) -> Iterator[Nursery]:
    with Nursery(poisoned, "poison_app") as nursery:
        yield nursery


def settled(mill: Mill) -> bool:
    """Nothing is left in Redis, nor any counted attempt in PostgreSQL."""
    with mill.broker.pipeline() as look:  # in one look: what one gives back another may take
        left = look.llen("orders").hlen("orders.unacked").zcard("orders.unacked_index").execute()
    return not any(left) and not mill.shop.count("message_attempts")


def test_an_order_that_kills_its_worker_is_a_dead_letter_and_the_fifty_beside_it_are_placed(
    poisoned: Mill, poison_nursery: Nursery
) -> None:
    mill, good = poisoned, [order(None, ("A", 1)) for _ in range(50)]
    poison = order("POISON", ("A", 1))
    for request in [*good[:20], poison, *good[20:]]:
        mill.send("orders.place", request)
    worker, deaths = poison_nursery.begin(), 0

    def decided() -> bool:
        nonlocal worker, deaths
        if not worker.alive():
            worker, deaths = poison_nursery.begin(), deaths + 1
        return mill.all_decided([*good, poison], 0)

    assert wait_until(decided, 90)
    assert wait_until(lambda: settled(mill), 20)
    assert deaths == 1 + ATTEMPTS  # once with the batch, which counts as no attempt, and then alone
    assert worker.alive()
    assert mill.orders_by_key([*good, poison]) == [1] * 50 + [0]
    dead = mill.shop.outcome("POISON")
    assert dead is not None
    assert (dead["status"], dead["code"]) == ("dead", "OM090")
    letters = mill.shop.maps("SELECT key, source, code, attempts, payload FROM api.dead_letters")
    assert [(letter["key"], letter["source"], letter["code"]) for letter in letters] == [("POISON", "celery", "OM090")]
    assert letters[0]["attempts"] == ATTEMPTS
    assert letters[0]["payload"]["skus"] == ["A"]


def test_a_list_that_kills_its_workers_is_taken_apart_and_only_the_deadly_order_is_dead(
    poisoned: Mill, poison_nursery: Nursery
) -> None:
    mill, good = poisoned, [order(None, ("A", 1)) for _ in range(10)]
    result = mill.send("orders.place_many", [*good[:5], order("POISON", ("A", 1)), *good[5:]])
    worker = poison_nursery.begin()

    def decided() -> bool:
        nonlocal worker
        if not worker.alive():
            worker = poison_nursery.begin()
        return mill.all_decided([*good, order("POISON")], 0)

    assert wait_until(decided, 90)
    assert wait_until(lambda: settled(mill), 20)
    assert [outcome["status"] for outcome in result.get(timeout=20)] == ["accepted"] * 11
    assert mill.orders_by_key(good) == [1] * 10
    assert mill.shop.outcome("POISON")["code"] == "OM090"  # type: ignore[index]
    assert mill.shop.rows("SELECT key FROM api.dead_letters") == ["POISON"]


def test_a_command_that_kills_its_process_is_a_dead_letter_and_the_others_are_done(poisoned: Mill) -> None:
    mill = poisoned
    commands = [
        {"key": key, "sku": "A", "location": "E1", "quantity": 1, "reason": "found"}
        for key in [*(f"good-{n}" for n in range(10)), "POISON", *(f"good-{n}" for n in range(10, 20))]
    ]
    general = ready(mill.start_worker("general", "inventory", "-c", "1", app="poison_app"))

    results = [mill.send("inventory.adjust", command, queue="inventory") for command in commands]

    outcomes = [result.get(timeout=90)["status"] for result in results]
    assert outcomes == ["done"] * 10 + ["dead"] + ["done"] * 10
    assert wait_until(lambda: not mill.waiting("inventory") and not mill.broker.hlen("unacked"), 20)
    assert general.alive()
    assert general.log.read_text().count("WorkerLostError") >= 1 + ATTEMPTS
    assert mill.shop.level("A", "E1") == {"available": 1_020}
    [letter] = mill.shop.maps("SELECT key, code, payload, attempts FROM api.dead_letters")
    assert (letter["key"], letter["code"]) == (results[10].id, "OM091")
    assert letter["payload"]["message"]["args"] == [commands[10]]
    assert settled(mill)


@pytest.fixture
def redelivered(fresh_mill: Mill) -> list[Any]:
    """The results of five orders whose worker was killed while it placed them; no worker lives."""
    return taken_over(fresh_mill, 5)


def taken_over(mill: Mill, count: int) -> list[Any]:
    mill.shop.stock("A", "E1", 1_000)
    mill.env["ORDERMILL_RETRY_SLOW_SECONDS"] = "0.2"
    worker = mill.orders_worker()
    with mill.locked_stock("A"):
        results = [mill.send("orders.place", order(None, ("A", 1))) for _ in range(count)]
        backends = mill.wait_blocked()
        assert wait_until(lambda: mill.broker.hlen("orders.unacked") == count, 20)
        kill(worker)
        mill.terminate(backends)
    return results


def all_placed(mill: Mill, results: list[Any]) -> None:
    outcomes = [result.get(timeout=90) for result in results]
    assert [outcome["status"] for outcome in outcomes] == ["placed"] * len(results)
    assert mill.shop.level("A", "E1") == {"available": 1_000 - len(results), "committed": len(results)}
    assert mill.shop.count("dead_letters") == 0
    assert wait_until(lambda: settled(mill), 20)


def test_what_is_slow_again_and_again_uses_up_no_attempts(fresh_mill: Mill, redelivered: list[Any]) -> None:
    mill = fresh_mill
    mill.env["ORDERMILL_LOCK_TIMEOUT_MS"] = "50"
    with mill.locked_stock("A"):  # each attempt waits for it, gives up, and is made again later
        worker = mill.orders_worker()
        assert wait_until(lambda: worker.log.read_text().count("goes back to the queue") > 10 * ATTEMPTS, 60)

    all_placed(mill, redelivered)


def test_sessions_cut_in_the_middle_of_attempts_use_up_none(fresh_mill: Mill, redelivered: list[Any]) -> None:
    mill, cuts = fresh_mill, 0
    mill.env["ORDERMILL_LOCK_TIMEOUT_MS"] = "2500"
    with mill.locked_stock("A"):
        mill.orders_worker()
        while cuts < 3 * ATTEMPTS:
            mill.terminate(mill.wait_blocked())
            cuts += 1

    all_placed(mill, redelivered)


def test_a_database_that_stops_in_the_middle_of_attempts_uses_up_none(
    mill_on_postgres: Mill, postgres: EmbeddedPostgres
) -> None:
    mill = mill_on_postgres
    results = taken_over(mill, 1)
    mill.env["ORDERMILL_LOCK_TIMEOUT_MS"] = "2500"
    worker = None
    for outages in range(1, 2 * ATTEMPTS + 1):
        with contextlib.suppress(psycopg.OperationalError), mill.locked_stock("A"):  # it ends our session too
            worker = worker or mill.orders_worker()  # not before the stock is locked: it may place at once
            os.killpg(worker.process.pid, signal.SIGCONT)
            mill.wait_blocked()
            postgres.stop()
        log = worker.log
        assert wait_until(lambda log=log, count=outages: log.read_text().count("consuming stops") >= count, 30)
        os.killpg(worker.process.pid, signal.SIGSTOP)  # else it may place the order before the stock is locked again
        postgres.start()
        reconnected(mill)

    os.killpg(worker.process.pid, signal.SIGCONT)
    all_placed(mill, results)
    assert worker.alive()


# An order of POISON never comes to its end: its backend is found by this, and killed.
ENDLESS = """
CREATE FUNCTION shop.endless() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END';
CREATE TRIGGER endless BEFORE INSERT ON shop.orders FOR EACH ROW WHEN (NEW.key = 'POISON')
EXECUTE FUNCTION shop.endless()
"""
ASLEEP = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"


@pytest.mark.parametrize(
    ("many", "options"), [(False, {}), (False, {"expires": 600}), (True, {})], ids=["plain", "alone", "a list"]
)
def test_an_order_that_takes_postgresql_down_with_it_each_time_is_a_dead_letter(
    mill_on_postgres: Mill, many: bool, options: dict[str, Any]
) -> None:
    mill = mill_on_postgres
    mill.shop.stock("A", "E1", 10)
    mill.db.execute(ENDLESS)
    worker = mill.orders_worker()
    requests = [order("POISON", ("A", 1)), *(order(None, ("A", 1)) for _ in range(5))]
    if many:
        mill.send("orders.place_many", requests)
    else:
        for request in requests:
            mill.send("orders.place", request, **options)

    def decided() -> bool:
        # Of a backend that was seen and has ended since there is nothing to kill.
        ended = (psycopg.OperationalError, ProcessLookupError)
        with contextlib.suppress(*ended), connect(mill.database_url) as admin:
            for (pid,) in admin.execute(ASLEEP).fetchall():
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(psycopg.OperationalError), connect(mill.database_url) as admin:
            dead = admin.execute("SELECT count(*) FROM api.dead_letters").fetchone()
            return dead == (1,)
        return False

    assert wait_until(decided, 90)
    reconnected(mill)
    assert mill.all_decided(requests)
    outcomes = [outcome or {} for outcome in mill.outcomes(requests)]
    assert [outcome["status"] for outcome in outcomes] == ["dead", *["placed"] * 5]
    assert outcomes[0]["code"] == "OM090"
    assert mill.shop.rows("SELECT attempts FROM api.dead_letters") == [ATTEMPTS]
    assert worker.alive()
