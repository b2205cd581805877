"""Faults 15 to 19: sessions ended, PostgreSQL restarted and killed, replies of COMMIT lost, a standby promoted."""

import os
import signal
from contextlib import closing
from random import Random
from typing import Any

import psycopg

from tests.faults.storm.fault import Stop, fault
from tests.faults.storm.faults_network import proxies
from tests.faults.storm.rig import Rig
from tests.faults.storm.standby import Standby, at_either_port
from workers.child import wait_until
from workers.database import connect

A_SESSION = """SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
    AND datname = current_database() ORDER BY pid"""


def sessions(rig: Rig) -> list[int]:
    """The processes of all other sessions of the database; none where it does not answer."""
    try:
        with rig.admin() as admin:
            return [pid for (pid,) in admin.execute(A_SESSION)]
    except psycopg.OperationalError:
        return []


@fault(15, "pg_terminate_backend, 5/s", resends=False, seconds=20)
def terminated(rig: Rig, chance: Random, stop: Stop) -> int:
    """Whoever it is, in whatever it does."""
    count = 0
    with rig.admin() as admin:
        while not stop.wait(0.2):
            pids = [pid for (pid,) in admin.execute(A_SESSION)]
            if pids:
                count += bool(admin.execute("SELECT pg_terminate_backend(%s)", [chance.choice(pids)]).rowcount)
    return count


@fault(16, "immediate PostgreSQL restart", resends=False, seconds=90, short=8)
def restarted(rig: Rig, chance: Random, stop: Stop) -> int:
    """Up to twenty times; at every second one a sweep has just taken claims of drains that died back, uncommitted."""
    count = 0
    while count < 20 and not stop.wait(chance.uniform(0.5, 4.0)):
        with closing(swept(rig) if count % 2 else connect(rig.database_url)):
            crash(rig)
        rig.postgres.start()
        count += 1
    return count


def swept(rig: Rig) -> psycopg.Connection[Any]:
    """A session in the middle of a sweep."""
    session = connect(rig.database_url)
    session.execute("SELECT api.claim_orders(id, 20, 1, 0) FROM api.pools")
    overdue = "SELECT FROM shop.claims WHERE leased_until < clock_timestamp()"
    wait_until(lambda: session.execute(overdue).rowcount > 0, 1.5)
    session.execute("BEGIN")
    session.execute("SELECT api.sweep_claims(100, 3)")
    return session


def crash(rig: Rig) -> None:
    """Immediate: no session ends by itself, and nothing is flushed but WAL."""
    assert rig.postgres.pid is not None
    os.kill(rig.postgres.pid, signal.SIGQUIT)
    rig.postgres.stop()


@fault(17, "PostgreSQL backend kill -9", resends=False, seconds=30)
def backend_killed(rig: Rig, chance: Random, stop: Stop) -> int:
    """PostgreSQL ends all other sessions then, and recovers from its WAL."""
    count = 0
    while not stop.wait(chance.uniform(0.5, 4.0)):
        if pids := sessions(rig):
            os.kill(chance.choice(pids), signal.SIGKILL)
            count += 1
    return count


@fault(18, "5 % of COMMIT replies lost", resends=False, seconds=30, pieces=(proxies,))
def replies_lost(rig: Rig, chance: Random, stop: Stop) -> int:
    """The transaction is committed, and the connection ends before the client hears of it."""
    proxy = rig.parts["database"]
    before, proxy.lost_commits = proxy.lost, 0.05
    stop.wait()
    proxy.lost_commits = 0.0
    return int(proxy.lost - before)


@fault(19, "primary killed, synchronous standby promoted", resends=False, seconds=6, pieces=(at_either_port,))
def promoted(rig: Rig, chance: Random, stop: Stop) -> int:
    """What was committed is there on the standby."""
    standby = Standby(rig)
    standby.follow()
    stop.wait(chance.uniform(1.0, 3.0))
    standby.take_over()
    stop.wait()
    return 1
