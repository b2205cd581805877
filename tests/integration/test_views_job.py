"""`views.refresh` by a real worker, and `ordermill views` in a terminal."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.market import ALL
from tests.shop import Shop, order
from tests.workers_fixtures import Mill, clean_environment, kill
from workers.child import wait_until
from workers.errors import OrdermillError
from workers.jobs import job_session
from workers.views import refresh_stale

Connect = Callable[[str], psycopg.Connection[Any]]
ORDERS = "SELECT coalesce(sum(orders), 0)::integer FROM api.sales_by_day"
MONTHS = "SELECT coalesce(sum(orders), 0)::integer FROM api.sales_by_month"
# A lock that is waited for in the middle of a refresh must not end it before the test does.
PATIENT = {
    "ORDERMILL_LOCK_TIMEOUT_MS": "50000", "ORDERMILL_STATEMENT_TIMEOUT_MS": "55000",
    "ORDERMILL_CLAIM_LEASE_SECONDS": "60",
}  # fmt: skip


def age(shop: Shop) -> None:
    shop.db.execute("UPDATE shop.view_states SET refreshed_at = refreshed_at - interval '366 days'")


def refreshes(shop: Shop, good: bool = True) -> dict[str, int]:
    found = shop.db.execute(
        "SELECT view, count(*) FROM shop.view_refreshes WHERE (error IS NULL) = %s GROUP BY 1", [good]
    )
    return dict(found.fetchall())


def test_a_worker_refreshes_what_is_stale_in_one_run_and_nothing_while_nothing_happens(fresh_mill: Mill) -> None:
    """Then one that is killed in the middle of a refresh: the old data stands, and the next worker does it."""
    shop = fresh_mill.shop
    shop.stock("A", "E1", 50)
    shop.place(order("first", ("A", 1)))
    worker = fresh_mill.general_worker(**PATIENT)

    fresh_mill.send("views.refresh", queue="views")
    assert wait_until(lambda: refreshes(shop) == dict.fromkeys(ALL, 1), 60)
    assert (shop.value(ORDERS), shop.value(MONTHS)) == (1, 1)

    age(shop)  # the times of two sources are moved by that, so what is built from them is refreshed again
    fresh_mill.send("views.refresh", queue="views", kwargs={"cadence": 604_800.0})
    done = {"state": "succeeded", "refreshed": "2"}
    runs = "SELECT state, result ->> 'refreshed' AS refreshed FROM api.job_runs WHERE job = 'views.refresh'"
    assert wait_until(lambda: shop.maps(runs) == [done], 60)
    assert refreshes(shop)["sales_by_day"] == 1

    shop.place(order("second", ("A", 1)))
    age(shop)
    with psycopg.connect(fresh_mill.database_url) as writer:
        writer.execute("LOCK TABLE shop.orders IN ACCESS EXCLUSIVE MODE")
        fresh_mill.send("views.refresh", queue="views")
        waiting = fresh_mill.wait_blocked()
        kill(worker)
        # Its session knows nothing of that until it has something to say; an administrator ends it.
        fresh_mill.terminate(waiting)
        writer.rollback()
    assert shop.value(ORDERS) == 1

    fresh_mill.general_worker()
    fresh_mill.send("views.refresh", queue="views")
    assert wait_until(lambda: shop.value(MONTHS) == 2, 60)
    assert wait_until(lambda: shop.value("SELECT count(*) FROM api.stale_views()") == 0, 60)


@pytest.mark.usefixtures("runtime")
def test_what_is_built_from_a_view_is_refreshed_in_the_same_run(shop: Shop) -> None:
    shop.stock("A", "E1", 50)
    with job_session() as session:
        assert refresh_stale(session)["refreshed"] == len(ALL)
    shop.place(order("first", ("A", 1)))
    age(shop)

    with job_session() as session:
        assert refresh_stale(session) == {"refreshed": len(ALL), "skipped": 0, "rows": 7}
        assert refresh_stale(session) == {"refreshed": 0, "skipped": 0, "rows": 0}
    assert (shop.value(ORDERS), shop.value(MONTHS)) == (1, 1)


@pytest.mark.usefixtures("runtime")
def test_a_view_over_its_deadline_does_not_stop_the_others_and_is_named(
    shop: Shop, connect_as: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    for setting, value in PATIENT.items():
        monkeypatch.setenv(setting, value)
    shop.stock("A", "E1", 50)
    shop.place(order("first", ("A", 1)))
    shop.value("SELECT api.set_view_freshness('inventory_metrics', p_deadline => '5 s')")
    locker = connect_as("owner")
    locker.execute("BEGIN")
    locker.execute("LOCK TABLE shop.order_allocations IN ACCESS EXCLUSIVE MODE")  # only the inventory looks there

    with job_session() as session, pytest.raises(
        OrdermillError, match=r"1 of 7 views could not be refreshed: inventory_metrics: .*statement timeout"
    ):  # fmt: skip
        refresh_stale(session)

    locker.execute("ROLLBACK")
    assert set(refreshes(shop)) == set(ALL) - {"inventory_metrics"}
    assert refreshes(shop, good=False) == {"inventory_metrics": 1}
    with job_session() as session:
        assert refresh_stale(session)["refreshed"] == 0  # it is waited for
        shop.db.execute("UPDATE shop.view_states SET retry_at = now() WHERE failures > 0")
        shop.db.execute("UPDATE shop.view_freshness SET deadline = '5 min'")  # the machine may stand still in this one
        assert refresh_stale(session)["refreshed"] == 1


@pytest.mark.usefixtures("runtime")
def test_a_view_that_somebody_refreshes_is_left_to_them(shop: Shop, connect_as: Connect) -> None:
    other = connect_as("ordermill_worker")
    other.execute("BEGIN")
    other.execute("SELECT api.refresh_view('customer_patterns')")

    with job_session() as session:
        assert refresh_stale(session) == {"refreshed": len(ALL) - 1, "skipped": 1, "rows": 0}
    other.execute("COMMIT")


def ordermill(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workers.cli", "views", *arguments],
        env=clean_environment() | {"DATABASE_URL": database_url, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_command_lists_and_refreshes_views_and_says_what_failed(shop: Shop, database_url: str) -> None:
    shop.stock("A", "E1", 50)
    shop.place(order("first", ("A", 1)))
    shop.db.execute("DROP INDEX shop.sales_by_hour_once")

    done = ordermill(database_url, "refresh", "sales_by_day", "sales_by_hour")
    listed = ordermill(database_url, "list")
    as_json = json.loads(ordermill(database_url, "list", "--json").stdout)
    unknown = ordermill(database_url, "refresh", "sales")

    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first.startswith("sales_by_day: 1 rows in ")
    assert first.endswith(" ms; its data was never filled before")
    assert second.startswith("sales_by_hour: failed after ")
    assert listed.returncode == 0
    assert max(map(len, listed.stdout.splitlines()[:8])) <= 80
    states = {line.split()[0]: line for line in listed.stdout.splitlines()[1:8]}
    assert list(states) == list(ALL)
    assert " fresh " in states["sales_by_day"]
    assert " failed (1) " in states["sales_by_hour"]
    assert " never  due " in states["inventory_metrics"]
    assert "sales_by_hour: cannot refresh materialized view" in listed.stdout
    assert [(row["view"], row["due"]) for row in as_json[:3]] == [
        ("sales_by_day", False), ("sales_by_month", True), ("sales_by_hour", False),
    ]  # fmt: skip
    assert as_json[0]["max_staleness"] == timedelta(minutes=15).total_seconds()
    assert (unknown.returncode, unknown.stderr) == (
        2, "ordermill: view: there is no view sales; api.view_freshness has them all (OM038)\n",
    )  # fmt: skip
