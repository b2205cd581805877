"""What the tests of the Celery door share: messages written by hand, what Redis holds, events as Flower gets them."""

import base64
import contextlib
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from celery import Celery, uuid
from celery.events.receiver import EventReceiver

from tests.shop import order
from tests.workers_fixtures import Mill
from workers.child import Child, wait_until

STEPS = (0, 3, 6, 9)  # the priorities for which Celery keeps a list in Redis; 0 is served first
UNACKED, INDEX = "orders.unacked", "orders.unacked_index"


def list_of(step: int, queue: str = "orders") -> str:
    """The Redis list of a queue for a priority."""
    return f"{queue}\x06\x16{step}" if step else queue


def backlog(mill: Mill) -> int:
    """How many messages wait for an orders worker, whatever their priority."""
    return sum(mill.waiting(list_of(step)) for step in STEPS)


def in_hand(mill: Mill) -> int:
    """How many messages orders workers have taken and not acknowledged."""
    return int(mill.broker.hlen(UNACKED))


def at_rest(mill: Mill, seconds: float = 30) -> bool:
    """Whether no message is left anywhere: none waits, none is in hand, and the index agrees."""
    keys = (UNACKED, INDEX, *(list_of(step) for step in STEPS))  # in one look: what one gives back another may take
    return wait_until(lambda: not mill.broker.exists(*keys), seconds)


def items(mill: Mill) -> list[dict[str, Any]]:
    """The messages that wait, decoded."""
    return [json.loads(item) for step in STEPS for item in mill.broker.lrange(list_of(step), 0, -1)]


def marked_redelivered(item: dict[str, Any]) -> bool:
    """Whether kombu's mark of a message that a dead worker had is on it."""
    return bool(item["headers"].get("redelivered") or item["properties"]["delivery_info"].get("redelivered"))


def by_hand(payload: Any, task_id: str | None = None, *, step: int = 0, **headers: Any) -> dict[str, Any]:
    """A message of `orders.place` as docs/tasks.md shows it, for a client that has no Celery."""
    task_id = task_id or uuid()
    return {
        "body": in_base64([[payload], {}, {}]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "any", "task": "orders.place", "id": task_id, **headers},
        "properties": {
            "correlation_id": task_id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_tag": uuid(),
            "delivery_info": {"exchange": "", "routing_key": "orders", "priority": step},
            "body_encoding": "base64",
        },
    }


def in_base64(body: Any) -> str:
    return base64.b64encode(compact(body)).decode()


def compact(value: Any) -> bytes:
    """JSON as JavaScript and Go write it: no spaces, and text as it is."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def push(mill: Mill, message: dict[str, Any], step: int = 0) -> str:
    """Puts a message straight into Redis, and gives its task's id."""
    mill.broker.lpush(list_of(step), compact(message))
    return str(message["properties"]["correlation_id"])


def node_of(child: Child) -> str:
    """The name by which remote control knows a worker."""
    command = list(child.command)
    return command[command.index("-n") + 1]


class Events:
    """What workers and clients have told by events until now."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []

    def add(self, event: dict[str, Any]) -> None:
        self.all.append(event)

    def of(self, task_id: str) -> Counter[str]:
        """How often which event of a task came."""
        return self.by_task()[task_id]

    def by_task(self) -> dict[str, Counter[str]]:
        counted: dict[str, Counter[str]] = defaultdict(Counter)
        for event in list(self.all):
            counted[event.get("uuid", "")][event["type"]] += 1
        return counted

    def order_of(self, kind: str) -> list[str]:
        """The ids of tasks in the order in which this was told of them."""
        return [event["uuid"] for event in list(self.all) if event["type"] == kind]


def heard_until_now(mill: Mill, seen: Events, sku: str) -> None:
    """A worker's events come in their order: when those of one more order are here, so are all before."""
    last = mill.send("orders.place", order(None, (sku, 1)))
    assert wait_until(lambda: seen.of(last.id)["task-succeeded"] == 1, 30)


class _Receiver(EventReceiver):  # type: ignore[misc]  # Celery ships no types
    def listen(self) -> None:
        for _ in self.consume(limit=None, timeout=None, safety_interval=0.1):
            pass


@contextlib.contextmanager
def listening(client: Celery) -> Iterator[Events]:
    """Collects events, as Flower does, from when the block is entered."""
    seen = Events()
    with client.connection_for_read() as connection:
        receiver = _Receiver(connection, handlers={"*": seen.add}, app=client)
        thread = threading.Thread(target=receiver.listen, daemon=True)
        thread.start()

        def heard() -> bool:
            with client.events.default_dispatcher() as probe:
                probe.send("shop-probe")
            return any(event["type"] == "shop-probe" for event in seen.all)

        try:
            assert wait_until(heard, 30, 0.05)
            yield seen
        finally:
            receiver.should_stop = True
            thread.join(30)
