"""Orders that the database cannot take: they become dead letters with payload and reason, and the others are placed."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.shop import order
from tests.workers_fixtures import Mill
from workers.child import wait_until

STATES = pytest.mark.parametrize("state", ["22012", "XX000"])


@pytest.fixture
def poison(at_work: Mill, sku: str) -> Iterator[Callable[[str, str], str]]:
    """`poison(table, state)` makes a sku whose rows in this table raise this SQLSTATE, as a fault in it would."""
    made: list[str] = []

    def make(table: str, state: str) -> str:
        name, function = f"BAD-{sku}", f"shop.poison_{len(made)}"
        at_work.shop.stock(name, "E1", 10)
        variant = at_work.shop.value("SELECT id FROM shop.product_variants WHERE sku = %s", name)
        at_work.db.execute(
            f"""CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF new.variant_id = {variant} THEN
                    RAISE EXCEPTION 'this row is poison' USING ERRCODE = '{state}';
                END IF;
                RETURN new; END $$;
                CREATE TRIGGER poison BEFORE INSERT ON shop.{table} FOR EACH ROW EXECUTE FUNCTION {function}()"""
        )
        made.append(function)
        return name

    yield make
    for function in made:
        at_work.db.execute(f"DROP FUNCTION {function}() CASCADE")


def letters(mill: Mill, key: str) -> list[dict[str, Any]]:
    return mill.shop.maps("SELECT source, payload, code, reason FROM shop.dead_letters WHERE key = %s", key)


@STATES
def test_behind_the_sql_door_nineteen_are_placed_and_one_is_a_dead_letter(
    at_work: Mill, sku: str, poison: Callable[[str, str], str], state: str
) -> None:
    bad = poison("order_lines", state)
    at_work.shop.stock(f"MUCH-{sku}", "E1", 100)
    requests = [order(None, (f"MUCH-{sku}" if n != 13 else bad, 1)) for n in range(20)]

    at_work.shop.submit(*requests)
    at_work.send("orders.drain", 3, queue="maintenance")

    assert at_work.all_decided(requests)
    assert at_work.orders_by_key(requests) == [1] * 13 + [0] + [1] * 6
    dead = at_work.shop.outcome(requests[13]["key"])
    assert dead is not None
    assert (dead["status"], dead["code"], dead["order_id"]) == ("dead", "OM090", None)
    [letter] = letters(at_work, requests[13]["key"])
    assert (letter["source"], letter["code"]) == ("sql", "OM090")
    assert "this row is poison" in str(letter["reason"])
    assert state in str(letter["reason"])
    assert letter["payload"]["skus"] == [bad]
    assert at_work.shop.level(bad, "E1") == {"available": 10}
    assert at_work.shop.submit(requests[13]) == [dead]


@STATES
def test_through_the_celery_door_it_is_dead_and_kept(
    at_work: Mill, poison: Callable[[str, str], str], state: str
) -> None:
    request = order(None, (poison("order_lines", state), 1))

    result = at_work.send("orders.place", request)

    outcome = result.get(timeout=60)
    assert result.state == "SUCCESS"
    assert (outcome["status"], outcome["code"]) == ("dead", "OM090")
    assert at_work.call("orders.place", request) == outcome == at_work.shop.outcome(request["key"])
    [letter] = letters(at_work, request["key"])
    assert letter["source"] == "celery"
    assert "this row is poison" in str(letter["reason"])


def test_in_place_many_the_others_are_placed(at_work: Mill, sku: str, poison: Callable[[str, str], str]) -> None:
    bad = poison("order_lines", "XX000")
    requests = [order(None, (bad if n == 3 else sku, 1)) for n in range(10)]

    outcomes = at_work.call("orders.place_many", requests)

    assert [outcome["status"] for outcome in outcomes] == ["placed"] * 3 + ["dead"] + ["placed"] * 6
    assert len(letters(at_work, requests[3]["key"])) == 1


def test_a_task_that_fails_unforeseen_is_a_dead_letter_and_can_be_sent_again_once_mended(
    at_work: Mill, poison: Callable[[str, str], str]
) -> None:
    bad = poison("stock_movements", "XX000")
    request = {"key": f"adjust-{bad}", "sku": bad, "location": "E1", "quantity": 1, "reason": "found"}

    result = at_work.send("inventory.adjust", request, queue="inventory")

    assert wait_until(lambda: result.state == "FAILURE", 30)
    [letter] = letters(at_work, result.id)
    assert (letter["source"], letter["code"]) == ("celery", "OM091")
    assert letter["payload"] == {"task": "inventory.adjust", "message": {"args": [request], "kwargs": {}}}
    assert "this row is poison" in str(letter["reason"])
    at_work.db.execute("DROP FUNCTION shop.poison_0() CASCADE; CREATE FUNCTION shop.poison_0() RETURNS int RETURN 1")
    assert at_work.call("inventory.adjust", request, queue="inventory")["status"] == "done"
    assert at_work.shop.level(bad, "E1") == {"available": 11}


def test_it_is_kept_also_under_a_task_id_that_postgresql_cannot_hold(
    at_work: Mill, poison: Callable[[str, str], str]
) -> None:
    bad = poison("stock_movements", "XX000")
    request = {"key": f"adjust-{bad}", "sku": bad, "location": "E1", "quantity": 1, "reason": "found"}
    task_id = f"{bad}\0" + "x" * 9_000

    result = at_work.send("inventory.adjust", request, queue="inventory", task_id=task_id)

    assert wait_until(lambda: result.state == "FAILURE", 30)
    [letter] = letters(at_work, task_id.replace("\0", "\ufdd0"))
    assert letter["code"] == "OM091"
