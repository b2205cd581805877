"""More orders than can be placed, behind the SQL door of a pool with a limit: who is accepted is soon served.

    .venv/bin/python -m tests.faults.storm.overload                    # more than 3 times capacity for 20 s
    .venv/bin/python -m tests.faults.storm.overload --times 5 --limit 0.3 --json .ordermill/overload.json

Real workers, beat and drains. First it measures capacity: how fast a backlog is placed. Then applications offer so many
times that, in calls of twenty orders, on their own clock; one more sends single orders: how long a refusal takes.
Capacity is made small, in both, by one drain that places 25 orders at a time: applications on the same two cores could
not offer three times what the usual settings place (`--usual` tries).
Memory is that of all processes (proportional set size, so that what is shared counts once). Linux.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from psycopg.types.json import Jsonb

from tests.faults.storm.plan import POOL, SKUS, order
from tests.faults.storm.rig import Rig
from tests.workers_fixtures import ready
from workers.child import Child
from workers.database import connect

TIMES, LIMIT, SECONDS = 3.0, 0.5, 20.0
# Of accepted orders: on the clock where the machine is ours; anywhere in orders, as many as are placed in that time.
P99_S = 1.0
ABOVE = 1.1  # applications are told to offer somewhat more, for they lose a little time
SMALL = {"ORDERMILL_DRAINS": "1", "ORDERMILL_PLACE_BATCH": "25"}
BACKLOG, PARTS = 4_000, 8  # orders by which capacity is measured: the median pace of so many parts
TOGETHER, CLIENTS = 20, 2
LINES = 8  # an order: a basket, so that two cores can offer many times what they can place
SINGLE_RATE = 40.0
MODULE = "tests.faults.storm.overload"
TIMES_OF = """SELECT extract(epoch FROM received_at)::float8, extract(epoch FROM decided_at)::float8
    FROM shop.request_keys WHERE key LIKE %s AND status = 'placed' ORDER BY decided_at"""


@dataclass
class Overload:
    """What came of it; times in seconds unless the name says otherwise."""

    capacity: float = 0.0
    offered: float = 0.0
    seconds: float = 0.0
    limit: float = LIMIT
    accepted: int = 0
    refused: int = 0
    times: float = 0.0
    others: dict[str, int] = field(default_factory=dict)
    placed: int = 0
    p50: float = 0.0
    p99: float = 0.0
    longest: float = 0.0
    ahead_p99: int = 0  # orders that were placed after one was accepted and before it was
    refusal_p50_ms: float = 0.0
    refusal_p99_ms: float = 0.0
    most_waiting: int = 0
    memory_before_mib: int = 0
    memory_most_mib: int = 0
    memory_after_mib: int = 0
    redis_most_mib: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def pace(self) -> float:
        """Orders a second at the best: other processes may have come or gone since capacity was measured."""
        return max(self.capacity, self.placed / self.seconds)

    def words(self) -> str:
        """A few lines of 100 columns."""
        return "\n".join(
            [
                f"capacity {self.capacity:,.0f} orders/s; offered {self.offered:,.0f}/s for {self.seconds:.0f} s,"
                f" {self.times:.1f} times that; an order may wait {self.limit:g} s",
                f"accepted {self.accepted:,} ({self.accepted / self.seconds:,.0f}/s), refused {self.refused:,},"
                f" others {self.others or 'none'}; placed {self.placed:,}",
                f"accepted to placed: p50 {self.p50:.3f} s, p99 {self.p99:.3f} s, longest {self.longest:.3f} s;"
                f" p99 of the orders before it {self.ahead_p99:,}",
                f"a refusal: p50 {self.refusal_p50_ms:.1f} ms, p99 {self.refusal_p99_ms:.1f} ms;"
                f" at most {self.most_waiting:,} orders waited",
                f"memory of all processes: {self.memory_before_mib} MiB before, at most {self.memory_most_mib},"
                f" {self.memory_after_mib} after; Redis at most {self.redis_most_mib:.1f} MiB",
                *(f"problem: {problem}" for problem in self.problems),
            ]
        )


# An application


def client(asked: argparse.Namespace) -> None:
    """Offers orders on its own clock, and writes what it was told."""
    with connect(os.environ["DATABASE_URL"]) as session:
        session.execute("SET ROLE ordermill_app")
        print("client: ready.", file=sys.stderr, flush=True)
        said: Counter[str] = Counter()
        refusals: list[float] = []
        began, calls = time.monotonic(), 0
        while (now := time.monotonic()) < began + asked.seconds and calls * asked.together < asked.most:
            due = began + calls * asked.together / asked.rate
            if now < due:
                time.sleep(due - now)
            first = calls * asked.together
            requests = [one(asked.name, first + n) for n in range(asked.together)]
            sent = time.monotonic()
            statuses = submit(session, requests)
            took, calls = time.monotonic() - sent, calls + 1
            said.update(statuses)
            if set(statuses) == {"refused"}:
                refusals.append(took)
        elapsed = time.monotonic() - began
    asked.out.write_text(json.dumps({"said": said, "refusals": refusals, "seconds": elapsed}))


def one(name: str, number: int) -> dict[str, Any]:
    """An order of plentiful skus."""
    return order(f"{name}-{number}", [(SKUS[4 + (number + line) % 16], 1) for line in range(LINES)])


def submit(session: Any, requests: list[dict[str, Any]]) -> list[str]:
    """The status of each."""
    if len(requests) == 1:
        [row] = session.execute("SELECT api.submit_order(%s::jsonb)", [Jsonb(requests[0])]).fetchall()
        return [row[0]["status"]]
    rows = session.execute("SELECT api.submit_orders(%s::jsonb)", [Jsonb(requests)]).fetchall()
    return [row[0]["status"] for row in rows]


# The run


def run(rig: Rig, times: float = TIMES, limit: float = LIMIT, seconds: float = SECONDS) -> Overload:
    """Measures capacity, then offers so many times that."""
    found = Overload(limit=limit, capacity=capacity(rig))
    with rig.looking() as shop:
        shop.value("SELECT api.set_queue_limit(%s, make_interval(secs => %s))", POOL, limit)
    learn(rig, found.capacity)
    with watched(rig, found):
        rate = ABOVE * times * found.capacity
        clients = [begin(rig, f"over-many{n}", rate / CLIENTS, TOGETHER, seconds) for n in range(CLIENTS)]
        singles = begin(rig, "over-single", SINGLE_RATE, 1, seconds)
        told = [end(each, seconds) for each in (*clients, singles)]
    said: Counter[str] = sum((Counter(each["said"]) for each in told), Counter())
    found.seconds = max(each["seconds"] for each in told)
    found.offered = sum(said.values()) / found.seconds
    found.times = found.offered / found.capacity
    if found.times < times:
        found.problems.append(f"only {found.times:.2f} times capacity was offered, not {times:g}")
    found.accepted, found.refused = said.pop("accepted", 0), said.pop("refused", 0)
    found.others = dict(said)
    refusals = sorted(told[-1]["refusals"])
    if len(refusals) > 1:
        cuts = quantiles(refusals, n=100)
        found.refusal_p50_ms, found.refusal_p99_ms = 1000 * cuts[49], 1000 * cuts[98]
    settle(rig, found)
    with rig.looking() as shop:
        waited(found, shop.db.execute(TIMES_OF.encode(), ["over-%"]).fetchall())
        known = shop.value("SELECT count(*) FROM shop.request_keys WHERE key LIKE %s", "over-%")
        if known != found.accepted or found.placed != found.accepted:
            found.problems.append(f"{found.accepted} were accepted, {known} keys are known, {found.placed} are placed")
        found.problems += [f"verify: {entry}" for entry in shop.verify()]
        shop.value("SELECT api.set_queue_limit(%s, NULL)", POOL)
    if found.ahead_p99 > P99_S * found.pace:
        found.problems.append(
            f"{found.ahead_p99} orders were placed before an accepted one: more than {P99_S:g} s' worth"
        )
    if not found.refused or found.others:  # else it was no overload
        found.problems.append(f"{found.refused} were refused, others were {found.others}")
    return found


def capacity(rig: Rig) -> float:
    """Orders a second that are placed while there is always a whole batch waiting."""
    told = end(begin(rig, "backlog", float("inf"), 100, 60.0, most=BACKLOG), 60.0)
    assert told["said"] == {"accepted": BACKLOG}, told
    assert rig.at_rest(120.0) == {}, "the backlog is not placed"
    with rig.looking() as shop:
        at = [decided for _, decided in shop.db.execute(TIMES_OF.encode(), ["backlog-%"]).fetchall()]
    size = BACKLOG // PARTS
    # Of parts, so that a machine that stands still once does not make it small.
    return median(size / (at[first + size] - at[first]) for first in range(0, BACKLOG - size, size))


def learn(rig: Rig, pace: float) -> None:
    """Offers twice the pace till the drain, which hears of the limit within 5 s, has seen how fast it goes under it."""
    began = time.monotonic()
    learned = False
    while not learned and time.monotonic() < began + 60:
        end(begin(rig, f"first-{time.monotonic_ns()}", 2 * pace, TOGETHER, 6.0), 6.0)
        with rig.looking() as shop:
            learned = bool(shop.value("SELECT count(*) FROM shop.queue_looks WHERE rate > 0"))
    assert learned, "the drain has not seen how fast it goes"
    assert rig.at_rest(60.0) == {}, "what came first is not placed"


def waited(found: Overload, times: list[tuple[float, float]]) -> None:
    """Notes how long the accepted waited, on the clock and in orders; `times` of each, in the order of placing."""
    found.placed = len(times)
    if found.placed > 1:
        cuts = quantiles([decided - received for received, decided in times], n=100, method="inclusive")
        found.p50, found.p99 = cuts[49], cuts[98]
        found.longest = max(decided - received for received, decided in times)
        at = [decided for _, decided in times]
        ahead = [bisect_left(at, decided) - bisect_left(at, received) for received, decided in times]
        found.ahead_p99 = round(quantiles(ahead, n=100, method="inclusive")[98])


def begin(rig: Rig, name: str, rate: float, together: int, seconds: float, *, most: int = 10**9) -> tuple[Child, Path]:
    """Starts an application."""
    out = rig.home / f"{name}.json"
    arguments = ("client", "--name", name, "--rate", str(rate), "--together", str(together))
    more = ("--seconds", str(seconds), "--most", str(most), "--out", str(out))
    return ready(rig.mill.start_module(name, MODULE, MODULE, *arguments, *more), "client: ready."), out


def end(started: tuple[Child, Path], seconds: float) -> dict[str, Any]:
    """Waits for an application, and gives what it wrote."""
    child, out = started
    assert child.process is not None
    assert child.process.wait(seconds + 60) == 0, "\n".join(child.last_lines(20))
    told: dict[str, Any] = json.loads(out.read_text())
    return told


def settle(rig: Rig, found: Overload) -> None:
    """All that was accepted is placed; what is left otherwise is a problem."""
    if left := rig.at_rest(60.0):
        found.problems.append(f"left: {left}")
    found.memory_after_mib = memory(rig)


@contextlib.contextmanager
def watched(rig: Rig, found: Overload) -> Iterator[None]:
    """Notes how much waits and how much memory is used, four times a second."""
    found.memory_before_mib = found.memory_most_mib = memory(rig)
    over = threading.Event()

    def look() -> None:
        with rig.looking() as shop, rig.broker() as client:
            while not over.wait(0.25):
                waiting = shop.value("SELECT count(*) FROM shop.order_queue WHERE claim_id IS NULL")
                used = client.info("memory")["used_memory"] / 2**20
                found.most_waiting = max(found.most_waiting, waiting)
                found.redis_most_mib = max(found.redis_most_mib, used)
                found.memory_most_mib = max(found.memory_most_mib, memory(rig))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def memory(rig: Rig) -> int:
    """MiB of the servers and workers of this rig, with all processes below them; not of the applications."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    todo = [rig.nursery.process.pid, *(each.process.pid for each in (*rig.general, *rig.beats) if each.process)]
    todo += [int(path.read_text().split()[0]) for path in rig.home.rglob("postmaster.pid")]
    with rig.broker() as client:
        todo.append(client.info("server")["process_id"])
    total = 0
    while todo:
        pid = todo.pop()
        todo += children.get(pid, [])
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total // 1024


def main() -> int:
    """Runs what the arguments ask for; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", nargs="?", choices=["client"], help=argparse.SUPPRESS)
    parser.add_argument("--times", type=float, default=TIMES, help="of capacity")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds that an order may wait")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--usual", action="store_true", help="the product's own drains and batch")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    for name, kind in (("name", str), ("rate", float), ("together", int), ("most", int), ("out", Path)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.role == "client":
        client(asked)
        return 0
    settings = {} if asked.usual else SMALL
    with tempfile.TemporaryDirectory(prefix="ordermill-overload-") as home, Rig(Path(home), settings=settings) as rig:
        found = run(rig, asked.times, asked.limit, asked.seconds)
    if found.p99 > P99_S:
        found.problems.append(f"p99 of accepted orders is {found.p99:.2f} s")
    print(found.words())
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(asdict(found), indent=1) + "\n")
    return int(bool(found.problems))


if __name__ == "__main__":
    sys.exit(main())
