"""Orders refused before they are accepted, because a sku is sold out: when, how long, and that a used key never is."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tasks import orders
from tests.shop import Outcome, Shop, fingerprint, new_key, order, typed
from workers.errors import FaultError
from workers.settings import get_settings
from workers.sold_out import MOST, SoldOut


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0
        self.step = 0.0

    def __call__(self) -> float:
        """The time; each look at it takes a step."""
        self.now += self.step
        return self.now


class Door:
    """What an orders worker does with decoded orders, in this process, with a clock of the test's own."""

    def __init__(self, clock: Clock, known: SoldOut) -> None:
        self.clock, self.known = clock, known

    def place(self, *requests: dict[str, Any], again: bool = False) -> list[Outcome]:
        decoded = [typed({"currency": None, "ordered_at": None, "ship_to": None} | each) for each in requests]
        return orders.place_all(decoded, again=again)

    def status(self, request: dict[str, Any]) -> str:
        return str(self.place(request)[0]["status"])


@pytest.fixture
def door(runtime: None, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Door:
    """A door that refuses; A has no unit, B has 10 at E1."""
    monkeypatch.setenv("ORDERMILL_REFUSE_SOLD_OUT", "on")
    get_settings.cache_clear()
    clock = Clock()
    known = SoldOut(clock)
    monkeypatch.setattr(orders, "known", known)
    shop.stock("A", "E1", 0)
    shop.stock("B", "E1", 10)
    return Door(clock, known)


@pytest.fixture
def knowing(door: Door) -> Door:
    """The same door, which knows that A is sold out."""
    assert door.status(order(None, ("A", 1))) == "rejected"
    assert door.status(order(None, ("A", 1))) == "refused"
    return door


# What is refused


def test_a_refused_order_leaves_nothing_and_its_key_unused(knowing: Door, shop: Shop) -> None:
    request = order(None, ("A", 1))
    before = fingerprint(shop.db)

    [outcome] = knowing.place(request)

    assert outcome == {
        "key": request["key"],
        "status": "refused",
        "order_id": None,
        "code": "OM024",
        "field": "lines[0].quantity",
        "message": "Sku A is sold out in pool EAST; send it again under this key when there is stock.",
    }
    assert fingerprint(shop.db) == before
    assert shop.outcome(request["key"]) is None


def test_one_sold_out_line_refuses_the_order_and_is_the_field(knowing: Door, shop: Shop) -> None:
    [two, twice] = knowing.place(order(None, ("B", 1), ("A", 1)), order(None, ("B", 1), ("B", 1), ("A", 1), ("A", 2)))

    assert (two["status"], two["field"]) == ("refused", "lines[1].quantity")
    assert (twice["status"], twice["field"]) == ("refused", "lines[2].quantity")
    assert shop.level("B", "E1") == {"available": 10}


def test_the_others_of_a_batch_are_placed_and_answers_keep_their_order(knowing: Door, shop: Shop) -> None:
    shop.stock("PLENTY", "E1", 1_000)
    requests = [order(None, ("A" if number % 3 == 0 else "PLENTY", 1)) for number in range(500)]

    outcomes = knowing.place(*requests)

    assert [each["key"] for each in outcomes] == [each["key"] for each in requests]
    assert [each["status"] for each in outcomes] == ["refused" if n % 3 == 0 else "placed" for n in range(500)]
    assert shop.level("PLENTY", "E1")["committed"] == 333


def test_a_sku_is_sold_out_pool_by_pool(knowing: Door, shop: Shop) -> None:
    shop.stock("A", "W1", 1)

    assert knowing.status(order(None, ("A", 1), pool="WEST")) == "placed"
    assert knowing.status(order(None, ("A", 1))) == "refused"


def test_too_few_units_are_not_sold_out(knowing: Door, shop: Shop) -> None:
    shop.stock("FEW", "E1", 2)
    for _ in range(2):
        knowing.clock.now += 2
        assert knowing.status(order(None, ("FEW", 3))) == "rejected"

    assert knowing.status(order(None, ("FEW", 2))) == "placed"


@pytest.mark.parametrize(
    ("spoiled", "code"),
    [
        (order(None, ("NONE", 1)), "OM002"),
        (order(None, ("B", 1), customer="NOBODY"), "OM003"),
        (order(None, ("B", 1), pool="NOWHERE"), "OM004"),
        (order(None, ("B", 11)), "OM001"),
    ],
    ids=["sku", "customer", "pool", "quantity"],
)
def test_every_other_rejection_is_stored_as_ever(knowing: Door, shop: Shop, spoiled: dict[str, Any], code: str) -> None:
    request = spoiled | {"key": new_key()}

    for _ in range(3):
        knowing.clock.now += 2
        [outcome] = knowing.place(request)
        assert (outcome["status"], outcome["code"]) == ("rejected", code)

    assert shop.outcome(request["key"]) == outcome


def test_a_variant_that_is_no_longer_for_sale_is_said_to_be_that(knowing: Door, shop: Shop) -> None:
    shop.db.execute("UPDATE shop.product_variants SET active = false WHERE sku = 'A'")
    knowing.clock.now += 1.01

    assert knowing.place(order(None, ("A", 1)))[0]["code"] == "OM014"


def test_unless_it_is_asked_for_nothing_is_refused(door: Door, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORDERMILL_REFUSE_SOLD_OUT")
    get_settings.cache_clear()
    requests = [order(None, ("A", 1)) for _ in range(3)]

    outcomes = [door.place(request)[0] for request in requests]

    assert [each["status"] for each in outcomes] == ["rejected"] * 3
    assert [shop.outcome(request["key"]) for request in requests] == outcomes


# How long it is believed


def receive(shop: Shop) -> None:
    shop.value("SELECT api.receive_stock('r', 'E1', '[{\"sku\": \"A\", \"quantity\": 1}]', 'supplier', 'available')")


def adjust(shop: Shop) -> None:
    shop.value("SELECT api.adjust_inventory('a', 'A', 'E1', 1, 'found one', 'available')")


def permit_a_backorder(shop: Shop) -> None:
    shop.db.execute("UPDATE shop.stock_levels SET oversell_cap = 1")


@pytest.mark.parametrize("comes_back", [receive, adjust, permit_a_backorder])
def test_a_sku_that_comes_back_is_sold_a_second_later_at_the_latest(
    knowing: Door, shop: Shop, comes_back: Callable[[Shop], None]
) -> None:
    request = order(None, ("A", 1))
    comes_back(shop)

    knowing.clock.now += 0.5  # the last look was at this second's beginning; the next is due
    assert knowing.status(request) == "refused"
    knowing.clock.now += 0.001
    assert knowing.status(request) == "placed"


@pytest.mark.parametrize("ends", ["cancelled", "expired"])
def test_a_hold_that_ends_gives_its_unit_to_the_next(door: Door, shop: Shop, ends: str) -> None:
    shop.stock("HELD", "E1", 1)
    [held] = shop.hold(order(None, ("HELD", 1)))
    door.place(order(None, ("HELD", 1)))
    request = order(None, ("HELD", 1))
    assert door.status(request) == "refused"

    if ends == "cancelled":
        shop.cancel(held["order_id"])
    else:
        shop.db.execute(
            "UPDATE shop.order_allocations SET expires_at = clock_timestamp() - interval '1 s' WHERE state = 'held'"
        )
        assert shop.value("SELECT api.expire_holds(10)") == 1
    door.clock.now += 1.001

    assert door.status(request) == "placed"


@pytest.mark.parametrize(("seconds", "status"), [(0.9, "refused"), (1.1, "rejected")])
def test_a_look_that_takes_longer_than_it_is_believed_refuses_nobody(
    knowing: Door, seconds: float, status: str
) -> None:
    knowing.clock.now += 5
    knowing.clock.step = seconds

    assert knowing.status(order(None, ("A", 1))) == status


def test_a_look_that_is_believed_until_the_keys_were_read_too_late_refuses_nobody(knowing: Door) -> None:
    """The look is half a second old, so there is no other; then the keys take as long again, and more."""
    knowing.clock.step = 0.49
    assert knowing.status(order(None, ("A", 1))) == "refused"
    knowing.clock.now, knowing.clock.step = knowing.known.looked - 0.2, 0.65

    assert knowing.status(order(None, ("A", 1))) == "rejected"


def test_stock_is_looked_at_twice_a_second_at_most_and_only_for_what_was_short(knowing: Door) -> None:
    looked = knowing.known.looked

    knowing.clock.now += 5
    knowing.place(*(order(None, ("B", 1)) for _ in range(3)))
    assert knowing.known.looked == looked

    for _ in range(5):
        assert knowing.status(order(None, ("A", 1))) == "refused"
        assert knowing.known.looked == looked + 5
        knowing.clock.now += 0.125


def test_what_a_process_knows_is_bounded_and_the_newest(knowing: Door) -> None:
    number = MOST + 100
    requests = [typed(order(None, (f"S{each}", 1))) for each in range(number)]
    outcome = {"code": "OM001", "field": "lines[0].quantity"}

    knowing.known.note(requests, [outcome] * number)

    assert list(knowing.known.short) == [("EAST", f"S{each}") for each in range(100, number)]


def test_the_answer_of_another_body_teaches_nothing(door: Door) -> None:
    """A stored rejection may name a line that the body sent now does not have."""
    door.known.note([typed(order(None, ("B", 1)))], [{"code": "OM001", "field": "lines[7].quantity"}])
    door.known.note([typed(order(None, ("B", 1)))], [{"code": "OM001", "field": "order_id"}])

    assert not door.known.short


# A used key has its stored answer


def test_a_used_key_gets_its_stored_answer_whatever_it_was(knowing: Door, shop: Shop) -> None:
    shop.stock("LAST", "E1", 2)
    placed, rejected, waits = order(None, ("LAST", 1)), order(None, ("LAST", 3)), order(None, ("LAST", 1))
    held = order(None, ("LAST", 1))
    stored = [*knowing.place(placed), *knowing.place(rejected)]
    shop.hold(held)
    shop.submit(waits)
    knowing.clock.now += 2
    assert knowing.status(order(None, ("LAST", 1))) == "refused"

    assert knowing.place(placed, rejected) == stored
    assert knowing.place(order(placed["key"], ("LAST", 2)))[0]["code"] == "OM010"
    assert knowing.place(held)[0]["code"] == "OM010"
    # It was accepted: it is decided, and not refused.
    assert knowing.status(waits) == "rejected"


def test_without_the_look_at_used_keys_a_stored_answer_would_be_lost(knowing: Door, shop: Shop) -> None:
    """The mutation: blind to used keys, the door refuses an order that was placed."""
    shop.stock("LAST", "E1", 1)
    request = order(None, ("LAST", 1))
    stored = knowing.place(request)
    knowing.place(order(None, ("LAST", 1)))
    knowing.clock.now += 2
    assert knowing.place(request) == stored

    shop.db.execute(
        "CREATE OR REPLACE FUNCTION api.used_keys(p_keys text[]) RETURNS SETOF text LANGUAGE sql AS 'SELECT $$x$$'"
    )

    assert knowing.status(request) == "refused"


def test_an_order_placed_elsewhere_after_the_look_has_its_answer_here(
    knowing: Door, shop: Shop, connect_as: Callable[[str], psycopg.Connection[Any]]
) -> None:
    """This process looks; stock comes; another places under the key and takes it; this one is asked, still blind."""
    request = order(None, ("A", 1))
    other = Shop(connect_as("owner"))

    receive(other)
    [placed] = other.place(request)

    assert placed["status"] == "placed"
    assert knowing.place(request) == [placed]
    assert shop.rows("SELECT count(*) FROM shop.orders WHERE key = %s", request["key"]) == [1]


def test_a_key_in_flight_elsewhere_may_be_refused_here_and_has_one_answer_from_its_commit_on(
    knowing: Door, connect_as: Callable[[str], psycopg.Connection[Any]]
) -> None:
    """Two messages of one key: the other's transaction is open; refused; it commits; its answer, and one order."""
    request = order(None, ("A", 1))
    other = Shop(connect_as("owner"))
    with other.db.transaction():
        receive(other)
        [placed] = other.place(request)
        assert knowing.status(request) == "refused"

    assert placed["status"] == "placed"
    assert knowing.place(request) == [placed] == [other.outcome(request["key"])]


def test_where_keys_cannot_be_looked_up_nothing_is_refused_or_decided(knowing: Door, shop: Shop) -> None:
    request = order(None, ("A", 1))
    shop.db.execute("REVOKE EXECUTE ON FUNCTION api.used_keys(text[]) FROM ordermill_worker")
    before = fingerprint(shop.db)

    with pytest.raises(FaultError):
        knowing.place(order(None, ("B", 1)), request)

    assert fingerprint(shop.db) == before


def test_what_is_delivered_again_is_never_refused(knowing: Door, shop: Shop) -> None:
    """What its last attempt began may be about to commit."""
    request = order(None, ("A", 1))

    [outcome] = knowing.place(request, again=True)

    assert outcome["status"] == "rejected"
    assert shop.outcome(request["key"]) == outcome


def test_a_refused_order_sent_again_by_the_other_door_is_placed_once(knowing: Door, shop: Shop) -> None:
    request = order(None, ("A", 1))
    assert knowing.status(request) == "refused"
    receive(shop)

    assert shop.submit(request)[0]["status"] == "accepted"
    [outcome] = shop.drain()

    assert outcome["status"] == "placed"
    assert knowing.place(request) == [outcome]
