"""Orders workers killed again and again behind the Celery door: every message is decided, each key is one order.

`ROUNDS=1000` sets how often; `bench/losses.py` runs the same and compares with the stock transport.
"""

import os

import pytest

from tests.losses import Tally, kill_rounds, stop_rounds
from tests.workers_fixtures import Mill

SEED = 20_261_122
ROUNDS = int(os.environ.get("ROUNDS", "0"))
ENOUGH = pytest.mark.timeout(240 + 3 * ROUNDS)


def nothing_lost_nothing_doubled(found: Tally) -> None:
    assert found.lost == [], found
    assert found.doubled == [], found
    assert found.placed == found.published, found
    assert found.clean, found


@ENOUGH
def test_no_message_is_lost_that_is_published_to_a_stopped_worker_which_is_then_killed(fresh_mill: Mill) -> None:
    found = stop_rounds(fresh_mill, ROUNDS or 50, SEED)

    assert found.published >= found.rounds
    nothing_lost_nothing_doubled(found)


@ENOUGH
def test_no_message_is_lost_or_doubled_when_workers_are_killed_under_a_steady_load(fresh_mill: Mill) -> None:
    found = kill_rounds(fresh_mill, ROUNDS or 20, SEED)

    assert found.published > 10 * found.rounds
    nothing_lost_nothing_doubled(found)
