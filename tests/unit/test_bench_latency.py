"""The arithmetic of latency: schedules, percentiles, drops, and when a transaction was first seen committed."""

import itertools
import statistics

import pytest

from bench.latency import Snapshot, described, drops, first_seen, percentile, schedule
from bench.rows.latency import of_runs

COST = {"rate": 100.0, "orders": 4, "drops": 1, "cpu_ms": dict.fromkeys(("postgres", "redis", "worker"), 1.0)}
COST |= {"event_consumer_cpu_ms": 0.5, "sent_ms": [1, 2, 3, 4]}
COST["cpu_ms"] |= {"producer": 1.0, "total": 4.0}


def test_a_schedule_is_random_seeded_and_as_fast_as_was_asked() -> None:
    due = schedule(200, 4_000, seed=1)

    assert due == schedule(200, 4_000, seed=1) != schedule(200, 4_000, seed=2)
    assert due == sorted(due)
    assert due[-1] == pytest.approx(20, rel=0.1)
    gaps = [after - before for before, after in itertools.pairwise(due)]
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.1)  # as of independent customers


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)], ids=str)
def test_a_percentile_is_a_value_that_was_measured(share: float, value: int) -> None:
    assert percentile(list(range(1, 101)), share) == value


def test_the_percentiles_of_one_value_are_that_value() -> None:
    assert [percentile([7.0], share) for share in (0.01, 0.5, 0.99)] == [7.0] * 3


def test_an_order_sent_late_or_decided_late_is_a_drop_and_once() -> None:
    due = [0.0, 1.0, 2.0, 3.0, 4.0]
    began = [0.1, 1.11, 2.0, 3.2, 4.0]
    latencies = [5.0, 0.2, 5.1, 6.0, float("inf")]

    assert drops(due, began, latencies) == 4


def test_a_transaction_is_seen_by_the_first_snapshot_that_does_not_call_it_running() -> None:
    shown = [Snapshot.of(text) for text in ("1.0 10:12:10,11", "2.0 11:14:11,13", "3.5 13:14:13", "4.0 20:20:")]

    assert first_seen(shown, [9, 10, 11, 12, 13, 19, 20]) == {
        9: 1.0,
        10: 2.0,
        11: 3.5,
        12: 2.0,
        13: 4.0,
        19: 4.0,
        20: float("inf"),
    }


def test_a_run_is_told_in_milliseconds_with_its_slowest() -> None:
    told = described(COST, [0.004, 0.001, 0.002, 0.5])

    assert (told["p50_ms"], told["p99_ms"], told["max_ms"]) == (2.0, 500.0, 500.0)
    assert (told["sent_p50_ms"], told["sent_p99_ms"]) == (2.0, 4.0)
    assert told["drops"] == 1


def test_a_row_has_the_medians_of_its_runs_the_slowest_order_of_all_and_all_drops() -> None:
    runs = [described(COST, [each]) for each in (0.001, 0.003, 0.002)]

    row = of_runs(runs, [90.0, 110.0, 100.0])

    assert (row["ours"], row["p50_ms"], row["p99_ms"], row["max_ms"]) == (2.0, 2.0, 2.0, 3.0)
    assert row["spread"]["p99_ms"] == {"median": 2.0, "min": 1.0, "max": 3.0}
    assert (row["capacity"], row["drops"], row["orders"], row["runs"]) == (100.0, 3, 12, 3)
    assert row["cpu_ms"]["total"] == 4.0
