"""docs/tasks.md: each registered Celery task, with the JSON Schema of what it takes and of what it gives."""

import base64
import inspect
import json
from typing import Any

from pydantic import BaseModel

from beat_schedule import BEAT_SCHEDULE
from generators.examples import EXAMPLES, OUTCOME, Example
from generators.markdown import as_json, code, generated_by, page, table
from tasks.payloads import (
    AdjustRequest,
    AvailabilityRequest,
    CancelRequest,
    CategoriesRequest,
    CompleteRequest,
    OrderRequest,
    ProductsRequest,
    ReceiveRequest,
    TransferRequest,
)
from workers.app import app
from workers.base_task import CommandTask, ReadTask
from workers.settings import Settings

PAYLOADS: dict[str, type[BaseModel]] = {
    "orders.place": OrderRequest,
    "orders.place_many": OrderRequest,
    "orders.cancel": CancelRequest,
    "orders.complete": CompleteRequest,
    "inventory.adjust": AdjustRequest,
    "inventory.receive": ReceiveRequest,
    "inventory.transfer": TransferRequest,
}
READS: dict[str, type[BaseModel]] = {
    "catalog.product": ProductsRequest,
    "catalog.availability": AvailabilityRequest,
    "catalog.category": CategoriesRequest,
}
JOB_PARAMETERS = {
    "cadence": "Takes `cadence`, seconds, optional: the slot to claim. Without it the job runs now, outside any slot.",
    "seconds": "Takes `seconds`, optional: how long to drain, without a successor. 0: until the queue is empty.",
}
LISTS = {"orders.place_many"}

INTRODUCTION = """\
Enqueue a task by its name with any Celery client: `send_task(name, args=[payload], queue=queue)`. The payload is the
one positional argument, or else the keyword arguments. Messages are JSON; a queue's name is the task's area.

- **Key.** Each command is done once per key: its payload's `key`, else the task's id. Send again under the same key
  whenever you do not know what became of it. The same key with the same body gives the stored outcome; with another
  body it gives `OM010`. Keys are unique over all commands.
- **Result.** `SUCCESS` means *decided*: the result is the outcome. `FAILURE` means a bug; the message is kept in
  `api.dead_letters`. Results are kept for an hour; the outcome by key (`api.order_outcome`) for
  `ORDERMILL_KEYS_KEPT_DAYS`.
- **Acknowledgement.** *Late*: after the commit, so a killed worker's message is delivered again. *Early*: before the
  work; what is lost is done by the next run.
- **Together.** What an `orders` worker finds waiting, up to a hundred messages, it places together. A message with
  `countdown`, `eta`, `expires`, callbacks, a group or a chain, or one that is delivered again after its worker died, is
  run alone, in some ten times the time. Do not set `countdown`, `eta` or `expires` on orders: a time that is due is a
  row. In a batch, of Celery's signals only `task_received` and `task_success` are sent.
- **Attempts.** A message whose worker died is run alone, at most `ORDERMILL_CLAIM_ATTEMPTS` times; then it is a dead
  letter. What waits out an outage, a lock or a broken deployment is not counted."""

READING = """\
## Reads

A read has no key and changes nothing; what is lost is asked again. Its result is `{"status": "read", "items": [...]}`,
an item for each name in the order asked, `null` where there is none; or `{"status": "rejected", "code": ...,
"field": ..., "message": ...}` where the payload does not have its form. Items come from the cache, at most as old as
[reads.md](reads.md#cache) says, else from PostgreSQL."""

WIRE = """\
## Without a Celery client

A message is one element of a Redis list named after its queue: `LPUSH orders <message>`. `body` is the Base64 of
`[[payload], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]` as JSON; `id`, `correlation_id`
and `delivery_tag` are the task's id, a new UUID. The result appears, as JSON with `status` and `result`, under the key
`celery-task-meta-<id>` of the result backend."""


def document() -> str:
    """The text of docs/tasks.md."""
    app.loader.import_default_modules()
    names = sorted(name for name in app.tasks if not name.startswith("celery."))
    commands = [name for name in names if isinstance(app.tasks[name], CommandTask)]
    reads = [name for name in names if isinstance(app.tasks[name], ReadTask)]
    for listed, found in ((PAYLOADS, commands), (READS, reads)):
        if set(listed) != set(found):
            raise SystemExit(f"docs/generators/tasks.py: PAYLOADS and READS must name exactly {commands} and {reads}")
    return page(
        generated_by("the registered tasks and their pydantic models"),
        "# Tasks",
        INTRODUCTION,
        table(("task", "queue", "acknowledged", "started by", "what it does"), (_row(name) for name in names)),
        "## The outcome",
        "What every command gives; [errors.md](errors.md) has the codes.",
        as_json(OUTCOME),
        *(_command(name) for name in commands),
        READING,
        *(_read(name) for name in reads),
        *(_job(name) for name in names if name not in {*commands, *reads}),
        WIRE,
        as_json(wire_message()),
    )


def _promise(name: str) -> str:
    text = inspect.cleandoc(app.tasks[name].run.__doc__ or "")
    if not text:
        raise SystemExit(f"{name} has no docstring")
    return text


def _queue(name: str) -> str:
    return str(app.amqp.router.route({}, name)["queue"].name)


def _beat(name: str) -> str:
    entries = [entry for entry in BEAT_SCHEDULE.values() if entry["task"] == name]
    return ", ".join(f"beat, {_cadence(entry)}" for entry in entries)


def _cadence(entry: dict[str, Any]) -> str:
    seconds = entry.get("kwargs", {}).get("cadence", entry["schedule"])
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds == size:
            return f"once a {unit}" if unit != "hour" else "once an hour"
    return f"every {seconds:g} s"


def _row(name: str) -> tuple[str, str, str, str, str]:
    acknowledged = "late" if app.tasks[name].acks_late else "early"
    first = _promise(name).partition("\n")[0]
    return f"[`{name}`](#{name.replace('.', '')})", code(_queue(name)), acknowledged, _beat(name) or "you", first


def _command(name: str) -> str:
    example = EXAMPLES[name]
    schema = _untitled(PAYLOADS[name].model_json_schema())
    many = name in LISTS
    for payload in example.payload if many else [example.payload]:
        PAYLOADS[name].model_validate(payload)  # an example that would be refused is no example
    if many:
        definitions = schema.pop("$defs", {})
        schema = {"type": "array", "items": schema, "maxItems": _limit(), "$defs": definitions}
    return page(
        f"## {name}",
        _promise(name),
        "Takes:",
        as_json(schema),
        _gives(many, example),
        "Example payload, and a result it may have:",
        as_json(example.payload),
        as_json(example.outcome),
    )


def _read(name: str) -> str:
    example = EXAMPLES[name]
    READS[name].model_validate(example.payload)
    return page(
        f"## {name}",
        _promise(name),
        "Takes:",
        as_json(_untitled(READS[name].model_json_schema())),
        "Example payload, and its result:",
        as_json(example.payload),
        as_json(example.outcome),
    )


def _untitled(schema: Any) -> Any:
    """Without the titles that pydantic makes of field names."""
    if isinstance(schema, dict):
        return {k: _untitled(v) for k, v in schema.items() if k != "title" or not isinstance(v, str)}
    return [_untitled(each) for each in schema] if isinstance(schema, list) else schema


def _gives(many: bool, example: Example) -> str:
    statuses = ", ".join(code(status) for status in example.statuses)
    return f"Gives {'a list of outcomes, one a payload in order,' if many else 'an outcome'} with status {statuses}."


def _limit() -> int:
    return int(Settings.model_fields["place_many_limit"].default)


def _job(name: str) -> str:
    parameters = inspect.signature(app.tasks[name].run).parameters
    (parameter,) = parameters
    return page(f"## {name}", _promise(name), JOB_PARAMETERS[parameter], "No result is stored.")


def wire_message() -> dict[str, Any]:
    """A whole message for `orders`, as it lies in Redis."""
    task_id = "6f0c5a52-4d7e-4f0b-9a7c-0c1d2e3f4a5b"
    return {
        "body": wire_body(EXAMPLES["orders.place"].payload),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "any", "task": "orders.place", "id": task_id, "root_id": task_id},
        "properties": {
            "correlation_id": task_id,
            "delivery_mode": 2,
            "delivery_tag": task_id,
            "delivery_info": {"exchange": "", "routing_key": "orders"},
            "body_encoding": "base64",
        },
    }


def wire_body(payload: Any) -> str:
    """The body of a message with this payload."""
    options = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return base64.b64encode(json.dumps([[payload], {}, options]).encode()).decode()
