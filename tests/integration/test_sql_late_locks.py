"""Levels are locked last where there is plenty; who came first is served first where there is not."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.shop import Shop, fingerprint, order, typed
from tests.waiting import Step, waits_for_long
from workers.child import wait_until

Session = psycopg.Connection[Any]
Connect = Callable[[str], Session]
PLACE = "SELECT api.place_orders(%s)"
PLACE_CLAIM = "SELECT api.place_claim(%s)"


def batch(*requests: dict[str, Any]) -> list[Jsonb]:
    return [Jsonb([typed(each) for each in requests])]


def levels_are_locked(shop: Shop) -> bool:
    try:
        shop.db.execute("SELECT FROM shop.stock_levels FOR NO KEY UPDATE NOWAIT")
    except psycopg.errors.LockNotAvailable:
        return True
    return False


def test_two_batches_of_plenty_write_side_by_side_and_only_the_levels_wait(shop: Shop, connect_as: Connect) -> None:
    """The second has written its orders when it comes to wait: nothing but the levels is behind the first's commit."""
    shop.stock("A", "E1", 1_000)
    first, second = connect_as("ordermill_worker"), connect_as("ordermill_worker")

    first.execute("BEGIN")
    first.execute(PLACE, batch(order("a", ("A", 1)), order("b", ("A", 1))))
    assert levels_are_locked(shop)
    second.execute("BEGIN")
    step = Step(second, PLACE, batch(order("c", ("A", 2)), order("d", ("A", 2)))).waits(shop.db)
    written = "SELECT count(*) FROM pg_locks WHERE pid = %s AND relation = 'shop.order_status_history'::regclass"
    assert shop.value(written, second.info.backend_pid) > 0
    first.execute("COMMIT")

    assert [row[0]["status"] for row in step.result()] == ["placed", "placed"]
    second.execute("COMMIT")
    assert shop.level("A", "E1") == {"available": 994, "committed": 6}


def test_where_plenty_is_taken_before_its_lock_nothing_is_written_and_again_it_is_decided(
    shop: Shop, connect_as: Connect
) -> None:
    shop.stock("A", "E1", 16)
    taker, worker = connect_as("owner"), connect_as("ordermill_worker")
    requests = batch(order("a", ("A", 1)), order("b", ("A", 1)))

    taker.execute("BEGIN")
    taker.execute("SELECT FROM shop.stock_levels FOR NO KEY UPDATE")
    step = Step(worker, PLACE, requests).waits(shop.db)
    taker.execute(PLACE, batch(order("most", ("A", 15))))
    with_the_taker = fingerprint(taker)
    taker.execute("COMMIT")

    with pytest.raises(psycopg.errors.SerializationFailure, match="try again"):
        step.result()
    assert fingerprint(shop.db) == with_the_taker
    assert [row[0]["status"] for row in worker.execute(PLACE, requests).fetchall()] == ["placed", "rejected"]
    assert shop.level("A", "E1") == {"committed": 16}


def test_plenty_may_lie_at_the_nearest_location_that_has_any(shop: Shop) -> None:
    shop.stock("A", "E1", 0, cap=5)
    shop.stock("A", "E2", 100)
    shop.stock("A", "E3", 1_000)

    shop.place(*(order(None, ("A", 1)) for _ in range(10)))

    assert shop.level("A", "E2") == {"available": 90, "committed": 10}
    assert shop.value("SELECT sum(backordered) FROM shop.order_lines") == 0


def test_a_hold_is_never_told_that_its_stock_was_taken(shop: Shop, connect_as: Connect) -> None:
    """It is placed in its caller's own transaction: its levels are locked before it is decided."""
    shop.stock("A", "E1", 100)
    first, second = connect_as("ordermill_app"), connect_as("ordermill_app")
    hold = "SELECT api.hold_orders(%s)"

    first.execute("BEGIN")
    first.execute(hold, [Jsonb([order("a", ("A", 100))])])
    step = Step(second, hold, [Jsonb([order("b", ("A", 1))])]).waits(shop.db)
    first.execute("COMMIT")

    assert [row[0]["code"] for row in step.result()] == ["OM001"]


@pytest.fixture
def long_wait(shop: Shop) -> None:
    waits_for_long(shop, "await_earlier_claims")


def two_claims(shop: Shop) -> tuple[str, str]:
    """Claims of the next two orders; their ids are of in a minute, for one of half a second ago counts as at rest."""
    return made_at(shop, shop.claim(limit=1), "60 s"), made_at(shop, shop.claim(limit=1), "61 s")


def made_at(shop: Shop, claim: dict[str, Any] | None, later: str) -> str:
    """The new id of a claim that was made so much later."""
    assert claim
    return str(
        shop.value(
            """WITH moved AS (
                   UPDATE shop.claims SET id = shop.uuid7_floor(now() + %s::interval) WHERE id = %s RETURNING id)
               UPDATE shop.order_queue SET claim_id = moved.id FROM moved WHERE claim_id = %s RETURNING moved.id""",
            later,
            *[claim["claim_id"]] * 2,
        )
    )


@pytest.fixture
def claims(shop: Shop) -> tuple[str, str]:
    """Two claims of a unit each, where there is one unit."""
    shop.stock("A", "E1", 1)
    shop.submit(order("first", ("A", 1)), order("second", ("A", 1)))
    return two_claims(shop)


@pytest.mark.usefixtures("long_wait")
@pytest.mark.parametrize("begun", [False, True])
def test_the_last_unit_is_not_given_to_a_later_claim_while_an_earlier_one_is_in_hand(
    shop: Shop, claims: tuple[str, str], connect_as: Connect, begun: bool
) -> None:
    first, second = connect_as("ordermill_worker"), connect_as("ordermill_worker")

    first.execute("BEGIN")
    if begun:
        first.execute(PLACE_CLAIM, [claims[0]])
    step = Step(second, PLACE_CLAIM, [claims[1]])
    sleeps = "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = %s"
    assert wait_until(lambda: bool(shop.value(sleeps, second.info.backend_pid)), 20, 0.001)
    if not begun:
        first.execute(PLACE_CLAIM, [claims[0]])
    first.execute("COMMIT")

    assert [row[0]["status"] for row in step.result()] == ["rejected"]
    assert (shop.outcome("first") or {})["status"] == "placed"


def test_nobody_waits_for_long_for_a_claim_that_is_not_placed(shop: Shop, claims: tuple[str, str]) -> None:
    assert [each["status"] for each in shop.place_claim(claims[1])] == ["placed"]
    assert [each["status"] for each in shop.place_claim(claims[0])] == ["rejected"]


def soon(shop: Shop, claim: str) -> list[str]:
    """The outcomes of a claim that waits for nobody: with `long_wait` another is waited for for a minute."""
    shop.db.execute("SET statement_timeout = '30s'")
    try:
        return [each["status"] for each in shop.place_claim(claim)]
    finally:
        shop.db.execute("RESET statement_timeout")


@pytest.mark.usefixtures("long_wait")
def test_nobody_waits_for_a_lease_that_ran_out_nor_for_another_pools(shop: Shop, claims: tuple[str, str]) -> None:
    shop.expire_claims()
    shop.db.execute("UPDATE shop.claims SET leased_until = now() + interval '60 s' WHERE id = %s", [claims[1]])
    shop.stock("W", "W1", 1)
    shop.submit(order("west", ("W", 1), pool="WEST"))
    west = shop.claim("WEST")
    assert west

    assert soon(shop, west["claim_id"]) == ["placed"]
    assert soon(shop, claims[1]) == ["placed"]


@pytest.mark.usefixtures("long_wait")
@pytest.mark.parametrize(("stock", "first", "second"), [(100, 90, 20), (9, 8, 2)])
def test_what_is_plenty_for_a_later_claim_is_none_where_an_earlier_one_needs_it(
    shop: Shop, connect_as: Connect, stock: int, first: int, second: int
) -> None:
    shop.stock("A", "E1", stock)
    shop.submit(order("first", ("A", first)), order("second", ("A", second)))
    one, two = two_claims(shop)
    worker = connect_as("ordermill_worker")

    step = Step(worker, PLACE_CLAIM, [two])
    assert [each["status"] for each in shop.place_claim(one)] == ["placed"]
    assert [row[0]["status"] for row in step.result()] == ["rejected"]


@pytest.mark.usefixtures("long_wait")
def test_nobody_waits_for_a_claim_that_has_been_at_rest_for_long(shop: Shop, claims: tuple[str, str]) -> None:
    made_at(shop, {"claim_id": claims[0]}, "-0.6 s")

    assert soon(shop, claims[1]) == ["placed"]


def test_where_there_is_plenty_a_later_claim_does_not_wait(shop: Shop) -> None:
    shop.stock("A", "E1", 100)
    shop.submit(order("first", ("A", 1)), order("second", ("A", 1)))
    one, two = shop.claim(limit=1), shop.claim(limit=1)
    assert one is not None
    assert two is not None

    assert [each["status"] for each in shop.place_claim(two["claim_id"])] == ["placed"]
    assert [each["status"] for each in shop.place_claim(one["claim_id"])] == ["placed"]


def test_a_claim_of_at_least_so_many_leaves_fewer_to_others_and_says_where_they_begin(shop: Shop) -> None:
    shop.stock("A", "E1", 100)
    shop.submit(*(order(f"k{n}", ("A", 1)) for n in range(5)))
    ids = shop.rows("SELECT id FROM shop.order_queue ORDER BY id")
    claim = "SELECT * FROM api.claim_orders(%s, 9, 60, 0, %s)"

    assert shop.maps(claim, shop.pool_id(), 6) == [{"claim_id": None, "orders": 0, "attempt": 0, "last_id": ids[0] - 1}]
    assert shop.count("claims") == 0
    assert [each["orders"] for each in shop.maps(claim, shop.pool_id(), 5)] == [5]
    assert shop.maps(claim, shop.pool_id(), 2)[0]["claim_id"] is None
