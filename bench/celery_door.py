"""What the Celery door costs beside stock Celery, in one run of interleaved blocks: ours, stock, stock, ours, …

    .venv/bin/python bench/celery_door.py noop      # no-op tasks, preloaded, one solo worker each
    .venv/bin/python bench/celery_door.py place     # one order a message, from the first publish to the last outcome
    .venv/bin/python bench/celery_door.py results   # ours: results stored, against ignore_result=True in the message
    .venv/bin/python bench/celery_door.py memory    # ours: resident memory of one worker over 200,000 orders
    .venv/bin/python bench/celery_door.py all --pairs 7 --json results.json

CPU a message first (from /proc: worker, Redis, PostgreSQL, producer), messages a second second. Task events are on and
an event consumer is attached on both sides; its own CPU is shown apart. Stock is tuned first: the quickest of a few
settings is taken, or the one given by --stock. The servers are of this run's own, durable, in a temporary folder.
Linux: reads /proc.
"""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.door_block import NOOP, OURS, PLACE, STOCK, Rig, Side, arguments, at_work, run_block
from bench.measuring import machine, slope, summary, versions
from bench.placing import erased
from workers.child import termination_raised

MESSAGES = {"noop": 6_000, "place": 5_000, "results": 5_000, "memory": 200_000}
TUNING_MESSAGES, TUNING_ROUNDS = 1_000, 2
CHUNK = 2_000  # the memory row publishes so many orders at a time
Row = dict[str, Any]
console = Console(stderr=True, highlight=False)


class Run:
    """The arguments, the servers, and what has been measured so far."""

    def __init__(self, asked: argparse.Namespace, rig: Rig) -> None:
        self.asked, self.rig = asked, rig
        self.rows: list[Row] = []

    def messages(self, mode: str) -> int:
        """How many messages a block of this mode has."""
        return self.asked.messages or MESSAGES[mode]

    def block(self, label: str, side: Side, task: str, messages: int) -> Row:
        """One block, and a line that says how it went."""
        with console.status(f"{label}: {side}"):
            measured = run_block(self.rig, side, task, messages)
        console.print(f"{label}: {side}: {measured['cpu_ms']['total']:.3f} ms CPU, {measured['rate']:,.0f}/s")
        return measured

    def tune(self, task: str, sides: list[Side]) -> tuple[Side, list[Row]]:
        """The quickest of these, each by its better round, and how all did."""
        if len(sides) == 1:
            return sides[0], []
        size = min(TUNING_MESSAGES, self.messages(task.rpartition(".")[2]))
        rounds = [[(side, self.block("tuning", side, task, size)) for side in sides] for _ in range(TUNING_ROUNDS)]
        tried = [max(same, key=lambda each: each[1]["rate"]) for same in zip(*rounds, strict=True)]
        best, _ = max(tried, key=lambda each: each[1]["rate"])
        return best, [{"side": str(side), "cpu_ms": row["cpu_ms"]["total"], "rate": row["rate"]} for side, row in tried]

    def pairs(self, identity: str, task: str, ours: Side, peer: Side, messages: int) -> Row:
        """Interleaved pairs of blocks, as a row: medians of each side, and of the ratios within the pairs."""
        pairs = []
        for number in range(self.asked.pairs):
            order = (ours, peer) if number % 2 == 0 else (peer, ours)
            done = [self.block(f"{identity} {number + 1}/{self.asked.pairs}", side, task, messages) for side in order]
            pairs.append(tuple(done) if number % 2 == 0 else (done[1], done[0]))
        return {
            "id": identity,
            "unit": "messages/s",
            "messages": messages,
            "pairs": len(pairs),
            "ours": middle(str(ours), [pair[0] for pair in pairs]),
            "peer": middle(str(peer), [pair[1] for pair in pairs]),
            "ratio": summary(a["rate"] / b["rate"] for a, b in pairs),
            "cpu_ratio": summary(a["cpu_ms"]["total"] / b["cpu_ms"]["total"] for a, b in pairs),
            "blocks": pairs,
        }

    # Modes

    def noop(self) -> None:
        """No-op tasks, preloaded, one solo worker."""
        stock = (
            [given(self.asked.stock)] if self.asked.stock else [STOCK.tuned(prefetch=n) for n in (1, 4, 16, 64, 256)]
        )
        peer, tuning = self.tune(NOOP, [side.tuned(workers=1, pool="solo") for side in stock])
        row = self.pairs("noop_vs_celery", NOOP, OURS, peer, self.messages("noop"))
        self.rows.append(row | {"tuning": tuning, "target": "CPU and rate: 5 times stock"})

    def place(self) -> None:
        """One order a message, end to end, publishing included."""
        peer, tuning = self.tuned_stock()
        ours, also = self.tune(
            PLACE, [OURS.tuned(workers=n) for n in ([self.asked.ours] if self.asked.ours else [1, 2])]
        )
        row = self.pairs("place_vs_celery", PLACE, ours, peer, self.messages("place"))
        self.rows.append(row | {"tuning": tuning + also, "target": "CPU and rate: 5 times stock"})

    def tuned_stock(self) -> tuple[Side, list[Row]]:
        """The kind and the number of workers first, then their prefetch."""
        if self.asked.stock:
            return given(self.asked.stock), []
        kinds = [STOCK.tuned(pool=pool, workers=n) for pool in ("solo", "prefork") for n in (1, 2, 4)]
        kind, tried = self.tune(PLACE, kinds)
        best, more = self.tune(PLACE, [kind.tuned(prefetch=n) for n in (4, 16, 64)])
        return best, tried + more

    def results(self) -> None:
        """Results stored against not, in the message."""
        workers = self.asked.ours or 1
        on = OURS.tuned(name="results", workers=workers)
        off = OURS.tuned(name="no results", workers=workers, ignore_result=True)
        row = self.pairs("results_on_vs_off", PLACE, on, off, self.messages("results"))
        self.rows.append(row | {"target": "CPU: at most 1.2 times"})

    def memory(self) -> None:
        """Resident memory of one worker as messages pass."""
        wanted, points, task = self.messages("memory"), [], PLACE
        steps = max(1, min(20, wanted // CHUNK))
        with at_work(self.rig, OURS, task) as block, console.status("memory"):
            messages = arguments(task, wanted, "m")
            for number in range(0, wanted, CHUNK):
                block.publish(block.client, messages[number : number + CHUNK], batch=True)
                block.wait_done()
                done = min(number + CHUNK, wanted)
                if done == wanted or (done // CHUNK) % max(1, wanted // CHUNK // steps) == 0:
                    points.append((done, round(block.rss(), 2)))
                    console.print(f"memory: {done:,} messages, {points[-1][1]:.1f} MiB")
            block.check_shop()
        later = [point for point in points if point[0] >= wanted / 4]
        self.rows.append(
            {
                "id": "worker_rss_mb",
                "unit": "MiB",
                "messages": wanted,
                "points": points,
                "most": max(size for _, size in points),
                "kib_per_1000_messages": round(slope(later) * 1024 * 1000, 3) if len(later) > 1 else None,
                "target": "flat, at most 100",
            }
        )


def middle(side: str, blocks: list[Row]) -> Row:
    """The medians of one side's blocks."""
    names = blocks[0]["cpu_ms"]
    return {
        "side": side,
        "cpu_ms": {name: summary(block["cpu_ms"][name] for block in blocks)["median"] for name in names},
        "event_consumer_cpu_ms": summary(block["event_consumer_cpu_ms"] for block in blocks)["median"],
        "events_seen": blocks[-1]["events_seen"],
        "rate": summary(block["rate"] for block in blocks),
    }


def given(text: str) -> Side:
    """The stock side of `pool:workers:prefetch`."""
    pool, workers, prefetch = text.split(":")
    return STOCK.tuned(pool=pool, workers=int(workers), prefetch=int(prefetch))


def table(rows: list[Row], title: str) -> Table:
    """Milliseconds of CPU a message by component, then the rate, then the ratios."""
    shown = Table(title=title, title_justify="left")
    components = ("worker", "redis", "postgres", "producer", "total")
    for name in ("", "side", *(f"{name} ms" for name in components), "messages/s", "CPU: ratio", "rate: ratio"):
        shown.add_column(name, justify="left" if name in ("", "side") else "right")
    for row in rows:
        for place in ("ours", "peer"):
            side = row[place]
            cells = [row["id"] if place == "ours" else "", side["side"]]
            cells += [f"{side['cpu_ms'][name]:.3f}" for name in components]
            ratios = [spread(row["cpu_ratio"]), spread(row["ratio"])] if place == "ours" else []
            shown.add_row(*cells, f"{side['rate']['median']:,.0f}", *ratios)
    return shown


def spread(ratio: dict[str, float]) -> str:
    """A median with its least and most."""
    return f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"


def show(report: dict[str, Any]) -> None:
    """The tables, and what is needed to judge them."""
    out = Console(width=None if sys.stdout.isatty() else 190, highlight=False)
    paired = [row for row in report["results"] if "ratio" in row]
    if paired:
        out.print(table(paired, "CPU a message; ratios are ours ÷ peer: median (min to max) of the pairs"))
    for row in paired:
        cpu, rate = 1 / row["cpu_ratio"]["median"], row["ratio"]["median"]
        out.print(f"{row['id']}: peer's CPU ÷ ours {cpu:.2f}, our rate ÷ peer's {rate:.2f} (target: {row['target']})")
    for row in report["results"]:
        if "points" in row:
            steps = ", ".join(f"{done:,}: {size}" for done, size in row["points"])
            out.print(f"memory of one worker, MiB, after so many messages: {steps}")
            out.print(f"  most {row['most']} MiB, slope {row['kib_per_1000_messages']} KiB per 1,000 ({row['target']})")
    for name in ("command", "machine", "versions"):
        value = report[name]
        out.print(f"{name}: {value if isinstance(value, str) else ', '.join(f'{k} {v}' for k, v in value.items())}")


def main() -> None:
    """Runs what the arguments ask for."""
    modes: dict[str, Callable[[Run], None]] = {
        "noop": Run.noop, "place": Run.place, "results": Run.results, "memory": Run.memory,
    }  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=[*modes, "all"])
    parser.add_argument("--pairs", type=int, default=5, help="pairs of blocks, interleaved")
    parser.add_argument("--messages", type=int, help=f"messages a block (default: {MESSAGES})")
    parser.add_argument("--stock", help="pool:workers:prefetch, instead of tuning stock")
    parser.add_argument("--ours", type=int, help="our workers, instead of the better of 1 and 2")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    asked = parser.parse_args()
    with termination_raised(), tempfile.TemporaryDirectory() as home, erased(Path(home)), Rig(Path(home)) as rig:
        run = Run(asked, rig)
        facts = rig.facts()
        for name in modes if asked.mode == "all" else [asked.mode]:
            modes[name](run)
    report = {
        "command": f"python bench/celery_door.py {shlex.join(sys.argv[1:])}",
        "machine": machine(),
        "versions": versions("celery", "kombu", "redis", "psycopg") | facts,
        "results": run.rows,
    }
    show(report)
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
