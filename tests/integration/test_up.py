"""`ordermill up` as a user has it: what it prints works, and however it ends nothing stays behind."""

import base64
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from workers.child import wait_until
from workers.embedded import EmbeddedPostgres, erase
from workers.kept_orders import MARK

ORDERMILL = [sys.executable, "-m", "workers.cli"]
RUNNING = "running; Ctrl-C stops"


class Up:
    """`ordermill up` in a process of its own, over a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.output = home.parent / "up.out"
        self.env = environment(home)
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.output.open("wb") as output:
            return subprocess.Popen([*ORDERMILL, "up"], stdout=output, stderr=output, env=self.env)

    def said(self) -> str:
        return self.output.read_text()

    def wait_for(self, words: str) -> str:
        assert wait_until(lambda: words in self.said() or self.process.poll() is not None, 90)
        assert words in self.said(), self.said()
        return self.said()

    def end(self, *signals: signal.Signals) -> int:
        for number in signals:
            self.process.send_signal(number)
        return self.process.wait(60)

    def address(self, name: str) -> str:
        found = re.search(rf"^{name} +(\S+)", self.said(), re.MULTILINE)
        assert found
        return found[1]


def environment(home: Path) -> dict[str, str]:
    """Without the addresses of other servers, and no port that another test may have."""
    given = ("DATABASE_URL", "REDIS_URL", "CELERY_", "ORDERMILL_", "FLOWER_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(given)}
    return kept | {
        "ORDERMILL_HOME": str(home),
        "ORDERMILL_FLOWER_PORT": "0",
        "ORDERMILL_METRICS_PORT": "0",
        "ORDERMILL_ORDERS_WORKERS": "1",
        "COLUMNS": "200",
    }


def ordermill(home: Path, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ORDERMILL, *arguments], env=environment(home), capture_output=True, text=True, check=False, timeout=seconds
    )


def left_running(home: Path) -> list[str]:
    """The command lines of living processes that work in this home or on its data."""
    marks = (str(home), str(EmbeddedPostgres(home).data))
    listed = subprocess.run(["ps", "-axww", "-o", "command="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if any(mark in line for mark in marks)]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "a home"
    yield folder
    erase(folder)


@pytest.fixture
def up(home: Path) -> Iterator[Up]:
    started = Up(home)
    yield started
    if started.process.poll() is None:
        started.process.kill()
        started.process.wait()
        clean_up(home)


def clean_up(home: Path) -> None:
    """What the next start does about the children of a killed one; here, so that a failed test leaves nothing."""
    from workers.processes import Stack
    from workers.settings import Settings

    stack = Stack(Settings(home=home))
    for child in stack.planned():
        child.clean_up()


def test_up_prints_what_works_and_stops_at_ctrl_c_twice(up: Up, home: Path) -> None:
    said = up.wait_for(RUNNING)

    line = next(line for line in said.splitlines() if " call orders.place " in line)
    pasted = subprocess.run(shlex.split(line), capture_output=True, text=True, check=True, timeout=60)
    key = pasted.stdout.strip()
    assert wait_until(lambda: outcome(up, key) is not None, 20)
    assert outcome(up, key) == "placed"

    user, password = re.findall(r"user (\S+), password (\S+)\)", said)[0]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        workers_in_flower(up.address("flower"), user, "guess")

    def both_seen() -> bool:
        with contextlib.suppress(OSError):  # it asks all workers first, which may take long
            return len(workers_in_flower(up.address("flower"), user, password)) == 2
        return False

    assert wait_until(both_seen, 60, 0.2)
    listed = subprocess.run(["ps", "-axww", "-o", "command="], capture_output=True, text=True, check=True).stdout
    assert password not in listed

    state = json.loads(ordermill(home, "status", "--json").stdout)
    assert state["problems"] == []
    assert state["queues"]["orders"]["waiting"] == 0
    assert sorted(worker["worker"].partition("@")[0] for worker in state["workers"]) == ["general", "orders1"]
    with urllib.request.urlopen(up.address("metrics"), timeout=10) as served:  # noqa: S310  # ours
        placed = 'ordermill_requests_total{outcome="placed",task="orders.place"} 1.0'
        assert placed in served.read().decode().splitlines()
    assert ordermill(home, "status").returncode == 0
    verified = ordermill(home, "verify")
    assert verified.returncode == 0, verified.stderr
    assert verified.stdout.startswith("clean: 1 orders")

    second = ordermill(home, "up")
    assert second.returncode == 2
    assert f"already runs (process {up.process.pid})" in second.stderr
    assert "Traceback" not in second.stderr

    assert up.end(signal.SIGINT, signal.SIGINT) in (0, 130)
    assert left_running(home) == []
    assert "Traceback" not in up.said()


@pytest.mark.parametrize("moment", ["starting PostgreSQL", "migrating the database", "starting workers"])
def test_ctrl_c_while_starting_leaves_nothing_running(up: Up, home: Path, moment: str) -> None:
    up.wait_for(moment)
    assert up.end(signal.SIGINT, signal.SIGINT) in (0, 130)
    assert left_running(home) == []


def test_what_a_killed_up_left_is_replaced_by_the_next(up: Up, home: Path) -> None:
    up.wait_for(RUNNING)
    database = up.address("database")
    up.end(signal.SIGKILL)
    before = {pid: Path(f"{home}/run/{pid}.pid").read_text() for pid in ("orders1", "general", "beat", "flower")}
    assert left_running(home)
    again = Up(home)
    try:
        again.wait_for(RUNNING)
        assert again.address("database") == database
        assert not [pid for pid in before.values() if still_ours(int(pid), home)]
        assert again.end(signal.SIGTERM) == 128 + signal.SIGTERM
    finally:
        with contextlib.suppress(ProcessLookupError):
            again.process.kill()
    assert left_running(home) == []


def test_a_dead_worker_is_started_again_and_one_that_keeps_dying_ends_up_with_its_last_words(
    up: Up, home: Path
) -> None:
    up.wait_for(RUNNING)
    recorded = home / "run" / "orders1.pid"

    def pid() -> str:
        with contextlib.suppress(FileNotFoundError):  # it is deleted with the worker, at any moment
            return recorded.read_text().strip()
        return ""

    for _ in range(4):
        killed = int(recorded.read_text())
        os.kill(killed, signal.SIGKILL)
        assert wait_until(
            lambda killed=killed: up.process.poll() is not None or pid() not in {"", str(killed)},
            30,
        )
    assert up.said().count("orders1 stopped by itself; it is started again") == 3
    assert up.process.wait(30) == 2
    assert "orders1 stopped by itself (exit code -9)" in up.said()
    assert str(home / "logs" / "orders1.log") in up.said()
    assert left_running(home) == []


@pytest.mark.parametrize("command", ["migrate", "verify", "status"])
def test_a_command_without_a_server_says_what_to_do(home: Path, command: str) -> None:
    answer = ordermill(home, command)
    assert answer.returncode == 2
    assert answer.stderr == (
        "ordermill: no database to use: none is running: set DATABASE_URL, or run `make up` in another terminal"
        " and try again\n"
    )


def test_a_setting_that_cannot_be_used_is_named() -> None:
    answer = subprocess.run(
        [*ORDERMILL, "status"],
        env={**os.environ, "ORDERMILL_ORDERS_WORKERS": "many"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert answer.returncode == 2
    assert answer.stderr.startswith("ordermill: ORDERMILL_ORDERS_WORKERS cannot be used: ")
    assert "Traceback" not in answer.stderr


def outcome(up: Up, key: str) -> str | None:
    with psycopg.connect(up.address("database")) as connection:
        row = connection.execute("SELECT api.order_outcome(%s) ->> 'status'", [key]).fetchone()
    return row[0] if row else None


def workers_in_flower(url: str, user: str, password: str) -> list[str]:
    request = urllib.request.Request(f"{url}/api/workers?refresh=true")  # noqa: S310  # our own Flower
    request.add_header("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
        return list(json.load(answer))


def still_ours(pid: int, home: Path) -> bool:
    with contextlib.suppress(OSError):
        return str(home).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


@pytest.mark.timeout(600)  # two times up, and a demo
def test_what_was_ordered_is_not_forgotten_by_a_demo_unasked(up: Up, home: Path) -> None:
    said = up.wait_for(RUNNING)
    line = next(line for line in said.splitlines() if " call orders.place " in line)
    key = subprocess.run(shlex.split(line), capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    assert wait_until(lambda: outcome(up, key) == "placed", 20)
    assert "already runs" in ordermill(home, "demo", "--orders", "20", "--anew").stdout
    assert up.end(signal.SIGINT) == 0

    refused = ordermill(home, "demo", "--orders", "20")

    assert refused.returncode == 1
    assert "Somebody ordered in this shop under `make up`" in refused.stdout
    assert "make demo ANEW=1" in refused.stdout
    again = Up(home)
    try:
        again.wait_for(RUNNING)
        assert outcome(again, key) == "placed"
    finally:
        assert again.end(signal.SIGINT) == 0
    assert ordermill(home, "demo", "--orders", "20", "--anew", seconds=300).returncode == 0
    assert not (home / MARK).exists()


def test_who_only_looked_is_not_asked(home: Path) -> None:
    looked = Up(home)
    looked.wait_for(RUNNING)
    assert (home / MARK).exists()  # as long as it runs, and after a kill

    assert looked.end(signal.SIGINT) == 0

    assert not (home / MARK).exists()
