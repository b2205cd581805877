"""Faults 6 to 8: what submits, what dispatches events, and what keeps the timetable."""

from collections.abc import Iterable
from random import Random

from tests.faults.storm import points
from tests.faults.storm.fault import Stop, fault
from tests.faults.storm.journal import read_all
from tests.faults.storm.oracle import Contradiction
from tests.faults.storm.rig import Rig
from tests.hooks import LOCAL, receiver
from tests.workers_fixtures import ready
from workers.child import wait_until

SLOTTED = {"orders.sweep": 10.0, "maintenance.expire_holds": 15.0, "alerts.notify": 10.0}


@fault(6, "client killed around its commit", resends=False)
def client_killed(rig: Rig, chance: Random, stop: Stop) -> int:
    """An application dies before and after its COMMIT, and its publishing; another goes on from what it has noted."""
    count = 0
    names = chance.sample(points.CLIENT, len(points.CLIENT))
    while count < len(names) or not stop.is_set():
        point = names[count % len(names)]
        door = "sql" if "commit" in point else "celery"
        victim = rig.loads[door]
        armed = points.arm(rig.points, point)
        died = wait_until(lambda victim=victim: not victim.alive(), 20, 0.01)
        armed.unlink(missing_ok=True)
        assert died, f"no client came by the point {point!r}"
        ready(rig.begin_load(door), "load: ready.")
        count += 1
        stop.wait(chance.uniform(0.0, 0.5))
    return count


def with_receiver(rig: Rig) -> None:
    """An application elsewhere that is told of orders by webhooks."""
    rig.parts["receiver"] = there = rig.stack.enter_context(receiver())
    rig.env["ORDERMILL_WEBHOOKS_ALLOW"] = LOCAL
    with rig.looking() as shop:
        shop.value("SELECT api.add_webhook('elsewhere', %s, ARRAY['order.*'], 5000)", there.url)


def told_elsewhere(rig: Rig, seed: str) -> Iterable[Contradiction]:
    """Each order was told at least once, and what was told of one first came in order."""
    there = rig.parts["receiver"]
    with rig.looking() as shop:
        due = "SELECT count(*) FROM shop.webhook_deliveries WHERE ended_at IS NULL"
        if not wait_until(lambda: shop.value(due) == 0, 60, 0.2):
            yield Contradiction("left", "webhooks", f"{shop.value(due)} deliveries do not end")
    streams = there.by_stream()
    for stream, positions in streams.items():
        first = list(dict.fromkeys(positions))
        if first != sorted(first):
            yield Contradiction("reordered", stream, f"was told elsewhere as {positions}")
    for note in read_all(rig.journals.glob(f"{seed.replace(':', '-')}-*.jsonl")):
        answer = note.get("answer") or {}
        if answer.get("status") == "placed" and f"order:{answer['order_id']}" not in streams:
            yield Contradiction("lost", answer["key"], "was placed, and not told elsewhere")


@fault(
    7,
    "dispatcher killed mid-batch",
    resends=False,
    general_app="tests.faults.storm.points",
    pieces=(with_receiver,),
    check=told_elsewhere,
)
def dispatcher_killed(rig: Rig, chance: Random, stop: Stop) -> int:
    """The dispatcher dies while it sequences and while it gives, between the two, and before it moves a cursor."""
    count = 0
    names = chance.sample(points.DISPATCH, len(points.DISPATCH))
    while count < len(names) or not stop.is_set():
        armed = points.arm(rig.points, names[count % len(names)])
        died = wait_until(lambda armed=armed: not armed.exists(), 30, 0.01)
        armed.unlink(missing_ok=True)
        assert died, f"no dispatcher came by the point {names[count % len(names)]!r}"
        count += 1
        stop.wait(chance.uniform(0.0, 0.5))
    return count


def one_run_a_slot(rig: Rig, _seed: str) -> Iterable[Contradiction]:
    """No job ran twice in a slot, or failed; and the newest slot has been run."""
    with rig.looking() as shop:
        for job, cadence in SLOTTED.items():
            runs = shop.maps(
                "SELECT slot::text, state, attempt, clock_timestamp() - slot AS age FROM shop.job_runs"
                " WHERE job = %s ORDER BY shop.job_runs.slot",
                job,
            )
            for run in runs:
                if run["attempt"] > 1 or run["state"] == "failed":
                    yield Contradiction("doubled", f"{job} {run['slot']}", f"{run['state']}, attempt {run['attempt']}")
            if not runs or runs[-1]["age"].total_seconds() > 2 * cadence:
                yield Contradiction("lost", job, f"its last slot is {runs[-1] if runs else None}")


@fault(8, "two beats, killed over a slot", resends=False, short=20.0, seconds=60.0, check=one_run_a_slot)
def beats_killed(rig: Rig, chance: Random, stop: Stop) -> int:
    """Two beats; both are killed, a slot goes by, and two others start."""
    count = 0
    while not stop.is_set():
        while len(rig.beats) < 2:
            rig.beats.append(rig.begin_beat())
        rig.wait_ready()
        stop.wait(chance.uniform(1.0, 4.0))
        for beat in rig.beats:
            rig.kill(beat)
        count, rig.beats = count + len(rig.beats), []
        stop.wait(chance.uniform(5.0, 11.0))  # a drain and a dispatcher are due each five seconds, a sweep each ten
    return count
