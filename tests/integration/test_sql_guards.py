"""Each guard of the database refuses what it is there to refuse, and without it the same statement goes through."""

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from tests.guards import EXEMPT, KEPT, REFUSED
from tests.shop import Shop, fingerprint, order

pytestmark = pytest.mark.breaks_the_shop
STATES = {"c": "23514", "f": "23503", "p": "23505", "u": "23505"}


@pytest.fixture
def shop(scratch: Shop) -> Shop:
    """One of everything: a placed and a held order, a claimed one in the queue, a letter, an attempt, a job run, a
    refresh."""
    scratch.stock("A", "E1", 10)
    scratch.stock("A", "E2", 10)
    scratch.stock("B", "E1", 10)
    scratch.place(order("placed", ("A", 2)))
    scratch.hold(order("held", ("B", 1)))
    scratch.submit(order("queued", ("A", 1)))
    scratch.claim()
    scratch.value("SELECT api.bury_order(%s, 'X', 'x', 1)", psycopg.types.json.Jsonb({"key": "dead"}))
    scratch.value("SELECT api.count_attempt('counted')")
    scratch.value("SELECT api.claim_job('job', '1 day', '1 min')")
    for statement in KEPT:
        scratch.db.execute(statement.encode())
    scratch.value("SELECT api.sequence_events(1)")
    scratch.value("SELECT api.add_alert_recipient('a@x.example')")
    scratch.db.execute("UPDATE shop.stock_levels SET low_stock_threshold = 99 WHERE available = 8")
    assert scratch.value("SELECT changed FROM api.scan_low_stock()") == 1
    scratch.value("SELECT api.add_webhook('hook', 'https://hooks.example/')")
    scratch.value("SELECT api.sequence_events(1)")
    scratch.value("SELECT api.dispatch_events('webhooks')")
    scratch.db.execute("INSERT INTO shop.event_consumers (consumer) VALUES ('one')")
    scratch.value("SELECT api.refresh_view('sales_by_day')")
    return scratch


def constraint(shop: Shop, name: str) -> tuple[str, str]:
    """Its kind and the table it is declared on."""
    [found] = shop.maps(
        "SELECT contype::text, conrelid::regclass::text AS declared FROM pg_constraint"
        " WHERE conname = %s AND connamespace = 'shop'::regnamespace AND conparentid = 0 AND coninhcount = 0",
        name,
    )
    return found["contype"], found["declared"]


def declared_name(shop: Shop, name: str | None) -> str | None:
    """The name in the migration of a constraint that a partition has under a name of its own."""
    parent = shop.value(
        "SELECT p.conname FROM pg_constraint AS c JOIN pg_constraint AS p ON p.oid = c.conparentid WHERE c.conname = %s"
        " AND c.connamespace = 'shop'::regnamespace LIMIT 1",
        name,
    )
    return parent or name


@pytest.mark.parametrize("name", REFUSED)
def test_a_guard_refuses_what_goes_through_without_it(shop: Shop, name: str) -> None:
    kind, table = constraint(shop, name)
    before = fingerprint(shop.db)

    with pytest.raises(psycopg.IntegrityError) as caught, shop.db.transaction():
        shop.db.execute(REFUSED[name].encode())

    assert caught.value.sqlstate == STATES[kind]
    assert name in {caught.value.diag.constraint_name, declared_name(shop, caught.value.diag.constraint_name)}
    assert fingerprint(shop.db) == before
    shop.db.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name} CASCADE".encode())
    assert shop.db.execute(REFUSED[name].encode()).rowcount >= 1
    assert fingerprint(shop.db) != before


def test_each_constraint_of_the_shop_has_a_statement_that_it_refuses(shop: Shop) -> None:
    named = shop.rows(
        "SELECT conname FROM pg_constraint WHERE connamespace = 'shop'::regnamespace AND conparentid = 0"
        " AND coninhcount = 0"
        " AND contype IN ('c', 'f', 'p', 'u', 'x')"
    )

    assert sorted(named) == sorted([*REFUSED, *EXEMPT])


@pytest.mark.parametrize("column", ["from_status", "to_status"])
def test_a_step_from_or_to_nothing_is_refused(shop: Shop, column: str) -> None:
    """A foreign key lets NULL pass, so NOT NULL is half of the guard `step_is_allowed`."""
    values = {"from_status": "'new'", "to_status": "'held'"} | {column: "NULL"}
    statement = (
        "INSERT INTO shop.order_status_history (id, order_id, from_status, to_status)"
        f" SELECT shop.part_id(id, 9), id, {values['from_status']}, {values['to_status']} FROM shop.orders LIMIT 1"
    )

    with pytest.raises(psycopg.errors.NotNullViolation) as caught, shop.db.transaction():
        shop.db.execute(statement.encode())

    assert caught.value.diag.column_name == column
    shop.db.execute(f"ALTER TABLE shop.order_status_history ALTER {column} DROP NOT NULL".encode())
    assert shop.db.execute(statement.encode()).rowcount == 1


STEPS = {
    "orders_record_first_step": "INSERT INTO shop.orders (id, key, customer_id, pool_id, status, currency,"
    " total_amount,"
    " ordered_at) SELECT shop.new_order_id(), 'x', customer_id, pool_id, 'completed', currency, 0, now()"
    " FROM shop.orders"
    " WHERE key = 'placed'",
    "orders_record_next_step": "UPDATE shop.orders SET status = 'completed' WHERE key = 'placed'",
}


@pytest.mark.parametrize("trigger", STEPS)
def test_an_illegal_step_is_refused_by_the_trigger_and_found_by_verify_without_it(shop: Shop, trigger: str) -> None:
    before = fingerprint(shop.db)

    with pytest.raises(psycopg.errors.ForeignKeyViolation) as caught, shop.db.transaction():
        shop.db.execute(STEPS[trigger].encode())

    assert caught.value.diag.constraint_name == "step_is_allowed"
    assert fingerprint(shop.db) == before
    shop.db.execute(SQL("DROP TRIGGER {} ON shop.orders").format(Identifier(trigger)))
    shop.db.execute(STEPS[trigger].encode())
    assert "status_is_its_history" in shop.rows("SELECT check_name FROM api.verify()")


def test_a_status_that_nobody_knows_is_refused(shop: Shop) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation) as caught, shop.db.transaction():
        shop.db.execute("UPDATE shop.orders SET status = 'teleported' WHERE key = 'placed'")

    assert caught.value.diag.constraint_name == "step_is_allowed"


def test_a_movement_of_a_level_that_is_not_there_is_refused_whole(shop: Shop) -> None:
    before = fingerprint(shop.db)

    with pytest.raises(psycopg.Error) as caught, shop.db.transaction():
        shop.db.execute(
            """SELECT shop.apply_movements(ARRAY[ROW(v.id, NULL, 'supplier', l.id, 'available', 1, 'bug', NULL, NULL,
                   NULL)::shop.stock_move]) FROM shop.product_variants AS v, shop.locations AS l
               WHERE v.sku = 'B' AND l.code = 'E3'"""
        )

    assert caught.value.sqlstate == "OM022"
    assert fingerprint(shop.db) == before


def test_a_key_is_decided_once(shop: Shop) -> None:
    before = fingerprint(shop.db)

    with pytest.raises(psycopg.Error) as caught, shop.db.transaction():
        shop.db.execute("SELECT shop.decide_key('placed', 'rejected', '{}')")

    assert caught.value.sqlstate == "OM099"
    assert fingerprint(shop.db) == before


def test_a_row_of_a_month_without_a_partition_is_refused_not_put_elsewhere(shop: Shop) -> None:
    with pytest.raises(psycopg.errors.CheckViolation), shop.db.transaction():
        shop.db.execute(
            """INSERT INTO shop.stock_movements (id, variant_id, from_account, to_account, to_location_id,
            quantity, cause)
               VALUES (shop.uuid7('2020-01-01'), 1, 'supplier', 'available', 1, 1, 'bug')"""
        )
