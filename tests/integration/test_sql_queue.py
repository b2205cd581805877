"""The queue behind the SQL door: claims, leases, sweeps in halves down to the order that kills, dead letters."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.shop import Shop, fingerprint, order, typed
from tests.waiting import Step

Connect = Callable[[str], psycopg.Connection[Any]]
DIED = "Each attempt to place this order ended without an answer; its drain died or was cut off."


@pytest.fixture
def stocked(scratch: Shop) -> Shop:
    scratch.stock("A", "E1", 1_000)
    scratch.stock("A", "W1", 1_000)
    return scratch


def submit(shop: Shop, *keys: str, **fields: Any) -> None:
    assert all(each["status"] == "accepted" for each in shop.submit(*(order(key, ("A", 1), **fields) for key in keys)))


def keys_of(shop: Shop, claim: dict[str, Any] | None) -> list[str]:
    assert claim is not None
    return shop.rows("SELECT key FROM shop.order_queue WHERE claim_id = %s ORDER BY id", claim["claim_id"])


def test_a_claim_takes_the_oldest_orders_of_its_pool(stocked: Shop) -> None:
    submit(stocked, "b", "w", "a")
    submit(stocked, "west", pool="WEST")
    submit(stocked, "c")

    first, second = stocked.claim(limit=2), stocked.claim(limit=9)

    assert [keys_of(stocked, first), keys_of(stocked, second)] == [["b", "w"], ["a", "c"]]
    assert stocked.claim() is None
    assert keys_of(stocked, stocked.claim("WEST")) == ["west"]
    assert first is not None
    assert (first["orders"], first["attempt"]) == (2, 1)


def test_a_claimed_order_waits_until_it_is_placed_and_then_is_gone(stocked: Shop) -> None:
    submit(stocked, "a", "b")
    claim = stocked.claim()
    assert claim is not None
    assert (stocked.outcome("a") or {})["status"] == "accepted"

    outcomes = stocked.place_claim(claim["claim_id"])

    assert [(each["key"], each["status"]) for each in outcomes] == [("a", "placed"), ("b", "placed")]
    assert stocked.outcome("b") == outcomes[1]
    assert (stocked.count("claims"), stocked.count("order_queue")) == (0, 0)
    assert stocked.place_claim(claim["claim_id"]) == []


def test_a_floor_skips_what_came_before_it(stocked: Shop) -> None:
    submit(stocked, "a", "b", "c")
    ids = stocked.rows("SELECT id FROM shop.order_queue ORDER BY id")

    claim = stocked.maps("SELECT * FROM api.claim_orders(%s, 1, 60, %s)", stocked.pool_id(), ids[1])[0]

    assert keys_of(stocked, claim) == ["c"]
    assert claim["last_id"] == ids[2]
    assert keys_of(stocked, stocked.claim()) == ["a", "b"]


def test_a_lease_that_runs_is_not_swept(stocked: Shop) -> None:
    submit(stocked, "a")
    claim = stocked.claim()
    assert claim is not None

    assert stocked.sweep() == 0
    assert len(stocked.place_claim(claim["claim_id"])) == 1


def test_a_swept_claim_comes_back_in_halves_before_anything_newer(stocked: Shop) -> None:
    submit(stocked, "a", "b", "c")
    late = stocked.claim()
    assert late is not None
    submit(stocked, "d")
    stocked.expire_claims()

    assert stocked.sweep() == 1
    first, second, third = stocked.claim(), stocked.claim(), stocked.claim()

    assert [keys_of(stocked, each) for each in (first, second, third)] == [["a", "b"], ["c"], ["d"]]
    assert [each and each["attempt"] for each in (first, second, third)] == [1, 1, 1]
    # The drain that was thought dead comes back: it has nothing any more.
    assert stocked.place_claim(late["claim_id"]) == []
    assert stocked.count("orders") == 0


def test_the_order_that_kills_its_drain_becomes_a_dead_letter_and_the_others_are_placed(stocked: Shop) -> None:
    submit(stocked, *(f"k{n}" for n in range(13)), "poison", *(f"m{n}" for n in range(6)))
    rounds = 0
    while claim := stocked.claim(limit=50):
        rounds += 1
        if "poison" in keys_of(stocked, claim):
            stocked.expire_claims()  # its drain died
            stocked.sweep(attempts=3)
        else:
            stocked.place_claim(claim["claim_id"])

    assert rounds <= 14
    assert stocked.count("orders") == 19
    [letter] = stocked.maps("SELECT * FROM api.dead_letters")
    dead = stocked.outcome("poison")
    assert dead == {
        "key": "poison",
        "status": "dead",
        "order_id": None,
        "code": "OM090",
        "field": "request",
        # What the database said is in the letter, which not every client may read.
        "message": f"This order could not be placed; the reason is in dead letter {letter['id']}.",
    }
    assert (letter["key"], letter["source"], letter["code"], letter["reason"]) == ("poison", "sql", "OM090", DIED)
    assert letter["attempts"] >= 3
    assert letter["payload"] | {"ordered_at": None} == typed(order("poison", ("A", 1))) | {
        "currency": None,
        "ordered_at": None,
        "ship_to": None,
    }
    assert (stocked.count("claims"), stocked.count("order_queue")) == (0, 0)
    assert stocked.submit(order("poison", ("A", 1))) == [dead]


def test_a_claim_given_back_alone_waits_with_one_more_attempt(stocked: Shop) -> None:
    submit(stocked, "a")
    ends = []
    while claim := stocked.claim():
        arguments = (claim["claim_id"], 3, "XX000", "said the database")
        ends.append(stocked.value("SELECT api.return_claim(%s, %s, %s, %s)", *arguments))

    assert ends == ["returned", "returned", "dead"]
    assert stocked.value("SELECT api.return_claim(%s, %s, %s, %s)", *arguments) == "gone"
    assert stocked.maps("SELECT code, reason, attempts FROM shop.dead_letters") == [
        {"code": "XX000", "reason": "said the database", "attempts": 3}
    ]


def test_who_gives_a_claim_back_late_does_not_take_it_from_its_next_drain(stocked: Shop) -> None:
    submit(stocked, "a")
    late = stocked.claim()
    assert late is not None
    stocked.expire_claims()
    stocked.sweep(attempts=3)
    claim = stocked.claim()
    assert claim is not None

    assert stocked.value("SELECT api.return_claim(%s, 3, 'OM090', 'unheard')", late["claim_id"]) == "gone"

    [placed] = stocked.place_claim(claim["claim_id"])
    assert placed["status"] == "placed"


def test_an_order_placed_by_the_other_door_meanwhile_is_not_placed_again(stocked: Shop) -> None:
    submit(stocked, "a")
    [placed] = stocked.place(order("a", ("A", 1)))

    assert stocked.drain() == [placed]
    assert stocked.count("orders") == 1


def test_an_order_placed_by_the_other_door_meanwhile_is_not_buried(stocked: Shop) -> None:
    submit(stocked, "a")
    claim = stocked.claim()
    assert claim is not None
    [placed] = stocked.place(order("a", ("A", 1)))

    stocked.value("SELECT api.return_claim(%s, 1, 'XX000', 'died')", claim["claim_id"])

    assert stocked.outcome("a") == placed
    assert (stocked.count("dead_letters"), stocked.count("order_queue")) == (0, 0)


def test_the_celery_door_buries_an_order_once(stocked: Shop) -> None:
    request = Jsonb(typed(order("x", ("A", 1))))

    first = stocked.value("SELECT api.bury_order(%s, '22003', 'out of range', 3)", request)

    assert (first["status"], first["code"]) == ("dead", "22003")
    assert stocked.value("SELECT api.bury_order(%s, '22003', 'again', 4)", request) == first
    assert stocked.place_one(order("x", ("A", 1))) == first
    assert stocked.count("dead_letters") == 1


def test_two_drains_of_one_claim_place_it_once(shop: Shop, connect_as: Connect) -> None:
    shop.stock("A", "E1", 9)
    submit(shop, "a", "b")
    claim = shop.claim()
    assert claim is not None
    first, second = connect_as("ordermill_worker"), connect_as("ordermill_worker")

    first.execute("BEGIN")
    assert len(first.execute("SELECT api.place_claim(%s)", [claim["claim_id"]]).fetchall()) == 2
    late = Step(second, "SELECT api.place_claim(%s)", [claim["claim_id"]]).waits(shop.db)
    first.execute("COMMIT")

    assert late.result() == []
    assert shop.level("A", "E1") == {"available": 7, "committed": 2}


def test_a_drain_that_dies_while_placing_leaves_its_claim_to_the_sweep(shop: Shop, connect_as: Connect) -> None:
    shop.stock("A", "E1", 9)
    submit(shop, "a", "b")
    claim = shop.claim()
    assert claim is not None
    before = fingerprint(shop.db)
    drain = connect_as("ordermill_worker")

    drain.execute("BEGIN")
    drain.execute("SELECT api.place_claim(%s)", [claim["claim_id"]])
    drain.close()
    assert fingerprint(shop.db) == before
    shop.expire_claims()
    shop.sweep()

    assert [each["status"] for each in shop.drain()] == ["placed", "placed"]


def test_the_sweep_passes_by_a_claim_that_is_being_placed(shop: Shop, connect_as: Connect) -> None:
    shop.stock("A", "E1", 9)
    submit(shop, "a")
    claim = shop.claim()
    assert claim is not None
    shop.expire_claims()
    drain = connect_as("ordermill_worker")

    drain.execute("BEGIN")
    drain.execute("SELECT api.place_claim(%s)", [claim["claim_id"]])
    assert shop.sweep() == 0
    drain.execute("COMMIT")

    assert (shop.outcome("a") or {})["status"] == "placed"


@pytest.mark.breaks_the_shop  # it prunes the key of an order of today
def test_a_key_pruned_while_it_is_sent_again_is_not_accepted_and_lost(shop: Shop, connect_as: Connect) -> None:
    """Accepted means queued: a door that finds its key taken, and then gone, must not say "accepted" for nothing."""
    shop.stock("A", "E1", 9)
    shop.place(order("old", ("A", 1)))
    blocker, app = connect_as("owner"), connect_as("ordermill_app")

    blocker.execute("BEGIN")
    blocker.execute("LOCK TABLE shop.order_queue IN EXCLUSIVE MODE")
    sending = Step(app, "SELECT api.submit_order(%s)", [Jsonb(order("old", ("A", 1)))]).waits(shop.db)
    shop.db.execute("DELETE FROM shop.request_keys WHERE key = 'old'")
    blocker.execute("COMMIT")

    with pytest.raises(psycopg.errors.SerializationFailure):
        sending.result()
    assert shop.count("order_queue") == 0
