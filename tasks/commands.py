"""What the tasks that wrap one keyed routine share: read the payload, run the routine, or store why not."""

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tasks.payloads import fits_as_key, refusal, refused_key
from workers.base_task import as_text
from workers.database import call_one, holdable

Request = TypeVar("Request", bound=BaseModel)


def run_command(
    model: type[Request], payload: Any, task_id: str, kind: str, routine: Callable[[str, Request], dict[str, Any]]
) -> dict[str, Any]:
    """The routine's outcome, under the payload's key or else the task id; a payload without its form is rejected.

    Where neither can be a key there is nothing to store the rejection under: the caller has it, and that is all.
    """
    named = payload.get("key") if isinstance(payload, dict) else None
    key: str = named if isinstance(named, str) and fits_as_key(named) else task_id
    if not fits_as_key(key):
        return refused_key()
    try:
        request = model.model_validate(payload)
    except ValidationError as error:
        no = refusal(key, error)
        stored: dict[str, Any] = call_one(
            "api.refuse_command", key, kind, as_text(payload), no["code"], holdable(no["field"]), no["message"]
        )
        return stored
    return routine(key, request)
