"""Fault 22: the clock of one process jumps by two hours, forward and back, while it works: libfaketime."""

from collections.abc import Iterable
from pathlib import Path
from random import Random

from tests.faults.storm.fault import Stop, faketime, fault
from tests.faults.storm.oracle import Contradiction
from tests.faults.storm.rig import GENERAL_PROCESSES, Rig
from tests.workers_fixtures import ready
from workers.child import wait_until
from workers.processes import GENERAL_QUEUES

TWO_HOURS = 7_200
SEEN_WITHIN = 1  # seconds until a process has the new time


class Clock:
    """What the processes that are started with its `env` take for the time."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(0)

    def set(self, seconds: int) -> None:
        """By so many seconds it is wrong."""
        unfinished = self.file.with_suffix(".new")
        unfinished.write_text(f"{seconds:+}\n")
        unfinished.replace(self.file)

    @property
    def env(self) -> dict[str, str]:
        """For a process; what it measures durations by is right."""
        return {
            "LD_PRELOAD": str(faketime()),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": str(SEEN_WITHIN),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


KINDS = ("orders", "general", "beat")


def with_clocks(rig: Rig) -> dict[str, Clock]:
    """One orders worker more, the general worker and beat anew, each with a clock of its own; made once a rig."""
    if "clocks" not in rig.parts:
        rig.parts["clocks"] = {kind: Clock(rig.home / f"clock-{kind}") for kind in KINDS}
        orders, general, beat = (clock.env for clock in rig.parts["clocks"].values())
        for child in (*rig.general, *rig.beats):
            rig.end(child)  # killed, the general one's message would be out for its two minutes
        processes = ("-c", str(GENERAL_PROCESSES))
        more = rig.mill.start_worker("orders", "orders", "-P", "solo", **orders)
        rig.general = [rig.mill.start_worker("general", ",".join(GENERAL_QUEUES), *processes, **general)]
        rig.beats = [rig.begin_beat(**beat)]
        for child in (more, *rig.general):
            ready(child)
        ready(rig.beats[0], "beat: Starting")
    found: dict[str, Clock] = rig.parts["clocks"]
    return found


def beat_goes_on(rig: Rig, _seed: str) -> Iterable[Contradiction]:
    """Its clock is right again: what it sends is seen in its log."""
    log, words = rig.beats[0].log, "Sending due task"
    until_now = log.read_text().count(words)
    if not wait_until(lambda: log.read_text().count(words) > until_now, 10):
        yield Contradiction("lost", "beat", "sends nothing though its clock is right again")


@fault(
    22,
    "clock ±2 h on one process",
    resends=False,
    seconds=40,
    short=14,
    needs=("libfaketime",),
    prepare=with_clocks,
    check=beat_goes_on,
)
def clock_wrong(rig: Rig, chance: Random, stop: Stop) -> int:
    """An orders worker's, the general worker's or beat's, for some seconds each; at the end all are right."""
    clocks, count = with_clocks(rig), 0
    while not stop.is_set():
        clock = clocks[list(clocks)[count % len(clocks)]]
        for seconds in chance.sample((TWO_HOURS, -TWO_HOURS), 2):
            clock.set(seconds)
            stop.wait(chance.uniform(1.5, 3.0))
        clock.set(0)
        count += 2
    return count
