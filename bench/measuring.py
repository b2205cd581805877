"""What a bench reads: CPU and memory of processes from /proc, medians of ratios, the machine, the versions. Linux."""

import importlib.metadata
import os
import platform
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
Summary = dict[str, float]


def cpu_seconds(roots: Mapping[str, Iterable[int]]) -> dict[str, float]:
    """CPU seconds so far, by name, of these processes with their descendants, also those that have ended and been
    waited for."""
    spent: dict[int, float] = {}
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it ended just now
        children[int(fields[1])].append(int(entry.name))
        spent[int(entry.name)] = sum(int(field) for field in fields[11:15]) / TICKS

    def tree(pid: int) -> float:
        return spent.get(pid, 0.0) + sum(tree(child) for child in children[pid])

    return {name: sum(tree(pid) for pid in pids) for name, pids in roots.items()}


def rss_mb(pid: int) -> float:
    """Resident memory of one process, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has no memory: it has ended")


def summary(values: Iterable[float]) -> Summary:
    """Median, least and most."""
    listed = sorted(values)
    return {
        "median": round(statistics.median(listed), 4),
        "min": round(listed[0], 4),
        "max": round(listed[-1], 4),
    }


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the straight line nearest to these points."""
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope


def machine() -> dict[str, Any]:
    """Where this runs."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "model": model,
        "memory_gib": round(memory, 1),
        "system": platform.platform(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def versions(*packages: str) -> dict[str, str]:
    """The versions of Python and of these packages."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
