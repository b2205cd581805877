"""An event consumer as Flower is one, in a process of its own: it takes every event into Celery's State.

    python -m bench.peers.celery_events BROKER_URL FILE

It does not wake the workers (Flower does, once), and twice a second writes to FILE how many events of each type came.
"""

import json
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from celery import Celery
from celery.events import EventReceiver
from celery.events.state import State


def read_counts(file: Path) -> dict[str, int]:
    """What a consumer has written so far."""
    try:
        counts: dict[str, int] = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    return counts


def main(broker_url: str, file: Path) -> None:
    """Captures until it is ended."""
    app = Celery("bench-events", broker=broker_url, set_as_current=False)
    state, counts, lock, ended = State(max_tasks_in_memory=10_000), Counter[str](), threading.Lock(), threading.Event()

    def take(event: dict[str, Any]) -> None:
        state.event(event)
        with lock:
            counts[event["type"]] += 1

    def write() -> None:
        unfinished = file.with_suffix(".new")
        while not ended.wait(0.5):
            with lock:
                text = json.dumps(counts)
            unfinished.write_text(text)
            unfinished.replace(file)

    threading.Thread(target=write, daemon=True).start()
    with app.connection() as connection:
        EventReceiver(connection, handlers={"*": take}, app=app).capture(limit=None, timeout=None, wakeup=False)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
