"""Faults 1 to 5: orders workers killed, stopped and paused; and stock Celery under the first two."""

import time
from random import Random

from tests.faults.storm import points
from tests.faults.storm.fault import Stop, fault
from tests.faults.storm.rig import Rig
from tests.nursery import Seedling
from workers.child import wait_until
from workers.settings import Settings

PUBLISHED = (0.05, 0.4)  # seconds of publishing to stopped workers
PAUSED_SECONDS = Settings.model_fields["visibility_timeout"].default + 2.5
STOCK = "tests.faults.storm.stock_app"
PEERS = (
    ("", {}),
    ("stock", {"orders_app": STOCK}),
    ("early", {"orders_app": STOCK, "settings": {"STORM_ACKS": "early"}}),
)


def under(number: int, name: str):  # type: ignore[no-untyped-def]
    """Registers a fault of ours, and the same for stock Celery, acknowledging late, and early as is its default."""

    def register(inject):  # type: ignore[no-untyped-def]
        for label, more in PEERS:
            doors = {"doors": ("celery",)} if label else {}
            fault(number, name, resends=False, label=label, **doors, **more)(inject)
        return inject

    return register


@under(1, "worker kill -9")
def worker_killed(rig: Rig, chance: Random, stop: Stop) -> int:
    """kill -9 of one of two orders workers at random moments; another takes its place."""
    count = 0
    while not stop.wait(chance.uniform(0.1, 1.0)):
        rig.replace(chance.choice(rig.orders))
        count += 1
    return count


@under(2, "SIGSTOP, publish, SIGKILL")
def stopped_and_killed(rig: Rig, chance: Random, stop: Stop) -> int:
    """All orders workers are stopped, messages are published, they are killed; others take their place."""
    count = 0
    while not stop.wait(chance.uniform(0.1, 0.5)):
        others = [rig.nursery.begin().ready() for _ in rig.orders]
        for worker in others:
            worker.freeze()  # so that all messages go to those that are killed, or wait
        for worker in rig.orders:
            worker.freeze()
        time.sleep(chance.uniform(*PUBLISHED))
        for worker in rig.orders:
            worker.kill()
        for worker in others:
            worker.thaw()
        count, rig.orders = count + len(rig.orders), others
    return count


@fault(3, "killed at five points of a batch", resends=False, orders_app="tests.faults.storm.points")
def killed_at_points(rig: Rig, chance: Random, stop: Stop) -> int:
    """A worker dies: it has fetched, before it places, after its commit, amid results, amid acknowledgements."""
    count = 0
    names = chance.sample(points.BATCH, len(points.BATCH))
    while count < len(names) or not stop.is_set():
        armed = points.arm(rig.points, names[count % len(names)])
        spare = rig.nursery.begin()
        workers = [*rig.orders, spare]  # where messages pause, the spare may be the one that comes by
        died = wait_until(lambda workers=workers: not all(worker.alive() for worker in workers), 20, 0.01)
        armed.unlink(missing_ok=True)
        rig.orders = [worker.ready() for worker in workers if worker.alive()]
        if not died:
            raise AssertionError(f"no worker came by the point {names[count % len(names)]!r}")
        count += 1
        stop.wait(chance.uniform(0.0, 0.3))
    return count


@fault(4, "rolling SIGTERM", resends=False, seconds=40.0)
def rolling(rig: Rig, chance: Random, stop: Stop) -> int:
    """Each worker in turn is asked to stop when another is ready, as a deployment does; then beat."""
    count = 0
    while not stop.is_set():
        for worker in list(rig.orders):
            new = rig.nursery.begin().ready()
            worker.ask()
            assert wait_until(lambda worker=worker: not worker.alive(), 30), f"does not stop: {worker.log}"
            rig.orders = [each for each in rig.orders if each is not worker] + [new]
        old, rig.general = rig.general, [rig.begin_general()]
        rig.wait_ready()
        old_beats, rig.beats = rig.beats, [rig.begin_beat()]
        for child in (*old, *old_beats):
            assert rig.end(child) == 0, f"does not stop well: {child.log}"
        count += 2 + len(old) + len(old_beats)
        stop.wait(chance.uniform(0.5, 1.0))
    rig.wait_ready()
    return count


@fault(5, "paused past its visibility timeout", resends=False, short=1.0)
def paused(rig: Rig, chance: Random, stop: Stop) -> int:
    """A worker stands still with messages in hand until others have them, and then goes on with its own."""
    count = 0
    while not count or not stop.is_set():
        worker = chance.choice(rig.orders)
        if has_in_hand(rig, worker):
            time.sleep(PAUSED_SECONDS)
            count += 1
        worker.thaw()
        stop.wait(chance.uniform(0.0, 0.2))
    return count


def has_in_hand(rig: Rig, worker: Seedling) -> bool:
    """Stops a worker; whether it has messages then: those that are in nobody's hand for long but its own."""
    worker.freeze()
    time.sleep(0.3)
    with rig.broker() as client:
        return bool(client.zcount("orders.unacked_index", "-inf", time.time() - 0.25))
