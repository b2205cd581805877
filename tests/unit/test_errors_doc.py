"""docs/errors.md, the SQL and the Python name the same codes, fields and retried states."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from workers.errors import BusinessError, DatabaseError, FaultError, OutageError, PermanentError, TransientError
from workers.retry import FAULT_CLASSES, QUICK, SLOW, SLOW_CLASSES, classify

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
SOURCES = [
    path
    for folder, pattern in (("sql", "*.sql"), ("tasks", "*.py"), ("workers", "*.py"))
    for path in (ROOT / folder).rglob(pattern)
]
CODE = re.compile(r"\bOM\d{3}\b")
# ('OM008', 'lines', …) and reject_key(p_key, 'OM002', 'sku', …), over line ends too
WITH_FIELD = re.compile(r"""['"](OM\d{3})['"],\s*['"]([a-z_]+)['"](?!\s*:)""")


def rows() -> list[list[str]]:
    lines = [line for line in DOCUMENT.splitlines() if line.startswith("| `OM") and "…" not in line.split("|")[1]]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_each_code_is_documented_and_each_documented_code_exists() -> None:
    used = {code for path in SOURCES for code in CODE.findall(path.read_text(encoding="utf-8"))}
    documented = [row[0].strip("`") for row in rows()]
    assert documented == sorted(used)


def test_each_code_has_a_name_of_its_own_and_says_what_to_do_and_under_which_key() -> None:
    names = [row[1] for row in rows()]
    assert len(set(names)) == len(names)
    for code, name, when, field, what_to_do, again in rows():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name), code
        assert all((when, field, what_to_do)), code
        assert "new key" in again or "**same** key" in again, code


def test_each_field_that_sql_and_python_name_with_a_code_is_documented() -> None:
    given: dict[str, set[str]] = defaultdict(set)
    for path in SOURCES:
        for code, field in WITH_FIELD.findall(path.read_text(encoding="utf-8")):
            given[code].add(field)
    assert given, "nothing found: has the way codes are written changed?"
    documented = {row[0].strip("`"): row[3] for row in rows()}
    for code, fields in given.items():
        for field in fields:
            assert f"`{field}`" in documented[code] or "the field" in documented[code], f"{code}: {field}"


@pytest.mark.parametrize(("states", "how"), [(QUICK, "quickly"), (SLOW, "slowly")])
def test_the_retried_states_are_the_documented_ones(states: dict[str, str], how: str) -> None:
    documented = dict(re.findall(rf"^\| `(\w{{5}})` \| (\w+)[^|]*\| {how}", DOCUMENT, re.MULTILINE))
    assert documented == {state: re.split(r"\W", text)[0] for state, text in states.items()}


@pytest.mark.parametrize(
    ("state", "how", "kind"),
    [
        ("08006", "slowly", OutageError),
        ("57P03", "slowly", OutageError),
        ("40P01", "quickly", TransientError),
        ("OM001", "never", BusinessError),
        ("23505", "never", PermanentError),
        ("42P01", "uncounted", FaultError),
        ("0A000", "as `42…`", FaultError),
        ("53100", "slowly", OutageError),
        ("58030", "slowly", OutageError),
    ],
)
def test_the_classes_are_retried_as_documented(state: str, how: str, kind: type[DatabaseError]) -> None:
    assert classify(state) is kind
    of_a_class = {
        state[:2]: f"`{state[:2]}…`" for state in ("08006", "0A000", "OM001", "42P01", "53100", "57P03", "58030")
    }
    label = {"40P01": "`40P01`"}.get(state) or of_a_class.get(state[:2], "any other")
    (row,) = [line for line in DOCUMENT.splitlines() if line.startswith(f"| {label} |")]
    assert how in row


def test_each_class_that_is_not_final_is_documented() -> None:
    documented = set(re.findall(r"^\| `(\w\w)…` \|", DOCUMENT, re.MULTILINE))
    assert documented == {*SLOW_CLASSES, *FAULT_CLASSES, "OM"}
    assert re.search(r"^\| none \|.*slowly", DOCUMENT, re.MULTILINE)
    assert re.search(r"^\| `23514` without a constraint \|.*as `42…`", DOCUMENT, re.MULTILINE)
