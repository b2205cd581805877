"""Items for a queue that no application should send, and good orders among them: seeded, so that a failure comes again.

Each item carries its own marker: in the order's key (`k-…`), in the task's id (`t-…`), and in a field of the envelope
that Celery does not know, unless that is what is broken. So each can be found again, whatever became of it.
"""

import copy
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.fuzz_messages import FIRST_PROTOCOL, JUNK, NAMES, PLACES, QUEUED, SPECIALS, message_of, task_of, written


@dataclass(frozen=True)
class Item:
    """One element for a Redis list; `marker` is empty where it can hold none, and `good` is an order to be placed."""

    kind: str
    queue: str
    raw: bytes
    marker: str
    good: bool = False


class Fuzzer:
    """Makes items of all kinds; the same seed gives the same."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.seed = seed
        self.made = 0

    def items(self, count: int) -> list[Item]:
        """So many items for `orders`, a third of them good, and a tenth as many more for queues of a general worker."""
        kinds: list[tuple[Callable[[str], Item], int]] = [
            *((self.good, 33), (self.junk, 34), (self.junk_twice, 10), (self.first_protocol, 6), (self.hybrid, 3)),
            *((self.spoiled_text, 10), (self.unmarked, 1), (self.little, 1), (self.other_task, 3)),
        ]
        makers, weights = [maker for maker, _ in kinds], [weight for _, weight in kinds]
        special = list(self.specials("orders"))
        made = special + [self.chance.choices(makers, weights)[0]("orders") for _ in range(count - len(special))]
        for queue in ("inventory", "celery"):
            special = list(self.specials(queue, rarely=True))
            made += special
            made += [self.chance.choices(makers, weights)[0](queue) for _ in range(count // 20 - len(special))]
        self.chance.shuffle(made)
        return made

    def marker(self) -> str:
        self.made += 1
        return f"{self.made:06d}-{self.chance.getrandbits(40):010x}"

    # Kinds of items

    def good(self, queue: str) -> Item:
        """An order as one of the clients that there are may write it."""
        marker, task = self.marker(), task_of(queue)
        message = message_of(marker, self.chance, queue, task)
        form = self.chance.choice(["celery", "compact", "few headers", "plain body", "priority", "doubled", "early"])
        if form == "few headers":
            message["headers"] = {"task": task, "id": f"t-{marker}"}
        if form == "plain body":
            del message["properties"]["body_encoding"]
            message["body"] = json.dumps(message.pop("content"))
        if form == "priority":
            step = self.chance.choice([3, 6, 9])
            message["properties"]["priority"] = step
            return Item("good, priority", f"{queue}{QUEUED}{step}", written(message), marker, True)
        if form == "doubled":  # the same tag in many messages, as clients that do not know what it is for send it
            message["properties"]["delivery_tag"] = "1"
        if form == "early":
            message["headers"]["eta"] = "2026-01-01T00:00:00+00:00"
        return Item(f"good, {form}", queue, written(message, compact=form == "compact"), marker, True)

    def junk(self, queue: str) -> Item:
        """A message with junk, or nothing, at one place."""
        marker = self.marker()
        message = message_of(marker, self.chance, queue, task_of(queue))
        place = self.chance.choice(PLACES)
        what = self.spoil(message, place)
        return Item(f"{what} at {place}", queue, written(message), marker)

    def junk_twice(self, queue: str) -> Item:
        """Junk at two places, of which at most one names the item."""
        marker = self.marker()
        message = message_of(marker, self.chance, queue, task_of(queue))
        first, second = self.chance.choice(PLACES), self.chance.choice([at for at in PLACES if at not in NAMES])
        whats = [self.spoil(message, place) for place in (first, second)]
        return Item(f"{whats} at {first} and {second}", queue, written(message), marker)

    def spoil(self, message: dict[str, Any], place: tuple[Any, ...]) -> str:
        """Puts junk at a place of a message, if the place is still there; says what."""
        parent: Any = message
        try:
            for step in place[:-1]:
                parent = parent[step]
            if self.chance.random() < 0.1:
                del parent[place[-1]]
                return "nothing"
            value = copy.deepcopy(self.chance.choice(JUNK))
            parent[place[-1]] = value
        except (KeyError, IndexError, TypeError):
            return "no change"
        return repr(value)[:60]

    def first_protocol(self, queue: str) -> Item:
        """A message of Celery's first protocol, every second with junk in it."""
        marker = self.marker()
        message = message_of(marker, self.chance, queue, task_of(queue))
        [args, kwargs, _] = message["content"]
        body = {"task": task_of(queue), "id": f"t-{marker}", "args": args, "kwargs": kwargs, "retries": 0}
        message |= {"headers": self.chance.choice([{}, None, {"redelivered": True}]), "content": body}
        what = "as it was"
        if self.chance.random() < 0.5:
            place = self.chance.choice(FIRST_PROTOCOL)
            what = f"{self.spoil(body, (place,))} at {place}"
        return Item(f"protocol 1, {what}", queue, written(message), marker)

    def hybrid(self, queue: str) -> Item:
        """Headers of the second protocol over a body of the first, or of one that there is not."""
        marker = self.marker()
        message = message_of(marker, self.chance, queue, task_of(queue))
        [args, kwargs, _] = message["content"]
        body = {"args": args, "kwargs": kwargs} | self.chance.choice([{}, {"retries": "x"}, {"v": 3}, {"chord": 1}])
        if self.chance.random() < 0.4:
            self.spoil(body, (self.chance.choice(["args", "kwargs", "eta", "callbacks", "timelimit"]),))
        message["content"] = body if self.chance.random() < 0.7 else {"v": 3, "payload": body}
        return Item("hybrid", queue, written(message), marker)

    def other_task(self, queue: str) -> Item:
        """Another task, or none of that name."""
        marker = self.marker()
        task = self.chance.choice(["orders.cancel", "orders.place_many", "orders.Place", "nobody.knows", "", "orders"])
        message = message_of(marker, self.chance, queue, task)
        if self.chance.random() < 0.5:
            self.spoil(message, self.chance.choice([("content", 2, "chord"), ("content", 0), ("headers", "eta")]))
        return Item(f"task {task!r}", queue, written(message), marker)

    def spoiled_text(self, queue: str) -> Item:
        """Bytes that were a message once: cut off, with bytes changed, or with more behind them."""
        marker = self.marker()
        whole = written(message_of(marker, self.chance, queue, task_of(queue)))
        head = len(b'{"marker": ""') + len(marker)
        at = self.chance.randrange(head, len(whole))
        how = self.chance.randrange(5)
        raw = [
            whole[:at],
            whole[:at] + bytes([self.chance.randrange(256)]) + whole[at + 1 :],
            whole[:at] + self.chance.randbytes(4) + whole[at:],
            whole + self.chance.choice([b"}", b"\0", b" x", whole, b"\xff"]),
            b"\xff\xfe" + whole,
        ][how]
        return Item(f"spoiled text {how} at {at}", queue, raw, marker)

    def unmarked(self, queue: str) -> Item:
        """What is too small to carry a marker, and no message."""
        small = (
            b"",
            b" ",
            b"0",
            b"null",
            b"[]",
            b'""',
            b"\0",
            b"\xff",
            b"true",
            b"NaN",
            b"[[]]",
            b"{",
            b"\xef\xbb\xbf1",
        )
        return Item("unmarked", queue, self.chance.choice(small), "")

    def little(self, queue: str) -> Item:
        """An object that is hardly a message."""
        marker = self.marker()
        small: list[dict[str, Any]] = [
            {},
            {"body": 1},
            {"headers": {}},
            {"properties": {}},
            {"headers": {"id": marker}},
        ]
        return Item("little", queue, json.dumps({"marker": marker} | self.chance.choice(small)).encode(), marker)

    def specials(self, queue: str, rarely: bool = False) -> Iterator[Item]:
        """What is too large, too deep or too odd to come by chance, each once."""
        for kind, change in SPECIALS.items():
            if rarely and kind.startswith("large"):
                continue
            marker = self.marker()
            message = message_of(marker, self.chance, queue, task_of(queue))
            yield Item(kind, queue, change(message), marker)
