"""Metrics, alert rules and the documents name the same things; promtool, the field's own checker, agrees.

promtool is on PATH or named by ORDERMILL_PROMTOOL (Debian has it in the package `prometheus`); .ci/run fetches it.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import document, section

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
RULES = (DEPLOY / "prometheus-rules.yml").read_text()
OPERATIONS = document("docs/operations.md")
INCIDENTS = document("docs/incidents.md")
MONITORING = document("docs/monitoring.md")
SUFFIX = re.compile(r"_(total|bucket|count|sum)$")
# Each metric once: what workers count in files, as a process of theirs does, and the state with a row of each kind.
SERVE_ALL = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from workers import metrics
from workers.exporter import CountsCollector, StateCollector
from workers.queue_names import ALL_QUEUES
from workers.status import untold, whole
from prometheus_client import CollectorRegistry, generate_latest

folder = Path(sys.argv[1])
metrics.begin(folder)
metrics.answered("orders.place", [{"status": "placed"}, {"status": "rejected"}], 0.02, batch=True)
metrics.returned("orders.place")
metrics.retried(OSError())
metrics.job_ended("maintenance.verify", "succeeded", 2.0)
metrics.pool_is(["idle"])
queue = {"waiting": 1, "oldest_seconds": 2.0, "undecodable": 0, "consumers": 1, "paused": False}
job = dict(job="maintenance.verify", overdue=False, state="succeeded", error=None, cadence_seconds=86400.0)
counted = {"hits": 1, "misses": 0}
database = untold("database") | {
    "database": 170000,
    "order_queue": [{"pool": "EAST", "waiting": 1, "claimed": 0, "oldest_seconds": 0.1, "max_wait_seconds": None}],
    "events": [{"waits_for": "inbox", "events": 1, "lag_seconds": 0.1}],
    "dead_letters": [{"source": "celery", "code": "OM091", "letters": 1}],
    "alerts": [{"level": "low", "alerts": 1}],
    "partitions": [{"months_ahead": 6}],
    "connections": [{"application": "ordermill", "state": "idle", "connections": 1}],
    "connection_limit": {"used": 1, "usable": 97},
    "jobs": [job | {"succeeded_slot": datetime.now(UTC), "since_slot_seconds": 1.0}],
}
broker = untold("broker") | {
    "broker": "7", "queues": dict.fromkeys(ALL_QUEUES, queue), "workers": [],
    "in_hand": {"orders": 0, "other queues": 0},
}
cache = {"answers": True, "kinds": {"product": counted}, "entries": 1, "memory_bytes": 1}
state = whole(database, untold("redis") | {"redis": "7"}, broker, untold("cache") | {"cache": cache})
assert state["problems"] == []


class Known:
    def state(self):
        return state


registry = CollectorRegistry()
registry.register(StateCollector(Known()))
registry.register(CountsCollector(folder))
sys.stdout.write(generate_latest(registry).decode())
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("metrics")
    command = [sys.executable, "-c", SERVE_ALL, str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture
def promtool() -> str:
    found = os.environ.get("ORDERMILL_PROMTOOL") or shutil.which("promtool")
    if not found:
        pytest.skip("promtool is neither on PATH nor named by ORDERMILL_PROMTOOL")
    return found


def families(served: str) -> set[str]:
    return set(re.findall(r"^# TYPE (\w+)", served, re.MULTILINE))


def asked(*command: str, given: str = "") -> str:
    done = subprocess.run(command, input=given, cwd=DEPLOY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_what_is_served(promtool: str, served: str) -> None:
    assert asked(promtool, "check", "metrics", given=served) == ""


def test_promtool_accepts_the_rules_and_the_example_that_loads_them(promtool: str) -> None:
    alerts = RULES.count("- alert: ")

    assert f"SUCCESS: {alerts} rules found" in asked(promtool, "check", "rules", "prometheus-rules.yml")
    assert "SUCCESS" in asked(promtool, "check", "config", "prometheus.yml")


def test_the_alerts_fire_when_they_should_and_only_then(promtool: str) -> None:
    assert "SUCCESS" in asked(promtool, "test", "rules", "prometheus-rules.test.yml")


def test_each_metric_of_a_rule_is_served(served: str) -> None:
    named = {SUFFIX.sub("", name) for name in re.findall(r"\bordermill_\w+", RULES)}
    there = {SUFFIX.sub("", name) for name in families(served)}

    assert named - there == set()


def test_each_metric_is_documented_and_each_documented_one_is_served(served: str) -> None:
    documented = set(re.findall(r"^\| `(ordermill_\w+)", MONITORING, re.MULTILINE))

    assert documented == families(served)


def test_each_alert_has_a_heading_of_its_name_in_incidents_md_and_leads_there() -> None:
    incidents = re.findall(r"^## (\w+)$", INCIDENTS, re.MULTILINE)
    alerts = re.findall(r"- alert: (\w+)", RULES)

    assert sorted(incidents) == sorted(alerts)
    for part in RULES.split("- alert: ")[1:]:
        name = part.split("\n")[0]
        assert f'runbook: "docs/incidents.md#{name.lower()}"' in part


def test_each_problem_leads_to_an_incident() -> None:
    table = section(OPERATIONS, "Health").partition("| problem |")[2].partition("\n\n")[0]
    for row in table.splitlines()[2:]:
        assert re.search(r"\(incidents\.md#ordermill\w+\)", row), row
