"""Housekeeping: slots that run once, leases, partitions made ahead, keys pruned."""

import time
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from tests.shop import Shop, fingerprint, order
from workers.database import connect

CLAIM = "SELECT slot, attempt FROM api.claim_job(%s, %s::interval, '1 min')"


@pytest.fixture
def shop(scratch: Shop) -> Shop:
    return scratch


def claim(shop: Shop, cadence: str = "1 day", job: str = "sweep") -> dict[str, Any] | None:
    rows = shop.maps(CLAIM, job, cadence)
    return rows[0] if rows else None


def finish(shop: Shop, run: dict[str, Any], state: str = "succeeded") -> bool:
    return shop.value("SELECT api.finish_job('sweep', %s, %s, %s, '{}')", run["slot"], run["attempt"], state)


def run_out(shop: Shop) -> None:
    shop.db.execute(
        "UPDATE shop.job_runs SET leased_until = clock_timestamp() - interval '1 s' WHERE state = 'running'"
    )


def test_a_slot_is_given_once(shop: Shop) -> None:
    run = claim(shop)

    assert run is not None
    assert run["attempt"] == 1
    assert claim(shop) is None
    assert claim(shop, job="other") is not None
    assert finish(shop, run)
    assert claim(shop) is None
    assert shop.maps("SELECT state, attempt FROM api.job_runs WHERE job = 'sweep'") == [
        {"state": "succeeded", "attempt": 1}
    ]


def test_a_failed_slot_may_be_claimed_again(shop: Shop) -> None:
    run = claim(shop)
    assert run is not None
    finish(shop, run, "failed")

    again = claim(shop)

    assert again == {"slot": run["slot"], "attempt": 2}


def test_a_lease_that_ran_out_is_claimed_again_and_the_late_one_has_no_say(shop: Shop) -> None:
    late = claim(shop)
    assert late is not None
    run_out(shop)
    again = claim(shop)
    assert again == {"slot": late["slot"], "attempt": 2}

    assert not finish(shop, late)
    assert shop.value("SELECT state FROM shop.job_runs") == "running"
    assert finish(shop, again)
    assert not finish(shop, again)


def test_the_slot_is_the_nearest_so_a_tick_a_moment_early_means_the_slot_ahead(shop: Shop) -> None:
    # The cadence is chosen so that now is just before its only slot, or just after it.
    now = shop.value("SELECT extract(epoch FROM clock_timestamp())::float8")

    early = claim(shop, f"{now + 600} s", "early")
    late = claim(shop, f"{now - 600} s", "late")

    assert early is not None
    assert late is not None
    assert shop.value("SELECT %s::timestamptz > clock_timestamp()", early["slot"])
    assert shop.value("SELECT %s::timestamptz < clock_timestamp()", late["slot"])


@pytest.mark.parametrize("cadence", ["0", "-1 min"])
def test_a_cadence_of_nothing_is_om011(shop: Shop, cadence: str) -> None:
    with pytest.raises(psycopg.Error) as caught, shop.db.transaction():
        claim(shop, cadence)

    assert caught.value.sqlstate == "OM011"
    assert shop.count("job_runs") == 0


def test_a_slot_does_not_depend_on_the_time_zone_of_the_session(shop: Shop) -> None:
    first = claim(shop)
    for zone in ("Pacific/Kiritimati", "America/St_Johns"):
        shop.db.execute("SELECT set_config('timezone', %s, true)", [zone])
        assert claim(shop) is None
    assert first is not None


def partitions(shop: Shop) -> list[str]:
    return shop.rows(
        "SELECT relname || ' ' || pg_get_expr(relpartbound, oid) FROM pg_class WHERE relispartition AND relkind = 'r'"
        " ORDER BY 1"
    )


def test_the_last_month_this_and_six_ahead_of_each_table_are_there_and_making_them_again_makes_none(shop: Shop) -> None:
    before = partitions(shop)

    assert len(before) == 6 * 8
    assert shop.value("SELECT api.ensure_partitions()") == 0
    assert shop.value("SELECT api.partitions_ahead()") == 6
    assert partitions(shop) == before


def test_partitions_are_made_while_somebody_reads_a_long_report(database_url: str) -> None:
    with connect(database_url) as reader, connect(database_url) as owner:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM shop.orders, shop.order_lines, shop.stock_movements")
        owner.execute("SET lock_timeout = '500ms'")
        assert owner.execute("SELECT api.ensure_partitions(7)").fetchone() == (6,)
        reader.execute("ROLLBACK")


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_partitions_are_of_utc_months_in_any_time_zone(shop: Shop, zone: str) -> None:
    before = partitions(shop)
    shop.db.execute("SELECT set_config('timezone', %s, true)", [zone])
    for (name,) in shop.db.execute("SELECT unnest(shop.partitioned_tables())").fetchall():
        for child in shop.rows(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", f"shop.{name}"
        ):
            shop.db.execute(f"ALTER TABLE shop.{name} DETACH PARTITION {child}".encode())
            shop.db.execute(f"ALTER TABLE {child} RENAME TO {child.split('.')[1]}_old".encode())

    assert shop.value("SELECT api.ensure_partitions()") == 48
    assert partitions(shop) == before


def test_the_bounds_of_months_meet(shop: Shop) -> None:
    bounds = shop.rows(
        "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relispartition AND relname LIKE 'orders\\_2%%'"
        " AND relkind = 'r' ORDER BY relname"
    )
    edges = [(bound.split("'")[1], bound.split("'")[3]) for bound in bounds]

    assert len(edges) == 8
    assert all(before[1] == after[0] for before, after in pairwise(edges))
    assert edges[1][0] == shop.value(
        "SELECT shop.uuid7_floor(date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC')::text"
    )


@pytest.mark.parametrize("months", [0, 13, None])
def test_a_senseless_number_of_months_is_om011(shop: Shop, months: int | None) -> None:
    with pytest.raises(psycopg.Error) as caught, shop.db.transaction():
        shop.value("SELECT api.ensure_partitions(%s)", months)

    assert caught.value.sqlstate == "OM011"


def age(shop: Shop, key: str, days: int, *columns: str) -> None:
    for column in columns or ("received_at", "decided_at"):
        shop.db.execute(
            f"UPDATE shop.request_keys SET {column} = now() - make_interval(days => %s) WHERE key = %s", [days, key]
        )


def reject(shop: Shop, key: str) -> None:
    assert shop.place(order(key, ("NONE", 1)))[0]["status"] == "rejected"


def test_prune_deletes_old_decided_keys_and_keeps_pending_and_young_ones(shop: Shop) -> None:
    shop.stock("A", "E1", 9)
    for key in ("old", "young"):
        reject(shop, key)
    shop.submit(order("pending", ("A", 1)))
    age(shop, "old", 91)
    age(shop, "young", 89)
    age(shop, "pending", 400, "received_at")

    assert shop.value("SELECT api.prune()") == 1
    assert shop.value("SELECT api.prune()") == 0
    assert shop.rows("SELECT key FROM shop.request_keys ORDER BY key") == ["pending", "young"]


def test_prune_works_in_bounded_batches(shop: Shop) -> None:
    for n in range(5):
        reject(shop, f"k{n}")
        age(shop, f"k{n}", 100)

    assert [shop.value("SELECT api.prune('90 days', 2)") for _ in range(4)] == [2, 2, 1, 0]


def test_an_order_that_waited_long_in_the_queue_keeps_its_key_and_verify_clean(shop: Shop) -> None:
    shop.stock("A", "E1", 9)
    shop.submit(order("waited", ("A", 1)))
    shop.drain()
    age(shop, "waited", 91, "received_at")
    reject(shop, "other")
    age(shop, "other", 90)

    shop.value("SELECT api.prune()")

    assert shop.verify() == []


def test_prune_keeps_keys_for_a_day_at_least(shop: Shop) -> None:
    reject(shop, "k")
    before = fingerprint(shop.db)

    with pytest.raises(psycopg.Error) as caught, shop.db.transaction():
        shop.value("SELECT api.prune('1 hour')")

    assert caught.value.sqlstate == "OM011"
    assert fingerprint(shop.db) == before


def test_prune_deletes_job_runs_of_long_ago_but_not_the_last_success_of_a_job(shop: Shop) -> None:
    shop.db.execute(
        """INSERT INTO shop.job_runs (job, slot, state, started_at, finished_at)
           SELECT j, now() - d * interval '1 day', s, now() - d * interval '1 day', now() - d * interval '1 day'
           FROM (VALUES ('stopped', 30, 'succeeded'), ('stopped', 31, 'succeeded'), ('stopped', 29, 'failed'),
               ('well', 40, 'succeeded'), ('well', 1, 'succeeded'), ('new', 30, 'failed')) AS r (j, d, s)"""
    )
    # A clock that ran ahead: its slots do not stand for the last success either.
    shop.db.execute(
        """INSERT INTO shop.job_runs (job, slot, state, started_at, finished_at)
           VALUES ('stopped', now() + interval '1 year', 'succeeded', now() - interval '20 days', now())"""
    )
    claim(shop, job="running")

    assert shop.value("SELECT api.prune()") == 4
    assert shop.value("SELECT api.prune()") == 0
    kept = "SELECT job || now()::date - slot::date FROM shop.job_runs WHERE slot <= now() AND finished_at < now()"
    assert shop.rows(f"{kept} ORDER BY 1") == ["stopped30", "well1"]


def wait_of(shop: Shop, cadence: str, attempt: int) -> float:
    """Seconds after a failed attempt from which on its slot may be claimed again, found by claiming."""
    run = claim(shop, cadence)
    assert run is not None
    low, high = 0.0, 86_400.0
    while high - low > 1:
        middle = (low + high) / 2
        with shop.db.transaction(force_rollback=True):
            finished_at = shop.value(
                "UPDATE shop.job_runs SET state = 'failed', attempt = %s, leased_until = NULL,"
                " finished_at = clock_timestamp() - make_interval(secs => %s) RETURNING finished_at",
                attempt,
                middle,
            )
            claimed = claim(shop, cadence)
            # It may have waited for longer than the middle, where the machine stood still before the claim.
            waited = shop.value("SELECT extract(epoch FROM clock_timestamp() - %s)::float8", finished_at)
            low, high = (low, min(high, waited)) if claimed else (middle, high)
    shop.db.execute("DELETE FROM shop.job_runs")
    return round(high)


def test_a_run_that_fails_on_is_tried_again_at_once_and_then_after_waits_that_double(shop: Shop) -> None:
    year = "365 days"
    assert [wait_of(shop, year, attempt) for attempt in range(1, 9)] == pytest.approx(
        [1, 10, 30, 70, 150, 310, 630, 1270], abs=1
    )
    assert [wait_of(shop, year, attempt) for attempt in (10, 100, 10**9)] == pytest.approx([3600] * 3, abs=1)
    # Never longer than a quarter of the cadence: the slot is not lost to the wait.
    # Some hour of which now is the middle, so that its slot does not end in the test.
    hour = f"{time.time() / round(time.time() / 3600)} seconds"
    assert wait_of(shop, hour, 100) == pytest.approx(900, abs=1)


def test_a_full_day_of_ticks_tries_a_run_that_fails_some_thirty_times_and_not_288(shop: Shop) -> None:
    # In a slot of a year, so that none ends in the test; time goes by in that the runs grow older.
    tried = 0
    for _ in range(288):
        if run := claim(shop, "365 days"):
            tried += 1
            finish(shop, run, "failed")
        shop.db.execute("UPDATE shop.job_runs SET finished_at = finished_at - interval '5 min'")

    assert 25 <= tried <= 35
