"""The documents as tests read them: which there are, their fenced blocks, their sections."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def document(name: str) -> str:
    """The text of a document, by its path from the root."""
    return (ROOT / name).read_text(encoding="utf-8")


def fences(text: str, language: str) -> list[str]:
    """The fenced blocks of this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def section(text: str, title: str) -> str:
    """From this heading to the next of its level or a higher one."""
    found = re.search(rf"^(#+) {re.escape(title)}\n", text, re.MULTILINE)
    assert found, title
    rest = text[found.end() :]
    end = re.search(
        rf"^#{{1,{len(found[1])}}} ", re.sub(r"^```.*?^```$", _blank, rest, flags=re.M | re.S), re.MULTILINE
    )
    return rest[: end.start()] if end else rest


def _blank(block: re.Match[str]) -> str:
    """As long, and without a line that looks like a heading: a comment in a block is none."""
    return re.sub(r"[^\n]", " ", block[0])


def commands(text: str) -> list[str]:
    """The commands of its `sh` blocks, a line each."""
    return [line for block in fences(text, "sh") for line in block.splitlines() if line]
