"""The messages that `tests.fuzz` spoils: a good one, the places in it, the junk for them, and odd ones by name."""

import base64
import json
import random
import uuid
from collections.abc import Callable
from typing import Any

from tests.shop import order

SKU = "FUZZ"
QUEUED = "\x06\x16"  # between a queue's name and its priority step
DEEP = 100_000
MEGABYTE = "m" * 1_000_000
# Numbers and texts that Python does not write as JSON, put in after it has written the rest.
VERBATIM = {
    "@1e400@": b"1e400",
    "@-1e400@": b"-1e400",
    "@surrogate@": b'"\\ud800"',
    "@-0@": b"-0",
    "@raw nul@": b'"\0"',
}
JUNK: list[Any] = [
    *(None, True, False, 0, 1, -1, 7, 1.5, 10**30, -(10**18), float("nan"), float("inf"), *VERBATIM),
    *(
        "",
        "x",
        " ",
        "\0",
        "a\0b",
        "null",
        "é漢🙂",
        "%s %(a)s {0}",
        "x" * 5_000,
        "2026-02-30T25:00:00",
        "-1",
        "1e9",
        "\ufeff",
    ),
    *([], [None], [[]], [1, 2, 3], ["a"], [{}], {}, {"a": 1}, {"": None}, {"\0": 1}, {"task": 1}, [["a", {"b": []}]]),
]
HEADERS = (
    *("lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit", "root_id"),
    *("parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting", "stamped_headers"),
    *("stamps", "compression", "redelivered", "headers", "utc", "meth"),
)
PROPERTIES = (
    "correlation_id",
    "reply_to",
    "delivery_mode",
    "delivery_info",
    "priority",
    "body_encoding",
    "delivery_tag",
)
ENVELOPE = ("body", "content-encoding", "content-type", "headers", "properties")
# What names an item: of these two are never broken in one item, or nobody could say what became of it.
NAMES = {("headers", "id"), ("headers", "ignore_result"), ("headers",), ("content", 0), ("content", 1), ("content",)}
PLACES: list[tuple[Any, ...]] = [
    *((name,) for name in ENVELOPE),
    *(("headers", name) for name in HEADERS),
    *(("properties", name) for name in PROPERTIES),
    *(("properties", "delivery_info", name) for name in ("exchange", "routing_key", "priority", "redelivered")),
    *(("content",), ("content", 0), ("content", 1), ("content", 2)),
    *(("content", 2, name) for name in ("callbacks", "errbacks", "chain", "chord")),
    *(("content", 0, 0, name) for name in ("customer", "pool", "lines", "version", "currency", "ordered_at", "other")),
    *(("content", 0, 0, "lines", 0), ("content", 0, 0, "lines", 0, "sku"), ("content", 0, 0, "lines", 0, "quantity")),
]
FIRST_PROTOCOL = (
    *("task", "id", "args", "kwargs", "retries", "eta", "expires", "utc", "callbacks", "errbacks", "timelimit"),
    *("taskset", "chord", "extra"),
)


def task_of(queue: str) -> str:
    """What is good for a queue: an order, or a command about stock."""
    return "inventory.adjust" if queue == "inventory" else "orders.place"


def message_of(marker: str, chance: random.Random, queue: str, task: str = "orders.place") -> dict[str, Any]:
    """A message as Celery writes it, its content not yet encoded."""
    request: Any = order(f"k-{marker}", (SKU, 1))
    if task == "inventory.adjust":
        request = {"key": f"k-{marker}", "sku": SKU, "location": "E1", "quantity": 1, "reason": "found"}
    if task == "orders.cancel":
        request = {"key": f"k-{marker}", "order_id": str(uuid.UUID(int=0)), "reason": "changed their mind"}
    task_id = f"t-{marker}"
    return {
        "marker": marker,
        "content": [
            [[request] if task == "orders.place_many" else request],
            {},
            {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
        ],
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            **dict.fromkeys(("shadow", "eta", "expires", "group", "group_index", "parent_id", "stamped_headers")),
            **{"lang": "py", "task": task, "id": task_id, "root_id": task_id, "retries": 0},
            **{"timelimit": [None, None], "argsrepr": "('…',)", "kwargsrepr": "{}", "origin": "1@there"},
            **{"ignore_result": False, "replaced_task_nesting": 0, "stamps": {}},
        },
        "properties": {
            **{"correlation_id": task_id, "reply_to": "", "delivery_mode": 2, "priority": 0},
            **{"delivery_info": {"exchange": "", "routing_key": queue}, "body_encoding": "base64"},
            "delivery_tag": f"{chance.getrandbits(128):032x}",
        },
    }


def written(message: dict[str, Any], compact: bool = False) -> bytes:
    """The message as bytes, its content encoded as its properties say."""
    whole = dict(message)
    if "content" in whole:
        whole["body"] = base64.b64encode(as_json(whole.pop("content"), compact)).decode()
    return as_json(whole, compact)


def as_json(value: Any, compact: bool = False) -> bytes:
    """JSON, with what Python does not write as it stands."""
    separators = (",", ":") if compact else (", ", ": ")
    raw = json.dumps(value, separators=separators, ensure_ascii=not compact).encode(errors="surrogatepass")
    for name, text in VERBATIM.items():
        raw = raw.replace(f'"{name}"'.encode(), text)
    return raw


def _with(place: tuple[Any, ...], value: Any) -> Callable[[dict[str, Any]], bytes]:
    def change(message: dict[str, Any]) -> bytes:
        parent: Any = message
        try:
            for step in place[:-1]:
                parent = parent[step]
            parent[place[-1]] = value
        except (KeyError, IndexError):  # a command has fewer places than an order
            message["extra"] = value
        return written(message)

    return change


def _nested(place: tuple[Any, ...], depth: int, pair: str = "[]") -> Callable[[dict[str, Any]], bytes]:
    """Lists in lists, or objects in objects, at a place."""
    opening, closing = (pair[0] * depth, pair[1] * depth) if pair == "[]" else ('{"a":' * depth + "1", "}" * depth)

    def change(message: dict[str, Any]) -> bytes:
        _with(place, "@deep@")(message)
        deep = (opening + closing).encode()
        if place[0] == "content":
            content = as_json(message.pop("content")).replace(b'"@deep@"', deep)
            message["body"] = base64.b64encode(content).decode()
        return written(message).replace(b'"@deep@"', deep)

    return change


def _body(body: Any, **properties: Any) -> Callable[[dict[str, Any]], bytes]:
    def change(message: dict[str, Any]) -> bytes:
        del message["content"]
        message["properties"] |= properties
        return written(message | {"body": body})

    return change


SPECIALS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    **{f"large {'.'.join(map(str, place))}": _with(place, MEGABYTE) for place in PLACES if place[0] != "body"},
    **{f"deep {'.'.join(map(str, place))}": _nested(place, DEEP) for place in PLACES if place[0] != "body"},
    **{
        f"deep {n} {pair} {place[-1]}": _nested(place, n, pair)
        for n in (100, 300, 500, 900, 950, 980, 990, 1100, 5000)
        for pair in ("[]", "{}")
        for place in (("extra",), ("headers", "x"), ("content", 0, 0, "other"), ("content", 1, "x"))
    },
    **{
        f"type {kind}": _with(("content-type",), f"application/{kind}")
        for kind in ("x-python-serialize", "x-yaml", "x-msgpack", "data", "nonsense", "JSON", "json; charset=utf-8")
    },
    **{
        f"encoding {kind}": _with(("content-encoding",), kind) for kind in ("utf-16", "latin-1", "binary", "hex", "zip")
    },
    **{
        f"compression {kind}": _with(("headers", "compression"), f"application/{kind}")
        for kind in ("x-gzip", "x-bz2", "zstd", "nonsense")
    },
    **{
        f"eta {at}": _with(("headers", "eta"), at)
        for at in (
            "0001-01-01T00:00:00+14:00",
            "1969-12-31T23:59:59Z",
            "2026-01-01",
            "2026-01-01T00:00:00+99:00",
            "9999-99-99T00:00:00",
        )
    },
    **{
        f"expires {at}": _with(("headers", "expires"), at)
        for at in (
            "0001-01-01T00:00:00-14:00",
            "1969-12-31T23:59:59Z",
            "2026-01-01",
            "9999-12-31T23:59:59-14:00",
            "soon",
            5,
            -1.5,
        )
    },
    **{f"retries {n}": _with(("headers", "retries"), n) for n in ("x", -1, 10**9, 10**30, [3], {"a": 1})},
    **{
        f"timelimit {n}": _with(("headers", "timelimit"), n)
        for n in ([1, 2], ["x", "y"], [-1, -1], [10**30] * 2, [1], "ab")
    },
    **{
        f"id {value!r:.20}": _with(("headers", "id"), value)
        for value in (
            None,
            7,
            True,
            1.5,
            [],
            {},
            "",
            "\0",
            "x" * 300,
            "é" * 200,
            "@surrogate@",
            "a b\nc",
            "celery-task-meta-1",
            "*",
        )
    },
    **{
        f"dead and {value!r:.20}": _with(("headers",), {"task": "orders.place", "id": value, "redelivered": True})
        for value in (None, 7, "\0", "x" * 5_000, "@surrogate@", ["a"])
    },
    **{
        f"come back with priority {value}": _with(
            ("properties",), {"priority": value, "delivery_info": {"redelivered": True}}
        )
        for value in ("x", "@1e400@", None, -5, 77, [1])
    },
    "body of no base64": _body("%%%"),
    "body of wrong padding": _body("eyJhIjoxfQ"),
    "body of no JSON": _body(base64.b64encode(b"{").decode()),
    "body of no UTF-8": _body(base64.b64encode(b'["\xff\xfe"]').decode()),
    "body of nothing": _body(""),
    "body of an unknown encoding": _body("x", body_encoding="rot13"),
    "body a list": _body([1, 2]),
    "pickle": _body(base64.b64encode(b"\x80\x04K\x01.").decode()),
}
