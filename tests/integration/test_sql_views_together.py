"""Refreshing views while others do: two at once, readers, the deadline, a session that is ended, and the roles."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.conftest import ROLES
from tests.market import ALL, due
from tests.shop import Shop, order
from tests.waiting import Step
from workers.migrate import migrate

Connect = Callable[[str], psycopg.Connection[Any]]
REFRESH = "SELECT outcome, error FROM api.refresh_view('sales_by_day')"
ORDERS = "SELECT coalesce(sum(orders), 0) FROM api.sales_by_day"


@pytest.fixture
def selling(shop: Shop) -> Shop:
    """One order, which the views know."""
    shop.stock("A", "E1", 100)
    shop.place(order("first", ("A", 1)))
    shop.value(REFRESH)
    assert shop.value(ORDERS) == 1
    return shop


def age(shop: Shop) -> None:
    shop.db.execute("UPDATE shop.view_states SET refreshed_at = refreshed_at - interval '2 days'")


def test_two_at_once_refresh_a_view_once_and_a_reader_waits_for_neither(selling: Shop, connect_as: Connect) -> None:
    first, second, reader = (connect_as(role) for role in ("ordermill_worker", "ordermill_worker", "ordermill_reader"))
    selling.place(order("second", ("A", 1)))
    for session in (second, reader):
        session.execute("SET lock_timeout = '200ms'")

    first.execute("BEGIN")
    assert first.execute(REFRESH.encode()).fetchone() == ("refreshed", None)
    assert second.execute(REFRESH.encode()).fetchone() == ("skipped", None)
    other = second.execute("SELECT outcome FROM api.refresh_view('inventory_metrics')").fetchone()
    assert other == ("refreshed",)  # the lock is of one view
    assert reader.execute(ORDERS.encode()).fetchone() == (1,)
    first.execute("COMMIT")

    assert reader.execute(ORDERS.encode()).fetchone() == (2,)
    assert second.execute(REFRESH.encode()).fetchone() == ("refreshed", None)


def test_a_reader_in_a_long_transaction_does_not_hold_a_refresh_up(selling: Shop, connect_as: Connect) -> None:
    reader, worker = connect_as("ordermill_reader"), connect_as("ordermill_worker")
    worker.execute("SET lock_timeout = '200ms'")
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert reader.execute(ORDERS.encode()).fetchone() == (1,)
    selling.place(order("second", ("A", 1)))

    assert worker.execute(REFRESH.encode()).fetchone() == ("refreshed", None)

    assert reader.execute(ORDERS.encode()).fetchone() == (1,)
    reader.execute("COMMIT")
    assert reader.execute(ORDERS.encode()).fetchone() == (2,)


def test_orders_are_placed_while_a_view_is_refreshed(selling: Shop, connect_as: Connect) -> None:
    worker, application = connect_as("ordermill_worker"), Shop(connect_as("ordermill_worker"))
    worker.execute("BEGIN")
    for view in ALL:
        worker.execute("SELECT api.refresh_view(%s)", [view])
    application.db.execute("SET lock_timeout = '200ms'")

    assert application.place(order("meanwhile", ("A", 1)))[0]["status"] == "placed"
    worker.execute("COMMIT")


@pytest.mark.parametrize("view", ["sales_by_day", "inventory_metrics"])
def test_what_commits_after_the_refresh_began_makes_the_view_due_again(
    selling: Shop, connect_as: Connect, view: str
) -> None:
    selling.stock("B", "E1", 9)
    late = Shop(connect_as("ordermill_worker"))
    late.db.execute("BEGIN")
    late.place(order("late", ("B", 1)))  # its ids and its movements are older than those of the next
    selling.place(order("second", ("A", 1)))
    for _ in ALL:
        selling.value("SELECT api.refresh_view(%s)", view)
    age(selling)
    assert view not in due(selling)

    late.db.execute("COMMIT")

    assert view in due(selling)


def test_a_refresh_over_its_deadline_is_ended_recorded_and_not_tried_at_once(
    selling: Shop, connect_as: Connect
) -> None:
    writer, worker = connect_as("owner"), connect_as("ordermill_worker")
    worker.execute(REFRESH.encode())  # what is first used in a session takes time that is not the refresh's
    selling.place(order("second", ("A", 1)))
    age(selling)
    assert "sales_by_day" in due(selling)
    writer.execute("BEGIN")
    writer.execute("LOCK TABLE shop.orders IN ACCESS EXCLUSIVE MODE")
    worker.execute("SET statement_timeout = '2s'")

    outcome, error = worker.execute(REFRESH.encode()).fetchone() or ()

    assert (outcome, error) == ("failed", "canceling statement due to statement timeout (57014)")
    assert selling.value(ORDERS) == 1
    assert "sales_by_day" not in due(selling)
    [row] = selling.maps("SELECT rows, ms, error FROM api.view_refreshes WHERE error IS NOT NULL")
    assert (row["rows"], row["error"]) == (None, error)
    assert row["ms"] >= 1_950
    writer.execute("ROLLBACK")
    worker.execute("RESET statement_timeout")
    assert worker.execute(REFRESH.encode()).fetchone() == ("refreshed", None)


def test_a_session_that_is_ended_midway_leaves_the_old_data_and_no_lock(selling: Shop, connect_as: Connect) -> None:
    writer, worker, other = connect_as("owner"), connect_as("ordermill_worker"), connect_as("ordermill_worker")
    selling.place(order("second", ("A", 1)))
    age(selling)
    writer.execute("BEGIN")
    writer.execute("LOCK TABLE shop.orders IN ACCESS EXCLUSIVE MODE")
    midway = Step(worker, REFRESH).waits(selling.db)
    assert other.execute(REFRESH.encode()).fetchone() == ("skipped", None)

    selling.db.execute("RESET ROLE")
    selling.db.execute("SELECT pg_terminate_backend(%s, 5000)", [worker.info.backend_pid])
    selling.db.execute("SET ROLE ordermill_owner")

    with pytest.raises(psycopg.OperationalError):
        midway.result()
    writer.execute("ROLLBACK")
    assert selling.value(ORDERS) == 1
    assert "sales_by_day" in due(selling)
    assert other.execute(REFRESH.encode()).fetchone() == ("refreshed", None)
    assert selling.value(ORDERS) == 2


def test_each_role_may_do_its_part_and_no_more(selling: Shop, connect_as: Connect) -> None:
    may_set, may_refresh, may_read = {"ordermill_maintainer"}, {"ordermill_maintainer", "ordermill_worker"}, set(ROLES)
    may_read -= {"ordermill_app"}
    for role in ROLES:
        session = connect_as(role)
        for allowed, statement in (
            (may_set, "SELECT api.set_view_freshness('sales_by_day', '1 hour')"),
            (may_refresh, "SELECT api.refresh_view('customer_patterns')"),
            (may_read, "SELECT * FROM api.stale_views()"),
            *((may_read, f"SELECT * FROM api.{view}") for view in (*ALL, "view_freshness", "view_refreshes")),
            *((set(), f"SELECT * FROM shop.{view}") for view in ALL),
            *((set(), f"REFRESH MATERIALIZED VIEW shop.{view}") for view in ALL),
        ):
            if role in allowed:
                session.execute(statement.encode())
            else:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    session.execute(statement.encode())


def test_a_refresh_needs_no_right_of_public_on_the_database(selling: Shop, database_url: str) -> None:
    selling.db.execute("RESET ROLE")
    name = selling.value("SELECT current_database()")
    selling.db.execute(f"REVOKE ALL ON DATABASE {name} FROM public".encode())
    migrate(database_url)
    selling.db.execute("SET ROLE ordermill_owner")

    assert selling.value("SELECT outcome FROM api.refresh_view('sales_by_day')") == "refreshed"
