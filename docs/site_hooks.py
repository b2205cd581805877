"""For `make site`: README and CHANGELOG are pages too, and links lead where they lead in the repository.

A link to a file that is no page, such as a program, becomes its text: the pages may stand where there is no repository.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"index.md": "README.md", "changelog.md": "CHANGELOG.md"}  # page: its file in the repository
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)\s#]*)(#[^)\s]*)?\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are not in docs/."""
    for page, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Makes each link of a page one between pages."""
    here = page.file.src_uri
    folder = posixpath.dirname(PAGES.get(here, f"docs/{here}"))
    known = {source: name for name, source in PAGES.items()}

    def between_pages(found: re.Match[str]) -> str:
        mark, words, target, anchor = found.groups(default="")
        path = posixpath.normpath(posixpath.join(folder, target))
        name = known.get(path, path.removeprefix("docs/"))
        if not (path in known or (path.startswith("docs/") and files.get_file_from_path(name))):
            return words
        return f"{mark}[{words}]({posixpath.relpath(name, posixpath.dirname(here) or '.')}{anchor})"

    prose, start = [], 0
    for fence in FENCE.finditer(markdown):
        prose += [LINK.sub(between_pages, markdown[start : fence.start()]), fence[0]]
        start = fence.end()
    return "".join([*prose, LINK.sub(between_pages, markdown[start:])])
