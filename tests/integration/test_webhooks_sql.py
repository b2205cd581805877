"""Webhooks in SQL: who is told what, streams that are leased and fenced, attempts, budgets, replays. No HTTP here."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.hooks import add, dispatch, waiting
from tests.integration.test_sql_plans import scans
from tests.noted import happen
from tests.shop import Shop, fingerprint
from tests.waiting import Step

Row = dict[str, Any]
Connect = Callable[[str], psycopg.Connection[Any]]
URL = "https://hooks.example/x"


def claim(shop: Shop, name: str = "a", streams: int = 100, events: int = 10, lease: float = 60.0) -> list[Row]:
    return shop.maps(
        "SELECT c.* FROM shop.webhook_endpoints AS w, api.claim_deliveries(ARRAY[w.id], ARRAY[%s], %s, %s) AS c"
        " WHERE w.name = %s",
        streams, events, lease, name,
    )  # fmt: skip


def result(rows: list[Row], status: int | None = 200, **more: Any) -> list[Row]:
    """What a deliverer would say of these: each was answered with this status; where it failed, only the first."""
    found: dict[str, Row] = {}
    for row in rows:
        each = found.setdefault(
            row["stream"],
            {"lease": str(row["lease"]), "endpoint_id": row["endpoint_id"], "stream": row["stream"], "sent": []},
        )
        ok = status is not None and 200 <= status < 300
        if ok or not each["sent"]:
            error = None if ok else f"it answered {status}"
            each["sent"].append(
                {"position": row["position"], "ok": ok, "status": status, "error": error, "ms": 5} | more
            )
    return list(found.values())


def record(shop: Shop, results: list[Row], attempts: int = 3, first: float = 60.0, most: float = 3600.0) -> int:
    return int(
        shop.value(
            "SELECT api.record_deliveries(%s, %s, %s, %s, 120)", Jsonb(results), attempts, float(first), float(most)
        )
    )


def due_in(shop: Shop, stream: str = "test:1") -> float:
    wait = "SELECT extract(epoch FROM due_at - clock_timestamp()) FROM shop.delivery_streams WHERE stream = %s"
    return float(shop.value(wait, stream))


def be_due(shop: Shop) -> None:
    """As if all waits and leases had ended."""
    shop.db.execute("UPDATE shop.delivery_streams SET due_at = now() - interval '1 s'")
    shop.db.execute("UPDATE shop.webhook_endpoints SET rests_until = NULL")


def health(shop: Shop) -> Row:
    return shop.maps("SELECT * FROM api.webhook_endpoints WHERE name = 'a'")[0]


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


# Attempts


def test_each_attempt_waits_four_times_as_long_and_no_longer_than_the_most(scratch: Shop) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a", "test.b")
    dispatch(scratch)
    for least, most in ((48, 72), (192, 288), (768, 1000), (800, 1000)):
        record(scratch, result(claim(scratch), 500), attempts=9, most=1000)
        assert least - 1 <= due_in(scratch) <= most
        assert waiting(scratch) == 2
        be_due(scratch)
    seen = scratch.maps("SELECT state, attempts, status, error FROM api.webhook_deliveries WHERE position = 1")
    assert seen == [{"state": "waiting", "attempts": 4, "status": 500, "error": "it answered 500"}]


@pytest.mark.parametrize(("asked", "least", "most"), [(500.0, 499, 500), (10**9, 3599, 3600), (0.0, 48, 72)])
def test_retry_after_is_honoured_up_to_the_most(scratch: Shop, asked: float, least: int, most: int) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a")
    dispatch(scratch)
    record(scratch, result(claim(scratch), 429, retry_after=asked))

    assert least - 1 <= due_in(scratch) <= most
    assert health(scratch)["rests_until"] is not None  # it asked all to wait, not one order
    scratch.db.execute("UPDATE shop.delivery_streams SET due_at = now()")
    assert (claim(scratch) == []) == (asked > 0)


def test_after_its_last_attempt_a_delivery_is_a_dead_letter_and_its_stream_goes_on(scratch: Shop) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a", "test.b")
    dispatch(scratch)
    for _ in range(3):
        record(scratch, result(claim(scratch), 500))
        be_due(scratch)

    assert [row["kind"] for row in claim(scratch)] == ["test.b"]
    [letter] = scratch.maps("SELECT * FROM api.dead_letters")
    assert (letter["kind"], letter["source"], letter["code"], letter["attempts"]) == (
        "delivery",
        "webhooks",
        "OM043",
        3,
    )
    assert letter["reason"] == "a: it answered 500"
    assert (letter["payload"]["endpoint"], letter["payload"]["kind"], letter["payload"]["status"]) == (
        "a",
        "test.a",
        500,
    )
    assert scratch.rows("SELECT state FROM api.webhook_deliveries ORDER BY position") == ["dead", "waiting"]


def test_a_dead_delivery_is_replayed_once_and_not_when_its_endpoint_is_gone(scratch: Shop) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a", "test.b")
    dispatch(scratch)
    record(scratch, result(claim(scratch, events=1), 500), attempts=1)
    record(scratch, result(claim(scratch, events=1), 500), attempts=1)
    first, second = scratch.rows("SELECT id FROM api.dead_letters ORDER BY id")

    assert [scratch.value("SELECT api.replay_delivery(%s)", first) for _ in range(2)] == [True, False]
    be_due(scratch)
    [row] = claim(scratch)
    assert (row["kind"], row["position"]) == ("test.a", 1)
    record(scratch, result([row]))
    # Also one whose row was pruned.
    scratch.db.execute("DELETE FROM shop.webhook_deliveries")
    assert scratch.value("SELECT api.replay_delivery(%s)", second)
    assert [row["kind"] for row in claim(scratch)] == ["test.b"]
    assert scratch.value("SELECT api.remove_webhook('a')") == 1
    scratch.db.execute("UPDATE shop.dead_letters SET settled_at = NULL, settlement = NULL")
    assert not scratch.value("SELECT api.replay_delivery(%s)", first)


@pytest.mark.breaks_the_shop
def test_an_event_that_was_archived_is_a_dead_letter_at_once(scratch: Shop) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a", "test.b")
    dispatch(scratch)
    scratch.db.execute("DELETE FROM shop.events WHERE position = 1")
    rows = claim(scratch)
    assert rows[0]["kind"] is None
    record(scratch, result(rows[:1], None, gone=True, error="its event was archived"))

    assert scratch.rows("SELECT code FROM api.dead_letters") == ["OM044"]
    assert [row["kind"] for row in claim(scratch)] == ["test.b"]
    assert health(scratch)["failures"] == 0


# Health


def test_an_endpoint_that_fails_is_asked_with_one_stream_then_rests_and_recovers_at_once(scratch: Shop) -> None:
    add(scratch, "a", URL)
    for number in range(8):
        happen(scratch, "test.a", stream=f"test:{number}")
    dispatch(scratch)
    record(scratch, result(claim(scratch, streams=2), None))
    for failures in (3, 4, 5):
        [row] = claim(scratch)
        record(scratch, result([row], 503))
        assert health(scratch)["failures"] == failures
    assert claim(scratch) == []
    assert health(scratch)["rests_until"] is not None

    be_due(scratch)
    record(scratch, result(claim(scratch)))

    assert (health(scratch)["failures"], health(scratch)["failing_since"], health(scratch)["last_status"]) == (
        0,
        None,
        200,
    )
    assert len(claim(scratch)) == 7


def test_an_endpoint_that_is_gone_or_has_failed_for_days_is_stopped_until_somebody_resumes_it(scratch: Shop) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a")
    dispatch(scratch)
    record(scratch, result(claim(scratch), 410), attempts=9)
    assert health(scratch)["disabled_reason"] == "it answered 410: gone"
    be_due(scratch)
    assert (claim(scratch), waiting(scratch)) == ([], 1)

    assert scratch.value("SELECT api.resume_webhook('a')")
    record(scratch, result(claim(scratch), 500), attempts=9)
    scratch.db.execute("UPDATE shop.webhook_endpoints SET failing_since = now() - interval '121 hours'")
    be_due(scratch)
    record(scratch, result(claim(scratch), 500), attempts=9)
    assert "every delivery has failed since" in health(scratch)["disabled_reason"]


@pytest.mark.parametrize("other", [200, 500])
@pytest.mark.parametrize("first", [True, False])
def test_a_410_stops_an_endpoint_whatever_it_answered_to_another_stream(scratch: Shop, other: int, first: bool) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a", stream="test:1")
    happen(scratch, "test.a", stream="test:2")
    dispatch(scratch)
    one, two = claim(scratch)
    record(scratch, result([one], 410 if first else other) + result([two], other if first else 410))

    assert health(scratch)["disabled_reason"] == "it answered 410: gone"


def test_a_410_of_before_stops_no_endpoint_that_was_resumed(scratch: Shop) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a")
    dispatch(scratch)
    record(scratch, result(claim(scratch), 410))
    scratch.value("SELECT api.resume_webhook('a')")
    be_due(scratch)
    record(scratch, result(claim(scratch), 500))

    assert (health(scratch)["disabled_at"], health(scratch)["failures"]) == (None, 1)


def test_a_paused_endpoint_is_sent_nothing_and_loses_nothing(scratch: Shop) -> None:
    add(scratch, "a", URL)
    assert [scratch.value("SELECT api.pause_webhook('a', 'moving house')") for _ in range(2)] == [True, False]
    happen(scratch, "test.a")
    dispatch(scratch)
    assert (claim(scratch), health(scratch)["waiting"], health(scratch)["oldest"] is not None) == ([], 1, True)
    assert health(scratch)["disabled_reason"] == "moving house"

    scratch.value("SELECT api.resume_webhook('a')")
    assert len(claim(scratch)) == 1


# Replay


def test_a_replay_tells_all_it_wants_from_a_position_on_again_and_in_order(scratch: Shop) -> None:
    add(scratch, "a", URL, ["test.*"])
    happen(scratch, "test.a", "other.x", "test.b", "test.c")
    dispatch(scratch)
    record(scratch, result(claim(scratch)))
    happen(scratch, "test.d")
    dispatch(scratch)
    on_its_way = claim(scratch)

    assert scratch.value("SELECT api.replay_webhook('a', 3)") == 3
    assert claim(scratch) == []
    assert [scratch.value("SELECT api.advance_replays(2)") for _ in range(3)] == [2, 1, 0]

    # Who was sending the stream has lost it, but nobody else has it before its lease ends.
    assert record(scratch, result(on_its_way)) == 0
    assert claim(scratch) == []
    be_due(scratch)
    assert [row["position"] for row in claim(scratch)] == [3, 4, 5]


def test_while_a_replay_is_at_work_the_endpoint_is_sent_nothing_not_even_what_is_due(scratch: Shop) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a", "test.b")
    dispatch(scratch)
    scratch.value("SELECT api.replay_webhook('a', 1)")

    assert claim(scratch) == []
    assert [scratch.value("SELECT api.advance_replays(1)") for _ in range(3)] == [1, 1, 0]
    assert [row["position"] for row in claim(scratch)] == [1, 2]


@pytest.mark.parametrize(("start", "news", "left"), [(1, 0, (1, 3)), (2, 1, (2, 4))])
def test_a_replay_that_is_asked_for_while_another_goes_on_is_not_lost(
    shop: Shop, connect_as: Connect, start: int, news: int, left: tuple[int, int]
) -> None:
    """An earlier beginning, or the same one with what has happened since; a worker is in the middle of a batch."""
    add(shop, "a", URL)
    happen(shop, "test.a", "test.b", "test.c")
    dispatch(shop)
    shop.value("SELECT api.replay_webhook('a', 2)")
    holder = connect_as("owner")
    with holder.transaction():
        holder.execute("SELECT FROM shop.delivery_streams FOR UPDATE")
        advancing = Step(connect_as("owner"), "SELECT api.advance_replays(10)").waits(shop.db)
        for _ in range(news):
            happen(shop, "test.d")
            shop.value("SELECT api.sequence_events()")
        shop.value("SELECT api.replay_webhook('a', %s)", start)
    assert advancing.result() == [(2,)]

    found = shop.db.execute("SELECT replay_position, replay_until FROM shop.webhook_endpoints").fetchone()
    assert found == left


def test_a_replay_closes_the_dead_letters_of_what_it_tells_again(scratch: Shop) -> None:
    add(scratch, "a", URL)
    add(scratch, "b", URL)
    happen(scratch, "test.a", "test.b")
    dispatch(scratch)
    for name in ("a", "a", "b"):
        record(scratch, result(claim(scratch, name, events=1), 500), attempts=1)
        be_due(scratch)
    letters = "SELECT settlement FROM shop.dead_letters ORDER BY payload ->> 'endpoint', payload -> 'position'"
    assert scratch.rows(letters) == [None] * 3

    scratch.value("SELECT api.replay_webhook('a', 2)")
    scratch.value("SELECT api.advance_replays()")

    assert scratch.rows(letters) == [None, "replayed", None]


@pytest.mark.parametrize("position", [0, -1, 3, None])
def test_a_replay_from_nowhere_is_refused(scratch: Shop, position: int | None) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a", "test.b")
    dispatch(scratch)
    with pytest.raises(psycopg.Error) as caught, scratch.db.transaction():
        scratch.value("SELECT api.replay_webhook('a', %s)", position)
    assert caught.value.sqlstate == "OM011"


def test_what_ended_long_ago_is_pruned_and_what_waits_is_not(scratch: Shop) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a", stream="test:1")
    happen(scratch, "test.b", stream="test:2")
    dispatch(scratch)
    record(scratch, result(claim(scratch)[:1]))
    scratch.db.execute("UPDATE shop.webhook_deliveries SET ended_at = ended_at - interval '4 days'")

    assert [scratch.value("SELECT api.prune_deliveries('3 days', 10)") for _ in range(2)] == [1, 0]
    assert scratch.rows("SELECT kind FROM api.webhook_deliveries") == ["test.b"]


@pytest.mark.breaks_the_shop
def test_verify_finds_a_delivery_that_nobody_would_send(scratch: Shop) -> None:
    add(scratch, "a", URL)
    happen(scratch, "test.a", stream="test:1")
    happen(scratch, "test.b", stream="test:2")
    dispatch(scratch)
    scratch.db.execute("DELETE FROM shop.delivery_streams WHERE stream = 'test:1'")
    scratch.db.execute("DELETE FROM shop.webhook_deliveries WHERE stream = 'test:2'")

    assert {(row[0], row[1]) for row in scratch.verify()} == {
        ("a_waiting_delivery_has_its_stream", "test:1"),
        ("a_stream_has_something_waiting", "test:2"),
    }


PLANS = {
    "webhook_deliveries_waiting": (
        "SELECT d.position FROM shop.webhook_deliveries AS d WHERE d.endpoint_id = {id} AND d.stream = 's:4900'"
        " AND d.ended_at IS NULL ORDER BY d.position LIMIT 20"
    ),
    "webhook_deliveries_by_end": (
        "SELECT d.position FROM shop.webhook_deliveries AS d WHERE d.ended_at < now() - interval '3 days'"
        " ORDER BY d.ended_at LIMIT 50 FOR UPDATE SKIP LOCKED"
    ),
    "delivery_streams_by_due": (
        "SELECT d.stream FROM shop.delivery_streams AS d WHERE d.endpoint_id = {id} AND d.due_at <= now()"
        " ORDER BY d.due_at LIMIT 20 FOR UPDATE SKIP LOCKED"
    ),
}


@pytest.mark.breaks_the_shop
def test_each_index_of_webhooks_has_a_query_that_uses_it(scratch: Shop) -> None:
    add(scratch, "a", URL)
    endpoint = scratch.value("SELECT id FROM shop.webhook_endpoints")
    scratch.db.execute(
        """INSERT INTO shop.webhook_deliveries (endpoint_id, position, event_id, stream, ended_at)
           SELECT %s, n, shop.uuid7(), 's:' || n, CASE WHEN n < 4800 THEN now() - make_interval(hours => n) END
           FROM generate_series(1, 5000) AS n""",
        [endpoint],
    )
    scratch.db.execute(
        """INSERT INTO shop.delivery_streams (endpoint_id, stream, due_at)
           SELECT %s, 's:' || n, now() + make_interval(secs => n - 100) FROM generate_series(1, 5000) AS n""",
        [endpoint],
    )
    scratch.db.execute("ANALYZE shop.webhook_deliveries, shop.delivery_streams")

    for index, statement in PLANS.items():
        used = scans(scratch, statement.format(id=endpoint))
        assert [each[2] for each in used if each[2]] == [index], (index, used)
