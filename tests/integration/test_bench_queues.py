"""The sides of the rows beside other queues still work; a peer's is skipped where `make bench` has not installed it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.block import measure
from bench.mixes import THREE_LINES
from bench.placing import erased
from bench.queue_sides import DRAMATIQ, PGQUEUER, PROCRASTINATE, TASKIQ, QueueSide
from bench.rig import Rig
from bench.rows.queues import OURS

ORDERS = 120  # of fewer the fastest peer may use less than the kernel's tick of 10 ms


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    home: Path = tmp_path_factory.mktemp("bench")
    with erased(home), Rig(home) as made:
        yield made


@pytest.mark.parametrize("side", [DRAMATIQ, TASKIQ, PGQUEUER, PROCRASTINATE], ids=lambda side: side.name)
def test_a_peer_places_all_that_was_published_and_its_cost_is_counted(rig: Rig, side: QueueSide) -> None:
    pytest.importorskip(side.name.lower(), reason="`make bench` installs it")

    measured = measure(rig, side.tuned(processes=1, concurrency=2), THREE_LINES, ORDERS)

    assert measured["orders"] == ORDERS
    assert measured["setting"].startswith("1 processes, 2 ")
    assert measured["cpu_ms"]["worker"] > 0
    assert measured["cpu_ms"]["producer"] > 0


def test_the_sql_door_is_called_from_python_as_an_application_would(rig: Rig) -> None:
    measured = measure(rig, OURS, THREE_LINES, ORDERS)

    assert measured["setting"] == "100 orders a call"
    assert measured["cpu_ms"]["producer"] > 0
