"""Where the Celery door's time goes outside PostgreSQL: a worker, an application that publishes, and Redis.

    .venv/bin/python -m bench.profile_door                                     # show it
    .venv/bin/python -m bench.profile_door --json bench/profiles/door.json     # and keep it

py-spy samples the stacks of both processes while orders flow, one message an order; a sample counts for the package
whose code runs, and its share is taken of the CPU that /proc shows. Redis tells its own time by command. Linux.
"""

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.block import Block, at_work
from bench.celery_sides import OURS
from bench.measuring import cpu_seconds
from bench.mixes import THREE_LINES
from bench.placing import erased
from bench.produced import Producer
from bench.rig import Rig

ORDERS, SAMPLES_A_SECOND, SHOWN, LEAST_SHARE = 10_000, 250, 12, 0.01
INSTALLED = re.compile(r".*/site-packages/([^/]+)/")
STANDARD = re.compile(r".*/python3\.\d+/(?:[a-z]+/)*?([a-z_]+)(?:/__init__)?\.py")
FRAME = re.compile(r"(?P<name>.*) \((?P<file>.*?)(?::\d+)?\)")
OUR_OWN = re.compile(r"(?:.*/)?(workers|tasks|bench)/[a-z_/]+\.py")


def package(file: str) -> str:
    """Whose code a file is: an installed package's, Ordermill's, or a module of Python's."""
    if found := INSTALLED.match(file):
        return found[1]
    if found := OUR_OWN.match(file):
        return "bench" if found[1] == "bench" else "Ordermill"
    found = STANDARD.match(file)
    return f"Python's {found[1]}" if found else "other"


def read_stacks(lines: str) -> tuple[Counter[str], Counter[str]]:
    """Samples by package of the innermost frame, and by function (`package: name`) of it; from py-spy's raw lines."""
    packages: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for line in lines.splitlines():
        stack, _, count = line.rpartition(" ")
        found = FRAME.fullmatch(stack.split(";")[-1])
        name, file = (found["name"], found["file"]) if found else (stack, "")
        whose = package(file)
        packages[whose] += int(count)
        functions[f"{whose}: {name}"] += int(count)
    return packages, functions


@contextmanager
def sampling(pids: Mapping[str, int], home: Path) -> Iterator[dict[str, Path]]:
    """Has each process sampled for the length of a `with` block; the files are there when it ends."""
    files = {role: home / f"{role}.stacks" for role in pids}
    command = [str(Path(sys.executable).parent / "py-spy"), "record", "--rate", str(SAMPLES_A_SECOND)]
    command += ["--format", "raw", "--full-filenames"]
    spies = {
        role: subprocess.Popen(
            [*command, "--output", str(files[role]), "--pid", str(pid)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for role, pid in pids.items()
    }
    try:
        yield files
    finally:
        for spy in spies.values():
            spy.send_signal(signal.SIGINT)  # it writes what it has
        said = {role: spy.communicate(timeout=60)[1] for role, spy in spies.items()}
    for role, file in files.items():
        if not file.exists():
            raise RuntimeError(f"py-spy has nothing of the {role} (it needs the right to trace it): {said[role]}")


def shares(counted: Counter[str], each_us: float) -> list[dict[str, Any]]:
    """The greatest shares of a process's time, and what that is of its CPU an order, in microseconds."""
    samples = counted.total()
    return [
        {"of": name, "share": round(count / samples, 4), "us": round(each_us * count / samples, 1)}
        for name, count in counted.most_common(SHOWN)
        if count / samples >= LEAST_SHARE
    ]


def redis_commands(block: Block, orders: int) -> list[dict[str, Any]]:
    """What Redis spent by command since its statistics were reset."""
    told: Any = block.rig.redis.info("commandstats")
    spent = [(name.removeprefix("cmdstat_"), each["calls"], each["usec"]) for name, each in told.items()]
    return [
        {"of": name, "calls": round(calls / orders, 3), "us": round(us / orders, 2)}
        for name, calls, us in sorted(spent, key=lambda each: -each[2])[:SHOWN]
    ]


def profile(rig: Rig, orders: int) -> dict[str, Any]:
    """One flood of so many orders through one worker, sampled."""
    with at_work(rig, OURS, THREE_LINES) as block:
        producer = Producer.of(block, "celery", THREE_LINES.requests(orders, "b"))
        block.sent += orders
        block.held["messages"] = block.held.get("messages", 0) + orders
        pids = {"worker": block.pids("worker")[0], "publisher": block.pids("producer")[0]}
        roots = {role: [pid] for role, pid in pids.items()}
        rig.redis.config_resetstat()
        before = cpu_seconds(roots)
        with sampling(pids, rig.home) as files:
            producer.begin()
            OURS.wait(block, orders)
        after = cpu_seconds(roots)
        commands = redis_commands(block, orders)
        OURS.check(block)
        found: dict[str, Any] = {"orders": orders, "redis": commands}
        for role, file in files.items():
            packages, functions = read_stacks(file.read_text())
            each = 1e6 * (after[role] - before[role]) / orders
            found[role] = {
                "cpu_us": round(each, 1),
                "samples": packages.total(),
                "packages": shares(packages, each),
                "functions": shares(functions, each),
            }
        return found


def show(found: dict[str, Any]) -> None:
    """The profile as tables."""
    for role in ("worker", "publisher"):
        of = found[role]
        print(f"\n{role}: {of['cpu_us']:.0f} µs of CPU an order, {of['samples']:,} samples")
        for part in ("packages", "functions"):
            print(f"  {part}")
            for row in of[part]:
                print(f"    {row['share']:6.1%} {row['us']:7.1f} µs  {row['of']}")
    print("\nRedis, µs and calls an order, by command")
    for row in found["redis"]:
        print(f"    {row['us']:7.2f} {row['calls']:7.3f}  {row['of']}")


def main() -> None:
    """Profiles the door."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=ORDERS, help=f"default: {ORDERS:,}")
    parser.add_argument("--json", type=Path, help="also written there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, erased(Path(home)), Rig(Path(home)) as rig:
        found = profile(rig, asked.orders)
    show(found)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
