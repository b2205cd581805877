"""`make bench` still runs, and leaves what it promises: tiny here, so its figures mean nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.workers_fixtures import clean_environment

pytestmark = pytest.mark.timeout(600)  # a row has two minutes of steps
ROOT = Path(__file__).parents[2]
COMPONENTS = {"worker", "redis", "postgres", "producer", "total"}


def bench(folder: Path, *rows: str) -> list[dict[str, Any]]:
    """The rows of a quick run, after a look at what every row has."""
    file = folder / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--out", str(file), *rows],
        cwd=ROOT,
        env=clean_environment() | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == [file]
    found: list[dict[str, Any]] = json.loads(file.read_text())
    for row in found:
        assert row["command"] == f"python -m bench {row['id']} --quick"
        assert row["versions"]["postgres_fsync"] == row["versions"]["postgres_synchronous_commit"] == "on"
        assert f"{row['id']}: " in done.stderr
    return found


def test_the_celery_door_is_measured_beside_stock_celery(tmp_path: Path) -> None:
    noop, results = bench(tmp_path, "noop_vs_celery", "results_on_vs_off")

    assert (noop["id"], noop["pairs"], noop["orders"]) == ("noop_vs_celery", 1, 600)
    assert (results["id"], results["orders"]) == ("results_on_vs_off", 400)
    for row in (noop, results):
        assert row["ratio"]["min"] <= row["ratio"]["median"] <= row["ratio"]["max"]
        assert row["cpu_ratio"] > 0
        assert row["ours"] > 0
        assert row["peer"] > 0
        for side in row["sides"].values():
            assert set(side["cpu_ms"]) == COMPONENTS
            assert set(side["rate"]) == {"median", "min", "max"}
    assert results["sides"]["ours"]["cpu_ms"]["postgres"] > 0


def test_a_workers_memory_is_measured(tmp_path: Path) -> None:
    (row,) = bench(tmp_path, "worker_rss_mb")

    assert row["id"] == "worker_rss_mb"
    assert row["points"][-1][0] == 5_000
    assert 10 < row["ours"] < 500


def test_latency_is_measured(tmp_path: Path) -> None:
    for row in bench(tmp_path, "latency_celery", "latency_sql"):
        assert row["unit"] == "ms"
        assert 0 < row["sent_p50_ms"] <= row["sent_p99_ms"]
        assert 0 < row["p50_ms"] == row["ours"]
        assert row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"] <= row["max_ms"]
        assert row["orders"] == int(row["capacity"] / 2 * 3)
        assert 0 <= row["drops"] <= row["orders"]
        assert set(row["cpu_ms"]) == COMPONENTS


def test_a_long_past_and_the_cores_are_measured(tmp_path: Path) -> None:
    past, cores = bench(tmp_path, "history_5m_vs_10k", "cores", "--history", "2000")

    assert (past["id"], past["stored"], past["stored_peer"], past["orders"]) == (
        "history_5m_vs_10k",
        2_000,
        10_000,
        600,
    )
    assert past["ratio"]["median"] > 0
    assert past["cpu_ratio"] > 0
    kinds = {(point["door"], point["cores"], point["workers"], point["pools"]) for point in cores["points"]}
    assert len(kinds) == len(cores["points"]) == 2 * 2 * 3
    assert all(point["rate"] > 0 and point["cpu_ms"] > 0 for point in cores["points"])
    assert cores["ours"] == max(point["rate"] for point in cores["points"])


def test_the_cache_is_measured(tmp_path: Path) -> None:
    cache, asked = bench(tmp_path, "cache_hit")

    for row in (cache, asked):
        assert row["unit"] == "reads/s"
        assert row["cpu_ratio"] < 1  # of so few reads the rates may say more about the machine
        assert row["sides"]["ours"]["cpu_ms"]["worker"] > 0


def test_the_sql_door_is_measured_beside_what_was_written_by_hand_and_beside_the_limit(tmp_path: Path) -> None:
    bulk, limit = bench(tmp_path, "durable_bulk_vs_pgbench", "place_vs_limit")

    # In the order of the targets.
    assert [(row["id"], row["orders"]) for row in (limit, bulk)] == [
        ("place_vs_limit", 600),
        ("durable_bulk_vs_pgbench", 800),
    ]
    assert bulk["sides"]["ours"]["setting"] == "2 clients, 100 orders a call"
    # The drain's own CPU is left out: of so few orders it may use less than the kernel's tick of 10 ms.
    assert set(bulk["sides"]["ours"]["cpu_ms"]) == COMPONENTS
    assert limit["sides"]["ours"]["cpu_ms"]["worker"] > 0
    for row in (bulk, limit):
        assert row["ratio"]["median"] > 0
        assert row["cpu_ratio"] > 0
        for side in row["sides"].values():
            assert side["cpu_ms"]["postgres"] > 0
            assert side["cpu_ms"]["producer"] > 0
