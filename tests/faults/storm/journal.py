"""The load's own log, outside the system: one JSON object a line, on disk before what it says is done.

Notes, by `e`: `intent` (n, door, kind, key, body), `sent` (it was published, or its transaction committed), `unsure`
(an error: perhaps), `busy` (refused and not accepted), `again` (sent once more), `answer` (what the key came to).
"""

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Note = dict[str, Any]


class Journal:
    """Appends; `flush` returns when all of it is on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)
        if self._file.tell() and not path.read_bytes().endswith(b"\n"):
            self._file.write(b"\n")  # a killed process did not finish its line: ours must not be a part of it
        self._lines: list[bytes] = []

    def note(self, event: str, **what: Any) -> None:
        """Keeps a note for the next flush."""
        self._lines.append(json.dumps({"t": time.time(), "e": event} | what, separators=(",", ":")).encode() + b"\n")

    def flush(self) -> None:
        """Writes the notes, and has them on disk."""
        if self._lines:
            self._file.write(b"".join(self._lines))
            os.fdatasync(self._file.fileno())
            self._lines.clear()

    def close(self) -> None:
        """Flushes for the last time."""
        self.flush()
        self._file.close()


def read(path: Path) -> Iterator[Note]:
    """The notes of a file; a last line that a killed process did not finish is none."""
    if path.exists():
        for line in path.read_bytes().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def read_all(paths: Iterable[Path]) -> list[Note]:
    """The notes of several files, in the order of their times."""
    return sorted((note for path in paths for note in read(path)), key=lambda note: float(note["t"]))
