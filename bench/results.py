"""`bench/results.json`: a list with a row for each id, the newest measurement of it."""

import json
from pathlib import Path
from typing import Any

from bench.targets import TARGETS

Row = dict[str, Any]
FIRST = ("id", "unit", "ours", "peer", "ratio", "cpu_ratio", "pairs", "p50_ms", "p99_ms", "command", "target", "met")
FILE = Path(__file__).parent / "results.json"


class Results:
    """The rows in a file, in the order of the targets."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def rows(self) -> list[Row]:
        """All rows; none where the file is not there."""
        if not self.file.exists():
            return []
        rows: list[Row] = json.loads(self.file.read_text())
        return rows

    def save(self, row: Row) -> Row:
        """Puts a row in the place of the one with its id, at once and whole; gives it with its target's verdict."""
        target = TARGETS[row["id"]]
        row = row | {"target": target.words, "met": target.met(row)}
        row = {name: row[name] for name in FIRST if name in row} | row
        rows = {each["id"]: each for each in self.rows()} | {row["id"]: row}
        ordered = [rows[name] for name in TARGETS if name in rows]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.file.with_suffix(".new")
        unfinished.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")
        unfinished.replace(self.file)
        return row

    @staticmethod
    def line(row: Row) -> str:
        """A row in one line."""
        figures = []
        if "ratio" in row:
            ratio = row["ratio"]
            figures.append(f"{ratio['median']:.2f} times ({ratio['min']:.2f} to {ratio['max']:.2f})")
        if row.get("cpu_ratio") is not None:
            figures.append(f"CPU {row['cpu_ratio']:.3f} of the peer's")
        figures += [f"{name} {row[name]:g} ms" for name in ("p50_ms", "p99_ms") if row.get(name) is not None]
        if not figures:
            figures.append(f"{row.get('ours')} {row['unit']}")
        return f"{row['id']}: {', '.join(figures)}; {row['target'] or 'no target'}: {verdict(row)}"


def verdict(row: Row) -> str:
    """What a row says of its target, in a word or two."""
    if row.get("void"):
        return "void"
    return {True: "met", False: "not met", None: "measured"}[row["met"]]
