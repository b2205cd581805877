"""Rounds of faults, and what came of them.

    .venv/bin/python -m tests.faults.storm                       # all faults, one round each: `make faults`
    .venv/bin/python -m tests.faults.storm --rounds 20 --seed 7 1 9 16

A round: the load starts, the fault breaks things for a while and ends, the load goes on for a moment and stops, all is
decided, the oracle looks, `verify` is asked. Faults that want the same rig have it one after the other.
"""

import argparse
import contextlib
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, NoReturn

from tests.faults.storm.fault import Fault, Stop, all_faults
from tests.faults.storm.oracle import Before, Contradiction, Verdict, judge, load_worked, recovery
from tests.faults.storm.plan import DOORS
from tests.faults.storm.rig import ROOT, Rig

FILE = ROOT / ".ordermill" / "faults.json"
SEED = 20_261_124
WARM_SECONDS = 1.5  # of load before the fault begins
TAIL_SECONDS = 1.5  # of load after it ended
DRAIN, PEERS_DRAIN = 60.0, 20.0  # seconds in which all is decided, or never
RECOVERY_SECONDS = 10.0
LOAD_ENDS = {0, 3}  # all is decided, or not, which the oracle says more of


@dataclass
class Round:
    """One round of one fault."""

    fault: Fault
    seed: str
    injected: int
    verdict: Verdict
    recovery_s: float
    seconds: float = 0.0
    allowed_s: float = RECOVERY_SECONDS

    @property
    def problems(self) -> list[str]:
        """What was found, the first contradicting entry of each kind first; none: the promises were kept."""
        first = {each.kind: each for each in reversed(self.verdict.contradictions)}
        others = [each for each in self.verdict.contradictions if each not in first.values()]
        found = [str(each) for each in [*first.values(), *others]]
        if self.recovery_s > self.allowed_s:
            found.append(f"slow: recovery took {self.recovery_s:.1f} s, not {self.allowed_s:g}")
        if not self.injected:
            found.append("nothing was injected")
        return found

    def words(self) -> str:
        """For people, and for whoever has to reproduce it."""
        verdict = self.verdict
        sent = ", ".join(f"{count} by {door}" for door, count in verdict.resent.items()) or "0"
        lines = [
            f"fault {self.fault.number} {self.fault.name}, seed {self.seed}: {self.injected} injected",
            f"  {verdict.intents} intents: {verdict.placed} placed, {verdict.rejected} rejected, {verdict.dead} dead,"
            f" {verdict.done} commands done",
            f"  lost {verdict.count('lost')}, doubled {verdict.count('doubled')}, oversold {verdict.count('oversold')},"
            f" reordered {verdict.count('reordered')}, resent {sent}, recovery {self.recovery_s:.1f} s",
        ]
        return "\n".join([*lines, *(f"  {problem}" for problem in self.problems[:10])])


@dataclass
class Row:
    """All rounds of one fault: a row of the table."""

    fault: Fault
    seed: int
    rounds: list[Round] = field(default_factory=list)
    skipped: str | None = None
    ended: str | None = None  # why not all rounds were run to their end

    def asdict(self) -> dict[str, Any]:
        """As `.ordermill/faults.json` has it."""
        counts = {kind: sum(each.verdict.count(kind) for each in self.rounds) for kind in COUNTED}
        slowest = max((each.recovery_s for each in self.rounds), default=0.0)
        sent: dict[str, int] = {}
        for each in self.rounds:
            for door, count in each.verdict.resent.items():
                sent[door] = sent.get(door, 0) + count
        row = {
            "fault": self.fault.number,
            "name": self.fault.name,
            "rounds": len(self.rounds),
            "injected": sum(each.injected for each in self.rounds),
            **counts,
            "recovery_s": round(slowest, 1) if math.isfinite(slowest) else None,  # None: never
            "intents": sum(each.verdict.intents for each in self.rounds),
            "resent": sent,
            "seconds": round(sum(each.seconds for each in self.rounds)),
            "seed": self.seed,
            "at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
            "commit": commit(),
            "first": next((problem for each in self.rounds for problem in each.problems), self.ended),
        }
        if self.fault.label:
            row["label"] = self.fault.label
        return row | ({"skipped": self.skipped} if self.skipped else {})


COUNTED = ("lost", "doubled", "oversold", "reordered", "left", "wrong")


def one_round(fault: Fault, rig: Rig, seed: str, seconds: float) -> Round:
    """Breaks things once, in the given time."""
    began = time.monotonic()
    rig.seed = seed
    rig.look_again()
    if fault.prepare:
        fault.prepare(rig)
    rig.mend()
    rig.at_rest()
    with rig.looking() as shop:
        before = Before.of(shop)
    for sku in fault.own:  # in the second round of a rig it is there before
        before.available.pop(sku, None)
    if fault.load:
        more = ("--drain", f"{PEERS_DRAIN if fault.label else DRAIN:g}", *(() if fault.resends else ("--no-resend",)))
        rig.start_load(seed, fault.rate, fault.doors, *more)
        time.sleep(1.0 + WARM_SECONDS)
    stop = Stop(seconds)
    timer = threading.Timer(seconds, stop.set)
    timer.start()
    try:
        injected = fault.inject(rig, Random(seed), stop)
    finally:
        timer.cancel()
    ended = time.time()
    died = rig.died()
    rig.mend()
    if fault.load:
        time.sleep(max(0.0, ended + TAIL_SECONDS - time.time()))
        failed = {door: code for door, code in rig.stop_load().items() if code not in LOAD_ENDS}
    waiting = rig.at_rest(10.0 if fault.label else 30.0)
    notes = rig.notes(seed)
    with rig.looking() as shop:
        verdict = judge(notes, shop, before, waiting, events=not fault.label, may_be_dead=fault.poisons)
    verdict.contradictions += [Contradiction("wrong", name, "died by itself") for name in died]
    if fault.load:
        verdict.contradictions += [
            Contradiction("wrong", f"load by {door}", f"exit code {failed[door]}") for door in failed
        ]
        verdict.contradictions += load_worked(
            notes, fault.doors, int(fault.least_load * fault.rate * seconds / len(fault.doors))
        )
    if fault.check:
        verdict.contradictions += fault.check(rig, seed)
    return Round(fault, seed, injected, verdict, recovery(notes, ended), time.monotonic() - began)


class Rigs:
    """One rig at a time, kept for as long as the next fault wants the same."""

    def __init__(self) -> None:
        self._key: object = None
        self._stack = contextlib.ExitStack()
        self._rig: Rig | None = None

    def of(self, fault: Fault) -> Rig:
        """The rig for a fault."""
        if self._rig is None or self._key != fault.rig_key:
            self.close()
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ordermill-faults-")))
            general = None if fault.label else fault.general_app
            rig = Rig(
                folder, settings=fault.settings, pieces=fault.pieces, orders_app=fault.orders_app, general_app=general
            )
            self._rig, self._key = self._stack.enter_context(rig), fault.rig_key
        return self._rig

    def close(self) -> None:
        """Ends it; harmless to repeat."""
        self._rig = None
        self._stack.close()
        self._stack = contextlib.ExitStack()


@lru_cache(maxsize=1)
def commit() -> str:
    """What is run."""
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def numbered(row: dict[str, Any]) -> tuple[str, int]:
    """A row's place: ours before those of peers, by number."""
    return row.get("label", ""), row["fault"]


def save(rows: list[Row], file: Path) -> None:
    """Writes the rows at once and whole; rows of faults that were not run stay as they are."""
    kept = {numbered(row): row for row in json.loads(file.read_text())} if file.exists() else {}
    kept |= {
        numbered(row): row for row in (each.asdict() for each in rows if each.rounds or each.skipped or each.ended)
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".new")
    unfinished.write_text(json.dumps(sorted(kept.values(), key=numbered), indent=1) + "\n")
    unfinished.replace(file)


def line_of(row: dict[str, Any]) -> str:
    """A row of the table on a terminal of 80 columns."""
    sent = "/".join(str(row["resent"].get(door, 0)) for door in DOORS)
    back = "never" if row["recovery_s"] is None else row["recovery_s"]
    name = row["name"] + (f" ({row['label']})" if row.get("label") else "")
    cells = f"{row['fault']:>2} {name:<26.26} {row['rounds']:>4} {row['injected']:>5} {row['lost']:>4}"
    if row.get("skipped"):
        return f"{row['fault']:>2} {name:<26.26} skipped: {row['skipped']}"
    return f"{cells} {row['doubled']:>4} {row['oversold']:>4} {row['reordered']:>5} {sent:>9} {back:>6}"


# "again": what the load sent once more, by the Celery door and by that of SQL.
HEAD = f"{'':>2} {'fault':<26} runs broke lost  dbl over order again c/s back s"


def chosen(wanted: list[str]) -> list[Fault]:
    """The faults of these numbers, and of a peer as `1stock`; all where none is named."""
    faults = all_faults()
    if not wanted:
        return faults
    names = {f"{each.number}{each.label}": each for each in faults}
    unknown = [name for name in wanted if name not in names]
    if unknown:
        sys.exit(f"faults: there is no fault {', '.join(unknown)}: choose of {' '.join(names)}")
    return [names[name] for name in wanted]


class Parser(argparse.ArgumentParser):
    """Its errors are one line: `make faults` is asked in words of its own, not in those of the usage."""

    def error(self, message: str) -> NoReturn:
        """Ends with 2."""
        self.exit(2, f"faults: {message}\n")


def above_zero(kind: type[int] | type[float]) -> Callable[[str], Any]:
    """What reads such a number."""

    def read(text: str) -> Any:
        try:
            number = kind(text)
        except ValueError:
            number = kind(0)
        if not 0 < number < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} is no {'whole ' if kind is int else ''}number above 0")
        return number

    return read


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", help="numbers; default: all")
    parser.add_argument("--rounds", type=above_zero(int), default=1)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--short", action="store_true", help="rounds of a few seconds")
    parser.add_argument(
        "--seconds", type=above_zero(float), help="how long a round breaks things (default: the fault's own)"
    )
    parser.add_argument("--file", type=Path, default=FILE)
    return parser.parse_args()


def rounds_of(fault: Fault, rigs: Rigs, asked: argparse.Namespace) -> Iterator[Round]:
    """The rounds of a fault, each with a seed of its own."""
    seconds = asked.seconds or (fault.short if asked.short else fault.seconds)
    for number in range(1, asked.rounds + 1):
        if sys.stderr.isatty():
            print(f"\r{fault.number:>2} {fault.name}: round {number}", end="", file=sys.stderr, flush=True)
        yield one_round(fault, rigs.of(fault), f"{asked.seed}:{fault.label}{fault.number}:{number}", seconds)


def main() -> int:
    """Runs what the arguments ask for; 1 when a promise was broken."""
    asked, broken = arguments(), False
    faults, rigs = chosen(asked.faults), Rigs()
    print(f"seed {asked.seed}\n{HEAD}", flush=True)
    rows: list[Row] = []
    try:
        for fault in faults:
            row = Row(fault, asked.seed, skipped=fault.missing())
            rows.append(row)
            details = []
            try:
                for each in rounds_of(fault, rigs, asked) if not row.skipped else ():
                    row.rounds.append(each)
                    if each.problems:
                        details.append(each.words())
                    save(rows, asked.file)
            except Exception as error:  # the others are run nevertheless
                row.ended = f"ended early: {error!r}"[:300]
                details.append(f"fault {fault.number} ended early: {traceback.format_exc()}")
                rigs.close()
            broken |= bool(details) and not fault.label
            save(rows, asked.file)
            print("\r" + line_of(row.asdict()), *details, sep="\n", flush=True)
    finally:
        rigs.close()
    return int(broken)
