"""Roles: only routines write, and each role may run exactly what `sql/roles/grants.sql` says."""

import re
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.conftest import ROLES
from tests.shop import Shop, fingerprint, order
from workers.migrate import SQL

PRIVILEGES = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"]
ROUTINES = """SELECT p.oid::regprocedure::text FROM pg_proc AS p
    WHERE p.pronamespace IN ('shop'::regnamespace, 'api'::regnamespace) AND {} ORDER BY 1"""


def granted() -> dict[str, set[str]]:
    """Names of routines by role, as the file of grants says."""
    text = re.sub(r"--[^\n]*", "", (SQL / "roles" / "grants.sql").read_text())
    found: dict[str, set[str]] = {role: set() for role in ROLES}
    for routines, roles in re.findall(r"GRANT EXECUTE ON FUNCTION(.*?)TO(.*?);", text, re.DOTALL):
        for role in re.findall(r"\w+", roles):
            found[role] |= set(re.findall(r"api\.(\w+)\s*\(", routines))
    return found


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_no_right_on_any_table_of_the_shop(scratch: Shop, role: str) -> None:
    rights = scratch.maps(
        """SELECT c.oid::regclass::text AS name, p AS privilege FROM pg_class AS c, unnest(%s::text[]) AS p
           WHERE c.relnamespace = 'shop'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
               AND has_table_privilege(%s, c.oid, p)""",
        PRIVILEGES,
        role,
    )
    sequences = scratch.rows(
        """SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = 'shop'::regnamespace AND CASE c.relkind WHEN 'S'
               THEN has_sequence_privilege(%s, c.oid, 'USAGE,SELECT,UPDATE') ELSE false END""",
        role,
    )

    assert (rights, sequences) == ([], [])


@pytest.mark.parametrize("role", ROLES)
def test_a_role_that_tries_to_write_a_table_is_refused(scratch: Shop, role: str) -> None:
    tables = scratch.rows(
        "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'shop'::regnamespace AND relkind IN ('r', 'p')"
    )
    before = fingerprint(scratch.db)
    assert len(tables) > 50
    for table in tables:
        for attempt in (
            f"INSERT INTO {table} DEFAULT VALUES",
            f"UPDATE {table} SET ctid = NULL",
            f"DELETE FROM {table}",
            f"TRUNCATE {table}",
        ):
            statement = attempt.replace("SET ctid = NULL", "SET " + first_column(table))
            with pytest.raises(psycopg.errors.InsufficientPrivilege), scratch.db.transaction():
                act_as(scratch, role, statement)
    assert fingerprint(scratch.db) == before


def act_as(shop: Shop, role: str, statement: str) -> None:
    """Within a savepoint, which ends the role with the statement."""
    shop.db.execute(f"SET LOCAL ROLE {role}".encode())
    shop.db.execute(statement.encode())


def first_column(table: str) -> str:
    """A column that the table has: the refusal must not be for a column it has not."""
    columns = {"stock_levels": "held", "job_runs": "job", "allowed_transitions": "from_status", "request_keys": "key"}
    columns |= {"currencies": "code", "schema_version": "version_num", "message_attempts": "message"}
    columns |= {"webhook_deliveries": "attempts", "delivery_streams": "due_at"}
    columns |= {"events_inbox": "stream", "events": "kind", "event_head": "position", "event_consumers": "position"}
    columns |= {"retention_policies": "kind", "retirements": "month", "opening_balances": "held", "archives": "file"}
    columns |= {"upkeep_findings": "report", "table_sizes": "bytes"}
    columns |= {"view_freshness": "view", "view_states": "view"}
    columns |= {"queue_looks": "waiting"}
    column = columns.get(table.removeprefix("shop."), "id")
    return f"{column} = DEFAULT"


@pytest.mark.parametrize("role", ROLES)
def test_a_role_can_make_nothing_in_either_schema(scratch: Shop, role: str) -> None:
    for schema in ("shop", "api"):
        assert not scratch.value("SELECT has_schema_privilege(%s, %s, 'CREATE')", role, schema)
    assert not scratch.value("SELECT has_schema_privilege(%s, 'shop', 'USAGE')", role)
    with pytest.raises(psycopg.errors.InsufficientPrivilege), scratch.db.transaction():
        act_as(scratch, role, "CREATE TABLE api.mine (n integer)")


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_run_exactly_the_routines_granted_to_it(scratch: Shop, role: str) -> None:
    may = scratch.rows(ROUTINES.format("has_function_privilege(%s, p.oid, 'EXECUTE')"), role)

    assert {re.sub(r"^api\.|\(.*$", "", name) for name in may} == granted()[role]
    assert all(name.startswith("api.") for name in may)


def test_public_may_run_nothing(scratch: Shop) -> None:
    open_to_all = scratch.rows(
        ROUTINES.format(
            "EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) WHERE grantee = 0)"
        )
    )

    assert open_to_all == []
    assert not scratch.value(
        "SELECT bool_or(has_schema_privilege('public', s, 'USAGE')) FROM unnest('{api,shop}'::text[]) AS s"
    )


def test_no_role_can_log_in_or_is_a_member_of_the_owner(scratch: Shop) -> None:
    for role in ROLES:
        assert scratch.maps(
            "SELECT rolcanlogin, rolsuper, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = %s", role
        ) == [{"rolcanlogin": False, "rolsuper": False, "rolcreaterole": False, "rolbypassrls": False}]
        assert not scratch.value("SELECT pg_has_role(%s, 'ordermill_owner', 'MEMBER')", role)


def test_each_routine_of_api_runs_as_the_owner_with_a_pinned_search_path(scratch: Shop) -> None:
    routines = scratch.maps(
        """SELECT p.oid::regprocedure::text AS name, p.prosecdef AS definer, p.proowner::regrole::text AS owner,
               coalesce('search_path=shop, pg_temp' = ANY (p.proconfig), false) AS pinned
           FROM pg_proc AS p WHERE p.pronamespace = 'api'::regnamespace"""
    )

    assert len(routines) > 25
    for routine in routines:
        assert (routine["definer"], routine["owner"], routine["pinned"]) == (True, "ordermill_owner", True), routine


def test_each_plpgsql_routine_of_the_shop_pins_its_search_path(scratch: Shop) -> None:
    loose = scratch.rows(
        """SELECT p.oid::regprocedure::text FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
           WHERE p.pronamespace = 'shop'::regnamespace AND l.lanname = 'plpgsql'
               AND NOT coalesce('search_path=shop, pg_temp' = ANY (p.proconfig), false)"""
    )

    assert loose == []


def test_each_routine_view_and_schema_says_what_it_promises(scratch: Shop) -> None:
    silent = scratch.rows(ROUTINES.format("obj_description(p.oid, 'pg_proc') IS NULL"))
    silent += scratch.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = 'api'::regnamespace AND obj_description(oid,"
        " 'pg_class') IS NULL"
    )

    assert silent == []


def test_all_that_the_shop_has_belongs_to_its_owner(scratch: Shop) -> None:
    others = scratch.rows(
        """SELECT relname FROM pg_class WHERE relnamespace IN ('shop'::regnamespace, 'api'::regnamespace)
               AND relowner <> 'ordermill_owner'::regrole"""
    )

    assert others == []


def test_an_application_orders_holds_confirms_and_cancels_with_its_own_role(
    shop: Shop, connect_as: Callable[[str], psycopg.Connection[Any]]
) -> None:
    shop.stock("A", "E1", 9)
    app = Shop(connect_as("ordermill_app"))

    assert app.submit(order("a", ("A", 1)))[0]["status"] == "accepted"
    [held] = app.hold(order("b", ("A", 1)))
    assert app.confirm(held["order_id"])["status"] == "done"
    assert app.cancel(held["order_id"])["status"] == "done"
    assert (app.outcome("b") or {})["status"] == "held"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.place(order("c", ("A", 1)))
    assert shop.outcome("c") is None
