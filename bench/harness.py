"""How two sides are compared: interleaved blocks A-B-B-A, the ratios within pairs, and a control.

A row's `ratio` is our orders a second over the peer's, its `cpu_ratio` our CPU an order over the peer's, each the
median of the pairs. The control is the ratio of blocks of the *same* side that follow one another, A after A and
B after B: a row whose control is off by more than 15 % says more about the machine than about the sides, and is void.
How far one such ratio typically lies from 1, either way, is the row's `noise`.
"""

import datetime
import itertools
import math
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from bench.block import Disturbed, measure
from bench.measuring import machine, summary, versions
from bench.mixes import THREE_LINES, Mix
from bench.results import Results
from bench.rig import Rig
from bench.sides import Side

CONTROL_BAND, PAIRS = 0.15, 7
TUNING_ORDERS, TUNING_ROUNDS = 1_000, 2
QUICK_SHARE, QUICK_LEAST = 0.1, 300
COMPONENTS = ("postgres", "redis", "worker", "producer", "total")
console = Console(stderr=True, highlight=False, soft_wrap=True)
Block = dict[str, Any]
T = TypeVar("T", bound=Side)


@dataclass
class Run:
    """The servers, how thorough it is to be, and where results go."""

    rig: Rig
    results: Results
    pairs: int = PAIRS
    quick: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    tunings: dict[Any, Any] = field(default_factory=dict)  # what was found for the same question before
    history: int | None = None  # orders stored for the row of history; None: as many as it promises

    def __post_init__(self) -> None:
        here = machine()
        self.facts = {
            "machine": f"{here['cpus']} cores, {here['model']}, {here['memory_gib']} GiB",
            "load": here["load"],
            "versions": versions("celery", "kombu", "redis", "psycopg") | self.rig.facts(),
        }

    def orders(self, full: int) -> int:
        """How many orders where a full run has so many."""
        return max(min(full, QUICK_LEAST), int(full * QUICK_SHARE)) if self.quick else full

    def block(self, label: str, side: Side, mix: Mix, orders: int) -> Block:
        """One block, and a line that says how it went."""
        with console.status(f"{label}: {side.name} ({side.setting})"):
            measured = self.undisturbed(side, mix, orders)
        total, rate = measured["cpu_ms"]["total"], measured["rate"]
        console.print(f"{label}: {side.name} ({side.setting}): {total:.3f} ms CPU an order, {rate:,.0f}/s")
        return measured

    def undisturbed(self, side: Side, mix: Mix, orders: int) -> Block:
        """What a block cost; one that the machine disturbed is measured anew, at most twice."""
        for _ in range(2):
            try:
                return measure(self.rig, side, mix, orders)
            except Disturbed as error:
                console.print(f"measured anew: {error}")
        return measure(self.rig, side, mix, orders)

    def tune(self, sides: Sequence[T], mix: Mix = THREE_LINES, orders: int = TUNING_ORDERS) -> tuple[T, list[Block]]:
        """The quickest of these, each by its better round, and how all did; a quick run takes the first.

        Asked the same again, it gives what it found.
        """
        if len(sides) == 1 or self.quick:
            return sides[0], []
        asked = (*sides, mix, orders)
        if asked in self.tunings:
            best, shown = self.tunings[asked]
            return sides[best], shown
        rounds = [[self.block("tuning", side, mix, orders) for side in sides] for _ in range(TUNING_ROUNDS)]
        tried = [max(same, key=lambda each: each["rate"]) for same in zip(*rounds, strict=True)]
        best = max(range(len(sides)), key=lambda number: tried[number]["rate"])
        shown = [{"setting": b["setting"], "cpu_ms": b["cpu_ms"]["total"], "rate": b["rate"]} for b in tried]
        self.tunings[asked] = best, shown
        return sides[best], shown

    def compare(self, identity: str, ours: Side, peer: Side, orders: int, mix: Mix = THREE_LINES, **more: Any) -> Block:
        """Measures interleaved pairs of blocks and saves them as a row."""
        orders, pairs = self.orders(orders), 1 if self.quick else self.pairs
        done: list[Block] = []  # in the order in which they ran
        for number in range(pairs):
            for side in (ours, peer) if number % 2 == 0 else (peer, ours):
                which = "A" if side is ours else "B"
                label = f"{identity} {number + 1}/{pairs} {which}"
                done.append(self.block(label, side, mix, orders) | {"which": which})
        row = paired(done) | {"id": identity, "unit": "orders/s", "orders": orders, "mix": mix.name} | more
        return self.save(row)

    def save(self, row: Block) -> Block:
        """Writes a row down with where and when it was measured, and what its target says."""
        options = f" --pairs {self.pairs}" if self.pairs != PAIRS else ""
        options += f" --history {self.history}" if self.history else ""
        command = f"python -m bench {row['id']}{' --quick' if self.quick else options}"
        at = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        whole = row | {"command": command, "quick": self.quick, "at": at, "commit": _commit()} | self.facts
        saved = self.results.save(whole)
        console.print(self.results.line(saved))
        return saved


def paired(done: list[Block]) -> Block:
    """The figures of interleaved blocks: medians of each side, ratios within the pairs, the control."""
    pairs = [sorted(done[at : at + 2], key=lambda block: block["which"]) for at in range(0, len(done), 2)]
    ours, peer = ([pair[which] for pair in pairs] for which in (0, 1))
    control = controls(done)
    return {
        "ours": summary(block["rate"] for block in ours)["median"],
        "peer": summary(block["rate"] for block in peer)["median"],
        "ratio": summary(a["rate"] / b["rate"] for a, b in pairs),
        "cpu_ratio": summary(a["cpu_ms"]["total"] / b["cpu_ms"]["total"] for a, b in pairs)["median"],
        "cpu_ratios": summary(a["cpu_ms"]["total"] / b["cpu_ms"]["total"] for a, b in pairs),
        "pairs": len(pairs),
        "control": control,
        "noise": noise(done),
        "void": control is not None and any(abs(each["median"] - 1) > CONTROL_BAND for each in control.values()),
        "sides": {"ours": middle(ours), "peer": middle(peer)},
    }


def controls(done: list[Block]) -> dict[str, dict[str, float]] | None:
    """The ratios of blocks of the same side that ran one after the other, in CPU and in rate; None where there is no
    such pair."""
    if not (same := neighbours(done)):
        return None
    return {
        "rate": summary(b["rate"] / a["rate"] for a, b in same),
        "cpu": summary(b["cpu_ms"]["total"] / a["cpu_ms"]["total"] for a, b in same),
    }


def noise(done: list[Block]) -> dict[str, float] | None:
    """How far two neighbouring blocks of the same side typically differ: the median of |ln ratio|, in rate and in CPU.

    The control's median can be 1 where one half of its ratios is far above and the other far below; this cannot.
    """
    if not (same := neighbours(done)):
        return None
    return {
        "rate": round(statistics.median(abs(math.log(b["rate"] / a["rate"])) for a, b in same), 4),
        "cpu": round(statistics.median(abs(math.log(b["cpu_ms"]["total"] / a["cpu_ms"]["total"])) for a, b in same), 4),
    }


def neighbours(done: list[Block]) -> list[tuple[Block, Block]]:
    """The pairs of blocks of one side that ran one after the other."""
    return [(a, b) for a, b in itertools.pairwise(done) if a["which"] == b["which"]]


def middle(blocks: list[Block]) -> Block:
    """The medians of one side's blocks."""
    return {
        "name": blocks[0]["side"],
        "setting": blocks[0]["setting"],
        "rate": summary(block["rate"] for block in blocks),
        "cpu_ms": {name: summary(block["cpu_ms"][name] for block in blocks)["median"] for name in COMPONENTS},
        "event_consumer_cpu_ms": summary(block["event_consumer_cpu_ms"] for block in blocks)["median"],
    }


def _commit() -> str:
    """The commit that is measured; `-dirty` where its files were changed, but for the results that this writes."""

    def git(*asked: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *asked]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude)results.json")
    return (git("describe", "--always") or "unknown") + ("-dirty" if changed else "")
