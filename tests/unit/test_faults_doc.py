"""docs/reliability.md says what was measured, of every fault."""

from tests.faults.storm.fault import all_faults
from tests.faults.storm.report import DOCUMENT, PART, PARTS, RESULTS, filled, read


def test_the_document_equals_the_results_and_the_registry() -> None:
    document = DOCUMENT.read_text()

    assert {found[1] for found in PART.findall(document)} == set(PARTS)
    assert filled(document, read(RESULTS)) == document, "run `.venv/bin/python -m tests.faults.storm.report`"


def test_there_are_the_faults_1_to_25_and_each_says_what_it_does() -> None:
    ours = [fault for fault in all_faults() if not fault.label]

    assert [fault.number for fault in ours] == list(range(1, 26))
    assert all(fault.inject.__doc__ for fault in ours)
    assert len({fault.name for fault in ours}) == 25


def test_each_of_the_25_was_tried_and_nothing_was_lost_by_ours() -> None:
    known = {(fault.number, fault.label): fault.name for fault in all_faults()}
    assert sorted(row["fault"] for row in read(RESULTS) if not row.get("label")) == list(range(1, 26))
    for row in read(RESULTS):
        assert known[row["fault"], row.get("label", "")] == row["name"]
        if not row.get("label"):
            counts = [row[name] for name in ("lost", "doubled", "oversold", "reordered", "left", "wrong")]
            assert counts == [0] * 6, row["first"]
            assert row["recovery_s"] <= 10
