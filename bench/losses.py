"""What is lost and what is doubled when orders workers are killed: each message is counted at the end.

    .venv/bin/python bench/losses.py stop             # SIGSTOP a worker, publish, SIGKILL it, start another; 50 times
    .venv/bin/python bench/losses.py kill             # kill -9 at random moments under 200 messages/s; 20 times
    .venv/bin/python bench/losses.py kill --rounds 1000
    .venv/bin/python bench/losses.py stop --stock     # the same over the stock transport, for comparison

Starts its own servers, durable as they are by default. Exit code 1 when something is lost or doubled, or the shop does
not verify; not with --stock, which loses.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.losses import Tally, kill_rounds, stop_rounds
from tests.workers_fixtures import Mill
from workers.embedded import Servers, erase
from workers.migrate import migrate

ROUNDS = {"stop": 50, "kill": 20}


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=ROUNDS)
    parser.add_argument("--stock", action="store_true", help="Celery's own transport instead of Ordermill's")
    parser.add_argument("--rounds", type=int, help="default: 50 for stop, 20 for kill")
    parser.add_argument("--rate", type=float, default=200, help="messages a second for kill (default: 200)")
    parser.add_argument("--seed", type=int, default=7, help="of the random moments (default: 7)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    return parser.parse_args()


def progress(line: str) -> None:
    """Shows how far it is, on one line of a terminal."""
    if sys.stderr.isatty():
        print(f"\r{line:<60}", end="", file=sys.stderr, flush=True)


def run(asked: argparse.Namespace, home: Path) -> Tally:
    """One run over fresh servers in this home."""
    rounds = asked.rounds or ROUNDS[asked.way]
    with Servers(home) as servers:
        migrate(servers.database_url)
        folder = home / "mill"
        folder.mkdir()
        mill = Mill(servers.database_url, servers.redis_url, f"{servers.redis_url.removesuffix('/0')}/1", folder)
        mill.env["ORDERMILL_ORDERS_TRANSPORT"] = "stock" if asked.stock else "batch"
        try:
            if asked.way == "stop":
                return stop_rounds(mill, rounds, asked.seed, progress)
            return kill_rounds(mill, rounds, asked.seed, asked.rate, progress)
        finally:
            mill.stop()


def table(found: Tally) -> str:
    """The same for people."""
    rows = {
        "way": f"{found.way}, {found.transport} transport, seed {found.seed}",
        "rounds": f"{found.rounds} in {found.seconds:.0f} s",
        "published": f"{found.published:,}",
        "placed": f"{found.placed:,}",
        "decided otherwise": ", ".join(f"{count} {status}" for status, count in found.other.items()) or "0",
        "lost": f"{len(found.lost)}",
        "doubled": f"{len(found.doubled)}",
        "left in Redis": f"{found.waiting}",
        "verify": "clean" if not found.findings else "; ".join(found.findings),
    }
    return "\n".join(f"{name:<18} {value}" for name, value in rows.items())


def main() -> None:
    """Runs what the arguments ask for."""
    asked = arguments()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        try:
            found = run(asked, home)
        finally:
            erase(home)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(json.dumps(asdict(found)) if asked.json else table(found))
    if not found.clean and not asked.stock:
        sys.exit(1)


if __name__ == "__main__":
    main()
