"""Measures the rows of `bench/targets.py` and writes them to `bench/results.json`.

    make bench                                  # all rows, about an hour; then docs/performance.md anew
    make bench QUICK=1                          # all rows, tiny, one pair: does it work? Its figures are not kept
    make bench ROWS="place_vs_celery cache_hit" # some
    .venv/bin/python -m bench --list            # what there is

Starts servers of its own, durable, in a temporary folder. Each row is written as soon as it is measured. Linux.
"""

import argparse
import importlib
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.harness import PAIRS, Run, console
from bench.placing import erased
from bench.results import FILE, Results, verdict
from bench.rig import Rig
from bench.rows.registry import WORK
from bench.targets import TARGETS
from workers.child import termination_raised

# Of rows, in the order in which they run.
MODULES = ("celery", "database", "hot_sku", "queues", "sold_out", "latency", "history", "cores", "cache")
for module in MODULES:
    importlib.import_module(f"bench.rows.{module}")
QUICK_FILE = Path(".ordermill/bench-quick.json")


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="some rows; default: all")
    parser.add_argument("--quick", action="store_true", help="one pair of a tenth of the orders, nothing tuned")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"pairs of blocks, interleaved (default: {PAIRS})")
    parser.add_argument("--history", type=int, metavar="ORDERS", help="orders stored for history_5m_vs_10k (5 million)")
    parser.add_argument("--out", type=Path, help=f"default: {FILE.name} beside this file; quick: {QUICK_FILE}")
    parser.add_argument("--list", action="store_true", help="show the rows and end")
    asked = parser.parse_args()
    unknown = [name for name in asked.rows if name not in WORK]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(WORK)}")
    if asked.pairs < 1:
        parser.error("--pairs must be at least 1")
    if asked.history is not None and asked.history < 1:
        parser.error("--history must be at least 1")
    return asked


def show(file: Path) -> None:
    """The rows and what they promise, with what was measured last."""
    table, measured = (
        Table("row", "ours", "against", "at least", "measured"),
        {r["id"]: r for r in Results(file).rows()},
    )
    for name in (each for each in TARGETS if each in WORK):
        target = TARGETS[name]
        row = measured.get(name)
        table.add_row(name, target.what, target.against, target.words, verdict(row) if row else "")
    Console().print(table)


def main() -> int:
    """Runs what is asked for; 1 when a row could not be measured."""
    asked = arguments()
    file = asked.out or (QUICK_FILE if asked.quick else FILE)
    if asked.list:
        show(file)
        return 0
    failed, began = [], time.monotonic()
    works = list(dict.fromkeys(WORK[name] for name in asked.rows or WORK))
    with termination_raised(), tempfile.TemporaryDirectory() as home, erased(Path(home)), Rig(Path(home)) as rig:
        run = Run(rig, Results(file), asked.pairs, asked.quick)
        run.history = asked.history
        for work in works:
            names = " ".join(name for name, its in WORK.items() if its is work)
            console.rule(names, align="left", style="dim")
            try:
                work(run)
            except Exception as error:  # the other rows are worth having
                console.print_exception()
                failed.append(f"{names}: {error}")
    console.print(f"{file}: {len(works) - len(failed)} of {len(works)} done in {time.monotonic() - began:,.0f} s")
    for line in failed:
        console.print(f"[red]not measured:[/] {line}")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
