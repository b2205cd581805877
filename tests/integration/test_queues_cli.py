"""`ordermill queues` over real workers: a paused queue stays paused, and what is purged is not lost."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.door import at_rest, backlog, node_of
from tests.months import told
from tests.shop import order
from tests.workers_fixtures import Mill, clean_environment, end, kill
from workers import queues
from workers.child import wait_until
from workers.database import connect
from workers.dead_letters import bury_with, collect
from workers.undecodable import undecodable_key

Done = subprocess.CompletedProcess[str]


def command(mill: Mill, *words: str, stdin: int = subprocess.DEVNULL, group: str = "queues") -> Done:
    env = clean_environment() | mill.env | {"COLUMNS": "80"}
    line = [sys.executable, "-m", "workers.cli", group, *words]
    return subprocess.run(line, env=env, stdin=stdin, capture_output=True, text=True, check=False, timeout=60)


def said(mill: Mill, *words: str) -> str:
    done = command(mill, *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def listed(mill: Mill) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(said(mill, "list", "--json"))
    return found


def consumed(mill: Mill, node: str) -> list[str]:
    """The queues of a worker, by its last report."""
    return next(each["queues"] for each in queues.workers(mill.broker) if each["worker"] == node)


@pytest.fixture
def stopped(mill: Mill) -> Iterator[Mill]:
    """No worker runs, and nothing waits or is paused."""
    mill.living(0)
    mill.broker.flushdb()
    yield mill
    mill.broker.flushdb()


def test_a_paused_queue_stays_paused_over_a_restart_and_goes_on_when_it_is_resumed(door: Mill) -> None:
    door.shop.stock("PAUSED", "E1", 100)
    [worker] = door.living(1)
    paused = said(door, "pause", "orders")
    assert "orders is paused" in paused
    assert "Orders of the SQL door (api.submit_order) are still placed" in paused
    assert paused.splitlines()[-1] == "no worker consumes it now"
    # Whoever adds the queue by remote control is overruled: it is resumed by `resume`.
    given_up = worker.log.read_text().count("Canceling queue orders")
    door.client.control.add_consumer("orders", destination=[node_of(worker)], reply=True, timeout=30)
    # Its log tells: it reports the queue and gives it up at once, which may be too quick to be seen.
    assert wait_until(lambda: worker.log.read_text().count("Canceling queue orders") == given_up + 1, 20)
    assert wait_until(lambda: consumed(door, node_of(worker)) == [], 20)
    requests = [order(None, ("PAUSED", 1)) for _ in range(5)]
    for step, request in zip((0, 0, 3, 6, 9), requests, strict=True):
        door.send("orders.place", request, priority=step)

    kill(worker)
    [another] = door.living(1)  # it is ready, and has reported
    for _ in range(3):  # its loop has turned since
        assert door.client.control.inspect(destination=[node_of(another)], timeout=30).ping()
    assert door.outcomes(requests) == [None] * 5
    assert backlog(door) == 5
    assert listed(door)["orders"] | {"oldest_seconds": 0} == {
        "waiting": 5, "oldest_seconds": 0, "undecodable": 0, "consumers": 0, "paused": True,
    }  # fmt: skip
    # One that began while it was paused does not take it either.
    [told] = door.client.control.add_consumer("orders", destination=[node_of(another)], reply=True, timeout=30)
    assert told == {node_of(another): {"error": "orders is paused: ordermill queues resume orders"}}
    assert wait_until(lambda: consumed(door, node_of(another)) == [], 20)

    resumed = said(door, "resume", "orders")
    assert "orders is resumed" in resumed
    assert f"consumed by {node_of(another)}" in resumed
    assert door.all_decided(requests)
    assert door.orders_by_key(requests) == [1] * 5
    assert at_rest(door)


def test_a_prefork_worker_pauses_one_of_its_queues_and_serves_the_others(mill: Mill) -> None:
    worker = mill.general_worker()
    mill.shop.stock("PREFORK", "E1", 10)
    adjust = {"sku": "PREFORK", "location": "E1", "quantity": 1, "reason": "count"}
    said(mill, "pause", "inventory")
    waits = mill.send("inventory.adjust", adjust, queue="inventory")

    assert mill.call("inventory.adjust", adjust, queue="celery")["status"] == "done"
    assert mill.waiting("inventory") == 1

    said(mill, "resume", "inventory")
    assert waits.get(timeout=60)["status"] == "done"
    end(worker)
    assert node_of(worker) not in {each["worker"] for each in queues.workers(mill.broker)}


def test_a_worker_that_cannot_read_which_queues_are_paused_works_and_says_so(mill: Mill) -> None:
    mill.living(0)
    mill.broker.set(queues.PAUSED, "no set")
    [worker] = mill.living(1)
    mill.shop.stock("UNREADABLE", "E1", 1)

    assert mill.call("orders.place", order(None, ("UNREADABLE", 1)))["status"] == "placed"
    assert "which queues are paused cannot be read: WRONGTYPE" in worker.log.read_text()
    mill.broker.delete(queues.PAUSED)


def test_a_pause_that_no_worker_heeds_is_told_and_twice_is_harmless(stopped: Mill) -> None:
    assert "views is paused" in said(stopped, "pause", "views")
    assert "views was paused already" in said(stopped, "pause", "views")
    assert stopped.broker.srem(queues.PAUSED, "views") == 1
    assert said(stopped, "resume", "views").strip() == "views was not paused"
    queues.pause(stopped.broker, "views")
    done = command(stopped, "resume", "views")
    assert (done.returncode, done.stderr.strip()) == (
        1,
        "no worker consumes it: start one, or see `ordermill status`",
    )


def test_an_unknown_queue_is_refused_by_name(stopped: Mill) -> None:
    for verb in ("pause", "resume", "purge"):
        done = command(stopped, verb, "order")
        assert done.returncode == 2
        assert done.stderr.startswith("ordermill: no queue is named order: give one of orders, inventory, ")


def send_some(mill: Mill) -> list[str]:
    """Messages of each priority, whose ids it gives, and an item that is none."""
    sent = [mill.send("orders.place", order(f"web-{step}", ("A", 1)), priority=step).id for step in (0, 0, 3, 6, 9)]
    mill.broker.rpush("orders", b"\xff\x00 no text")
    return sent


def test_purging_is_refused_without_a_terminal_and_asks_for_the_name_on_one(stopped: Mill) -> None:
    send_some(stopped)
    refused = command(stopped, "purge", "orders")
    assert (refused.returncode, refused.stdout.splitlines()[0]) == (2, "6 messages wait in orders")
    assert refused.stderr.strip() == (
        "ordermill: nothing is done: there is no terminal to ask on; add --yes to purge without asking"
    )

    ours, theirs = pty.openpty()
    os.write(ours, b"yes\n")
    other = command(stopped, "purge", "orders", stdin=theirs)
    os.write(ours, b"orders\n")
    assert (other.returncode, other.stdout.endswith("nothing is done\n")) == (1, True)
    assert backlog(stopped) == 6

    named = command(stopped, "purge", "orders", stdin=theirs)
    os.close(ours)
    os.close(theirs)
    assert named.returncode == 0
    assert named.stdout.endswith("6 messages set aside; the next job collects them, within 10 s\n")
    assert backlog(stopped) == 0


def test_what_is_purged_becomes_dead_letters_and_what_is_in_hand_stays(stopped: Mill) -> None:
    stopped.db.execute("DELETE FROM shop.dead_letters")
    sent = send_some(stopped)
    stopped.broker.hset("orders.unacked", "tag", "[]")

    assert "6 messages set aside" in said(stopped, "purge", "orders", "--yes")
    assert stopped.broker.llen(undecodable_key("orders")) == 6
    with connect(stopped.database_url) as session:
        assert collect(stopped.broker, ("orders",), bury_with(session)) == {"collected": 6, "left": 0}

    letters = stopped.shop.maps("SELECT key, code, task, reason FROM api.dead_letters WHERE key IS NOT NULL")
    assert {letter["key"] for letter in letters} == set(sent)
    assert {(letter["code"], letter["task"]) for letter in letters} == {("OM057", "orders.place")}
    assert stopped.shop.value("SELECT count(*) FROM api.dead_letters") == 6
    assert stopped.broker.hlen("orders.unacked") == 1
    assert said(stopped, "purge", "orders").strip() == "nothing waits in orders"


def test_what_has_expired_is_dropped_and_makes_no_dead_letter(stopped: Mill) -> None:
    task, queue = "orders.sweep", "maintenance"
    stopped.client.send_task(task, queue=queue, expires=datetime.now(UTC) - timedelta(seconds=5))
    kept = [stopped.client.send_task(task, queue=queue, expires=given).id for given in (None, 3_600)]

    shown = said(stopped, "purge", queue, "--yes").splitlines()

    assert shown[-2].startswith("2 messages set aside; ")
    assert shown[-1] == "1 message had expired: dropped, for no worker would run them"
    aside = [json.loads(json.loads(each)["item"]) for each in stopped.broker.lrange(undecodable_key(queue), 0, -1)]
    assert {message["headers"]["id"] for message in aside} == set(kept)
    assert stopped.waiting(queue) == 0


def test_dropping_deletes_for_good_and_says_what_that_means(stopped: Mill) -> None:
    send_some(stopped)

    shown = said(stopped, "purge", "orders", "--drop", "--yes").splitlines()

    assert shown[-1] == "6 messages deleted"
    assert "its key stays unknown" in shown[1]
    assert stopped.broker.keys("orders*") == []


def test_a_message_that_a_worker_takes_meanwhile_is_not_set_aside_too(stopped: Mill) -> None:
    stopped.broker.lpush("views", *(f"message {number}" for number in range(250)))

    class Hasty:
        """Redis, whose worker takes a message after each look at the queue."""

        def __getattr__(self, name: str) -> object:
            if name == "eval":
                stopped.broker.rpop("views")
            return getattr(stopped.broker, name)

    moved, dropped = queues.set_aside(Hasty(), "views")

    left = stopped.broker.llen("views")
    assert (moved + left + 3, dropped) == (250, 0)
    assert stopped.broker.llen(undecodable_key("views")) == moved


def test_a_message_to_a_misspelt_queue_is_seen(stopped: Mill) -> None:
    told(stopped.shop)  # what the module's tests did is old, and no dispatcher runs
    stopped.send("orders.place", order(None, ("A", 1)), queue="ordrs")

    done = command(stopped, "list")

    line = "ordrs is no queue of Ordermill, and 1 message in it: is orders meant?\n"
    assert (done.returncode, done.stderr) == (0, line)
    stopped.send("emails.send", queue="emails", ignore_result=True)  # of an application that shares the broker
    stopped.send("emails.send", queue="emails", ignore_result=True)
    shown = command(stopped, group="status").stdout
    assert line in shown
    assert "emails is no queue of Ordermill, and 2 messages in it: sent by mistake?\n" in shown
    assert "problem" not in shown.replace("no problems", "")
