"""Dead letters: collected from what workers set aside in Redis, found, replayed and discarded.

The rows are PostgreSQL's and change only by routines of `api`. What people see and are asked is in
`workers.cli_dead_letters`.
"""

import base64
import json
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, Self

import psycopg
import redis
from celery.utils.log import get_task_logger
from psycopg.rows import class_row
from pydantic import AwareDatetime, BaseModel, ValidationError, model_validator

from workers.database import holdable, translate
from workers.errors import BusinessError, OrdermillError, PermanentError
from workers.undecodable import NOT_A_MESSAGE, record, undecodable_key

log = get_task_logger(__name__)

Bury = Callable[..., object]  # takes what api.bury_unread takes; raises the errors of workers.errors
# An entry that no worker wrote is given an id first: once, though two find it.
ADOPT = """
if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then return 0 end
return redis.call('LPUSH', KEYS[1], ARGV[2])"""


class Entry(BaseModel):
    """An element of `<queue>.undecodable`, as `workers.undecodable.record` writes it."""

    id: uuid.UUID
    at: AwareDatetime
    code: Literal["OM092", "OM093", "OM094", "OM057"]
    reason: str
    item: str | None = None
    base64: str | None = None

    @model_validator(mode="after")
    def _one_item(self) -> Self:
        if (self.item is None) == (self.base64 is None):
            raise ValueError("the item is given once: as text or in base64")
        self.raw()
        return self

    def raw(self) -> bytes:
        """The item as it was in its queue."""
        return (self.item or "").encode() if self.base64 is None else base64.b64decode(self.base64, validate=True)


def collect(broker: redis.Redis, queues: Iterable[str], bury: Bury) -> dict[str, int]:
    """Makes dead letters of all that was set aside from these queues; gives how many, and how many could not be.

    An entry is buried first and then removed, once by its id: killed in between, or beside a twin, it is one letter.
    """
    found = {"collected": 0, "left": 0}
    for queue in queues:
        _collect(broker, queue, bury, found)
    return found


def _collect(broker: Any, queue: str, bury: Bury, found: dict[str, int]) -> None:
    key, left = undecodable_key(queue), 0
    for _ in range(broker.llen(key)):
        element = broker.lindex(key, -1 - left)  # the oldest
        if element is None:
            break
        entry = read_entry(element)
        if entry is None:
            adopted = record(queue, element, NOT_A_MESSAGE, f"No worker wrote this entry of {key}.").encode()
            entry = read_entry(adopted) if broker.eval(ADOPT, 1, key, element, adopted) else None
            element = adopted
        if entry is None:
            continue  # a twin has it
        item, is_base64 = as_text(entry.raw())
        try:
            bury(entry.id, entry.at, queue, item, is_base64, entry.code, holdable(entry.reason))
        except (BusinessError, PermanentError) as error:
            log.error("entry %s of %s stays there, PostgreSQL refuses it: %s", entry.id, key, error)
            left += 1
        else:
            found["collected"] += broker.lrem(key, -1, element)
    found["left"] += left


def read_entry(element: bytes) -> Entry | None:
    """The entry; None for an element that no worker wrote."""
    try:
        return Entry.model_validate_json(element)
    except ValidationError:
        return None


def as_text(raw: bytes) -> tuple[str, bool]:
    """Bytes as PostgreSQL can hold them, and whether that is base64."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = "\0"
    return (base64.b64encode(raw).decode(), True) if "\0" in text else (text, False)


def bury_with(connection: psycopg.Connection[Any]) -> Bury:
    """`api.bury_unread` on a connection of one's own."""

    def bury(*arguments: object) -> object:
        try:
            return connection.execute("SELECT api.bury_unread(%s, %s, %s, %s, %s, %s, %s)", arguments).fetchone()
        except psycopg.Error as error:
            raise translate(error) from error

    return bury


@dataclass(frozen=True)
class Letter:
    """A row of `api.dead_letters`."""

    id: uuid.UUID
    kind: str
    source: str
    task: str | None
    queue: str | None
    key: str | None
    code: str
    reason: str
    attempts: int
    created_at: datetime
    settled_at: datetime | None
    settlement: str | None
    payload: Any = None


@dataclass(frozen=True)
class Filter:
    """Which letters are meant; what is None does not matter."""

    code: str | None = None
    task: str | None = None
    queue: str | None = None
    source: str | None = None
    since: datetime | None = None
    key: str | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in asdict(self).values())


_COLUMNS = "id, kind, source, task, queue, key, code, reason, attempts, created_at, settled_at, settlement"
_WHERE = """
    WHERE (%(code)s::text IS NULL OR code = %(code)s) AND (%(task)s::text IS NULL OR task = %(task)s)
        AND (%(queue)s::text IS NULL OR queue = %(queue)s) AND (%(source)s::text IS NULL OR source = %(source)s)
        AND (%(since)s::timestamptz IS NULL OR created_at >= %(since)s)
        AND (%(key)s::text IS NULL OR key = %(key)s) AND (%(settled)s OR settled_at IS NULL)"""
_NEWEST = "ORDER BY created_at DESC, id DESC LIMIT %(limit)s"


def find(
    connection: psycopg.Connection[Any],
    wanted: Filter,
    limit: int | None = None,
    *,
    settled: bool = False,
    payloads: bool = False,
) -> list[Letter]:
    """The newest such letters, newest first: open ones only, unless `settled`; payloads can be large."""
    columns = f"{_COLUMNS}, payload" if payloads else _COLUMNS
    query = f"SELECT {columns} FROM api.dead_letters {_WHERE} {_NEWEST}"  # noqa: S608 - texts of ours
    with connection.cursor(row_factory=class_row(Letter)) as cursor:
        return cursor.execute(query.encode(), asdict(wanted) | {"settled": settled, "limit": limit}).fetchall()


def count(connection: psycopg.Connection[Any], wanted: Filter, *, settled: bool = False) -> int:
    """How many letters there are of these."""
    query = f"SELECT count(*) FROM api.dead_letters {_WHERE}"  # noqa: S608 - texts of ours
    row = connection.execute(query.encode(), asdict(wanted) | {"settled": settled}).fetchone()
    return int(row[0]) if row else 0


def fetch(connection: psycopg.Connection[Any], letter_id: uuid.UUID) -> Letter:
    """A letter with its payload; raises OrdermillError when there is none."""
    with connection.cursor(row_factory=class_row(Letter)) as cursor:
        query = f"SELECT {_COLUMNS}, payload FROM api.dead_letters WHERE id = %s"  # noqa: S608 - a text of ours
        letter = cursor.execute(query.encode(), [letter_id]).fetchone()
    if letter is None:
        raise OrdermillError(f"there is no dead letter {letter_id}: `ordermill dead-letters list --all` shows them")
    return letter


def raw_item(letter: Letter) -> bytes:
    """What lay in the queue, byte for byte, of a letter of kind `unread`."""
    if "base64" in letter.payload:
        return base64.b64decode(letter.payload["base64"])
    return str(letter.payload["item"]).encode()


def decoded(letter: Letter) -> dict[str, Any] | None:
    """The Celery message of an unread item with its body decoded as far as it can be; None where it is none."""
    if letter.kind != "unread":
        return None
    try:
        message = json.loads(raw_item(letter))
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or "body" not in message:
        return None
    body, properties = message["body"], message.get("properties")
    try:
        if isinstance(properties, dict) and properties.get("body_encoding") == "base64":
            body = base64.b64decode(body, validate=True).decode(errors="backslashreplace")
        body = json.loads(body)
    except (ValueError, TypeError, RecursionError):
        pass  # as far as it can be
    return message | {"body": body}
