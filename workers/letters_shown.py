"""How dead letters look in a terminal. They hold what anybody may have sent, so nothing in them is taken as markup or
as a control sequence."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from workers.dead_letters import Letter, decoded

SHOWN = 20  # of those that are about to be replayed or discarded
UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))
KINDS = {
    **{"order": "order", "message": "message", "unread": "unread item"},
    **{"event": "event", "mail": "mail", "delivery": "webhook"},
}
REPLAYED = {
    "order": "goes into the queue behind the SQL door, to be decided anew under its key",
    "message": "is sent to its queue again, under its task id",
    "unread": "goes back to its queue as it was",
    "event": "is given to its consumer again",
    "mail": "is sent again, without the alerts that are resolved by then",
    "delivery": "is sent to its endpoint again, under the same id",
}
SHARES = {"task": 0.25, "key": 0.3, "reason": 1.0}  # at most, of the width that is left then
LEAST = 8  # a column that would be narrower is left out
DISCARDED = "is closed, and nothing else changes"


def printable(text: str) -> str:
    """The text with what could steer a terminal escaped; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def plural(number: int, noun: str) -> str:
    """`1 order`, `2,000 orders`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def age(since: datetime) -> str:
    """How long ago in one unit, such as `5 min`."""
    seconds = max(0, int((datetime.now(UTC) - since).total_seconds()))
    for unit, size in UNITS:
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def state(letter: Letter) -> str:
    """`open`, or how and when it was settled."""
    return f"{letter.settlement} {age(letter.settled_at)} ago" if letter.settled_at else "open"


def table(letters: Sequence[Letter], width: int, settled: bool = False) -> Table:
    """One line a letter, as much of it as fits; the id whole, because commands take it."""
    columns = {
        "id": [str(letter.id) for letter in letters],
        "age": [age(letter.created_at) for letter in letters],
        "code": [letter.code for letter in letters],
        "task": [what(letter) for letter in letters],
        "key": [letter.key or "-" for letter in letters],
        "reason": [letter.reason.partition("\n")[0][:500] for letter in letters],
    }
    if settled:
        columns["state"] = [state(letter) for letter in letters]
    widths = {name: 2 + max(len(name), *map(len, cells)) for name, cells in columns.items()}
    room = width - sum(wide for name, wide in widths.items() if name not in SHARES)
    for name, share in SHARES.items():  # the reason, at the end, has what the others left
        if int(room * share) < min(widths[name], LEAST):
            del columns[name]
            continue
        widths[name] = min(widths[name], int(room * share))
        room -= widths[name]
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        shown.add_column(name, no_wrap=True, overflow="ellipsis", max_width=widths[name] - 2)
    for cells in zip(*columns.values(), strict=True):
        shown.add_row(*(Text(printable(cell)) for cell in cells))
    return shown


def what(letter: Letter) -> str:
    """What it was for: its task, or its queue, or the door it came by."""
    if letter.task:
        return letter.task
    if letter.source in {"events", "mail"}:
        return letter.source
    return f"queue {letter.queue}" if letter.queue else "SQL door"


def show_whole(letter: Letter) -> None:
    """Prints a letter with its payload, and its Celery message where it has one."""
    source = {"sql": " from the SQL door", "celery": f" from queue {letter.queue}"}.get(letter.source, "")
    for name, value in (
        ("id", str(letter.id)),
        ("what", KINDS[letter.kind] + source + (f", task {letter.task}" if letter.task else "")),
        ("key", letter.key or "-"),
        ("code", letter.code),
        ("reason", letter.reason),
        ("attempts", str(letter.attempts)),
        ("since", f"{letter.created_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, {age(letter.created_at)} ago"),
        ("state", state(letter)),
        ("replay", REPLAYED[letter.kind]),
    ):
        print(f"{name:9} {printable(value)}")
    print("\npayload\n" + as_json(letter.payload))
    message = decoded(letter)
    if message is not None:
        print("\nCelery message, its body decoded\n" + as_json(message))


def announce(console: Console, verb: str, letters: Sequence[Letter]) -> None:
    """Says what is about to be done to which."""
    console.print(table(letters[:SHOWN], console.width))
    if len(letters) > SHOWN:
        console.print(f"and {len(letters) - SHOWN:,} more", highlight=False)
    for kind, number in Counter(letter.kind for letter in letters).items():
        does = REPLAYED[kind] if verb == "replay" else DISCARDED
        each = "it" if number == 1 else "each"
        console.print(f"{plural(number, KINDS[kind])}: {each} {does}", highlight=False, soft_wrap=True)


def as_json(value: Any) -> str:
    """Indented JSON in the language's own letters."""
    return printable(json.dumps(value, indent=2, ensure_ascii=False))
