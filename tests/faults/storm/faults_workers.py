"""Faults 1 to 5: orders workers killed, stopped and paused."""

from random import Random

from tests.faults.storm.fault import Stop, fault
from tests.faults.storm.rig import Rig


@fault(1, "worker kill -9", resends=False)
def worker_killed(rig: Rig, chance: Random, stop: Stop) -> int:
    """kill -9 of one of two orders workers at random moments; another takes its place."""
    count = 0
    while not stop.wait(chance.uniform(0.1, 1.0)):
        rig.replace(chance.choice(rig.orders))
        count += 1
    return count
