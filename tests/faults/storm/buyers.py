"""Orders that a fault places beside the load, by both doors at once, noted in a journal that the oracle reads too."""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from psycopg.types.json import Jsonb

from tests.faults.storm.load import ENDS, QUEUE_OF, TASKS, Database
from tests.faults.storm.plan import LOCATION, order
from tests.faults.storm.rig import Rig

Body = dict[str, Any]
AT_ONCE = 10  # connections to the SQL door


class Buyers:
    """For the length of an injection. Each buyer sends once and asks until there is an answer."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.journal = rig.journal("buyers")
        self.database = Database(rig.seen_database_url)
        self.count = 0

    def open_sku(self, sku: str, units: int) -> None:
        """A new variant; its units come in by a command, which the oracle counts."""
        self.rig.mill.shop.stock(sku, LOCATION, 0)
        if units:
            key, lines = self.key(), [{"sku": sku, "quantity": units}]
            self.send("celery", "restock", [{"key": key, "location": LOCATION, "lines": lines}])
            self.answers([key], 30.0)

    def key(self) -> str:
        """A new one."""
        self.count += 1
        return f"{self.rig.seed}:b{self.count}"

    def wanting(self, *lines: tuple[str, int]) -> Body:
        """An order under a new key."""
        return order(self.key(), list(lines))

    def send(self, door: str, kind: str, bodies: Iterable[Body]) -> None:
        """Sends by one door; to that of SQL from several connections."""
        wanted = list(bodies)
        for body in wanted:
            self.journal.note("intent", n=0, door=door, kind=kind, key=body["key"], body=body, repeats=None)
        self.journal.flush()
        if door == "celery":
            for body in wanted:
                task = TASKS[kind]
                self.rig.mill.send(task, body, queue=QUEUE_OF[task])
        else:
            parts = [part for part in (wanted[n::AT_ONCE] for n in range(AT_ONCE)) if part]
            with ThreadPoolExecutor(len(parts)) as threads:
                list(threads.map(self._submit, parts))
        for body in wanted:
            self.journal.note("sent", key=body["key"], door=door)
        self.journal.flush()

    def _submit(self, bodies: list[Body]) -> None:
        database = Database(self.rig.seen_database_url)
        for body in bodies:
            database.run(lambda session, body=body: session.execute("SELECT api.submit_order(%s)", [Jsonb(body)]))

    def answers(self, keys: Iterable[str], seconds: float = 60.0) -> dict[str, dict[str, Any]]:
        """What these came to; raises AssertionError when one is not decided in time."""
        waiting, found = set(keys), {}
        ends = time.monotonic() + seconds
        while waiting:
            outcomes = self.database.outcomes(sorted(waiting))
            for key, outcome in outcomes.items():
                if outcome and outcome["status"] in ENDS:
                    self.journal.note("answer", key=key, door="sql", answer=outcome)
                    found[key] = outcome
            waiting -= found.keys()
            assert time.monotonic() < ends or not waiting, f"not decided in {seconds:g} s: {sorted(waiting)[:5]}"
            time.sleep(0.05)
        self.journal.flush()
        return found
