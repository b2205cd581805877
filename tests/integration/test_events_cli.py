"""`ordermill events`: what happened, from a position, as it happens; a consumer starts again."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.noted import add_noted, happen, noted
from tests.shop import Shop
from tests.workers_fixtures import clean_environment
from workers.child import wait_until

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def env(database_url: str, tmp_path: Path) -> dict[str, str]:
    return clean_environment() | {"DATABASE_URL": database_url, "ORDERMILL_HOME": str(tmp_path), "COLUMNS": "80"}


@pytest.fixture
def run(env: dict[str, str]) -> Run:
    def ordermill(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "workers.cli", "events", *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)

    return ordermill


@pytest.fixture
def shop(shop: Shop) -> Shop:
    add_noted(shop)
    happen(shop, "order.placed", "stock.low", "order.cancelled")
    happen(shop, "order.placed", stream="test:\x1b[2J")
    shop.value("SELECT api.sequence_events()")
    shop.value("SELECT api.dispatch_events('noted')")
    return shop


def test_tail_shows_the_newest_or_all_from_a_position_or_of_a_kind(shop: Shop, run: Run) -> None:
    def positions(*words: str) -> list[int]:
        return [json.loads(line)["position"] for line in run("tail", "--json", *words).stdout.splitlines()]

    assert positions() == [1, 2, 3, 4]
    assert positions("--last", "1") == [4]
    assert positions("--from", "3") == [3, 4]
    assert positions("--kind", "order.*") == [1, 3, 4]
    assert positions("--kind", "%") == positions("--kind", "stock_low") == positions("--kind", "stock.low\\") == []
    assert positions("--last", str(2**63 - 1)) == [1, 2, 3, 4]
    assert positions("--stream", "test:1", "--since", "1h") == [1, 2, 3]

    shown = run("tail", "--from", "2")
    assert re.match(r" +2 \d\d-\d\d \d\d:\d\d:\d\d\.\d{3} stock\.low +test:1 \{\}", shown.stdout.splitlines()[0])
    assert "\x1b" not in shown.stdout
    assert run("tail", "--from", "9").stderr == "no event\n"


def test_tail_follows_what_comes(shop: Shop, env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "workers.cli", "events", "tail", "--follow", "--last", "0", "--json"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        os.set_blocking(tail.stdout.fileno(), False)
        seen: list[str] = []

        def line_came() -> bool:
            happen(shop, "test.new")
            shop.value("SELECT api.sequence_events()")
            seen.extend(tail.stdout.readlines() if tail.stdout else [])
            return bool(seen)

        try:
            assert wait_until(line_came, 30, 0.2)
        finally:
            tail.terminate()
    assert json.loads(seen[0])["kind"] == "test.new"


def test_replay_asks_and_gives_a_consumer_its_events_again(shop: Shop, run: Run) -> None:
    refused = run("replay", "noted", "--from", "3")
    assert (refused.returncode, noted(shop)) == (2, [1, 2, 3, 4])
    assert "add --yes" in refused.stderr

    done = run("replay", "noted", "--from", "3", "--yes")

    assert done.stdout == "noted goes on from position 3: 2 events are given again\n"
    shop.value("SELECT api.dispatch_events('noted')")
    assert noted(shop) == [1, 2, 3, 4, 3, 4]
    assert "there is no consumer 'nobody'" in run("replay", "nobody", "--from", "1", "--yes").stderr
    for consumer, start, line in (
        ("noted", 99, "give a position from 1 to 5, not 99 (OM011)"),
        (
            "webhooks",
            1,
            "webhooks does not go back, which would send again what was sent long ago: use ordermill webhooks",
        ),
    ):
        shop.value("UPDATE shop.event_consumers SET position = 4 WHERE consumer = %s RETURNING position", consumer)
        refused = run("replay", consumer, "--from", str(start), "--yes")
        assert (refused.returncode, refused.stderr.startswith(f"ordermill: {line}")) == (2, True), refused.stderr
        assert refused.stderr.count("\n") == 1
    for words in (("replay", "noted", "--yes", "--from"), ("tail", "--from"), ("tail", "-n")):
        assert "9223372036854775807" in run(*words, str(10**30)).stderr


def test_consumers_shows_how_far_each_is(shop: Shop, run: Run) -> None:
    happen(shop, "test.more")
    shop.value("SELECT api.sequence_events()")
    [found] = [row for row in json.loads(run("consumers", "--json").stdout) if row["consumer"] == "noted"]
    assert (found["position"], found["behind"]) == (4, 1)
    assert re.search(r"^noted +4 +1 ", run("consumers").stdout, re.MULTILINE)
