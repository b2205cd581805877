"""Webhooks in PostgreSQL: who is told what, and who holds a stream."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.deliveries import be_due, claim, record, result
from tests.hooks import add, dispatch, waiting
from tests.noted import happen
from tests.shop import Shop, fingerprint
from tests.waiting import Step

Row = dict[str, Any]
Connect = Callable[[str], psycopg.Connection[Any]]
URL = "https://hooks.example/x"


# Who is told


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        (["*"], ["order.placed", "order.held", "orders.x", "stock.low"]),
        (["order.*"], ["order.placed", "order.held"]),
        (["order.held", "stock.low"], ["order.held", "stock.low"]),
        (["order"], []),
    ],
)
def test_an_endpoint_is_told_the_kinds_that_it_wants(scratch: Shop, kinds: list[str], told: list[str]) -> None:
    add(scratch, "a", URL, kinds)
    happen(scratch, "order.placed", "order.held", "orders.x", "stock.low")
    dispatch(scratch)

    assert [row["kind"] for row in claim(scratch)] == told


def test_an_endpoint_is_told_what_happens_after_it_was_added_and_once_though_the_consumer_is_rewound(
    scratch: Shop,
) -> None:
    happen(scratch, "test.before")
    dispatch(scratch)
    add(scratch, "a", URL)
    happen(scratch, "test.after")
    dispatch(scratch)
    record(scratch, result(claim(scratch)))

    scratch.db.execute("UPDATE shop.event_consumers SET position = 0 WHERE consumer = 'webhooks'")
    dispatch(scratch)

    assert scratch.rows("SELECT kind FROM api.webhook_deliveries") == ["test.after"]
    assert claim(scratch) == []


def test_the_consumer_is_not_rewound_which_would_send_again_what_was_pruned_but_may_skip(scratch: Shop) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a", "test.b")
    scratch.value("SELECT api.sequence_events()")
    assert scratch.value("SELECT api.rewind_consumer('webhooks', 2)") == 1
    for start in (1, 2):
        dispatch(scratch)
        with pytest.raises(psycopg.Error, match="ordermill webhooks replay") as caught, scratch.db.transaction():
            scratch.value("SELECT api.rewind_consumer('webhooks', %s)", start)
        assert caught.value.sqlstate == "OM011"
    assert scratch.rows("SELECT kind FROM api.webhook_deliveries") == ["test.b"]


@pytest.mark.parametrize(
    ("arguments", "state", "words"),
    [
        (("Bad name", URL, ["*"], 1000), "OM042", "name"),
        (("", URL, ["*"], 1000), "OM042", "name"),
        (("b", "ftp://x/", ["*"], 1000), "OM042", "url"),
        (("b", "https://user:word@x/", ["*"], 1000), "OM042", "url"),
        (("b", "https://x/\ny", ["*"], 1000), "OM042", "url"),
        (("b", "https://" + "x" * 2000, ["*"], 1000), "OM042", "url"),
        (("b", URL, [], 1000), "OM042", "kinds"),
        (("b", URL, ["Order; DROP"], 1000), "OM042", "kinds"),
        (("b", URL, ["*.placed"], 1000), "OM042", "kinds"),
        (("b", URL, [None], 1000), "OM042", "kinds"),
        (("b", URL, ["*"], 0), "OM042", "timeout"),
        (("b", None, None, None), "OM042", "url"),
        (("a", URL, ["*"], 1000), "OM041", "already"),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused(
    scratch: Shop, arguments: tuple[Any, ...], state: str, words: str
) -> None:
    add(scratch, "a", URL)
    before = fingerprint(scratch.db)

    with pytest.raises(psycopg.Error, match=words) as caught, scratch.db.transaction():
        scratch.value("SELECT api.add_webhook(%s, %s, %s, %s)", *arguments)

    assert caught.value.sqlstate == state
    assert fingerprint(scratch.db) == before


@pytest.mark.parametrize(
    "call", ["pause_webhook('x')", "resume_webhook('x')", "rotate_webhook_secret('x')", "remove_webhook('x')",
             "replay_webhook('x', 1)", "pause_webhook(NULL)"]
)  # fmt: skip
def test_an_endpoint_that_nobody_knows_is_an_error_of_its_own(scratch: Shop, call: str) -> None:
    with pytest.raises(psycopg.Error) as caught, scratch.db.transaction():
        scratch.value(f"SELECT api.{call}")
    assert caught.value.sqlstate == "OM040"


def test_secrets_are_in_no_view_and_none_is_like_another(scratch: Shop) -> None:
    secrets = {add(scratch, f"e{number}", URL) for number in range(20)}
    rotated = scratch.value("SELECT api.rotate_webhook_secret('e1', '1 hour')")

    assert len(secrets | {rotated}) == 21
    shown = scratch.rows("SELECT to_jsonb(e)::text FROM api.webhook_endpoints AS e")
    assert not [text for text in shown if "whsec" in text]


def test_a_rotated_secret_signs_beside_the_new_one_until_its_time_is_over(scratch: Shop) -> None:
    first = add(scratch, "a", URL)
    second = scratch.value("SELECT api.rotate_webhook_secret('a', '1 hour')")
    assert scratch.value("SELECT secrets FROM api.webhook_targets()") == [second, first]

    scratch.db.execute("UPDATE shop.webhook_endpoints SET previous_until = now() - interval '1 s'")
    assert scratch.value("SELECT secrets FROM api.webhook_targets()") == [second]
    scratch.value("SELECT api.prune_deliveries()")
    assert scratch.value("SELECT previous_secret FROM shop.webhook_endpoints") is None
    with pytest.raises(psycopg.Error) as caught, scratch.db.transaction():
        scratch.value("SELECT api.rotate_webhook_secret('a', '31 days')")
    assert caught.value.sqlstate == "OM042"


# Streams


def test_a_stream_has_one_holder_and_its_events_come_in_order(scratch: Shop) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a", "test.b", "test.c", stream="test:1")
    happen(scratch, "test.a", stream="test:2")
    dispatch(scratch)

    rows = claim(scratch, events=2)

    assert [(row["stream"], row["position"]) for row in rows] == [("test:1", 1), ("test:1", 2), ("test:2", 4)]
    assert claim(scratch) == []
    record(scratch, result(rows))
    assert [row["position"] for row in claim(scratch)] == [3]


def test_what_comes_while_a_stream_is_sent_waits_for_its_holder(scratch: Shop) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a")
    dispatch(scratch)
    rows = claim(scratch)
    happen(scratch, "test.b")
    dispatch(scratch)
    assert claim(scratch) == []

    record(scratch, result(rows))

    assert [row["kind"] for row in claim(scratch)] == ["test.b"]


def test_who_lost_its_lease_can_write_nothing_down(scratch: Shop) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a")
    dispatch(scratch)
    old = claim(scratch)
    be_due(scratch)
    new = claim(scratch)
    assert old[0]["lease"] != new[0]["lease"]

    assert record(scratch, result(old)) == 0
    assert waiting(scratch) == 1
    assert record(scratch, result(new)) == 1
    assert (waiting(scratch), scratch.count("delivery_streams")) == (0, 0)
    assert record(scratch, result(new)) == 0


def test_a_stream_is_not_lost_to_one_who_has_just_sent_its_last(shop: Shop, connect_as: Connect) -> None:
    """The holder gives the stream back while the consumer, not yet committed, adds to it; and the other way round."""
    add(shop, "a", URL)
    happen(shop, "test.a")
    dispatch(shop)
    rows = claim(shop)
    happen(shop, "test.b")
    shop.value("SELECT api.sequence_events()")
    consumer = connect_as("owner")
    with consumer.transaction():
        consumer.execute("SELECT api.dispatch_events('webhooks')")
        recording = Step(shop.db, "SELECT api.record_deliveries(%s, 3, 1, 1, 120)", [Jsonb(result(rows))]).waits(
            connect_as("owner")
        )
    assert recording.result() == [(1,)]
    rows = claim(shop)
    assert [row["kind"] for row in rows] == ["test.b"]

    happen(shop, "test.c")
    shop.value("SELECT api.sequence_events()")
    holder = connect_as("owner")
    with holder.transaction():
        holder.execute("SELECT api.record_deliveries(%s, 3, 1, 1, 120)", [Jsonb(result(rows))])
        consuming = Step(shop.db, "SELECT api.dispatch_events('webhooks')").waits(connect_as("owner"))
    assert consuming.result() == [(1,)]
    assert [row["kind"] for row in claim(shop)] == ["test.c"]


def test_an_endpoint_removed_while_events_are_given_out_fails_nothing(shop: Shop, connect_as: Connect) -> None:
    add(shop, "a", URL)
    add(shop, "b", URL)
    happen(shop, "test.a")
    shop.value("SELECT api.sequence_events()")
    remover = connect_as("owner")
    with remover.transaction():
        remover.execute("SELECT api.remove_webhook('a')")
        consuming = Step(shop.db, "SELECT api.dispatch_events('webhooks')").waits(connect_as("owner"))
    assert consuming.result() == [(1,)]

    assert shop.rows("SELECT endpoint FROM api.webhook_deliveries") == ["b"]
