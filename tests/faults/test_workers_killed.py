"""Workers killed or stopped while they work: each order exactly once, nothing lost, whoever takes it over."""

import os
import signal
import subprocess
import time
from typing import Any

import pytest

from tests.shop import order
from tests.workers_fixtures import PATIENT, Mill, end, kill, ready
from workers.child import wait_until


def killed_in_its_transaction(mill: Mill, sku: str, send: Any, transaction: str) -> None:
    """Sends, and kills the worker while it waits for this sku's stock.

    Its backend does not notice: when the stock is free it goes on and commits, and nobody hears the answer. Or it is
    ended too, and nothing was done.
    """
    [worker] = mill.living(1)
    with mill.locked_stock(sku):
        send()
        backends = mill.wait_blocked()
        kill(worker)
        if transaction == "rolled back":
            mill.terminate(backends)
    mill.begin_orders_worker()


@pytest.mark.parametrize("transaction", ["commits unheard", "rolled back"])
def test_a_worker_killed_in_the_middle_of_place_many_is_taken_over(mill: Mill, transaction: str) -> None:
    early, late = f"EARLY-{transaction}", f"LATE-{transaction}"
    mill.shop.stock(early, "E1", 60)
    mill.shop.stock(late, "E1", 60)
    requests = [order(None, (early if n < 100 else late, 1)) for n in range(200)]
    result: list[Any] = []

    killed_in_its_transaction(mill, late, lambda: result.append(mill.send("orders.place_many", requests)), transaction)

    outcomes = result[0].get(timeout=60)
    assert outcomes == mill.outcomes(requests)
    placed = [1] * 60 + [0] * 40
    assert mill.orders_by_key(requests) == placed + placed
    assert mill.shop.level(early, "E1") == mill.shop.level(late, "E1") == {"committed": 60}


@pytest.mark.parametrize("transaction", ["commits unheard", "rolled back"])
def test_a_worker_killed_while_it_places_one_is_taken_over_with_all_it_had_taken(mill: Mill, transaction: str) -> None:
    sku = f"ONE-{transaction}"
    mill.shop.stock(sku, "E1", 100)
    requests = [order(None, (sku, 1)) for _ in range(30)]
    results: list[Any] = []

    killed_in_its_transaction(
        mill, sku, lambda: results.extend(mill.send("orders.place", each) for each in requests), transaction
    )

    assert [result.get(timeout=60)["status"] for result in results] == ["placed"] * 30
    assert mill.orders_by_key(requests) == [1] * 30
    assert mill.shop.level(sku, "E1") == {"available": 70, "committed": 30}
    assert wait_until(lambda: not mill.broker.exists("orders.unacked"), 20)


def test_a_worker_stopped_warmly_finishes_what_it_does_and_gives_back_the_rest(mill: Mill, sku: str) -> None:
    mill.living(0)
    worker = ready(mill.start_worker("orders", "orders", "-P", "solo", **PATIENT))  # it waits while all are sent
    requests = [order(None, (sku, 1)) for _ in range(40)]
    with mill.locked_stock(sku):
        results = [mill.send("orders.place", each) for each in requests]
        mill.wait_blocked()
        worker.ask()

    assert end(worker) == 0
    done = [count for count in mill.orders_by_key(requests) if count]
    assert done
    assert mill.waiting() + mill.broker.hlen("orders.unacked") + len(done) >= 10
    mill.begin_orders_worker()

    outcomes = [result.get(timeout=60) for result in results]
    assert [outcome["status"] for outcome in outcomes] == ["placed"] * 10 + ["rejected"] * 30
    assert mill.orders_by_key(requests) == [1] * 10 + [0] * 30


def adjustment(mill: Mill, sku: str) -> dict[str, Any]:
    return {"key": f"adjust-{sku}", "sku": sku, "location": "E1", "quantity": 5, "reason": "found"}


def test_a_command_of_a_killed_general_worker_is_still_in_redis_and_done_once(mill: Mill, sku: str) -> None:
    general = mill.general_worker()
    with mill.locked_stock(sku):
        result = mill.send("inventory.adjust", adjustment(mill, sku), queue="inventory")
        backends = mill.wait_blocked()
        kill(general)
        mill.terminate(backends)
    [message] = mill.broker.zrange("unacked_index", 0, -1)
    assert mill.shop.level(sku, "E1") == {"available": 10}

    mill.broker.zadd("unacked_index", {message: time.time() - 3600})  # as if its two minutes were over
    mill.general_worker()

    assert result.get(timeout=60)["status"] == "done"
    assert mill.shop.level(sku, "E1") == {"available": 15}


def test_a_command_whose_process_is_killed_goes_back_to_the_queue(mill: Mill, sku: str) -> None:
    general = next((child for child in mill.children if child.name.startswith("general") and child.alive()), None)
    general = general or mill.general_worker()
    assert general.process is not None
    with mill.locked_stock(sku):
        result = mill.send("inventory.adjust", adjustment(mill, sku), queue="inventory")
        backends = mill.wait_blocked()
        for fork in forks(general.process.pid):
            os.kill(fork, signal.SIGKILL)
        mill.terminate(backends)

    assert result.get(timeout=60)["status"] == "done"
    assert mill.shop.level(sku, "E1") == {"available": 15}


def forks(parent: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=True)
    return [int(word) for word in listed.stdout.split()]
