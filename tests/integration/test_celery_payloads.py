"""What pydantic lets pass, the database lets pass; and whatever comes, reading it never raises."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.payloads import OrderRequest
from tests.shop import Shop
from workers.database import connect

NAMES = st.one_of(
    st.text(max_size=5),
    st.sampled_from(
        ["", "x" * 200, "x" * 201, "\0", "\x7f", "\x85", "\ufdd0", "\ud800", "é" * 200, "\U0001f600" * 200]
    ),
)
TIMES = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.from_regex(r"^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)$"),
    st.sampled_from(["2024-02-29T00:00Z", "2023-02-29T00:00Z", "0000-01-01T00:00Z", "0001-01-01T00:00:00+14:59"]),
    st.sampled_from(["9999-12-31T23:59:59.999999-14:59", "2026-01-01T24:00Z", "2026-01-01T23:59:60Z", "now"]),
)
NUMBERS = st.one_of(
    st.integers(), st.integers(0, 3), st.sampled_from([10**6, 10**6 + 1, 2**31, 2**63]), st.floats(), st.booleans()
)
ANYTHING = st.recursive(
    st.none() | NUMBERS | NAMES, lambda some: st.lists(some, max_size=3) | st.dictionaries(NAMES, some, max_size=3)
)
LINES = st.lists(
    st.fixed_dictionaries({"sku": NAMES | st.just("A"), "quantity": NUMBERS}, optional={"price": ANYTHING}), max_size=4
)
ORDERS = st.fixed_dictionaries(
    {"customer": NAMES | st.just("C-1"), "pool": NAMES | st.just("EAST"), "lines": LINES},
    optional={
        "version": st.just(1) | NUMBERS,
        "key": NAMES | st.none(),
        "currency": NAMES | st.none(),
        "ship_to": NAMES | st.none(),
        "ordered_at": TIMES | st.none(),
        "colour": ANYTHING,
    },
)


def accepted(payload: Any) -> OrderRequest | None:
    try:
        return OrderRequest.model_validate(payload)
    except ValidationError:
        return None


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(payload=ORDERS)
def test_what_pydantic_accepts_the_database_accepts_with_the_same_values(database_url: str, payload: Any) -> None:
    request = accepted(payload)
    if request is None:
        return
    session = _session(database_url)

    problem, typed = session.execute(
        "SELECT (shop.check_order(p)).code, to_jsonb(shop.as_request(p))"
        " FROM (SELECT %s::jsonb || %s::jsonb AS p) AS r",
        [json.dumps(payload), json.dumps({"key": "k"})],
    ).fetchone()

    assert problem is None
    [same] = session.execute(
        "SELECT to_jsonb(jsonb_populate_record(NULL::shop.order_request, %s::jsonb)) = %s::jsonb",
        [json.dumps(request.typed("k") | {"key": "k"}), json.dumps(typed)],
    ).fetchone()
    assert same


@pytest.mark.usefixtures("runtime")
def test_reading_an_order_never_raises_whatever_it_is(shop: Shop) -> None:
    from tasks.orders import read_order

    @settings(max_examples=400, deadline=None)
    @given(payload=ORDERS | ANYTHING, number=st.integers())
    def read(payload: Any, number: int) -> None:
        request = read_order(payload, f"task-{number}")
        if "status" in request:
            assert request["status"] == "rejected"
            assert request["code"].startswith("OM")
            assert isinstance(request["field"], str)  # empty for a field without a name
            assert request["message"]
        else:
            assert request["key"]
            assert len(request["skus"]) == len(request["quantities"]) > 0

    read()


@pytest.mark.usefixtures("runtime")
def test_what_pydantic_refuses_the_sql_door_refuses_alike(shop: Shop) -> None:
    from tasks.orders import read_order

    @settings(max_examples=300, deadline=None)
    @given(payload=ORDERS, number=st.integers())
    def agree(payload: Any, number: int) -> None:
        payload["key"] = f"key-{number}-{abs(hash(json.dumps(payload)))}"
        by_celery = read_order(payload, "task")
        by_sql = shop.value("SELECT api.submit_order(%s::text)", json.dumps(payload))
        if "status" in by_celery:
            assert by_sql == by_celery
        else:
            # The form is good at both; that the pool is not there is said at once, or that its customer is not.
            assert by_sql["status"] == "accepted" or payload["pool"] not in {"EAST", "WEST"}
            assert by_sql["code"] in {None, "OM003", "OM004"}

    agree()
    shop.drain()


_sessions: dict[str, Any] = {}


def _session(url: str) -> Any:
    if url not in _sessions:
        _sessions.clear()
        _sessions[url] = connect(url)
    return _sessions[url]
