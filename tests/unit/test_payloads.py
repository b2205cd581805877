"""The payload models: what they take, and the words of a refusal."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from tasks.payloads import AdjustRequest, CancelRequest, OrderRequest, ReceiveRequest, TransferRequest, refusal

ORDER = {"customer": "C-1", "pool": "EAST", "lines": [{"sku": "A", "quantity": 1}]}
ADJUST = {"sku": "A", "location": "E1", "quantity": -1, "reason": "broken"}
CANCEL = {"order_id": "00000000-0000-7000-8000-000000000000", "reason": "changed their mind"}
RECEIVE = {"location": "E1", "lines": [{"sku": "A", "quantity": 1}]}
TRANSFER = {"sku": "A", "from": "E1", "to": "E2", "quantity": 1}
WHOLE = [
    (OrderRequest, ORDER),
    (AdjustRequest, ADJUST),
    (CancelRequest, CANCEL),
    (ReceiveRequest, RECEIVE),
    (TransferRequest, TRANSFER),
]
MODELS = pytest.mark.parametrize(("model", "whole"), WHOLE, ids=lambda value: getattr(value, "__name__", ""))


@MODELS
def test_the_least_payload_is_taken(model: type[BaseModel], whole: dict[str, Any]) -> None:
    assert model.model_validate(whole | {"version": 1, "key": None}).model_dump()["version"] == 1


@MODELS
@pytest.mark.parametrize(
    "change", [{"colour": 1}, {"version": 2}, {"version": True}, {"key": 1}, {"key": "\0"}], ids=repr
)
def test_what_it_does_not_know_is_refused(
    model: type[BaseModel], whole: dict[str, Any], change: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(whole | change)


@MODELS
def test_each_field_without_a_default_is_needed(model: type[BaseModel], whole: dict[str, Any]) -> None:
    for field in whole:
        with pytest.raises(ValidationError, match=field):
            model.model_validate({name: value for name, value in whole.items() if name != field})


@pytest.mark.parametrize("quantity", [0, -1, 1_000_001, 2**31, "1", 1.0, True, None, float("nan")])
def test_an_order_takes_whole_numbers_only(quantity: object) -> None:
    with pytest.raises(ValidationError):
        OrderRequest.model_validate(ORDER | {"lines": [{"sku": "A", "quantity": quantity}]})


def test_the_lines_of_one_sku_may_not_add_up_to_more_than_a_line_may_have() -> None:
    most = [{"sku": "A", "quantity": 600_000}, {"sku": "A", "quantity": 400_000}, {"sku": "B", "quantity": 1}]
    assert OrderRequest.model_validate(ORDER | {"lines": most})

    with pytest.raises(ValidationError):
        OrderRequest.model_validate(ORDER | {"lines": [*most, {"sku": "A", "quantity": 1}]})


@pytest.mark.parametrize(
    "time",
    ["2026-01-31T10:00:00Z", "2026-01-31T10:00Z", "2026-01-31T10:00:00.123456+05:30", "2024-02-29T23:59:59-14:00"],
)
def test_a_time_with_its_offset_is_taken(time: str) -> None:
    assert OrderRequest.model_validate(ORDER | {"ordered_at": time}).ordered_at == time


@pytest.mark.parametrize(
    "time",
    [
        "2026-01-31",
        "2026-01-31T10:00:00",
        "2023-02-29T10:00Z",
        "2026-01-31 10:00:00Z",
        "2026-01-31T24:00:00Z",
        1767225600,
    ],
)
def test_another_time_is_refused(time: object) -> None:
    with pytest.raises(ValidationError):
        OrderRequest.model_validate(ORDER | {"ordered_at": time})


def test_typed_values_are_what_the_placing_routines_take() -> None:
    request = OrderRequest.model_validate(ORDER | {"lines": [{"sku": "B", "quantity": 2}, {"sku": "A", "quantity": 1}]})

    assert request.typed("the task") == {
        "key": "the task",
        "customer": "C-1",
        "pool": "EAST",
        "currency": None,
        "ordered_at": None,
        "ship_to": None,
        "skus": ["B", "A"],
        "quantities": [2, 1],
    }


@pytest.mark.parametrize(
    ("model", "payload", "code", "field"),
    [
        (AdjustRequest, ADJUST | {"colour": 1}, "OM012", "colour"),
        (AdjustRequest, ADJUST | {"version": 2}, "OM020", "version"),
        (AdjustRequest, ADJUST | {"quantity": "one"}, "OM007", "quantity"),
        (AdjustRequest, ADJUST | {"reason": "\0"}, "OM013", "reason"),
        (AdjustRequest, ADJUST | {"account": "held"}, "OM011", "account"),
        (AdjustRequest, "text", "OM011", "request"),
        (ReceiveRequest, RECEIVE | {"lines": []}, "OM008", "lines"),
        (ReceiveRequest, {"location": "E1"}, "OM008", "lines"),
        (ReceiveRequest, RECEIVE | {"lines": [{"sku": "A", "quantity": 1}] * 501}, "OM009", "lines"),
        (ReceiveRequest, RECEIVE | {"lines": [{"sku": "A", "quantity": 0}]}, "OM007", "lines[0].quantity"),
        (CancelRequest, CANCEL | {"order_id": "7"}, "OM013", "order_id"),
    ],
)
def test_a_refusal_names_the_first_thing_wrong(model: type[BaseModel], payload: object, code: str, field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(payload)

    outcome = refusal("k", caught.value)

    assert (outcome["key"], outcome["status"], outcome["code"], outcome["field"]) == ("k", "rejected", code, field)
    assert outcome["message"].endswith(".")
    assert "\ufdd0" not in outcome["message"]


@pytest.mark.parametrize(
    "payload",
    [
        {"sku": "A", "location": "E1", "quantity": 1},
        {"sku": "A", "location": "E1", "quantity": 1, "reason": "x", "more": 1},
        {"sku": "A", "location": "E1", "quantity": "two", "reason": "x"},
        {"sku": "A", "location": "E1", "quantity": 10**10, "reason": "x"},
        {"sku": "A", "location": "E1", "quantity": 1, "reason": "x", "account": "held"},
        {"sku": "A", "location": "E1", "quantity": 1, "reason": "x", "version": 2},
        {"sku": 1, "location": "E1", "quantity": 1, "reason": "x"},
    ],
)
def test_a_refused_command_is_told_what_to_give(payload: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as wrong:
        AdjustRequest.model_validate(payload)

    message = refusal("k", wrong.value)["message"]

    assert message.startswith(("Give ", "There is no such field"))
    assert "Input" not in message
