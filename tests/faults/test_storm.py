"""One short round of each fault: nothing lost, doubled, oversold or reordered. `make faults` runs them for longer."""

from collections.abc import Iterator

import pytest

from tests.faults.storm.fault import Fault, all_faults
from tests.faults.storm.run import SEED, Rigs, one_round

SHARED_SECONDS = 20.0  # of recovery: another pytest worker has half of the machine. Alone it is 10: `make faults`
OURS = [fault for fault in all_faults() if not fault.label]


@pytest.fixture(scope="module")
def rigs() -> Iterator[Rigs]:
    made = Rigs()
    yield made
    made.close()


@pytest.mark.timeout(300)  # a lost acknowledgement of a job: 130 s until its message came again
@pytest.mark.parametrize("fault", OURS, ids=[f"{fault.number} {fault.name}" for fault in OURS])
def test_nothing_is_lost_doubled_or_oversold_under(fault: Fault, rigs: Rigs) -> None:
    if missing := fault.missing():
        pytest.skip(missing)
    try:
        found = one_round(fault, rigs.of(fault), f"{SEED}:{fault.number}:test", fault.short)
    except BaseException:
        rigs.close()  # what it left is not the next one's
        raise
    found.allowed_s = SHARED_SECONDS
    assert found.problems == [], f"{found.words()}\n{rigs.of(fault).logs()}"
