"""The lock files: every package is pinned and comes by its hash, and they agree with pyproject.toml and one another.

`.ci/audit.py` asks what is known against these packages; it needs the registries.
"""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = [ROOT / "requirements.lock", *sorted(ROOT.glob("*/requirements.lock"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {
    "requirements.lock": ["archive", "traces", "demo", "dev"],
    "bench/requirements.lock": ["bench"],
    "deploy/requirements.lock": ["archive", "traces"],
    "docs/requirements.lock": ["docs"],
    "examples/requirements.lock": ["examples"],
}
each_lock = pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.relative_to(ROOT).as_posix())


def pins(lock: Path) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes by name."""
    found = {}
    for entry in re.split(r"\n(?=\S)", lock.read_text(encoding="utf-8").replace("\\\n", " ")):
        pin, *hashes = entry.split("--hash=")
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([^ ;]+)( ; .*)?", pin.strip())
        assert match, entry
        found[canonicalize_name(match[1])] = (match[2], [each.strip() for each in hashes])
    return found


@each_lock
def test_each_package_is_pinned_and_has_hashes(lock: Path) -> None:
    assert pins(lock)
    for name, (_, hashes) in pins(lock).items():
        assert hashes, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), name


@each_lock
def test_what_pyproject_asks_for_is_in_the_lock(lock: Path) -> None:
    locked = pins(lock)
    wanted = [*PROJECT["dependencies"]]
    for extra in EXTRAS[lock.relative_to(ROOT).as_posix()]:
        wanted += PROJECT["optional-dependencies"][extra]
    for requirement in map(Requirement, wanted):
        version, _ = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), requirement


def test_the_locks_agree() -> None:
    first, *others = map(pins, LOCKS)
    for other in others:
        assert {name: pin[0] for name, pin in other.items() if name in first} == {
            name: first[name][0] for name in other if name in first
        }
