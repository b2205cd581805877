"""Writes the generated parts of `docs/performance.md` and README from `bench/results.json`, and draws the charts.

    .venv/bin/python -m bench.report            # what `make bench` does at its end
    .venv/bin/python -m bench.report --no-charts  # the tables only: needs no peers installed

A part lies between `<!-- bench: NAME -->` and `<!-- /bench -->`; all else in those documents is written by hand.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.results import FILE, Results, Row, verdict
from bench.targets import TARGETS

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("docs/performance.md", "README.md")
PROFILES = Path(__file__).parent / "profiles"
COMPONENTS = ("postgres", "redis", "worker", "producer", "total")
SHORT = (  # what the owner of a shop asks first
    "place_vs_celery",
    "cpu_vs_celery",
    "durable_bulk_vs_pgbench",
    "hot_sku_vs_guarded",
    "latency_celery",
    "latency_sql",
    "cache_hit",
)
PART = re.compile(r"(<!-- bench: ([a-z ]+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def number(value: float) -> str:
    """A figure with three digits that mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(ratio: dict[str, float]) -> str:
    """A median with its least and most."""
    return f"{number(ratio['median'])} ({number(ratio['min'])} to {number(ratio['max'])})"


def figures_of(row: Row) -> tuple[str, str, str]:
    """What a row says of ours, of the peer, and of both."""
    if row.get("p50_ms") is not None and "ratio" not in row:
        return f"p50 {number(row['p50_ms'])}, p99 {number(row['p99_ms'])} ms at {number(row['rate'])} orders/s", "", ""
    ours = f"{number(row['ours'])} {row['unit']}" if isinstance(row.get("ours"), int | float) else ""
    if row.get("p99_ms") is not None:
        ours += f"; p50 {number(row['p50_ms'])}, p99 {number(row['p99_ms'])} ms"
    if "ratio" not in row:
        return ours, "", ""
    if row["id"] == "cpu_vs_celery":
        sides = row["sides"]
        return (
            *(f"{number(sides[side]['cpu_ms']['total'])} ms" for side in ("ours", "peer")),
            spread(row["cpu_ratios"]),
        )
    return ours, number(row["peer"]), spread(row["ratio"])


def said_of(row: Row | None) -> str:
    """The verdict on a row, for the last cell of its line."""
    if row is None:
        return "not measured"
    return f"**{verdict(row)}**" if row["met"] is False else verdict(row)


def results_table(rows: list[Row]) -> str:
    """Every row of the targets, measured or not."""
    measured = {row["id"]: row for row in rows}
    lines = []
    for name, target in TARGETS.items():
        row = measured.get(name)
        if row is None:
            lines.append([f"`{name}`", target.what, target.against, "", "", "", "", target.words, said_of(row)])
            continue
        ours, peer, both = figures_of(row)
        cpu = number(row["cpu_ratio"]) if row.get("cpu_ratio") is not None else ""
        lines.append([f"`{name}`", target.what, target.against, ours, peer, both, cpu, target.words, said_of(row)])
    heads = ["row", "ours", "against", "ours", "peer", "ratio, median (min to max)", "CPU, ours ÷ peer's", "asked", ""]
    return table(heads, lines)


def components_table(rows: list[Row]) -> str:
    """Milliseconds of CPU an order by component, of each side."""
    lines = []
    for row in (each for each in rows if "sides" in each and each["id"] != "cpu_vs_celery"):
        for place in ("ours", "peer"):
            side = row["sides"][place]
            first = f"`{row['id']}`" if place == "ours" else ""
            spent = [f"{side['cpu_ms'][name]:.3f}" if name in side["cpu_ms"] else "" for name in COMPONENTS]
            lines.append([first, f"{side['name']}: {side['setting']}", *spent, number(side["rate"]["median"])])
    return table(["row", "side", "PostgreSQL", "Redis", "workers", "producer", "in all", "a second"], lines)


def runs_table(rows: list[Row]) -> str:
    """How each row was measured: when, on which commit, how many pairs, what the control said."""
    lines = []
    for row in rows:
        control = "; ".join(f"{name} {spread(each)}" for name, each in (row.get("control") or {}).items())
        noise = ", ".join(f"{name} {each:.0%}" for name, each in (row.get("noise") or {}).items())
        orders = f"{row['orders']:,}" if row.get("orders") else ""
        pairs = str(row.get("pairs", ""))
        lines.append([f"`{row['id']}`", pairs, orders, row.get("mix", ""), control, noise, row["at"], row["commit"]])
    heads = ["row", "pairs", "orders a block", "mix", "control, A ÷ A: median (min to max)", "noise", "at", "commit"]
    return table(heads, lines)


def kept(profile: str) -> Any:
    """What a file of `bench/profiles` holds."""
    return json.loads((PROFILES / f"{profile}.json").read_text())


def routines_table(_rows: list[Row]) -> str:
    """What the routines cost inside PostgreSQL, first and now."""
    first = {(each["way"], each["orders a call"]): each for each in kept("before")["calls"]}
    lines = []
    for now in kept("after")["calls"]:
        then = first.get((now["way"], now["orders a call"]))
        figures = [f"{each['cpu_ms']:.3f}" if each else "" for each in (then, now)]
        figures += [number(each["wal_bytes"]) if each else "" for each in (then, now)]
        figures += [number(now["rows"]), f"{now['hot']:.1%}"]
        lines.append([f"`{now['way']}`, {now['orders a call']} a call", *figures])
    heads = ["routine", "ms of CPU an order, first", "now", "bytes of WAL an order, first", "now", "rows", "HOT"]
    return table(heads, lines)


def door_table(_rows: list[Row]) -> str:
    """What a worker, a publisher and Redis spend an order on, in microseconds."""
    found = kept("door")
    lines = []
    for role in ("worker", "publisher"):
        for at, part in enumerate(found[role]["packages"]):
            first = f"{role}: {found[role]['cpu_us']:.0f} µs" if at == 0 else ""
            lines.append([first, part["of"], f"{part['us']:.0f}", f"{part['share']:.0%}"])
    spent = sum(each["us"] for each in found["redis"])
    for at, command in enumerate(each for each in found["redis"] if each["us"] >= 0.01 * spent):
        first = f"Redis: {spent:.0f} µs in commands" if at == 0 else ""
        named = f"`{command['of'].upper()}`, {command['calls']:.2f} an order"
        lines.append([first, named, number(command["us"]), f"{command['us'] / spent:.0%}"])
    return table(["process", "code that runs", "µs an order", "share"], lines)


def ablations_table(_rows: list[Row]) -> str:
    """One lever, one row."""
    levers: list[dict[str, Any]] = kept("ablations")
    lines = []
    for each in levers:
        figures = [f"{each[name]:g}" for name in ("before", "after")]
        between = "" if each["least"] is None else f" ({each['least']:.2f} to {each['most']:.2f})"
        ratio = f"{each['ratio']:.2f}{between}"
        said = "kept" if each["kept"] else f"rejected: {each['why']}"
        said = "" if each["lever"] == "control" else said
        lines.append([each["lever"], each["what"], each["way"], *figures, each["unit"], ratio, said])
    return table(["lever", "what it is", "measured on", "before", "after", "unit", "ratio (least to most)", ""], lines)


def short_table(rows: list[Row]) -> str:
    """For README: the rows of `SHORT`, then how many of all rows reach what is asked of them, and which do not."""
    measured = {row["id"]: row for row in rows}
    lines = []
    for name in SHORT:
        target, row = TARGETS[name], measured.get(name)
        what = target.what + (f", beside {target.against}" if target.against else "")
        ours, peer, both = figures_of(row) if row else ("", "", "")
        lines.append([f"`{name}`", what, ours, peer, both, target.words, said_of(row)])
    heads = ["`make bench ROWS=…`", "what", "ours", "peer", "ratio (least to most)", "asked", ""]
    return f"{table(heads, lines)}\n{tally(measured)}\n"


def tally(measured: dict[str, Row]) -> str:
    """One sentence on all rows of which something is asked."""
    asked = [name for name, target in TARGETS.items() if target.goals]
    met = [name for name in asked if name in measured and measured[name]["met"]]
    others = ", ".join(f"`{name}`" for name in asked if name not in met)
    rest = f"; not: {others}" if others else ""
    return f"Of {len(asked)} rows of which something is asked {len(met)} are met{rest}."


def machine_lines(rows: list[Row]) -> str:
    """Where it was measured, and with which versions."""
    if not rows:
        return "Nothing has been measured yet.\n"
    machines = sorted({row["machine"] for row in rows})
    versions = {f"{name} {value}": None for row in rows for name, value in row["versions"].items()}
    return f"{'; '.join(machines)}. {', '.join(versions)}.\n"


PARTS: dict[str, Callable[[list[Row]], str]] = {
    "results": results_table,
    "components": components_table,
    "runs": runs_table,
    "ablations": ablations_table,
    "routines": routines_table,
    "door": door_table,
    "short": short_table,
    "machine": machine_lines,
}


def filled(document: str, rows: list[Row]) -> str:
    """The document with its generated parts made anew."""
    return PART.sub(lambda found: f"{found[1]}{PARTS[found[2]](rows)}{found[3]}", document)


def main() -> None:
    """Writes the documents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-charts", action="store_true", help="tables only")
    asked = parser.parse_args()
    rows = Results(FILE).rows()
    for name in DOCUMENTS:
        file = ROOT / name
        file.write_text(filled(file.read_text(), rows))
    if not asked.no_charts:
        from bench.charts import draw  # noqa: PLC0415 - matplotlib comes with the peers

        draw(rows, ROOT / "docs" / "performance")
    print(f"written: {', '.join(DOCUMENTS)}", file=sys.stderr)


if __name__ == "__main__":
    main()
