"""The pictures of `docs/performance.md`, as SVG: ratios, CPU by component, latency, cores, memory."""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

from bench.results import Row
from bench.targets import TARGETS

PARTS = {"postgres": "#336791", "redis": "#c6302b", "worker": "#37814a", "producer": "#b0b0b0"}
OURS, PEER = "#1f6f8b", "#b9b9b9"
# The same picture for the same figures: no date, no random ids; text as text, so that it can be read and searched.
mpl.rcParams |= {"svg.hashsalt": "ordermill", "svg.fonttype": "none", "font.size": 9, "figure.dpi": 100}


def asked_ratio(name: str) -> float | None:
    """The ratio that a row is to reach, where it has one."""
    return next((value for path, _, value in TARGETS[name].goals if path == "ratio.median"), None)


def ratios(rows: list[Row], file: Path) -> None:
    """Our rate over the peer's: the median with its least and most, and a mark where it was to be."""
    shown = [row for row in rows if "ratio" in row and row["id"] != "cpu_vs_celery"][::-1]
    figure, axes = plt.subplots(figsize=(8, 0.36 * len(shown) + 1))
    for place, row in enumerate(shown):
        ratio, asked = row["ratio"], asked_ratio(row["id"])
        error = [[ratio["median"] - ratio["min"]], [ratio["max"] - ratio["median"]]]
        axes.barh(place, ratio["median"], 0.6, xerr=error, color=PEER if row.get("void") else OURS, ecolor="#333333")
        axes.text(ratio["max"] * 1.04, place, f"{ratio['median']:.2f}", va="center")
        if asked:
            axes.plot([asked, asked], [place - 0.42, place + 0.42], color="#d1495b", linewidth=2)
    axes.set_yticks(range(len(shown)), [row["id"] for row in shown])
    axes.set_xscale("log")
    axes.set_xlim(0.4, 1.6 * max((row["ratio"]["max"] for row in shown), default=1))
    axes.axvline(1, color="#333333", linewidth=0.8)
    axes.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
    axes.set_xlabel("our rate ÷ the peer's (median, least, most); red: what was asked")
    save(figure, file)


def components(rows: list[Row], file: Path) -> None:
    """CPU an order of both sides, by component."""
    shown = [row for row in rows if "sides" in row and row["unit"] == "orders/s" and row["id"] != "cpu_vs_celery"][::-1]
    figure, axes = plt.subplots(figsize=(8, 0.6 * len(shown) + 1))
    for place, row in enumerate(shown):
        for shift, side in ((0.2, "ours"), (-0.2, "peer")):
            begin, spent = 0.0, row["sides"][side]["cpu_ms"]
            for part, colour in PARTS.items():
                axes.barh(place + shift, spent.get(part, 0), 0.36, left=begin, color=colour)
                begin += spent.get(part, 0)
            axes.text(begin, place + shift, f" {side} {spent['total']:.2f}", va="center", size=7)
    axes.set_yticks(range(len(shown)), [row["id"] for row in shown])
    axes.set_xlabel("milliseconds of CPU an order")
    axes.legend([plt.Rectangle((0, 0), 1, 1, color=colour) for colour in PARTS.values()], PARTS, loc="lower right")
    axes.margins(x=0.12)
    save(figure, file)


def cores(rows: list[Row], file: Path) -> None:
    """Orders a second by workers and pools, on one core and on two."""
    points = next((row["points"] for row in rows if row["id"] == "cores"), [])
    figure, axes = plt.subplots(figsize=(6, 3.4))
    for key in sorted({(point["door"], point["workers"], point["pools"]) for point in points}):
        line = sorted(
            (point["cores"], point["rate"])
            for point in points
            if (point["door"], point["workers"], point["pools"]) == key
        )
        axes.plot([x for x, _ in line], [y for _, y in line], marker="o", label="{}, {} workers, {} pools".format(*key))
    axes.set_xticks([1, 2])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("cores")
    axes.set_ylabel("orders/s")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, file)


def memory(rows: list[Row], file: Path) -> None:
    """A worker's memory as orders pass."""
    points = next((row["points"] for row in rows if row["id"] == "worker_rss_mb"), [])
    figure, axes = plt.subplots(figsize=(6, 2.6))
    axes.plot([done for done, _ in points], [size * 1.048576 for _, size in points], marker="o", color=OURS)
    axes.axhline(100, color="#d1495b")
    axes.set_ylim(0, 120)
    axes.set_xlabel("orders placed by one worker")
    axes.set_ylabel("resident memory, MB")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    save(figure, file)


def save(figure: plt.Figure, file: Path) -> None:
    """Writes a picture, without the date."""
    figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


CHARTS: dict[str, Callable[[list[Row], Path], None]] = {
    "ratios": ratios,
    "components": components,
    "cores": cores,
    "memory": memory,
}


def draw(rows: list[Row], folder: Path) -> None:
    """Draws all of them into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, chart in CHARTS.items():
        chart(rows, folder / f"{name}.svg")
