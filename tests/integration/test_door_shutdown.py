"""How orders workers end: warmly, softly, coldly, by remote control, killed. No message is lost, none placed twice."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.door import at_rest, backlog, by_hand, compact, in_hand, items, marked_redelivered, node_of
from tests.shop import order
from tests.workers_fixtures import Mill, kill, ready
from workers.child import Child, wait_until

pytestmark = pytest.mark.usefixtures("patient")
LIMIT = 10
ENDS = 60
# Production's own: a message of a killed worker is back within ten seconds.
VISIBILITY_TIMEOUT, BACK_WITHIN = 8, 10


def publish(mill: Mill, requests: list[dict[str, Any]]) -> None:
    """All at the same moment, so that the next fetch takes as many as it may."""
    mill.broker.lpush("orders", *(compact(by_hand(request, ignore_result=True)) for request in requests))


def small_worker(mill: Mill, *options: str, **env: str) -> Child:
    return ready(mill.start_worker("small", "orders", "-P", "solo", *options, ORDERMILL_ORDERS_PREFETCH="10", **env))


@contextlib.contextmanager
def inside_a_batch(mill: Mill, sku: str, requests: list[dict[str, Any]]) -> Iterator[int]:
    """Within the block a worker has taken its first messages and waits for stock; gives how many it has in hand."""
    with mill.locked_stock(sku):
        publish(mill, requests)
        mill.wait_blocked()
        yield in_hand(mill)


def queues_of(mill: Mill, worker: Child) -> list[Any]:
    answers = mill.client.control.inspect(destination=[node_of(worker)], timeout=30).active_queues()
    queues: list[Any] = answers[node_of(worker)]
    return queues


def exit_code(child: Child) -> int:
    assert child.process is not None
    return child.process.wait(ENDS)


def waiting_keys(mill: Mill, requests: list[dict[str, Any]]) -> list[str]:
    """The keys of these that wait, the next to be taken first."""
    by_body = {by_hand(request)["body"]: request["key"] for request in requests}
    return [by_body[item["body"]] for item in reversed(items(mill)) if item["body"] in by_body]


def all_are_decided_by_another(mill: Mill, requests: list[dict[str, Any]]) -> None:
    mill.living(1)
    assert mill.all_decided(requests)
    assert mill.orders_by_key(requests) == [1] * len(requests)
    assert at_rest(mill)


@pytest.fixture
def plenty(mill: Mill, sku: str) -> str:
    """A hundred units, an empty broker, and no worker that an earlier test has left."""
    for child in mill.children:
        if child.alive():
            kill(child)
    mill.broker.flushdb()
    mill.shop.stock(sku, "E2", 90)
    return sku


def test_a_warm_stop_finishes_the_batch_in_hand_and_gives_back_the_rest_as_it_was(mill: Mill, plenty: str) -> None:
    worker = small_worker(mill)
    later = [order(None, (plenty, 1)) for _ in range(3)]
    for request in later:
        mill.send("orders.place", request, eta=datetime.now(UTC) + timedelta(hours=1), ignore_result=True)
    assert wait_until(lambda: in_hand(mill) == len(later), 30)
    requests = [order(None, (plenty, 1)) for _ in range(30)]

    with inside_a_batch(mill, plenty, requests) as held:
        taken = held - len(later)
        worker.ask()

    assert exit_code(worker) == 0
    assert mill.orders_by_key(requests) == [1] * taken + [0] * (30 - taken)
    assert in_hand(mill) == 0
    assert backlog(mill) == 30 - taken + len(later)
    assert not any(marked_redelivered(item) for item in items(mill))
    assert waiting_keys(mill, requests) == [request["key"] for request in requests[taken:]]
    mill.broker.delete("orders")
    publish(mill, requests[taken:])
    all_are_decided_by_another(mill, requests)


def test_a_warm_stop_leaves_what_waits_in_each_priority_where_it_is(mill: Mill, plenty: str) -> None:
    worker = small_worker(mill)
    requests = [order(None, (plenty, 1)) for _ in range(40)]
    with mill.locked_stock(plenty):
        for place, request in enumerate(requests):
            mill.send("orders.place", request, priority=(0, 3, 6, 9)[place // 10], ignore_result=True)
        mill.wait_blocked()
        worker.ask()

    assert exit_code(worker) == 0
    assert in_hand(mill) == 0
    assert backlog(mill) == 40 - sum(mill.orders_by_key(requests))
    assert not any(marked_redelivered(item) for item in items(mill))
    all_are_decided_by_another(mill, requests)


@pytest.mark.parametrize("options", [(), ("--", "worker.soft_shutdown_timeout=1")], ids=["cold", "soft"])
def test_a_cold_or_soft_shutdown_in_the_middle_of_a_batch_loses_nothing(
    mill: Mill, plenty: str, options: tuple[str, ...]
) -> None:
    worker = small_worker(mill, *options)
    requests = [order(None, (plenty, 1)) for _ in range(30)]

    with inside_a_batch(mill, plenty, requests):
        worker.ask(signal.SIGQUIT)

    exit_code(worker)
    assert in_hand(mill) + backlog(mill) >= 30 - sum(mill.orders_by_key(requests))
    all_are_decided_by_another(mill, requests)


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT])
def test_an_idle_worker_that_is_told_to_end_gives_back_what_waits_for_its_time(
    mill: Mill, plenty: str, number: signal.Signals
) -> None:
    worker = small_worker(mill)
    request = order(None, (plenty, 1))
    mill.send("orders.place", request, eta=datetime.now(UTC) + timedelta(hours=1))
    assert wait_until(lambda: in_hand(mill) == 1, 30)

    worker.ask(number)

    exit_code(worker)
    assert (in_hand(mill), backlog(mill)) == (0, 1)
    assert not marked_redelivered(items(mill)[0])
    assert mill.shop.outcome(request["key"]) is None


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT])
def test_a_stop_that_is_asked_for_again_and_again_makes_no_failure_of_what_is_run_alone(
    mill: Mill, plenty: str, number: signal.Signals
) -> None:
    worker, request, moment = small_worker(mill), order(None, (plenty, 1)), threading.Event()
    with mill.locked_stock(plenty):
        result = mill.send("orders.place", request, expires=600)
        mill.wait_blocked()
        for _ in range(3):
            worker.ask(number)
            moment.wait(0.15)  # never set: a signal that comes too soon after another is one with it

    exit_code(worker)
    assert result.state != "FAILURE"
    all_are_decided_by_another(mill, [request])
    assert result.get(timeout=30)["status"] == "placed"
    assert mill.shop.count("dead_letters") == 0


def test_a_stop_by_remote_control_is_a_warm_one(mill: Mill, plenty: str) -> None:
    worker = small_worker(mill)
    requests = [order(None, (plenty, 1)) for _ in range(30)]

    with inside_a_batch(mill, plenty, requests) as taken:
        mill.client.control.shutdown(destination=[node_of(worker)])

    assert exit_code(worker) == 0
    assert taken <= sum(mill.orders_by_key(requests))
    assert in_hand(mill) == 0
    assert not any(marked_redelivered(item) for item in items(mill))
    all_are_decided_by_another(mill, requests)


def test_a_killed_workers_messages_are_decided_within_ten_seconds_with_the_settings_of_production(
    mill: Mill, plenty: str
) -> None:
    mill.env["ORDERMILL_VISIBILITY_TIMEOUT"] = str(VISIBILITY_TIMEOUT)
    worker = ready(mill.begin_orders_worker())
    requests = [order(None, (plenty, 1)) for _ in range(30)]
    heir = ready(mill.begin_orders_worker())  # its start is not what ten seconds are promised for
    asked = {"destination": [node_of(heir)], "reply": True, "timeout": 30}
    assert mill.client.control.cancel_consumer("orders", **asked)
    assert wait_until(lambda: queues_of(mill, heir) == [], 30)
    assert mill.call("orders.place", order(None, (plenty, 1)))["status"] == "placed"  # what it waited for has come
    assert at_rest(mill)

    with inside_a_batch(mill, plenty, requests) as taken:
        backends = mill.blocked()
        kill(worker)
        mill.terminate(backends)
    began = time.monotonic()
    assert taken == in_hand(mill) == 30
    mill.client.control.add_consumer("orders", destination=[node_of(heir)])

    assert mill.all_decided(requests, BACK_WITHIN - (time.monotonic() - began))
    assert mill.orders_by_key(requests) == [1] * 30
    assert at_rest(mill)
