"""Attacks through SQL on every routine of `api`, by the very roles that may call it: text that would be SQL, and
objects of the caller's own that stand before those of Ordermill and PostgreSQL in its search path and in pg_temp."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier, Literal
from psycopg.types.json import Jsonb

from tests.conftest import ROLES
from tests.servers import Running, drop_database
from tests.shop import Shop, new_key, order, typed
from tests.workers_fixtures import own_database
from workers.database import connect

HOSTILE = (
    "'; DROP TABLE shop.canary; --",
    "'); DROP TABLE shop.canary; SELECT ('",
    '"; DROP TABLE shop.canary; --',
    "orders; DROP TABLE shop.canary",
    "$$; DROP TABLE shop.canary; $$",
    "\\'; DROP TABLE shop.canary; --",
    "canary'||(SELECT count(*) FROM shop.orders)||'",
    "%s %I %L %1$s",
    '{canary,NULL,"\'; DROP TABLE shop.canary; --"}',
    "shop.canary",
    "evil.lower",
    "verify; SELECT evil.lower('x')",
)
# One that each type takes, so that a call comes as far as the hostile text beside it.
PLAIN = {
    "integer": 1,
    "bigint": 1,
    "double precision": 1.0,
    "boolean": True,
    "interval": "1 hour",
    "timestamp with time zone": "2026-11-24T00:00:00Z",
    "uuid": "01a20cec-66ae-7e86-a895-57566d7c0000",
    "integer[]": [1],
    "bigint[]": [1],
    "double precision[]": [60.0],
    "uuid[]": ["01a20cec-66ae-7e86-a895-57566d7c0000"],
}
TEXTS = {"text", "text[]", "jsonb"}
ROUTINES = """SELECT p.oid::regprocedure::text AS name, p.proname, p.proargtypes::regtype[]::text[] AS types,
        (SELECT array_agg(r) FROM unnest(%s::text[]) AS r WHERE has_function_privilege(r, p.oid, 'EXECUTE')) AS roles
    FROM pg_proc AS p WHERE p.pronamespace = 'api'::regnamespace ORDER BY 1"""
# Each speaks up when it runs with the owner's rights. A warning reaches the client whatever becomes of the transaction.
TRAP = """
CREATE SCHEMA evil;
GRANT ALL ON SCHEMA evil TO PUBLIC;
DO $do$
DECLARE
    v_body constant text := $f$ LANGUAGE plpgsql AS $b$ BEGIN
        IF current_user::pg_catalog.text OPERATOR(pg_catalog.=) 'ordermill_owner'::pg_catalog.text THEN
            RAISE WARNING 'caught as the owner: %%', '%s';
        END IF;
        RETURN%s;
    END $b$ $f$;
    v record;
    v_name text;
BEGIN
    FOR v IN
        SELECT p.proname, p.proretset OR p.prorettype = 'void'::regtype AS bare,
            pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
        FROM pg_proc AS p
        WHERE p.prokind = 'f' AND p.prorettype <> 'trigger'::regtype AND (p.pronamespace = 'shop'::regnamespace
            OR p.pronamespace = 'pg_catalog'::regnamespace AND p.proname IN (
                SELECT w[1] FROM pg_proc AS q, regexp_matches(q.prosrc, '([a-z_0-9]+)\\s*\\(', 'g') AS w
                WHERE q.pronamespace IN ('shop'::regnamespace, 'api'::regnamespace)))
    LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s ', v.proname, v.arguments, v.result)
                || format(v_body, v.proname, CASE WHEN v.bare THEN '' ELSE ' NULL' END);
        EXCEPTION WHEN OTHERS THEN
            NULL; -- of a kind that PL/pgSQL cannot have
        END;
    END LOOP;
    FOR v IN
        SELECT o.oprname, o.oprleft::regtype AS l, o.oprright::regtype AS r, o.oprresult::regtype AS result, o.oid AS n
        FROM pg_operator AS o
        WHERE o.oprleft IN ('text'::regtype, 'int4'::regtype, 'int8'::regtype, 'uuid'::regtype, 'timestamptz'::regtype,
            'interval'::regtype, 'jsonb'::regtype, 'bool'::regtype, 'name'::regtype, 'anyarray'::regtype)
            AND o.oprright <> 0 AND o.oprcode <> 0
    LOOP
        BEGIN
            v_name := 'operator_' || v.n;
            EXECUTE format('CREATE FUNCTION evil.%I(%s, %s) RETURNS %s ', v_name, v.l, v.r, v.result)
                || format(v_body, v.oprname, ' NULL');
            EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = evil.%I)',
                v.oprname, v.l, v.r, v_name);
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
END
$do$;
CREATE TABLE shop.canary (n integer);
INSERT INTO shop.canary VALUES (1);
-- What all routines would be without a pinned path: the trap must catch these, or it catches nothing.
CREATE FUNCTION api.loose(p_text text) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
AS $$ BEGIN RETURN lower(p_text) = 'x'; END $$;
CREATE FUNCTION api.half_pinned() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = shop
AS $$ BEGIN RETURN (SELECT count(id) FROM orders); END $$;
CREATE FUNCTION api.pasted(p_text text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = shop, pg_temp
AS $$ BEGIN EXECUTE 'SELECT ''' || p_text || ''''; END $$;
ALTER TABLE shop.canary OWNER TO ordermill_owner;
ALTER FUNCTION api.loose OWNER TO ordermill_owner;
ALTER FUNCTION api.half_pinned OWNER TO ordermill_owner;
ALTER FUNCTION api.pasted OWNER TO ordermill_owner;
"""
CARELESS = ("loose", "half_pinned", "pasted")


class Attack:
    """A session of an application in the database; `role` is whose rights it takes for a call."""

    def __init__(self, session: psycopg.Connection[Any]) -> None:
        self.session = session
        self.caught: list[str] = []
        session.add_notice_handler(self._note)

    def _note(self, notice: psycopg.errors.Diagnostic) -> None:
        if "caught as the owner" in (notice.message_primary or ""):
            self.caught.append(notice.message_primary or "")

    def take(self, role: str) -> None:
        """The role, with hostile objects before all others; pg_temp is searched first where nothing says otherwise."""
        self.session.execute("RESET ROLE")
        self.session.execute(SQL("SET ROLE {}").format(Identifier(role)))
        self.session.execute("SET search_path = evil, pg_catalog")

    def call(self, proname: str, types: list[str], arguments: list[Any]) -> str | None:
        """Calls it and takes back what it did; gives the SQLSTATE where it failed."""
        places = SQL(", ").join(
            SQL("{}::pg_catalog.{}").format(Literal(a), SQL(quoted(t))) for a, t in zip(arguments, types, strict=True)
        )
        statement = SQL("SELECT * FROM api.{}({})").format(Identifier(proname), places)
        try:
            with self.session.transaction(force_rollback=True):
                self.session.execute(statement)
                self.session.execute("RESET ROLE")
                if self.session.execute("SELECT pg_catalog.to_regclass('shop.canary')").fetchone() == (None,):
                    self.caught.append("the canary is gone")
        except psycopg.Error as error:
            return error.sqlstate
        return None


def quoted(kind: str) -> str:
    return {
        "double precision": "float8",
        "double precision[]": "float8[]",
        "timestamp with time zone": "timestamptz",
        "integer": "int4",
        "integer[]": "int4[]",
        "bigint": "int8",
        "bigint[]": "int8[]",
        "boolean": "bool",
    }.get(kind, kind)


@pytest.fixture(scope="module")
def attacked(servers: Running) -> Iterator[str]:
    name, url = own_database(servers)
    try:
        with connect(url) as owner:
            owner.execute("SET ROLE ordermill_owner")
            shop = Shop(owner)
            shop.open()
            shop.stock("A", "E1", 100)
            owner.execute("RESET ROLE")
            owner.execute(TRAP.encode())
        yield url
    finally:
        drop_database(servers, name)


@pytest.fixture
def attack(attacked: str) -> Iterator[Attack]:
    """With a temporary table of no columns for each table of the shop: who takes one for the shop's finds no column."""
    with connect(attacked) as session:
        tables = session.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'shop'::regnamespace AND relkind IN ('r', 'p', 'm')"
        ).fetchall()
        for (table,) in tables:
            session.execute(SQL("CREATE TEMPORARY TABLE {} ()").format(Identifier(table)))
        yield Attack(session)


def hostile(kind: str, text: str) -> Any:
    """The text, as a value of this type that a routine takes as far as it can."""
    if kind == "text":
        return text
    if kind == "text[]":
        return [text]
    lines = {"version": 1, "lines": [{"sku": text, "quantity": 1}]}
    return Jsonb([dict.fromkeys(("key", "customer", "pool", "currency", "ship_to"), text) | lines])


def routines(session: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    with session.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        found = cursor.execute(ROUTINES, [list(ROLES)]).fetchall()
    return [each for each in found if each["proname"] not in CARELESS]


def test_each_routine_takes_hostile_text_as_text_and_no_object_of_the_callers(attack: Attack) -> None:
    every = routines(attack.session)
    assert len(every) > 70
    calls = 0
    for routine in every:
        assert {*routine["types"]} <= {*PLAIN, *TEXTS}, routine["name"]
        attack.take(routine["roles"][0])
        for text in HOSTILE if TEXTS & {*routine["types"]} else HOSTILE[:1]:
            arguments = [hostile(kind, text) if kind in TEXTS else PLAIN[kind] for kind in routine["types"]]
            state = attack.call(routine["proname"], routine["types"], arguments)
            # 42 is SQL that was made wrongly, or a column of the wrong table; XX a fault of PostgreSQL's.
            assert not (state or "").startswith(("42", "XX")), (routine["name"], text, state)
            assert attack.caught == [], (routine["name"], text)
            calls += 1
    assert calls > 500


def test_an_order_travels_its_whole_way_with_hostile_objects_before_all_others(attack: Attack) -> None:
    """Further than hostile text comes: each of these succeeds."""
    key = {name: new_key() for name in ("placed", "queued", "held", "confirm", "cancel", "adjust")}
    worker = [typed(order(key["placed"], ("A", 1)))]
    attack.take("ordermill_worker")

    def value(statement: str, *arguments: Any) -> Any:
        row = attack.session.execute(statement.encode(), arguments).fetchone()
        return row[0] if row else None

    with attack.session.transaction(force_rollback=True):
        assert value("SELECT api.place_orders(%s)", Jsonb(worker))["status"] == "placed"
        assert value("SELECT api.place_order(%s)", Jsonb(worker[0]))["status"] == "placed"
        value("SELECT api.submit_orders(%s::pg_catalog.jsonb)", Jsonb([order(key["queued"], ("A", 1))]))
        claim = value(
            "SELECT (c).claim_id FROM api.claim_orders(%s, 10, 60, 0) AS c",
            value("SELECT id FROM api.pools WHERE pools.code OPERATOR(pg_catalog.=) 'EAST'"),
        )
        assert value("SELECT api.place_claim(%s)", claim)["status"] == "placed"
        held = value("SELECT api.hold_orders(%s, '1 hour')", Jsonb([order(key["held"], ("A", 1))]))["order_id"]
        assert value("SELECT api.confirm_order(%s, %s)", key["confirm"], held)["status"] == "done"
        assert value("SELECT api.cancel_order(%s, %s, 'x')", key["cancel"], held)["status"] == "done"
        adjusted = value("SELECT api.adjust_inventory(%s, 'A', 'E1', 5, 'count')", key["adjust"])
        assert adjusted["status"] == "done", adjusted
        for statement in (
            "SELECT api.expire_holds(10)",
            "SELECT api.sequence_events(1000)",
            "SELECT api.dispatch_events('alerts', 100)",
            "SELECT api.dispatch_events('webhooks', 100)",
            "SELECT api.scan_low_stock(0, 100, 100)",
            "SELECT api.prune('1 day', 100)",
            "SELECT api.ensure_partitions(7)",
            "SELECT api.refresh_view('sales_by_day')",
            "SELECT * FROM api.stale_views()",
            "SELECT * FROM api.read_products('{A}')",
            "SELECT * FROM api.read_availability('{A}')",
            *(f"SELECT * FROM api.report('{name}')" for name in ("statistics", "slow", "indexes", "locks")),
        ):
            attack.session.execute(statement.encode())
        assert attack.session.execute("SELECT * FROM api.verify()").fetchall() == []
    assert attack.caught == []


def test_the_trap_catches_routines_that_do_not_pin_their_path_or_paste_text(attack: Attack) -> None:
    twins = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'evil'::regnamespace"
    assert attack.session.execute(twins.encode()).fetchall()[0][0] > 400
    with attack.session.transaction(force_rollback=True):
        for name in ("loose(text)", "half_pinned()", "pasted(text)"):
            attack.session.execute(f"GRANT EXECUTE ON FUNCTION api.{name} TO ordermill_app".encode())
        attack.take("ordermill_app")

        assert attack.call("half_pinned", [], []) == "42703"
        attack.call("loose", ["text"], ["x"])
        assert attack.caught == ["caught as the owner: ="]
        attack.call("pasted", ["text"], [HOSTILE[0]])
        assert "the canary is gone" in attack.caught
