"""The JSON that tasks take, as pydantic models: a first check at the Celery door, and the source of docs/tasks.md.

The database has the last word. What does not fit here is shown to its own check, which names the field in one way for
both doors.
"""

from collections import Counter
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

Name = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=200, pattern="^[^\\x00-\\x1f\\x7f\ufdd0]*$")
]
Quantity = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
NAME = TypeAdapter[str](Name)


def _exists(value: str) -> str:
    datetime.fromisoformat(value)
    return value


Time = Annotated[
    str,
    StringConstraints(
        strict=True,
        pattern=r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?"
        r"(Z|[+-](0\d|1[0-4]):[0-5]\d)$",
    ),
    AfterValidator(_exists),
    Field(description="RFC 3339, with its offset"),
]


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("true is not 1")  # Python thinks that it is
    return value


class Payload(BaseModel):
    """What all payloads have: no unknown field, and the version of their form."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[Literal[1], BeforeValidator(_number)] = 1


class OrderLine(BaseModel):
    """So many units of a sku."""

    model_config = ConfigDict(extra="forbid")

    sku: Name
    quantity: Quantity


def _adds_up(lines: list[OrderLine]) -> list[OrderLine]:
    sums: Counter[str] = Counter()
    for line in lines:
        sums[line.sku] += line.quantity
    if max(sums.values()) > 1_000_000:
        raise ValueError("the lines of one sku add up to more than 1000000")
    return lines


class OrderRequest(Payload):
    """An order. Lines of one sku are added up; prices come from the catalog."""

    key: Annotated[
        Name | None, Field(description="One order a key, for as long as keys are kept; default: the task's id")
    ] = None
    customer: Annotated[Name, Field(description="The customer's number")]
    pool: Annotated[Name, Field(description="The pool whose stock serves it")]
    currency: Annotated[Name | None, Field(description="ISO 4217; default: the pool's")] = None
    ordered_at: Annotated[Time | None, Field(description="Business time; default: now")] = None
    ship_to: Annotated[Name | None, Field(description="The code of one of the customer's addresses")] = None
    lines: Annotated[list[OrderLine], Field(min_length=1, max_length=500), AfterValidator(_adds_up)]

    def typed(self, default_key: str) -> dict[str, Any]:
        """The values that the placing routines take; raises `ValidationError` when the default cannot be a key."""
        return {
            "key": self.key or NAME.validate_python(default_key),
            "customer": self.customer,
            "pool": self.pool,
            "currency": self.currency,
            "ordered_at": self.ordered_at,
            "ship_to": self.ship_to,
            "skus": [line.sku for line in self.lines],
            "quantities": [line.quantity for line in self.lines],
        }


Whole = Annotated[int, Field(strict=True, ge=-1_000_000_000, le=1_000_000_000)]


class CompleteRequest(Payload):
    """Says that a placed order has left: its stock goes to the customer."""

    key: Name | None = None
    order_id: Annotated[
        str, StringConstraints(strict=True, pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
    ]


class CancelRequest(CompleteRequest):
    """Cancels a held or placed order and gives its stock back."""

    reason: Name


class AdjustRequest(Payload):
    """Corrects a count by a difference, up or down."""

    key: Name | None = None
    sku: Name
    location: Name
    quantity: Whole
    reason: Name
    account: Literal["available", "unavailable"] = "available"


class ReceiveRequest(Payload):
    """Books goods in at a location."""

    key: Name | None = None
    location: Name
    lines: Annotated[list[OrderLine], Field(min_length=1, max_length=500)]
    origin: Annotated[Literal["supplier", "incoming", "in_transit"], Field(alias="from")] = "supplier"
    target: Annotated[Literal["available", "unavailable", "incoming"], Field(alias="to")] = "available"


class TransferRequest(Payload):
    """Moves available stock to another location, at once or by way of in_transit."""

    key: Name | None = None
    sku: Name
    origin: Annotated[Name, Field(alias="from")]
    target: Annotated[Name, Field(alias="to")]
    quantity: Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
    in_transit: Annotated[bool, Field(strict=True)] = False


Names = Annotated[list[Name], Field(min_length=1, max_length=100)]


class ProductsRequest(Payload):
    """Reads products by their codes, 1 to 100 of them."""

    codes: Names


class AvailabilityRequest(Payload):
    """Reads what can be ordered of skus, 1 to 100 of them: in all pools, or in one."""

    skus: Names
    pool: Name | None = None


class CategoriesRequest(Payload):
    """Reads categories by their codes, 1 to 100 of them."""

    codes: Names


def fits_as_key(value: object) -> bool:
    """Whether a value can be a request's key; a task id, which the client chooses, need not."""
    try:
        NAME.validate_python(value)
    except ValidationError:
        return False
    return True


def refused_key() -> dict[str, Any]:
    """The outcome of a message that has no key, and whose task id cannot be one."""
    return {
        "key": None,
        "status": "rejected",
        "order_id": None,
        "code": "OM013",
        "field": "key",
        "message": "Give a key, or a task id, of 1 to 200 printable characters.",
    }


# What to do about the kinds of problems that pydantic finds, by how their names begin.
ADVICE = {
    "missing": "Give this field.",
    "extra_forbidden": "There is no such field; leave it out.",
    "too_short": "Give at least one line with a sku and a quantity.",
    "too_long": "Give at most {max_length} lines; split the request.",
    "int": "Give a whole number.",
    "greater_than_equal": "Give a whole number of at least {ge}.",
    "less_than_equal": "Give a whole number of at most {le}.",
    "literal_error": "Give one of {expected}.",
    "list_type": "Give a list.",
    "model_type": "Give an object, of the form that docs/tasks.md shows for this task.",
    "bool": "Give true or false.",
}


def refusal(key: str, error: ValidationError) -> dict[str, Any]:
    """The outcome of a command that does not have its form: the first thing wrong, by field."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    kind, message = first["type"], f"{first['msg']}."
    for name, advice in ADVICE.items():
        if kind.startswith(name):
            message = advice.format(**first.get("ctx", {}))
    code = "OM011"
    if kind == "extra_forbidden":
        code = "OM012"
    elif path == "version":
        code, message = "OM020", "Give version 1."
    elif path == "lines":
        code = {"missing": "OM008", "too_short": "OM008", "too_long": "OM009"}.get(kind, "OM011")
    elif path in {"codes", "skus"} and kind in {"missing", "too_short", "too_long"}:
        code, message = "OM035", f"Give a list of 1 to 100 {path}."
    elif path.endswith("quantity"):
        code = "OM007"
    elif kind.startswith("string"):
        code = "OM013"
        message = "Give the id of an order." if path == "order_id" else "Give a text of 1 to 200 printable characters."
    return {
        "key": key,
        "status": "rejected",
        "order_id": None,
        "code": code,
        "field": path or "request",
        "message": message,
    }
