"""Cached reads through real workers: asked by name, fresh after each commit, warmed, and shown by `ordermill cache`."""

import json
import subprocess
import sys
from typing import Any

import pytest
import redis

from docs.generators.examples import EXAMPLES
from tests.shop import new_key, order
from tests.workers_fixtures import Mill, clean_environment
from workers.child import wait_until
from workers.sample import example_order


@pytest.fixture
def open_window(mill: Mill) -> Mill:
    """A shop whose window is looked at: orders are placed, and events dispatched by one of two general processes."""
    if not mill.children:
        mill.env["ORDERMILL_DISPATCH_SECONDS"] = "10"  # its successor's message is good for as long
        mill.begin_orders_worker()
        mill.general_worker("-c", "2")
        mill.living(1)
        mill.send("events.dispatch", queue="events")
    return mill


def ask(mill: Mill, task: str, payload: Any) -> Any:
    return mill.call(task, payload, queue="cache")


def available(mill: Mill, sku: str) -> int:
    [item] = ask(mill, "catalog.availability", {"skus": [sku]})["items"]
    return sum(pool["available"] for pool in item["pools"])


def dispatched(mill: Mill) -> bool:
    """Whether the consumer has done all that happened so far, in one look: what leaves the inbox is behind then."""
    return bool(
        mill.shop.value(
            "SELECT behind = 0 AND NOT EXISTS (SELECT FROM shop.events_inbox) FROM api.event_consumers"
            " WHERE consumer = 'cache'"
        )
    )


def command(mill: Mill, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workers.cli", "cache", *words],
        env=clean_environment() | mill.env | {"COLUMNS": "80"} | env,
        cwd=mill.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_documented_examples_of_reads_are_so(open_window: Mill) -> None:
    example_order(open_window.database_url)

    for task in (name for name in EXAMPLES if name.startswith("catalog.")):
        for _ in range(2):  # from PostgreSQL, and then from Redis
            assert ask(open_window, task, EXAMPLES[task].payload) == EXAMPLES[task].outcome, task


def test_what_was_read_is_read_anew_after_an_order_a_cancellation_and_a_change_of_price(
    open_window: Mill, sku: str
) -> None:
    mill = open_window
    assert available(mill, sku) == 10

    placed = mill.call("orders.place", order(None, (sku, 3)))
    assert wait_until(lambda: available(mill, sku) == 7, 30, 0.05)
    mill.call("orders.cancel", {"key": new_key(), "order_id": placed["order_id"], "reason": "no"})
    assert wait_until(lambda: available(mill, sku) == 10, 30, 0.05)
    mill.call(
        "inventory.adjust",
        {"sku": sku, "location": "E1", "quantity": -1, "reason": "broken"},
        queue="inventory",
    )
    assert wait_until(lambda: available(mill, sku) == 9, 30, 0.05)

    def price() -> int:
        [product] = ask(mill, "catalog.product", {"codes": [sku]})["items"]
        return int(product["variants"][0]["price_amount"])

    assert price() == 100
    mill.db.execute("UPDATE shop.product_variants SET price_amount = 5 WHERE sku = %s", [sku])
    assert wait_until(lambda: price() == 5, 30, 0.05)


def test_a_hundred_names_are_one_message(open_window: Mill, sku: str) -> None:
    names = [f"no-{number}" for number in range(99)]

    assert [
        item and item["sku"] for item in ask(open_window, "catalog.availability", {"skus": [*names, sku]})["items"]
    ] == [
        *[None] * 99,
        sku,
    ]


BAD: list[tuple[str, Any, str, str]] = [
    ("catalog.product", {"codes": []}, "OM035", "codes"),
    ("catalog.availability", {"skus": ["A"] * 101}, "OM035", "skus"),
    ("catalog.availability", {}, "OM035", "skus"),
    ("catalog.availability", {"skus": "A"}, "OM011", "skus"),
    ("catalog.product", {"codes": ["A\0"]}, "OM013", "codes[0]"),
    ("catalog.category", {"codes": [7]}, "OM013", "codes[0]"),
    ("catalog.category", {"codes": ["A"], "key": "k"}, "OM012", "key"),
    ("catalog.product", None, "OM011", "request"),
    ("catalog.product", {"codes": ["A"], "version": 2}, "OM020", "version"),
]


def test_a_read_that_does_not_have_its_form_is_told_what_is_wrong(open_window: Mill) -> None:
    for task, payload, code, field in BAD:
        result = ask(open_window, task, payload)
        assert (result["status"], result["code"], result["field"]) == ("rejected", code, field), (task, payload)
        assert result["message"].endswith(".")


def test_best_sellers_are_loaded_by_the_job_and_after_clearing(open_window: Mill, sku: str) -> None:
    mill = open_window
    mill.call("orders.place", order(None, (sku, 3)))
    assert wait_until(lambda: dispatched(mill), 30, 0.05)
    with redis.Redis.from_url(mill.redis_url) as client:
        client.delete(f"ordermill:availability:{sku}", f"ordermill:product:{sku}")

        def warmed() -> bool:
            return (
                client.exists(f"ordermill:availability:{sku}", f"ordermill:product:{sku}", "ordermill:category:CAT")
                == 3
            )

        mill.send("cache.warm", 600.0, queue="cache")
        assert wait_until(warmed, 30, 0.05)
        client.delete(f"ordermill:product:{sku}")
        done = command(mill, "clear")
        assert (done.returncode, done.stdout) == (0, "cleared\n"), done.stderr
        assert wait_until(warmed, 30, 0.05)
    assert mill.shop.value("SELECT state FROM api.job_runs WHERE job = 'cache.warm'") == "succeeded"


def test_hit_ratio_and_size_are_shown(open_window: Mill, sku: str) -> None:
    for _ in range(3):
        available(open_window, sku)

    shown = command(open_window, "stats")
    told = command(open_window, "stats", "--json")

    assert (shown.returncode, told.returncode) == (0, 0), shown.stderr + told.stderr
    assert "hit ratio" in shown.stdout
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())
    state = json.loads(told.stdout)
    assert state["answers"] is True
    assert 0 < state["hit_ratio"] < 1
    assert state["entries"] > 0


def test_a_cache_that_does_not_answer_is_said_so_with_exit_1(open_window: Mill) -> None:
    done = command(open_window, "stats", ORDERMILL_CACHE_URL="redis://127.0.0.1:1/0")

    assert done.returncode == 1
    assert "does not answer" in done.stdout
    assert command(open_window, "clear", ORDERMILL_CACHE_URL="redis://127.0.0.1:1/0").returncode == 2
