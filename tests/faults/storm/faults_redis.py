"""Faults 9 to 14: Redis emptied, killed, paused, stopped, full, read-only."""

import os
import shutil
import signal
from random import Random

from tests.faults.storm.fault import Stop, fault
from tests.faults.storm.rig import Rig


@fault(9, "FLUSHALL every 10 s", seconds=35)
def flushed(rig: Rig, chance: Random, stop: Stop) -> int:
    """All messages and results are gone, and the bindings of exchanges; and again each 10 s."""
    count, pause = 0, chance.uniform(0.5, 1.5)
    while not stop.wait(pause):
        with rig.broker() as client:
            client.flushall()
        count, pause = count + 1, 10.0
    return count


@fault(10, "Redis kill -9, no AOF", seconds=30)
def killed(rig: Rig, chance: Random, stop: Stop) -> int:
    """It comes back at once, with nothing in it."""
    count = 0
    while not stop.wait(chance.uniform(0.5, 3.0)):
        with rig.broker() as client:
            client.config_set("appendonly", "no")
        assert rig.valkey.pid is not None
        os.kill(rig.valkey.pid, signal.SIGKILL)
        stop.wait(chance.uniform(0.0, 1.0))
        rig.valkey.stop()
        shutil.rmtree(rig.home / "valkey" / "appendonlydir")
        rig.valkey.start()
        count += 1
    return count


@fault(11, "CLIENT PAUSE 30 s", resends=False, seconds=30, short=4)
def paused(rig: Rig, chance: Random, stop: Stop) -> int:
    """It answers nobody, and connections stay open."""
    with rig.broker() as client:
        client.client_pause(int(stop.left * 1000), all=True)
    stop.wait()
    return 1


@fault(12, "Redis stopped 30 s", resends=False, seconds=30, short=4)
def stopped(rig: Rig, chance: Random, stop: Stop) -> int:
    """Connections are refused; it comes back with all that it had."""
    rig.valkey.stop()
    stop.wait()
    rig.valkey.start()
    return 1


@fault(13, "Redis out of memory", seconds=20)
def full(rig: Rig, chance: Random, stop: Stop) -> int:
    """It refuses each write that needs memory, for a while, again and again."""
    count = 0
    with rig.broker() as client:
        while not stop.wait(chance.uniform(0.2, 1.0)):
            client.config_set("maxmemory", 1_000_000)
            stop.wait(chance.uniform(1.0, 4.0))
            client.config_set("maxmemory", 0)
            count += 1
    return count


@fault(14, "Redis read-only", resends=False, seconds=20)
def read_only(rig: Rig, chance: Random, stop: Stop) -> int:
    """It is a replica now, of a master that does not answer; and then the master again."""
    count = 0
    with rig.broker() as client:
        while not stop.wait(chance.uniform(0.2, 1.0)):
            client.replicaof("127.0.0.1", "1")
            stop.wait(chance.uniform(1.0, 4.0))
            client.replicaof("NO", "ONE")
            count += 1
    return count
