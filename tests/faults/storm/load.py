"""One application: sends its door's part of the plan on time, asks what became of it, and sends again what is unknown.

    python -m tests.faults.storm.load --door sql --seed 7 --journal FILE --began TIME

Started again with the same journal it goes on: what it does not know the answer of, it asks for. SIGTERM: it sends
nothing new, and ends when all is decided. Of Ordermill it uses what any client has: addresses, task names, `api`.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import psycopg
from celery import Celery
from psycopg.types.json import Jsonb

from tests.faults.storm import points
from tests.faults.storm.journal import Journal, read
from tests.faults.storm.plan import Intent, intent
from workers.database import connect

TICK_SECONDS, ASK_SECONDS = 0.02, 0.1
PATIENCE_SECONDS = 3.0  # after so long an unknown key is sent again
REST_SECONDS = 0.3
AT_ONCE = 300  # keys that are asked for together
LATE_SECONDS = 1.0  # what is due longer is not sent: an outage is not followed by all that it held up
TASKS = {"place": "orders.place", "bad": "orders.place", "cancel": "orders.cancel", "restock": "inventory.receive"}
QUEUE_OF = {"orders.place": "orders", "orders.cancel": "orders", "inventory.receive": "inventory"}
ENDS = {"placed", "rejected", "dead", "done"}
OVER_CAPACITY = "OM"  # the class of what the SQL door says; not accepted


@dataclass
class Pending:
    """A key without an answer."""

    kind: str
    body: dict[str, Any]
    sent_at: float = 0.0
    unsure: bool = False


class CeleryDoor:
    """Publishes by name. As most clients it gives up soon, and does not know then whether it was heard."""

    def __init__(self, url: str) -> None:
        self.url, self.app = url, self._new(url)

    @staticmethod
    def _new(url: str) -> Celery:
        app = Celery("an-application", broker=url, set_as_current=False)
        app.conf.update(
            task_serializer="json", broker_pool_limit=1, broker_connection_timeout=3, broker_pool_acquire_timeout=3
        )
        app.conf.broker_transport_options = {
            "socket_timeout": 3,
            "socket_connect_timeout": 3,
            "retry_on_timeout": False,
        }
        return app

    def send(self, kind: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Publishes; raises whatever Celery raises."""
        task, unwanted = TASKS[kind], body["key"][-1] in "13579"  # half of the results are stored
        try:
            points.reach("client before publish")
            self.app.send_task(task, args=[body], queue=QUEUE_OF[task], ignore_result=unwanted, retry=False)
            points.reach("client after publish")
        except Exception:
            self.app.close()
            self.app = self._new(self.url)
            raise
        return None


class Database:
    """A connection of the application's role, made anew when it is needed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection: psycopg.Connection[Any] | None = None

    def run(self, work: Callable[[psycopg.Connection[Any]], Any]) -> Any:
        """What the work gives; raises psycopg.Error, and has forgotten the connection then."""
        try:
            if self._connection is None:
                made = connect(self.url, connect_timeout=3)
                made.execute("SET ROLE ordermill_app")
                made.execute("SET statement_timeout = '5s'")
                self._connection = made
            return work(self._connection)
        except psycopg.Error as error:
            if not (error.sqlstate or "").startswith(OVER_CAPACITY):
                if self._connection is not None:
                    self._connection.close()
                self._connection = None
            raise

    def outcomes(self, keys: list[str]) -> dict[str, dict[str, Any] | None]:
        """What became of these keys."""
        query = "SELECT k, api.order_outcome(k) FROM unnest(%s::text[]) AS k"
        return dict(self.run(lambda connection: connection.execute(query, [keys]).fetchall()))


class SqlDoor:
    """Calls a routine in a transaction of the application's own."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def send(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """The routine's answer, after the commit; raises psycopg.Error."""
        query, arguments = self._call(kind, body)

        def work(connection: psycopg.Connection[Any]) -> dict[str, Any]:
            with connection.transaction():
                row = connection.execute(query, arguments).fetchone()
                points.reach("client before commit")
            points.reach("client after commit")
            assert row is not None
            answer: dict[str, Any] = row[0]
            return answer

        answer: dict[str, Any] = self.database.run(work)
        return answer

    def send_many(self, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Orders in one call and transaction; their answers in order, after the commit; raises psycopg.Error."""

        def work(connection: psycopg.Connection[Any]) -> list[dict[str, Any]]:
            return [row[0] for row in connection.execute("SELECT api.submit_orders(%s::jsonb)", [Jsonb(bodies)])]

        answers: list[dict[str, Any]] = self.database.run(work)
        return answers

    @staticmethod
    def _call(kind: str, body: dict[str, Any]) -> tuple[str, list[Any]]:
        if kind == "cancel":
            return "SELECT api.cancel_order(%s, %s, %s)", [body["key"], body["order_id"], body["reason"]]
        return "SELECT api.submit_order(%s::jsonb)", [Jsonb(body)]


class Load:
    """One door's part of the plan."""

    def __init__(self, asked: argparse.Namespace, database_url: str, broker_url: str) -> None:
        self.asked = asked
        self.database = Database(database_url)
        self.door: CeleryDoor | SqlDoor = (
            CeleryDoor(broker_url) if asked.door == "celery" else SqlDoor(Database(database_url))
        )
        self.pending: dict[str, Pending] = {}
        self.placed: list[str] = []
        self.next = 0
        self.rests = 0.0  # until when the door is not tried again after an error
        self.stopping = False
        self._recall()
        self.journal = Journal(asked.journal)

    def _recall(self) -> None:
        """Goes on from what an earlier process of this journal noted."""
        for note in read(self.asked.journal):
            key = note.get("key", "")
            if note["e"] == "intent":
                self.next = note["n"] + 1
                self.pending.setdefault(key, Pending(note["kind"], note["body"], note["t"], unsure=True))
            elif note["e"] == "sent" and key in self.pending:
                self.pending[key].unsure = False
            elif note["e"] == "answer":
                self._decided(key, note["answer"])

    def _decided(self, key: str, answer: dict[str, Any]) -> None:
        if self.pending.pop(key, None) and answer["status"] == "placed":
            self.placed.append(answer["order_id"])

    def run(self) -> bool:
        """Sends until it is stopped, then waits until all is decided; false when that takes too long."""
        asked_at, gives_up = 0.0, None
        while True:
            now = time.time()
            if self.stopping:
                gives_up = gives_up or now + self.asked.drain
                if not self.pending or now > gives_up:
                    self.journal.close()
                    return not self.pending
            else:
                self._send_due(now)
            if now - asked_at >= ASK_SECONDS:
                asked_at = now
                self._ask(now)
            time.sleep(max(0.0, TICK_SECONDS - (time.time() - now)))

    def _send_due(self, now: float) -> None:
        due = int((now - self.asked.began) * self.asked.rate)
        self.next = max(self.next, due - int(LATE_SECONDS * self.asked.rate))
        wanted = [self._of_mine(n) for n in range(self.next, due)]
        self.next = max(self.next, due)
        intents = [each for each in wanted if each]
        for each in intents:
            fields = {"n": each.n, "door": each.door, "kind": each.kind, "key": each.key, "body": each.body}
            self.journal.note("intent", **fields, repeats=each.repeats)
        self.journal.flush()
        for each in intents:
            self.pending.setdefault(each.key, Pending(each.kind, each.body))
            self._send(each.key, "sent")
        self.journal.flush()

    def _of_mine(self, n: int) -> Intent | None:
        """The intent of this number, if it is this door's and can be had."""
        found = intent(self.asked.seed, n)
        if self.asked.only == "place" and found.kind != "place":
            return None
        if self.asked.only != "place" and found.door != self.asked.door:
            return None
        if found.kind == "cancel":
            if not self.placed:
                return None
            order_id = self.placed.pop(Random(f"{self.asked.seed}:{n}").randrange(len(self.placed)))
            found.body["order_id"] = order_id
        return found

    def _send(self, key: str, event: str) -> None:
        wanted, now = self.pending.get(key), time.time()
        if wanted is None:
            return
        if now < self.rests:
            wanted.unsure = True
            return
        wanted.sent_at = now
        try:
            answer = self.door.send(wanted.kind, wanted.body)
        except Exception as error:  # of psycopg, Celery, kombu or redis: nobody lists them
            self._failed([key], error)
            return
        self._sent(key, event, answer)

    def _send_again(self, keys: list[str]) -> None:
        """What is unknown: by the SQL door orders in one call, so that a backlog is the application's own no longer."""
        orders = [key for key in keys if self.pending[key].kind in {"place", "bad"}]
        if isinstance(self.door, SqlDoor) and len(orders) > 1 and time.time() >= self.rests:
            keys = [key for key in keys if key not in set(orders)]
            for key in orders:
                self.pending[key].sent_at = time.time()
            try:
                answers = self.door.send_many([self.pending[key].body for key in orders])
            except Exception as error:
                self._failed(orders, error)
            else:
                for key, answer in zip(orders, answers, strict=True):
                    self._sent(key, "again", answer)
        for key in keys:
            self._send(key, "again")

    def _failed(self, keys: list[str], error: Exception) -> None:
        """It may have arrived, or not; the door rests for a moment."""
        busy = isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(OVER_CAPACITY)
        self.rests = time.time() + REST_SECONDS
        for key in keys:
            self.pending[key].unsure = True
            self.journal.note("busy" if busy else "unsure", key=key, door=self.asked.door, error=repr(error)[:200])

    def _sent(self, key: str, event: str, answer: dict[str, Any] | None) -> None:
        # A busy pool turned it away: nothing is stored, and it is sent again under its key.
        wanted = self.pending[key]
        wanted.unsure = bool(answer and answer["status"] == "refused")
        self.journal.note("busy" if wanted.unsure else event, key=key, door=self.asked.door)
        if answer and answer["status"] in ENDS:
            self._answered(key, answer)

    def _answered(self, key: str, answer: dict[str, Any]) -> None:
        self.journal.note("answer", key=key, door=self.asked.door, answer=answer)
        self._decided(key, answer)

    def _ask(self, now: float) -> None:
        """Asks what became of the oldest keys; sends again what is unknown."""
        keys = list(self.pending)[:AT_ONCE]
        if not keys:
            return
        try:
            outcomes = self.database.outcomes(keys)
        except psycopg.Error:
            return
        unknown = []
        for key in keys:
            outcome, wanted = outcomes[key], self.pending[key]
            if outcome and outcome["status"] in ENDS:
                self._answered(key, outcome)
            elif outcome is None and self._sends_again(wanted, now):
                unknown.append(key)
            else:  # the next are asked for next time
                self.pending[key] = self.pending.pop(key)
        self._send_again(unknown)
        self.journal.flush()

    def _sends_again(self, wanted: Pending, now: float) -> bool:
        if wanted.unsure:
            return now - wanted.sent_at > ASK_SECONDS
        return bool(self.asked.resend) and now - wanted.sent_at > PATIENCE_SECONDS


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--door", choices=["celery", "sql"], required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--began", type=float, required=True, help="when number 0 is due, in seconds since 1970")
    parser.add_argument("--rate", type=float, default=200.0, help="of the whole plan, both doors (default: 200)")
    parser.add_argument("--drain", type=float, default=60.0, help="seconds to wait for answers at the end")
    parser.add_argument("--no-resend", dest="resend", action="store_false", help="only what raised is sent again")
    parser.add_argument(
        "--only", choices=["place", "all"], default="all", help="place: good orders alone, all by this door"
    )
    return parser.parse_args()


def main() -> None:
    """Runs until SIGTERM and the last answer."""
    load = Load(arguments(), os.environ["DATABASE_URL"], os.environ["CELERY_BROKER_URL"])

    def stop(_number: int, _frame: object) -> None:
        load.stopping = True

    signal.signal(signal.SIGTERM, stop)
    print("load: ready.", file=sys.stderr, flush=True)
    sys.exit(0 if load.run() else 3)


if __name__ == "__main__":
    main()
