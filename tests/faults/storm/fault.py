"""What a fault is, and the registry of all of them: each module `faults_*.py` beside this one registers its own.

    @fault(1, "worker kill -9")
    def worker_killed(rig: Rig, chance: Random, stop: Stop) -> int:
        \"\"\"kill -9 of one of two workers at random moments.\"\"\"
        count = 0
        while not stop.wait(chance.uniform(0.2, 1.0)):
            rig.replace(chance.choice(rig.orders))
            count += 1
        return count

The function runs while the load does. `stop` is set when the round's time is over; it then ends what it broke, so that
nothing hinders recovery but the system itself, and gives how often it broke something.
"""

import importlib
import importlib.util
import os
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from threading import Event
from time import monotonic, time
from typing import Any

from tests.faults.storm.oracle import Contradiction
from tests.faults.storm.rig import Piece, Rig


class Stop(Event):
    """Set when a round has broken things for long enough."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._ends = monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until then."""
        return max(0.0, self._ends - monotonic())


Inject = Callable[[Rig, Random, Stop], int]
Check = Callable[[Rig, str], Iterable[Contradiction]]


@dataclass(frozen=True)
class Fault:
    """A way to break things.

    seconds, short: how long a round breaks things, and how long where time is short (pytest, `--short`).
    needs: of "root", "linux", "tmpfs", "libfaketime". settings: of Ordermill, for its processes. pieces: see `rig`.
    load: whether the usual load runs; else the fault brings its own, and notes it in journals of the same form.
    poisons: whether it sends orders that must become dead letters; else none may.
    resends: whether the load may send an unknown key again; without, only what raised an error is sent twice.
    least_load: how much of the load that is planned must have come to pass: in an outage applications wait.
    own: skus that it sells itself.
    prepare: what takes its time and must have been done when the load begins, given the rig.
    check: looks after the drain for more than the oracle does, given the rig and the round's seed.
    """

    number: int
    name: str
    inject: Inject
    seconds: float = 30.0
    short: float = 6.0
    needs: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    pieces: tuple[Piece, ...] = ()
    load: bool = True
    poisons: bool = False
    resends: bool = True
    rate: float = 200.0
    least_load: float = 0.1
    own: tuple[str, ...] = ()
    prepare: Callable[[Rig], object] | None = None
    check: Check | None = None
    orders_app: str = "workers.app"  # what orders workers run, and the general worker; a peer has none of those
    general_app: str = "workers.app"
    doors: tuple[str, ...] = ("celery", "sql")
    label: str = ""  # of a peer's row: none of ours

    @property
    def rig_key(self) -> tuple[object, ...]:
        """Faults with the same key may be put to one rig, one after the other."""
        apps = (self.orders_app, self.general_app, self.label)
        return (apps, tuple(sorted(self.settings.items())), tuple(piece.__name__ for piece in self.pieces))

    def missing(self) -> str | None:
        """Why it cannot be had on this machine; None where it can."""
        there = {
            "root": lambda: os.geteuid() == 0,
            "linux": lambda: sys.platform == "linux",
            "tmpfs": lambda: sys.platform == "linux" and os.geteuid() == 0 and shutil.which("mount") is not None,
            "libfaketime": lambda: faketime() is not None,
        }
        lacking = [need for need in self.needs if not there[need]()]
        return f"needs {', '.join(lacking)}" if lacking else None


_faults: dict[object, Fault] = {}


def fault(number: int, name: str, **options: Any) -> Callable[[Inject], Inject]:
    """Registers a function as a fault."""

    def register(inject: Inject) -> Inject:
        made = Fault(number, name, inject, **options)
        _faults[(made.number, made.label)] = made
        return inject

    return register


def all_faults() -> list[Fault]:
    """All faults, by number; those of peers after ours."""
    package = importlib.import_module("tests.faults.storm")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("faults_"):
            importlib.import_module(f"tests.faults.storm.{module.name}")
    return sorted(_faults.values(), key=lambda each: (each.label, each.number))


@lru_cache(maxsize=1)
def faketime() -> Path | None:
    """libfaketime of the PyPI package, where it works here: under Debian's 0.9.10, Python's `time.sleep` fails."""
    found = importlib.util.find_spec("libfaketime")
    folders = found.submodule_search_locations if found else None
    paths = (path for folder in folders or () for path in Path(folder).rglob("libfaketime.so.1"))
    return next(filter(_works, paths), None)


def _works(library: Path) -> bool:
    asked = [sys.executable, "-c", "import time; time.sleep(0.01); print(time.time())"]
    env = {"LD_PRELOAD": str(library), "FAKETIME": "+7200", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    told = subprocess.run(asked, env=env, capture_output=True, text=True, check=False).stdout
    return bool(told) and float(told) > time() + 7_000
