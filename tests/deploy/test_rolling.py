"""A deploy while orders flow: routines of the next version under workers of this one, and the reverse.

The next version is this one with what is hardest for a rolling deploy: each routine that places orders takes another
parameter, so neither version's workers can use the other's, and a migration adds a column.
"""

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from tests.shop import order
from tests.workers_fixtures import Mill, Outcome, clean_environment, end, ready
from workers.child import Child, wait_until
from workers.database import connect
from workers.migrate import migrate

ROOT = Path(__file__).parent.parent.parent
SKU = "ROLLED"
ALTERED = {  # what, instead of it, and in how many files
    r"(api\.place_orders?\((?:p_requests? )?jsonb)\)": (r"\1, p_since text)", 2),
    r"(api\.place_claim\((?:p_claim_id )?uuid)\)": (r"\1, p_since text)", 2),
    r'("api\.place_orders?", Jsonb\(requests?\))': (r'\1, "the next version"', 1),
    r'("api\.place_claim", claim_id)': (r'\1, "the next version"', 1),
}


@pytest.fixture(scope="module")
def next_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of the version after this one."""
    checkout = tmp_path_factory.mktemp("next")
    for folder in ("workers", "tasks", "sql"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "beat_schedule.py", checkout)
    texts = {path: path.read_text() for pattern in ("*.sql", "*.py") for path in checkout.rglob(pattern)}
    for before, (after, files) in ALTERED.items():
        found = {path: re.sub(before, after, text) for path, text in texts.items() if re.search(before, text)}
        assert len(found) >= files, before
        texts |= found
    for path, text in texts.items():
        path.write_text(text)
    migrations = checkout / "sql" / "migrations"
    last = max(path.stem.split("_")[0] for path in (migrations / "versions").glob("*.py"))
    (migrations / "9999_next.sql").write_text("ALTER TABLE shop.orders ADD COLUMN since text;\n")
    (migrations / "versions" / "9999_next.py").write_text(
        f"from workers.migrate import run_sql_file\nrevision, down_revision = '9999', '{last}'\n"
        "def upgrade():\n    run_sql_file('9999_next.sql')\n"
    )
    return checkout


class Load:
    """Orders of one unit at both doors, until told to stop."""

    def __init__(self, mill: Mill) -> None:
        self.mill = mill
        self.results: list[Any] = []
        self.requests: list[Outcome] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def _send(self) -> None:
        with connect(self.mill.database_url) as session:
            while not self._ended.wait(0.03):
                by_celery, by_sql = order(None, (SKU, 1)), order(None, (SKU, 1))
                self.requests += [by_celery, by_sql]
                self.results.append(self.mill.send("orders.place", by_celery))
                session.execute("SELECT api.submit_order(%s)", [Jsonb(by_sql)])

    def placed(self) -> int:
        keys = [request["key"] for request in list(self.requests)]
        with connect(self.mill.database_url) as session:
            row = session.execute("SELECT count(*) FROM api.orders WHERE key = ANY (%s)", [keys]).fetchone()
        return int(row[0]) if row else 0

    def goes_on(self, more: int = 20) -> bool:
        """Whether so many more are placed from now on."""
        before = self.placed()
        return wait_until(lambda: self.placed() >= before + more, 60, 0.1)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def every_order_was_placed_once(self) -> None:
        assert len(self.requests) > 50
        assert self.mill.all_decided(self.requests, 60)
        assert set(self.mill.orders_by_key(self.requests)) == {1}
        assert {result.get(timeout=60)["status"] for result in self.results} == {"placed"}
        assert self.mill.shop.value("SELECT count(*) FROM shop.dead_letters") == 0
        assert "Traceback" not in self.mill.logs()


class Version:
    """The processes of one version of the code over a mill's servers."""

    def __init__(self, mill: Mill, checkout: Path) -> None:
        self.mill = mill
        self.env = {"PYTHONPATH": str(checkout)}
        self.children: list[Child] = []

    def migrate(self) -> str:
        command = [sys.executable, "-m", "workers.cli", "migrate"]
        env = clean_environment() | self.mill.env | self.env
        done = subprocess.run(command, env=env, cwd=self.mill.folder, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else f"{done.returncode}: {done.stderr}"

    def start(self) -> None:
        self.children = [
            self.mill.start_worker("orders", "orders", "-P", "solo", **self.env),
            self.mill.start_worker("general", "maintenance,events,alerts,cache", "-c", "2", **self.env),
        ]
        for child in self.children:
            ready(child)

    def cannot_place(self) -> bool:
        """Whether both doors' workers were seen to give back what they took."""
        [orders, general] = [child.log.read_text(errors="replace") for child in self.children]
        return "back to the queue" in orders and "the drain stops" in general

    def stop(self) -> None:
        assert [end(child) for child in self.children] == [0, 0]


@contextmanager
def deploying(mill: Mill, checkout: Path) -> Iterator[tuple[Version, Version, Load]]:
    mill.shop.stock(SKU, "E1", 100_000)
    mill.beat()
    old, new = Version(mill, ROOT), Version(mill, checkout)
    old.start()
    with Load(mill) as load:
        assert load.goes_on()
        yield old, new, load
    load.every_order_was_placed_once()


def test_new_routines_under_old_workers_lose_no_order(fresh_mill: Mill, next_version: Path) -> None:
    with deploying(fresh_mill, next_version) as (old, new, load):
        assert "to 9999" in new.migrate()
        assert wait_until(old.cannot_place, 60, 0.1)
        new.start()
        old.stop()
        assert load.goes_on()
        assert "2: ordermill: This version does not know schema 9999, which a newer one has made" in old.migrate()


def test_new_workers_over_old_routines_lose_no_order(fresh_mill: Mill, next_version: Path) -> None:
    with deploying(fresh_mill, next_version) as (old, new, load):
        new.start()
        assert wait_until(lambda: "back to the queue" in new.children[0].log.read_text(), 60, 0.1)
        assert load.goes_on()  # the old ones place what the new ones cannot
        old.stop()
        assert wait_until(new.cannot_place, 60, 0.1)
        assert "to 9999" in new.migrate()
        assert load.goes_on()


def test_applying_the_routines_anew_stops_no_worker(fresh_mill: Mill, next_version: Path) -> None:
    applied: list[str] = []
    with deploying(fresh_mill, next_version) as (old, _new, load):
        for _ in range(5):
            fresh_mill.db.execute("COMMENT ON SCHEMA api IS 'an older version'")
            migrate(fresh_mill.database_url, applied.append)
            assert load.goes_on(10)
        assert not old.cannot_place()
    assert len([line for line in applied if "files applied" in line]) == 5
