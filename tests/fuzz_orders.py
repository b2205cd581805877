"""Orders for the SQL door that no application should send, and good ones among them: texts, seeded, one by one or many.

The Celery door's messages are in `tests.fuzz`; the junk and the places are the same.
"""

import random
from dataclasses import dataclass
from typing import Any

from tests.bad_orders import BAD
from tests.fuzz import Fuzzer
from tests.fuzz_messages import PLACES, SKU, as_json
from tests.shop import order

WITHIN = ("content", 0, 0)  # where a message has its order
FIELDS = [place[len(WITHIN) :] for place in PLACES if place[: len(WITHIN)] == WITHIN]
SPOILED = [*FIELDS, ("key",), ("lines", 0, "other")]


@dataclass(frozen=True)
class Text:
    """What is sent; `good` is an order to be placed."""

    kind: str
    text: str
    key: str
    good: bool = False


def texts(seed: int, count: int, prefix: str) -> list[Text]:
    """So many texts, a third of them good; their keys begin with the prefix."""
    fuzzer = Fuzzer(seed)
    return [one(fuzzer, f"{prefix}{number}") for number in range(count)]


def one(fuzzer: Fuzzer, key: str) -> Text:
    """The next text."""
    chance, good = fuzzer.chance, order(key, (SKU, 1))
    kind = chance.choices(["good", "junk", "known", "text"], [33, 40, 15, 12])[0]
    if kind == "good":
        return Text(kind, held(good, compact=chance.random() < 0.5), key, good=True)
    if kind == "junk":
        place = chance.choice(SPOILED)
        return Text(f"{fuzzer.spoil(good, place)} at {place}", held(good), key)
    if kind == "known":
        bad = chance.choice(BAD)
        return Text(bad.name, held(bad.spoil(good, SKU)), key)
    return Text("spoiled text", spoiled(chance, held(good)), key)


def spoiled(chance: random.Random, whole: str) -> str:
    """Cut off, with characters changed, doubled, or with more behind it."""
    at = chance.randrange(len(whole))
    choices = [
        whole[:at],
        whole[:at] + chance.choice("{}[]\",:0\\\x01\ufffe'") + whole[at + 1 :],
        whole + chance.choice(["}", " x", whole, "\ufeff"]),
        f"[{whole}]",
        "[" * 5_000 + whole,
        chance.choice(["", " ", "0", "null", "[]", '""', "true", "NaN", "{}", "\ufeff{}"]),
    ]
    return chance.choice(choices)


def held(value: Any, compact: bool = False) -> str:
    """As text that a driver can send: none can send a NUL, nor half of a surrogate pair, but within an escape."""
    raw = as_json(value, compact).decode(errors="surrogatepass")
    return "".join(f"\\u{ord(sign):04x}" if sign == "\0" or "\ud800" <= sign <= "\udfff" else sign for sign in raw)
