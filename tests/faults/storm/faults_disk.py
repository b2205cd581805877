"""Fault 21: the disk of PostgreSQL is full, then that of Valkey. Each has a small file system of its own, in memory."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import psycopg

from tests.faults.storm.fault import Stop, fault
from tests.faults.storm.rig import Rig
from workers.child import wait_until
from workers.database import connect
from workers.embedded import EmbeddedPostgres, EmbeddedValkey
from workers.home_folder import ServiceError
from workers.migrate import migrate

MEGABYTES = {"database": 400, "redis": 64}


def small_disks(rig: Rig) -> None:
    """A piece: both servers begin anew, each on a disk of its own."""
    folders = {"database": rig.postgres.data.parent, "redis": rig.home / "valkey"}
    servers: dict[str, EmbeddedPostgres | EmbeddedValkey] = {"database": rig.postgres, "redis": rig.valkey}
    for name, server in servers.items():
        folder = folders[name]
        server.stop()
        server.erase()
        folder.mkdir(parents=True, exist_ok=True)
        size = f"size={MEGABYTES[name]}m,mode=711"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, f"ordermill-{name}", str(folder)], check=True)
        rig.stack.callback(subprocess.run, ["umount", str(folder)], check=True)
        rig.stack.callback(server.stop)
        server.fresh = True
        server.start()
        server.fresh = False
    migrate(rig.database_url)
    rig.seen_database_url, rig.seen_redis_url = rig.database_url, rig.redis_url
    rig.parts["disks"] = folders


@contextlib.contextmanager
def nothing_left(folder: Path) -> Iterator[None]:
    """Has all that is free on the disk of this folder taken by a file."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(2**16))
    try:
        yield
    finally:
        ballast.unlink()


def started_again(rig: Rig) -> None:
    """PostgreSQL answers again: by itself, or because somebody started it, where it had ended."""

    def answers() -> bool:
        try:
            rig.postgres.check()
            with connect(rig.database_url):
                return True
        except psycopg.OperationalError:
            return False
        except ServiceError:
            rig.postgres.stop()
            rig.postgres.start()
            return True

    assert wait_until(answers, 60)


@fault(21, "database disk full, then Redis disk full", seconds=24, short=10, needs=("tmpfs",), pieces=(small_disks,))
def disks_full(rig: Rig, chance: Random, stop: Stop) -> int:
    """Each for half of the time. PostgreSQL may stop by itself, where WAL has no room; who has made room starts it."""
    half = stop.left / 2
    with nothing_left(rig.parts["disks"]["database"]):
        stop.wait(half)
    started_again(rig)
    with nothing_left(rig.parts["disks"]["redis"]):
        stop.wait()
    return 2
