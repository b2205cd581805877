"""What the form of a message must be, before Celery runs it: its names, its arguments, its times, its followers.

Celery finds most of this out when it runs a task, or has run it, and then keeps nothing; some of it ends a worker, or
takes one of its places for good. A message that is malformed is set aside instead: see `workers.consumer`.
"""

from typing import Any

from celery.utils.time import maybe_iso8601

from workers.undecodable import DEEPEST, too_deep

JSON = "application/json"
NAMES = ("root_id", "parent_id", "group", "shadow")  # Celery counts and files by them
TIMES, YEARS = ("eta", "expires"), range(1970, 9999)  # an offset may reach into the year beside it
LONGEST_LIMIT = 1_000_000
LISTS_OF_SIGNATURES = ("callbacks", "errbacks", "chain")


def malformed(message: Any) -> Exception | None:
    """Why a message, of either of Celery's protocols, cannot be run, if that is so."""
    if message.content_type != JSON:
        return None  # Celery accepts no other
    headers, body = message.headers, message.payload
    names = headers if "task" in headers else body
    if not isinstance(names, dict) or "task" not in names:
        return None  # Celery finds out at once
    if isinstance(body, dict) and (names is body or "args" in body):  # the first protocol, or a hybrid of both
        body = [body.get("args", []), body.get("kwargs", {}), {name: body.get(name) for name in LISTS_OF_SIGNATURES}]
    problem = bad_arguments(body) or bad_names(names) or bad_times(names)
    if not problem and not isinstance(message.content_encoding, str | None):
        problem = "its content-encoding is no text"
    return ValueError(problem) if problem else None


def bad_arguments(body: Any) -> str | None:
    """What is wrong with a body of the second protocol."""
    if not isinstance(body, list) or len(body) != 3:
        return "the body is not a list of arguments, keywords and the rest"
    args, kwargs, rest = body[0], body[1], body[2] or {}
    if not isinstance(args, list) or not isinstance(kwargs, dict) or not isinstance(rest, dict):
        return "its arguments are no list, or its keywords or the rest no object"
    if too_deep(body):
        return f"its body is nested more than {DEEPEST} levels deep"
    for name in LISTS_OF_SIGNATURES:
        value = rest.get(name) or []
        if not isinstance(value, list) or not all(map(is_signature, value)):
            return f"its {name} is no list of signatures"
    if rest.get("chord") and not is_signature(rest["chord"]):
        return "its chord is no signature"
    return None


def bad_names(names: dict[str, Any]) -> str | None:
    """What is wrong with what a message is called by."""
    if not is_text(names.get("id")) or not names["id"]:
        return "it has no id that is a text, under which its result would be"
    for name in NAMES:
        if not is_text(names.get(name) or ""):
            return f"its {name} is no text"
    stamps = names.get("stamped_headers") or []
    if not isinstance(stamps, list) or not all(map(is_text, stamps)) or not isinstance(names.get("stamps") or {}, dict):
        return "its stamped_headers are no list of texts, or its stamps no object"
    return None


def bad_times(names: dict[str, Any]) -> str | None:
    """What is wrong with when a message is to be run, and for how long."""
    for name in TIMES:
        value = names.get(name)
        if value and isinstance(value, str):
            try:
                exists = maybe_iso8601(value).year in YEARS
            except ValueError:
                exists = False
            if not exists:
                return f"its {name} is no time"
    limits = names.get("timelimit") or [None, None]
    if not isinstance(limits, list) or len(limits) != 2 or not all(map(is_limit, limits)):
        return "its timelimit is no pair of seconds, or of nothing"
    return None


def is_signature(value: Any) -> bool:
    """Whether a value can be a task to be sent, with all that Celery asks of one."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("task"), str)
        and isinstance(value.get("args"), list)
        and isinstance(value.get("kwargs"), dict)
        and isinstance(value.get("options"), dict)
    )


def is_limit(value: Any) -> bool:
    """Whether a pool can take this for a time limit; one that could not would lose a place for a task."""
    return value is None or (isinstance(value, int | float) and 0 <= value <= LONGEST_LIMIT)


def is_text(value: Any) -> bool:
    """Whether a value is a text that can be sent anywhere; JSON may spell half of a character."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
