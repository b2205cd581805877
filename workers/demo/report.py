"""The demo's result for programs: `demo.json`, and what Flower says when asked as an operator would ask it."""

import base64
import json
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg

from workers.demo.followed import Followed
from workers.demo.tally import Tally
from workers.home_folder import write_private

CLEAN = "clean"
NOT_RUN = "not run"
REPORT = "demo.json"


def write_report(home: Path, tally: Tally, excluded: int, verify: str, followed: Followed | None) -> Path:
    """Write `demo.json`, whole or not at all, and give its path. Times are in seconds or, where named so, ms."""
    path = home / REPORT
    seconds = tally.seconds
    write_private(
        path,
        {
            "submitted": tally.submitted,
            "placed": tally.placed,
            "rejected": tally.rejected.total(),
            "duplicates": tally.duplicates,
            "dead": tally.dead,
            "excluded": excluded,
            "seconds": round(seconds, 3),
            "orders_per_second": round(tally.decided / seconds, 1) if seconds else 0.0,
            "p50_ms": round(tally.percentile(0.5), 1),
            "p99_ms": round(tally.percentile(0.99), 1),
            "verify": verify,
            "followed": asdict(followed) if followed else None,
        },
    )
    return path


def verify(connection: psycopg.Connection[Any]) -> str:
    """ "clean", or the first bad entry in words."""
    row = connection.execute("SELECT check_name, entry, detail FROM api.verify() LIMIT 1").fetchone()
    return CLEAN if row is None else f"{row[0]}: {row[1]} {json.dumps(row[2])}"


@dataclass(frozen=True, slots=True)
class Watched:
    """What Flower has seen."""

    workers: int
    tasks: int
    order_tasks: int


def ask_flower(url: str, login: tuple[str, str], limit: int = 1_000) -> Watched:
    """Workers and the latest tasks by Flower's API, with basic auth; raises OSError when it does not answer."""

    def get(path: str) -> dict[str, Any]:
        request = urllib.request.Request(f"{url}{path}")  # noqa: S310  # our own Flower on loopback
        request.add_header("Authorization", "Basic " + base64.b64encode(":".join(login).encode()).decode())
        with urllib.request.urlopen(request, timeout=15) as response:  # noqa: S310
            answer: dict[str, Any] = json.load(response)
        return answer

    workers = get("/api/workers?refresh=1")  # else only those that were up before Flower
    tasks = get(f"/api/tasks?limit={limit}")
    order_tasks = sum(1 for task in tasks.values() if str(task.get("name")).startswith("orders."))
    return Watched(len(workers), len(tasks), order_tasks)
