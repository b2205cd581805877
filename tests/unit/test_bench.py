"""The arithmetic of `make bench`: ratios within pairs, the control, targets, and the file of results."""

from pathlib import Path
from typing import Any

import pytest

from bench.harness import paired
from bench.profile_door import read_stacks
from bench.report import DOCUMENTS, ROOT, SHORT, filled, short_table
from bench.results import FILE, Results
from bench.targets import TARGETS


def block(which: str, rate: float, cpu: float) -> dict[str, Any]:
    parts = dict.fromkeys(("postgres", "redis", "worker", "producer"), cpu / 4) | {"total": cpu}
    return {"which": which, "side": which, "setting": "", "rate": rate, "cpu_ms": parts, "event_consumer_cpu_ms": 0}


def test_ratios_are_taken_within_pairs_and_the_control_between_neighbours() -> None:
    row = paired([block(*each) for each in [("A", 500, 1), ("B", 100, 4), ("B", 110, 4), ("A", 550, 1)]])

    assert row["ratio"] == {"median": 5, "min": 5, "max": 5}
    assert row["cpu_ratio"] == 0.25
    assert (row["ours"], row["peer"], row["pairs"]) == (525, 105, 2)
    assert row["control"]["rate"]["median"] == 1.1
    assert row["void"] is False


def test_a_row_whose_control_is_off_by_more_than_15_percent_is_void_and_meets_nothing() -> None:
    row = paired([block(*each) for each in [("A", 500, 1), ("B", 100, 4), ("B", 120, 4), ("A", 600, 1)]])

    assert row["void"] is True
    assert TARGETS["place_vs_celery"].met(row) is None


def test_noise_shows_how_far_neighbours_lie_apart_either_way() -> None:
    at = [("A", 100), ("B", 10), ("B", 20), ("A", 200), ("A", 100), ("B", 10)]
    row = paired([block(*each, 1) for each in at])

    assert row["control"]["rate"] == {"median": 1.25, "min": 0.5, "max": 2.0}
    assert row["noise"] == {"rate": 0.6931, "cpu": 0.0}


def test_samples_count_for_the_package_whose_code_runs() -> None:
    site = "/x/.venv/lib/python3.11/site-packages"
    raw = f"""run (/x/workers/drain.py:1);wait ({site}/psycopg/connection.py:4) 5
run (/x/workers/drain.py:1);call (/x/tasks/orders.py) 3
run (/x/workers/drain.py:1);encode (/usr/lib/python3.11/json/encoder.py:9) 2
"""

    packages, functions = read_stacks(raw)

    assert packages == {"psycopg": 5, "Ordermill": 3, "Python's encoder": 2}
    assert functions["psycopg: wait"] == 5


def test_one_pair_has_no_control() -> None:
    row = paired([block("A", 500, 1), block("B", 100, 4)])

    assert row["control"] is None
    assert row["void"] is False


@pytest.mark.parametrize(
    ("identity", "row", "met"),
    [
        ("place_vs_celery", {"ratio": {"median": 5}}, True),
        ("place_vs_celery", {"ratio": {"median": 4.99}}, False),
        ("cpu_vs_celery", {"cpu_ratio": 0.4}, True),
        ("latency_sql", {"p50_ms": 10, "p99_ms": 41}, False),
        ("cores", {}, None),
    ],
)
def test_a_row_meets_its_target_or_not(identity: str, row: dict[str, Any], met: bool | None) -> None:
    assert TARGETS[identity].met(row) is met


def test_a_row_replaces_the_one_before_it_and_rows_keep_the_order_of_the_targets(tmp_path: Path) -> None:
    results = Results(tmp_path / "new" / "results.json")
    results.save({"id": "cores", "unit": "orders/s", "ours": 1})
    results.save({"id": "place_vs_celery", "unit": "orders/s", "ours": 1, "ratio": {"median": 4}})
    results.save({"id": "place_vs_celery", "unit": "orders/s", "ours": 2, "ratio": {"median": 6}})

    assert [(row["id"], row["ours"], row["met"]) for row in results.rows()] == [
        ("place_vs_celery", 2, True),
        ("cores", 1, None),
    ]
    assert [entry.name for entry in results.file.parent.iterdir()] == ["results.json"]


def test_the_short_table_shows_its_rows_and_names_each_that_is_not_met(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json")
    slow = {"median": 0.5, "min": 0.4, "max": 0.6}
    results.save({"id": "place_vs_celery", "unit": "orders/s", "ours": 1, "peer": 2, "ratio": slow})
    shown, _, tally = short_table(results.rows()).partition("\n\n")

    assert [line.split("`")[1] for line in shown.splitlines()[2:]] == list(SHORT)
    assert "**not met**" in shown
    assert "0 are met" in tally
    assert {name for name, target in TARGETS.items() if target.goals} == set(tally.split("`")[1::2])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_says_what_the_results_say(document: str) -> None:
    text = (ROOT / document).read_text()

    assert filled(text, Results(FILE).rows()) == text, "run `make bench` or `.venv/bin/python -m bench.report`"


def test_each_row_that_is_not_met_is_explained() -> None:
    explained = (ROOT / "docs/performance.md").read_text().partition("## What was not reached, and why")[2]
    missed = [row["id"] for row in Results(FILE).rows() if row["met"] is not True and TARGETS[row["id"]].goals]

    assert [name for name in missed if f"`{name}`" not in explained] == []
