"""/healthz and /metrics of `ordermill metrics`: what they tell when all is well, and when servers do not answer."""

import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.scrape import exporting, samples
from tests.shop import Shop
from tests.workers_fixtures import clean_environment
from workers import exporter, status
from workers.child import wait_until
from workers.database import connect
from workers.metrics import form_of
from workers.settings import Settings
from workers.status import untold

METRICS = [sys.executable, "-m", "workers.cli", "metrics"]
NOBODY = "127.0.0.1:1"


@pytest.fixture
def broker(broker_url: str) -> Any:
    with redis.Redis.from_url(broker_url) as client:
        yield client


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that are up may answer late, for a busy machine halts them."""
    monkeypatch.setattr(exporter, "SERVER_SECONDS", 30)
    monkeypatch.setattr(exporter, "ANSWER_SECONDS", 30.0)


def problems(state: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["problem"], each["subject"]) for each in state["problems"]]


@pytest.mark.usefixtures("unhurried")
def test_healthz_is_503_with_the_reasons_and_200_without(
    shop: Shop, broker: Any, database_url: str, redis_url: str, broker_url: str
) -> None:
    with exporting(database_url, redis_url, broker_url) as scrape:
        assert scrape.health() == (200, {"status": "ok", "problems": []})
        head = urllib.request.Request(f"{scrape.address}/healthz", method="HEAD")  # noqa: S310  # ours
        with urllib.request.urlopen(head, timeout=30) as answer:  # noqa: S310
            assert (answer.status, answer.read()) == (200, b"")
            assert int(answer.headers["Content-Length"]) > 0
    broker.lpush("orders", "a message")
    with exporting(database_url, redis_url, broker_url) as scrape:
        code, health = scrape.health()

    assert (code, health["status"]) == (503, "problems")
    assert [(each["problem"], each["subject"]) for each in health["problems"]] == [("no_consumer", "orders")]


def test_a_scrape_while_servers_are_away_or_frozen_is_quick_and_says_so(
    redis_url: str, ticks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    of_database, of_redis, asked = status.of_database, status.of_redis, []

    def noted(*args: Any, **more: Any) -> dict[str, Any]:
        asked.append(1)
        return of_database(*args, **more)

    monkeypatch.setattr(status, "of_database", noted)
    # Those that answer may do it late, for a busy machine halts them.
    monkeypatch.setattr(status, "of_redis", lambda url, _seconds, *more: of_redis(url, 5, *more))
    monkeypatch.setattr(exporter, "ANSWER_SECONDS", 5.0)
    with socket.create_server(("127.0.0.1", 0)) as frozen:  # it takes the connection, and is never heard of again
        port = frozen.getsockname()[1]
        with exporting(f"postgresql://u@127.0.0.1:{port}/x", redis_url, f"redis://{NOBODY}/0") as scrape:
            before = len(ticks)
            seen = samples(scrape.text())
            took = (len(ticks) - before) / 20
            code, health = scrape.health()
    assert len(asked) == 1  # what is known is not asked again for five seconds

    assert took < 6
    up = {server: seen.value("ordermill_up", server=server) for server in ("database", "redis", "broker")}
    assert up == {"database": 0, "redis": 1, "broker": 0}
    assert seen.value("ordermill_cache_up") == 1  # in the Redis of results
    assert code == 503
    assert [each["subject"] for each in health["problems"]] == ["database", "broker"]


@pytest.mark.usefixtures("unhurried")
def test_a_connection_of_another_name_than_ours_has_no_label_of_its_own(
    database_url: str, redis_url: str, broker_url: str
) -> None:
    with (
        connect(database_url, application_name="one of a million"),
        connect(database_url, application_name="another"),
        exporting(database_url, redis_url, broker_url) as scrape,
    ):
        seen = samples(scrape.text())

    labels = {sample.labels["application"] for sample in seen.all if sample.name == "ordermill_connections"}
    assert labels == {"ordermill status", "other"}
    assert seen.value("ordermill_connections", application="other") >= 2


@pytest.mark.usefixtures("unhurried")
def test_a_folder_of_counts_that_cannot_all_be_read_is_shown_and_costs_nothing_else(
    redis_url: str, tmp_path: Path
) -> None:
    place = form_of(tmp_path)
    with exporting(f"postgresql://u@{NOBODY}/x", redis_url, redis_url, tmp_path) as scrape:
        missing = samples(scrape.text())
        place.mkdir()
        assert scrape.value("ordermill_counts_up") == 1
        (place / "slot_1.lock").mkdir()  # no user can open it
        locked = samples(scrape.text())
        (place / "slot_1.lock").rmdir()
        (place / "counter_1.db").mkdir()
        unreadable = samples(scrape.text())

    for seen in (missing, locked, unreadable):
        counts_up = [sample.value for sample in seen.all if sample.name == "ordermill_counts_up"]
        assert (counts_up, seen.value("ordermill_up", server="redis")) == ([0], 1)


def test_a_server_that_has_not_answered_is_not_asked_a_second_time_meanwhile(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(exporter, "FRESH_SECONDS", 0.0)
    watch = exporter.Watch(Settings(database_url=f"postgresql://u@{NOBODY}/x", redis_url=redis_url))
    thawed, asked = threading.Event(), []

    def frozen() -> dict[str, Any]:
        asked.append(1)
        thawed.wait(30)
        return untold("database")

    watch.parts["database"] = frozen
    for _ in range(3):
        assert ("silent", "database") in problems(watch.state())
    assert len(asked) == 1

    thawed.set()
    assert wait_until(lambda: ("silent", "database") not in problems(watch.state()), 10)
    watch.state()
    assert len(asked) > 1


def test_another_path_is_not_found_and_a_port_in_use_is_one_line(redis_url: str) -> None:
    with exporting("postgresql://u@127.0.0.1:1/x", redis_url, redis_url) as scrape:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            scrape.get("/orders")
        port = scrape.address.rpartition(":")[2]
        env = clean_environment() | {"DATABASE_URL": "postgresql://u@127.0.0.1:1/x", "REDIS_URL": redis_url}
        command = [*METRICS, "--port", port]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 2
    assert done.stderr.startswith(f"ordermill: cannot listen on 127.0.0.1:{port} (")
    assert "Traceback" not in done.stderr
