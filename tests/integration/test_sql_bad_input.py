"""Bad input through the SQL door: a code, a field and a sentence for each, and the others in the batch are placed."""

import json
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from tests.shop import Outcome, Shop, fingerprint, order

GOOD = {"version": 1, "key": "bad", "customer": "C-1", "pool": "EAST", "lines": [{"sku": "A", "quantity": 1}]}


def changed(**fields: Any) -> str:
    return json.dumps(GOOD | fields)


def quantity(value: str) -> str:
    return changed(lines=[{"sku": "A", "quantity": "?"}]).replace('"?"', value)


def without(name: str) -> str:
    return json.dumps({key: value for key, value in GOOD.items() if key != name})


# What is sent, the code, the field. Those in NAMES have the form of an order, so they are decided when drained.
NAMES = {
    "unknown sku": (changed(lines=[{"sku": "A", "quantity": 1}, {"sku": "X", "quantity": 1}]), "OM002", "lines[1].sku"),
    "unknown customer": (changed(customer="C-0"), "OM003", "customer"),
    "unknown currency": (changed(currency="XXX"), "OM005", "currency"),
    "another currency": (changed(currency="EUR"), "OM006", "currency"),
    "unknown ship_to": (changed(ship_to="moon"), "OM018", "ship_to"),
    "far future": (changed(ordered_at="2999-01-01T00:00:00Z"), "OM019", "ordered_at"),
}
FORM = {
    "unknown pool": (changed(pool="NORTH"), "OM004", "pool"),
    "quantity 0": (quantity("0"), "OM007", "lines[0].quantity"),
    "quantity -1": (quantity("-1"), "OM007", "lines[0].quantity"),
    "quantity 2^31": (quantity(str(2**31)), "OM007", "lines[0].quantity"),
    "quantity two": (quantity('"two"'), "OM007", "lines[0].quantity"),
    "quantity as text": (quantity('"2"'), "OM007", "lines[0].quantity"),
    "quantity NaN": (quantity("NaN"), "OM007", "lines[0].quantity"),
    "quantity -Infinity": (quantity("-Infinity"), "OM007", "lines[0].quantity"),
    "quantity 1.5": (quantity("1.5"), "OM007", "lines[0].quantity"),
    "quantity 1e30": (quantity("1e30"), "OM007", "lines[0].quantity"),
    "quantity null": (quantity("null"), "OM007", "lines[0].quantity"),
    "quantity true": (quantity("true"), "OM007", "lines[0].quantity"),
    "duplicates beyond a million": (
        changed(lines=[{"sku": "A", "quantity": 600_000}] * 2), "OM007", "lines"),
    "no lines": (changed(lines=[]), "OM008", "lines"),
    "lines missing": (without("lines"), "OM008", "lines"),
    "lines null": (changed(lines=None), "OM008", "lines"),
    "10,000 lines": (changed(lines=[{"sku": "A", "quantity": 1}] * 10_000), "OM009", "lines"),
    "lines an object": (changed(lines={"sku": "A", "quantity": 1}), "OM011", "lines"),
    "a line a text": (changed(lines=["A"]), "OM011", "lines[0]"),
    "unknown field": (changed(coupon="X"), "OM012", "coupon"),
    "unknown field of a line": (changed(lines=[{"sku": "A", "quantity": 1, "gift": True}]), "OM012", "lines[0].gift"),
    "NUL in the sku": (changed(lines=[{"sku": "A\0", "quantity": 1}]), "OM013", "lines[0].sku"),
    "NUL in the customer": (changed(customer="C\0"), "OM013", "customer"),
    "lone surrogate": (changed(customer="C\ud800"), "OM013", "customer"),
    "control character": (changed(customer="C\x07"), "OM013", "customer"),
    "customer a number": (changed(customer=7), "OM013", "customer"),
    "customer missing": (without("customer"), "OM013", "customer"),
    "sku missing": (changed(lines=[{"quantity": 1}]), "OM013", "lines[0].sku"),
    "ship_to empty": (changed(ship_to=""), "OM013", "ship_to"),
    "currency a list": (changed(currency=[]), "OM013", "currency"),
    "no such day": (changed(ordered_at="2026-02-30T00:00:00Z"), "OM019", "ordered_at"),
    "no offset": (changed(ordered_at="2026-02-03T00:00:00"), "OM019", "ordered_at"),
    "a leap day that is none": (changed(ordered_at="2100-02-29T00:00:00Z"), "OM019", "ordered_at"),
    "year 0": (changed(ordered_at="0000-01-01T00:00:00Z"), "OM019", "ordered_at"),
    "ordered_at a number": (changed(ordered_at=1_700_000_000), "OM019", "ordered_at"),
    "version 2": (changed(version=2), "OM020", "version"),
}  # fmt: skip
# Nothing to store the rejection under: the caller gets it, and that is all.
KEYLESS = {
    "key missing": (without("key"), "OM013", "key"),
    "key empty": (changed(key=""), "OM013", "key"),
    "key null": (changed(key=None), "OM013", "key"),
    "key too long": (changed(key="k" * 201), "OM013", "key"),
    "key a number": (changed(key=12), "OM013", "key"),
    "NUL in the key": (changed(key="k\0"), "OM013", "key"),
    "not an object": ("[1]", "OM011", "request"),
    "a text": ('"order"', "OM011", "request"),
    "null": ("null", "OM011", "request"),
    "empty": ("", "OM011", "request"),
    "not JSON": ("{key: 1}", "OM011", "request"),
    "half of it": (changed()[:-2], "OM011", "request"),
    "nested 100,000 deep": ('{"a":' * 100_000 + "1" + "}" * 100_000, "OM011", "request"),
    "brackets 100,000 deep": ("[" * 100_000, "OM011", "request"),
    "1e999999": (quantity("1e999999"), "OM011", "request"),
}


def submit(shop: Shop, *texts: str) -> list[Outcome]:
    return shop.rows("SELECT api.submit_orders(%s::text[])", list(texts))


def good(key: str) -> str:
    return changed(key=key)


@pytest.fixture
def stocked(scratch: Shop) -> Shop:
    scratch.stock("A", "E1", 1_000)
    return scratch


@pytest.mark.parametrize("name", FORM)
def test_a_bad_form_is_rejected_with_code_field_and_sentence(stocked: Shop, name: str) -> None:
    text, code, field = FORM[name]

    outcomes = submit(stocked, good("before"), text, good("after"))

    assert [each["status"] for each in outcomes] == ["accepted", "rejected", "accepted"]
    refused = outcomes[1]
    assert (refused["key"], refused["code"], refused["field"], refused["order_id"]) == ("bad", code, field, None)
    assert refused["message"].endswith(".")
    assert stocked.outcome("bad") == refused
    assert submit(stocked, text) == [refused]
    assert [each["status"] for each in stocked.drain()] == ["placed", "placed"]


@pytest.mark.parametrize("name", KEYLESS)
def test_a_request_without_a_usable_key_is_rejected_and_stores_nothing(stocked: Shop, name: str) -> None:
    text, code, field = KEYLESS[name]
    before = fingerprint(stocked.db)

    [refused] = submit(stocked, text)

    assert (refused["key"], refused["status"], refused["code"], refused["field"]) == (None, "rejected", code, field)
    assert refused["message"].endswith(".") or refused["message"].endswith("}.")
    assert fingerprint(stocked.db) == before
    assert [each["status"] for each in submit(stocked, good("before"), text, good("after"))] == [
        "accepted",
        "rejected",
        "accepted",
    ]
    assert [each["status"] for each in stocked.drain()] == ["placed", "placed"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_does_not_exist_is_rejected_when_the_queue_is_drained(stocked: Shop, name: str) -> None:
    text, code, field = NAMES[name]

    taken = submit(stocked, good("before"), text, good("after"))
    drained = stocked.drain()

    assert [each["status"] for each in taken] == ["accepted"] * 3
    assert [each["status"] for each in drained] == ["placed", "rejected", "placed"]
    assert (drained[1]["key"], drained[1]["code"], drained[1]["field"]) == ("bad", code, field)
    assert drained[1]["message"].endswith(".")
    assert stocked.outcome("bad") == drained[1]


@pytest.mark.parametrize("name", [*FORM, *NAMES])
def test_hold_orders_rejects_the_same_and_holds_the_others(stocked: Shop, name: str) -> None:
    text, code, field = {**FORM, **NAMES}[name]
    try:
        requests = json.loads(text.replace("NaN", '"NaN"').replace("-Infinity", '"-Infinity"'))
        with stocked.db.transaction():
            outcomes = stocked.hold(json.loads(good("before")), requests, json.loads(good("after")))
    except psycopg.DataError:
        # jsonb itself refuses a NUL or a lone surrogate before any routine is called.
        assert name in {"NUL in the sku", "NUL in the customer", "lone surrogate"}
        return

    assert [each["status"] for each in outcomes] == ["held", "rejected", "held"]
    assert (outcomes[1]["code"], outcomes[1]["field"]) == (code, field)
    # The caller has the answer: a request without its form leaves its key free to come back corrected under.
    assert stocked.outcome("bad") == (outcomes[1] if name in {*NAMES, "unknown pool"} else None)
    assert stocked.level("A", "E1") == {"available": 998, "held": 2}


@pytest.mark.parametrize("text", ["submit_order(%s::text)", "submit_order(%s::jsonb)", "submit_orders(%s::jsonb)"])
def test_each_spelling_of_the_door_takes_the_same_order(stocked: Shop, text: str) -> None:
    accepted = stocked.value(f"SELECT api.{text}", good("k"))

    assert (accepted["key"], accepted["status"]) == ("k", "accepted")
    assert submit(stocked, good("k")) == [accepted]
    assert stocked.count("order_queue") == 1


def test_a_hold_for_no_time_is_om011_and_changes_nothing(stocked: Shop) -> None:
    before = fingerprint(stocked.db)

    with pytest.raises(psycopg.Error) as caught, stocked.db.transaction():
        stocked.hold(GOOD, seconds=0)

    assert caught.value.sqlstate == "OM011"
    assert fingerprint(stocked.db) == before


def test_a_body_that_says_the_same_in_other_words_is_the_same_request(stocked: Shop) -> None:
    first = submit(stocked, changed(ordered_at="2026-01-01T12:00:00+02:00"))
    again = submit(
        stocked, json.dumps(dict(reversed(GOOD.items())) | {"ordered_at": "2026-01-01T10:00:00.0Z"}, indent=2)
    )

    assert again == first
    assert stocked.count("order_queue") == 1


def test_a_rejected_key_with_a_mended_body_is_om010(stocked: Shop) -> None:
    submit(stocked, quantity("0"))

    [again] = submit(stocked, changed())

    assert again["code"] == "OM010"
    assert (stocked.outcome("bad") or {})["code"] == "OM007"


def test_an_order_submitted_in_a_transaction_that_rolls_back_was_never_there(stocked: Shop) -> None:
    before = fingerprint(stocked.db)

    with stocked.db.transaction(force_rollback=True):
        assert submit(stocked, changed())[0]["status"] == "accepted"
        assert stocked.outcome("bad") is not None

    assert fingerprint(stocked.db) == before
    assert stocked.outcome("bad") is None
    assert stocked.claim() is None


def test_a_key_that_is_nan_is_no_key(stocked: Shop) -> None:
    """Rows without a key, as pandas writes them, must not share one."""
    [refused] = submit(stocked, changed(key="?").replace('"?"', "NaN"))

    assert (refused["status"], refused["key"], refused["field"]) == ("rejected", None, "key")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
line = json_values | st.fixed_dictionaries(
    {}, optional={"sku": json_values | st.just("A"), "quantity": json_values | st.just(1), "more": json_values}
)
almost = st.fixed_dictionaries(
    {"key": st.just("bad") | json_values},
    optional={
        "version": st.just(1) | json_values,
        "customer": st.just("C-1") | json_values,
        "pool": st.just("EAST") | json_values,
        "currency": st.just("USD") | json_values,
        "ordered_at": st.datetimes().map(lambda when: f"{when.isoformat()}Z") | json_values,
        "ship_to": json_values,
        "lines": st.lists(line, max_size=3) | json_values,
        "extra": json_values,
    },
)
texts = st.one_of(
    (almost | json_values).map(json.dumps),
    st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40),
    st.text(alphabet='{}[]",:\\u0dNa1eE-+. ', max_size=40),
)


def test_no_text_whatever_raises_out_of_submit_order(stocked: Shop) -> None:
    statuses = set()

    @settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(text=texts)
    def check(text: str) -> None:
        with stocked.db.transaction(force_rollback=True):
            outcome = stocked.value("SELECT api.submit_order(%s::text)", text)
            assert set(outcome) == {"key", "status", "order_id", "code", "field", "message"}
            assert (outcome["status"] == "accepted") == (outcome["code"] is None)
            assert outcome["status"] == "accepted" or outcome["code"].startswith("OM")
            stocked.drain()
            statuses.add(outcome["status"])

    check()
    assert "rejected" in statuses


def test_no_jsonb_whatever_raises_out_of_hold_orders(stocked: Shop) -> None:
    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(requests=st.lists(almost, max_size=3) | almost)
    def check(requests: Any) -> None:
        text = json.dumps(requests)
        with stocked.db.transaction(force_rollback=True):
            if not stocked.value("SELECT coalesce(shop.parse_request(%s)::text = %s::text, false)", text, text):
                return
            outcomes = stocked.rows("SELECT api.hold_orders(%s)", Jsonb(requests))
            assert {each["status"] for each in outcomes} <= {"held", "rejected"}

    check()


def test_an_order_helper_is_what_the_door_takes(stocked: Shop) -> None:
    [outcome] = stocked.submit(order("k", ("A", 1)))

    assert outcome["status"] == "accepted"
