"""`api.verify` names each kind of damage by its first bad entry, and mends nothing."""

from typing import Any

import psycopg
import pytest

from tests.shop import Shop, fingerprint, order

pytestmark = pytest.mark.breaks_the_shop
OF_PLACED = "(SELECT id FROM shop.orders WHERE key = 'placed')"
UNGUARDED = "ALTER TABLE shop.orders DISABLE TRIGGER USER;"


@pytest.fixture
def shop(scratch: Shop) -> Shop:
    scratch.stock("A", "E1", 10)
    scratch.stock("B", "E1", 10)
    scratch.place(order("placed", ("A", 2), ("B", 1)))
    scratch.hold(order("held", ("A", 1)))
    scratch.submit(order("queued", ("A", 1)), order("waiting", ("A", 1)))
    scratch.claim(limit=1)
    scratch.value("SELECT api.bury_order(%s, 'X', 'x', 1)", psycopg.types.json.Jsonb({"key": "dead"}))
    assert scratch.verify() == []
    return scratch


# What is damaged, by which statement; the finding that comes first; its entry.
DAMAGE: dict[str, tuple[str, str, str]] = {
    "a tampered level": (
        "UPDATE shop.stock_levels SET available = available + 1 WHERE location_id IN"
        " (SELECT id FROM shop.locations WHERE code = 'E1')",
        "level_is_its_movements", "A at E1"),
    "a tampered account": (
        "UPDATE shop.stock_levels SET unavailable = 1 WHERE variant_id ="
        " (SELECT id FROM shop.product_variants WHERE sku = 'B')",
        "level_is_its_movements", "B at E1"),
    "a missing movement": (
        "DELETE FROM shop.stock_movements WHERE cause = 'order.placed' AND quantity = 2",
        "level_is_its_movements", "A at E1"),
    "a changed movement": (
        "UPDATE shop.stock_movements SET quantity = 9 WHERE cause = 'order.placed' AND quantity = 1",
        "level_is_its_movements", "B at E1"),
    "a lost level": (
        "DELETE FROM shop.stock_levels WHERE variant_id = (SELECT id FROM shop.product_variants WHERE sku = 'B')",
        "level_is_its_movements", "B at E1"),
    "an allocation released alone": (
        "UPDATE shop.order_allocations SET state = 'released' WHERE quantity = 2",
        "level_is_its_allocations", "A at E1"),
    "a lost allocation": (
        "DELETE FROM shop.order_allocations WHERE quantity = 2", "level_is_its_allocations", "A at E1"),
    "an allocation of another variant": (
        "UPDATE shop.order_allocations SET line_id = shop.part_id(order_id, 2) WHERE quantity = 2",
        "line_is_allocated_whole", "line 1"),
    "a wrong total": (
        "UPDATE shop.orders SET total_amount = total_amount + 1 WHERE key = 'placed'", "order_is_its_lines", "order"),
    "a lost line": (
        f"DELETE FROM shop.order_lines WHERE id = shop.part_id({OF_PLACED}, 2)",
        "line_is_allocated_whole", "line 2"),
    "a changed status without a step": (
        f"{UNGUARDED} UPDATE shop.orders SET status = 'in_fulfilment' WHERE key = 'placed'",
        "status_is_its_history", "order"),
    "a lost step": (
        f"DELETE FROM shop.order_status_history WHERE order_id = {OF_PLACED}", "status_is_its_history", "order"),
    "steps that do not follow one another": (
        f"{UNGUARDED} UPDATE shop.order_status_history SET from_status = 'held' WHERE order_id = {OF_PLACED}",
        "status_is_its_history", "order"),
    "a missing order": (
        "CREATE TEMP TABLE gone AS SELECT id FROM shop.orders WHERE key = 'held';"
        " DELETE FROM shop.order_lines WHERE order_id IN (SELECT id FROM gone);"
        " UPDATE shop.stock_levels SET held = 0, available = available + held;"
        " DELETE FROM shop.stock_movements WHERE order_id IN (SELECT id FROM gone);"
        " DELETE FROM shop.order_allocations WHERE order_id IN (SELECT id FROM gone);"
        " DELETE FROM shop.order_status_history WHERE order_id IN (SELECT id FROM gone);"
        " DELETE FROM shop.orders WHERE key = 'held'",
        "an_accepted_key_has_its_order", "held"),
    "a lost key": (
        "DELETE FROM shop.request_keys WHERE key = 'placed'", "an_order_has_its_key", "order"),
    "a key of two orders": (
        "UPDATE shop.orders SET key = 'placed' WHERE key = 'held'", "a_key_has_one_order", "placed"),
    "a lost dead letter": ("DELETE FROM shop.dead_letters", "a_dead_key_has_its_letter", "dead"),
    "a lost row of the queue": (
        "DELETE FROM shop.order_queue WHERE key = 'waiting'", "an_accepted_key_waits_in_the_queue", "waiting"),
    "a queued order without its key": (
        "DELETE FROM shop.request_keys WHERE key = 'waiting'", "a_queued_order_has_its_key", "waiting"),
    "a lost claim": ("DELETE FROM shop.claims", "a_claimed_order_has_its_claim", "queued"),
    "an allocation of another order": (
        f"UPDATE shop.order_allocations SET order_id = (SELECT id FROM shop.orders WHERE key = 'held')"
        f" WHERE order_id = {OF_PLACED} AND quantity = 2",
        "line_is_allocated_whole", "line 1"),
    "an allocation in another pool": (
        "UPDATE shop.order_allocations SET location_id = (SELECT id FROM shop.locations WHERE code = 'W1')"
        " WHERE quantity = 2;"
        " UPDATE shop.stock_movements SET to_location_id = (SELECT id FROM shop.locations WHERE code = 'W1')"
        " WHERE cause = 'order.placed' AND quantity = 2;"
        " UPDATE shop.stock_levels SET committed = 0 WHERE committed = 2; INSERT INTO shop.stock_levels (variant_id,"
        " location_id, committed) SELECT v.id, l.id, 2 FROM shop.product_variants AS v, shop.locations AS l"
        " WHERE v.sku = 'A' AND l.code = 'W1'",
        "allocation_is_of_its_order", "allocation 1"),
    "a movement of no order": (
        f"UPDATE shop.stock_movements SET order_id = shop.uuid7() WHERE order_id = {OF_PLACED} AND quantity = 2",
        "movement_is_of_something", "movement 2"),
    "a movement of an unknown variant": (
        "INSERT INTO shop.stock_movements (id, variant_id, from_account, to_account, quantity, cause)"
        " VALUES (shop.uuid7_floor(now()), 999999, 'supplier', 'customer', 1, 'bug')",
        "movement_is_of_something", "movement floor"),
    "an order whose movements are of another cause": (
        f"UPDATE shop.stock_movements SET order_id = NULL, cause = 'adjust' WHERE order_id = {OF_PLACED}"
        " AND quantity = 2",
        "allocation_is_its_movements", "order"),
    "a claim without its orders": (
        "UPDATE shop.order_queue SET claim_id = NULL WHERE key = 'queued'", "a_claim_has_its_orders", "claim"),
    "a gap in the partitions": (
        "DO $$ BEGIN EXECUTE 'DROP TABLE shop.stock_movements' || to_char(now() AT TIME ZONE 'UTC'"
        " + interval '1 month', '_YYYY_MM'); END $$",
        "partitions_ahead", "shop"),
    "fewer partitions": (
        "DO $$ DECLARE v text; BEGIN FOR v IN SELECT oid::regclass FROM pg_class WHERE relispartition AND relkind = 'r'"
        " AND relname LIKE 'stock\\_movements%' ORDER BY relname DESC LIMIT 4 LOOP EXECUTE 'DROP TABLE ' ||"
        " v; END LOOP;"
        " END $$",
        "partitions_ahead", "shop"),
}  # fmt: skip


def entry_of(shop: Shop, said: str) -> str:
    """Where the damage is known by an id that only this run knows."""
    placed = shop.value(f"SELECT {OF_PLACED}")
    ids = {
        "order": "SELECT %s::text",
        "line 1": "SELECT shop.part_id(%s, 1)::text",
        "line 2": "SELECT shop.part_id(%s, 2)::text",
        "allocation 1": "SELECT id::text FROM shop.order_allocations WHERE order_id = %s AND quantity = 2",
        "movement 2": "SELECT id::text FROM shop.stock_movements WHERE order_id = %s AND quantity = 2",
        "movement floor": "SELECT shop.uuid7_floor(now())::text FROM (SELECT %s::uuid) AS unused",
        "claim": "SELECT id::text FROM shop.claims CROSS JOIN (SELECT %s::uuid) AS unused",
    }
    return str(shop.value(ids[said], placed)) if said in ids else said


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damage_is_named_by_its_first_bad_entry_and_left_as_it_is(shop: Shop, damage: str) -> None:
    statement, check, said = DAMAGE[damage]
    entry = entry_of(shop, said)
    shop.db.execute(statement.encode())
    before = fingerprint(shop.db)

    findings = shop.verify()

    assert (findings[0][0], findings[0][1]) == (check, entry)
    assert isinstance(findings[0][2], dict)
    assert fingerprint(shop.db) == before
    assert shop.verify() == findings


def test_a_claim_whose_orders_are_gone_does_not_stop_the_sweep_of_others(shop: Shop) -> None:
    shop.db.execute("DELETE FROM shop.order_queue WHERE key = 'queued'")
    shop.claim()
    shop.expire_claims()

    for _ in range(4):
        shop.sweep(attempts=1)
        shop.expire_claims()

    assert shop.count("claims") == 0


def test_no_more_findings_than_asked_for_are_given(shop: Shop) -> None:
    shop.db.execute("UPDATE shop.stock_levels SET available = available + 1")

    assert len(shop.rows("SELECT entry FROM api.verify(1)")) == 1
    assert len(shop.rows("SELECT entry FROM api.verify()")) == 2


def test_verify_by_a_reader_sees_the_same(shop: Shop) -> None:
    shop.db.execute("UPDATE shop.stock_levels SET available = available + 1")
    mine: list[Any] = shop.verify()

    shop.db.execute("SET LOCAL ROLE ordermill_reader")
    theirs = shop.verify()
    shop.db.execute("SET LOCAL ROLE ordermill_owner")

    assert theirs == mine
