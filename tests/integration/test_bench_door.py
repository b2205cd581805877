"""`bench/celery_door.py` still runs, and leaves what it promises: tiny here, so its figures mean nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.workers_fixtures import clean_environment

ROOT = Path(__file__).parents[2]
COMPONENTS = {"worker", "redis", "postgres", "producer", "total"}


def bench(folder: Path, mode: str, *options: str) -> dict[str, Any]:
    """The only row of a run, after a look at what every report has."""
    file = folder / "figures.json"
    command = [sys.executable, "bench/celery_door.py", mode, "--messages", "200", "--pairs", "1", "--json", str(file)]
    done = subprocess.run(
        [*command, *options],
        cwd=ROOT,
        env=clean_environment() | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "CPU" in done.stdout or "MiB" in done.stdout
    report: dict[str, Any] = json.loads(file.read_text())
    assert report["command"].startswith(f"python bench/celery_door.py {mode}")
    assert report["versions"]["postgres_fsync"] == report["versions"]["postgres_synchronous_commit"] == "on"
    assert report["machine"]["cpus"] >= 1
    assert list(folder.iterdir()) == [file]
    (row,) = report["results"]
    return dict(row)


@pytest.mark.parametrize("mode", ["noop", "place"])
def test_the_door_is_measured_beside_stock_celery(mode: str, tmp_path: Path) -> None:
    row = bench(tmp_path, mode, "--stock", "solo:1:16", "--ours", "1")

    assert (row["id"], row["pairs"], row["messages"]) == (f"{mode}_vs_celery", 1, 200)
    for side in (row["ours"], row["peer"]):
        assert set(side["cpu_ms"]) == COMPONENTS
        assert set(side["rate"]) == {"median", "min", "max"}
        assert set(side["events_seen"]) == {"task-received", "task-started", "task-succeeded"}
        assert set(side["events_seen"].values()) == {1.0}
    assert row["ratio"]["min"] <= row["ratio"]["median"] <= row["ratio"]["max"]
    assert row["cpu_ratio"]["median"] > 0


def test_a_workers_memory_is_measured(tmp_path: Path) -> None:
    row = bench(tmp_path, "memory")

    assert row["id"] == "worker_rss_mb"
    assert row["points"][-1][0] == 200
    assert 10 < row["most"] < 500
