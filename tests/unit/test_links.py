"""What documents name is there: each link leads somewhere, and each setting exists."""

import re
from pathlib import Path

import pytest

from tests.documents import DOCUMENTS, ROOT
from workers.settings import Settings


def slug(title: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_each_link_leads_somewhere(path: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", prose):
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [slug(title) for title in titles], target


def test_each_setting_that_is_named_exists() -> None:
    fields = Settings.model_fields
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    known = {f"ORDERMILL_{name.upper()}" for name in fields} | {"ORDERMILL_DEBUG"}
    known |= set(re.findall(r"\$\{(ORDERMILL_[A-Z_]+)", compose))
    for path in DOCUMENTS:
        named = set(re.findall(r"\bORDERMILL_[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8"))) - {"ORDERMILL_FLOWER"}
        assert named <= known, f"{path.name}: {named - known}"
