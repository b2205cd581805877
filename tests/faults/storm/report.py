"""Writes the generated parts of docs/reliability.md from `tests/faults/results.json`.

    .venv/bin/python -m tests.faults.storm.report          # the document, from the results that are committed
    .venv/bin/python -m tests.faults.storm.report --take   # first takes the rows of the last `make faults` into them

A part lies between `<!-- faults: NAME -->` and `<!-- /faults -->`; all else in the document is written by hand.
"""

import argparse
import inspect
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.storm.fault import all_faults
from tests.faults.storm.run import FILE, ROOT, numbered

DOCUMENT = ROOT / "docs" / "reliability.md"
RESULTS = Path(__file__).parents[1] / "results.json"
PART = re.compile(r"(<!-- faults: ([a-z]+) -->\n).*?(<!-- /faults -->)", re.DOTALL)
PEERS = {
    "": "Ordermill",
    "stock": "Celery, its own transport, acknowledging late",
    "early": "Celery, its own transport, acknowledging early (its default)",
}
COUNTS = ("lost", "doubled", "oversold", "reordered")
Row = dict[str, Any]


def read(file: Path) -> list[Row]:
    """The rows of a file; none where it is not there."""
    rows: list[Row] = json.loads(file.read_text()) if file.exists() else []
    return rows


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [heads, ["---"] * len(heads), *rows])


def seconds(row: Row) -> str:
    """How long recovery took."""
    return "never" if row["recovery_s"] is None else f"{row['recovery_s']:.1f}"


def counted(row: Row) -> list[str]:
    """What was found, a broken promise in bold."""
    return [f"**{row[name]}**" if row[name] else "0" for name in COUNTS]


def ours(rows: list[Row]) -> str:
    """Every fault of ours."""
    lines = []
    for row in (each for each in rows if not each.get("label")):
        if row.get("skipped"):
            lines.append([str(row["fault"]), row["name"], f"not run: {row['skipped']}", *[""] * (len(COUNTS) + 4)])
            continue
        sent = ", ".join(f"{count} {door}" for door, count in row["resent"].items()) or "0"
        others = row["left"] + row["wrong"]
        first = [str(row["fault"]), row["name"], str(row["rounds"]), f"{row['injected']:,}", f"{row['intents']:,}"]
        lines.append([*first, *counted(row), f"**{others}**" if others else "0", sent, seconds(row)])
    heads = ["", "fault", "rounds", "broken", "intents", *COUNTS, "other", "resent", "recovery, s"]
    return table(heads, lines)


def peers(rows: list[Row]) -> str:
    """The faults that stock Celery was put to, beside ours."""
    wanted = {row["fault"] for row in rows if row.get("label")}
    lines = []
    for row in sorted(rows, key=lambda row: (row["fault"], list(PEERS).index(row.get("label", "")))):
        if row["fault"] in wanted:
            first = [str(row["fault"]), row["name"], PEERS[row.get("label", "")]]
            lines.append([*first, f"{row['injected']:,}", f"{row['intents']:,}", *counted(row)[:2], seconds(row)])
    return table(["", "fault", "who", "broken", "orders sent", "lost", "doubled", "recovery, s"], lines)


def how(_rows: list[Row]) -> str:
    """What each fault does: what its function says of itself."""
    lines = []
    for each in all_faults():
        if not each.label:
            words = " ".join((inspect.getdoc(each.inject) or "").partition("\n\n")[0].split())
            lines.append([str(each.number), each.name, words, f"{each.seconds:g}", ", ".join(each.needs)])
    return table(["", "fault", "what happens", "seconds a round", "needs"], lines)


def runs(rows: list[Row]) -> str:
    """When each row was measured, with which seed, on which commit."""
    lines = [
        [f"{row['fault']}{row.get('label', '')}", str(row["seed"]), f"{row['seconds']}", row["at"], row["commit"]]
        for row in rows
        if not row.get("skipped")
    ]
    return table(["fault", "seed", "seconds in all", "at", "commit"], lines)


PARTS: dict[str, Callable[[list[Row]], str]] = {"table": ours, "how": how, "stock": peers, "runs": runs}


def filled(document: str, rows: list[Row]) -> str:
    """The document with its generated parts made anew."""
    return PART.sub(lambda found: f"{found[1]}{PARTS[found[2]](rows)}{found[3]}", document)


def main() -> None:
    """Writes the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--take", action="store_true", help="take the rows of the last `make faults` first")
    rows = {numbered(row): row for row in read(RESULTS)}
    if parser.parse_args().take:
        rows |= {numbered(row): row for row in read(FILE)}
        RESULTS.write_text(json.dumps([rows[each] for each in sorted(rows)], indent=1) + "\n")
    DOCUMENT.write_text(filled(DOCUMENT.read_text(), [rows[each] for each in sorted(rows)]))
    print(f"written: {DOCUMENT.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
