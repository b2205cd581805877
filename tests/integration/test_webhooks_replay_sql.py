"""Webhooks told again, pruned, verified; and the plans of what a deliverer asks each time."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.deliveries import be_due, claim, record, result
from tests.hooks import add, dispatch
from tests.integration.test_sql_plans import scans
from tests.noted import happen
from tests.shop import Shop
from tests.waiting import Step

Row = dict[str, Any]
Connect = Callable[[str], psycopg.Connection[Any]]
URL = "https://hooks.example/x"


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
