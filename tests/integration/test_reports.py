"""Reports of statistics, slow statements, unused indexes and locks: what they find, what is kept, what is done."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.shop import Shop
from workers.child import wait_until

Connect = Callable[[str], psycopg.Connection[Any]]


def found(db: psycopg.Connection[Any], report: str) -> dict[str, tuple[str, dict[str, Any]]]:
    db.execute("SELECT pg_stat_clear_snapshot()")
    rows = db.execute("SELECT object, severity, detail FROM api.report(%s)", [report]).fetchall()
    return {name: (severity, detail) for name, severity, detail in rows}


def fill(db: psycopg.Connection[Any], rows: int) -> None:
    """Rows of a table that nobody uses, and their statistics at once."""
    db.execute("ALTER TABLE shop.table_sizes SET (autovacuum_enabled = false)")
    db.execute("INSERT INTO shop.table_sizes SELECT 't' || n, '2020-01-01', n FROM generate_series(1, %s) AS n", [rows])
    db.execute("SELECT pg_stat_force_next_flush()")
    db.execute("SELECT 1")


def test_old_statistics_and_dead_rows_are_found_and_old_statistics_are_mended(
    db: psycopg.Connection[Any], connect_as: Connect
) -> None:
    worker = connect_as("ordermill_worker")
    assert found(worker, "statistics") == {}
    fill(db, 20_000)
    assert found(worker, "statistics")["rows never analyzed or long ago: table_sizes"][0] == "warning"

    assert worker.execute("SELECT api.analyze_stale()").fetchone() == (["table_sizes"],)

    assert found(worker, "statistics") == {}
    assert worker.execute("SELECT api.analyze_stale()").fetchone() == ([],)
    sizes = db.execute(
        "SELECT count(*), min(bytes) >= 0 FROM shop.table_sizes WHERE day = (SELECT max(day) FROM shop.table_sizes)"
    ).fetchone()
    tables = db.execute(
        "SELECT count(*), true FROM pg_class WHERE relnamespace = 'shop'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition"
    ).fetchone()
    assert sizes == tables
    db.execute("DELETE FROM shop.table_sizes WHERE day < '2025-01-01'")
    db.execute("SELECT pg_stat_force_next_flush()")
    db.execute("SELECT 1")
    assert found(worker, "statistics")["dead rows: table_sizes"][1]["dead"] == 20_000


def test_a_partitioned_table_is_analyzed_which_autovacuum_never_does(shop: Shop, connect_as: Connect) -> None:
    shop.stock("A", "E1", 1)
    shop.db.execute(
        """INSERT INTO shop.stock_movements (id, variant_id, from_account, to_account, quantity, cause)
           SELECT shop.uuid7(), id, 'supplier', 'customer', 1, 'test' FROM shop.product_variants,
           generate_series(1, 2000)"""
    )
    shop.db.execute("SELECT pg_stat_force_next_flush()")
    worker = connect_as("ordermill_worker")

    assert worker.execute("SELECT api.analyze_stale()").fetchone() == (["stock_movements"],)

    assert shop.value("SELECT reltuples FROM pg_class WHERE oid = 'shop.stock_movements'::regclass") >= 2000
    assert worker.execute("SELECT api.analyze_stale()").fetchone() == ([],)


def test_updates_that_are_not_hot_and_a_table_that_doubled_are_found(shop: Shop, connect_as: Connect) -> None:
    shop.stock("A", "E1", 1)
    shop.db.execute("CREATE INDEX bad ON shop.stock_levels (oversell_cap)")
    for _ in range(2):
        shop.db.execute(
            "DO $$ BEGIN FOR n IN 1..5500 LOOP UPDATE shop.stock_levels SET oversell_cap = n; END LOOP; END $$"
        )
    shop.db.execute("DROP INDEX shop.bad")
    shop.db.execute("SELECT pg_stat_force_next_flush()")
    shop.db.execute(
        "INSERT INTO shop.table_sizes SELECT 'orders', (now() AT TIME ZONE 'UTC')::date - d, 3000000000 / (1 + d)"
        " FROM unnest('{0,7}'::integer[]) AS d"
    )

    findings = found(connect_as("ordermill_worker"), "statistics")

    assert findings["updates that are not HOT: stock_levels"][1]["hot"] < 0.5
    assert findings["table doubled in a week: orders"][1]["before"] == 375_000_000


def test_an_index_that_is_written_and_never_read_is_found_by_the_name_of_its_partitioned_index(
    shop: Shop, connect_as: Connect
) -> None:
    shop.stock("A", "E1", 1)
    shop.db.execute("CREATE INDEX nobody_reads ON shop.stock_movements (cause)")
    shop.db.execute(
        """INSERT INTO shop.stock_movements (id, variant_id, from_account, to_account, quantity, cause)
           SELECT shop.uuid7(), id, 'supplier', 'customer', 1, 'test' FROM shop.product_variants,
           generate_series(1, 12000)"""
    )
    shop.db.execute("SELECT pg_stat_force_next_flush()")
    shop.db.execute("SELECT 1")

    findings = found(connect_as("ordermill_maintainer"), "indexes")

    assert list(findings) == ["unused: shop.nobody_reads"] or list(findings) == ["unused: nobody_reads"]
    [(severity, detail)] = findings.values()
    assert (severity, detail["table"], detail["writes"]) == ("note", "stock_movements", 12_001)


def test_slow_statements_are_found_where_pg_stat_statements_is_and_else_the_report_says_so(
    db: psycopg.Connection[Any], connect_as: Connect
) -> None:
    worker = connect_as("ordermill_worker")
    there = db.execute("SELECT count(*) FROM pg_extension WHERE extname = 'pg_stat_statements'").fetchone() == (1,)
    worker.execute("SELECT pg_sleep(0.15)")

    findings = found(worker, "slow")

    if there:
        [detail] = [detail for _, detail in findings.values() if "pg_sleep" in detail["query"]]
        assert (detail["calls"], detail["query"]) == (1, "SELECT pg_sleep($1)")
    db.execute("RESET ROLE")
    db.execute("DROP EXTENSION IF EXISTS pg_stat_statements")
    assert list(found(worker, "slow")) == ["pg_stat_statements is absent"]


def test_who_waits_for_whom_is_seen_with_the_query_and_long_transactions_are_findings(
    shop: Shop, connect_as: Connect
) -> None:
    holder, worker = connect_as("owner"), connect_as("ordermill_worker")
    holder.execute("BEGIN")
    holder.execute("LOCK TABLE shop.currencies")
    waiter = connect_as("owner")
    waiter.execute("SET statement_timeout = '20s'")
    with waiter.pipeline():
        waiter.execute("SELECT count(*) FROM shop.currencies")
        waiter.pgconn.flush()
        name = f"session {waiter.info.backend_pid} waits for a lock"
        assert wait_until(lambda: name in found(worker, "locks"), 30, 0.02)
        findings = found(worker, "locks")
        holder.execute("ROLLBACK")
    assert findings[name][1]["behind"] == [holder.info.backend_pid]
    if "sessions of others cannot be seen" not in findings:
        assert findings[name][1]["query"] == "SELECT count(*) FROM shop.currencies"


def test_what_is_found_again_keeps_its_first_time_and_what_is_gone_goes(
    db: psycopg.Connection[Any], connect_as: Connect
) -> None:
    worker = connect_as("ordermill_worker")
    fill(db, 20_000)
    assert worker.execute("SELECT api.record_findings('statistics')").fetchone() == (1,)
    first = worker.execute("SELECT object, first_found_at, found_at FROM api.upkeep_findings").fetchall()

    assert worker.execute("SELECT api.record_findings('statistics')").fetchone() == (1,)
    again = worker.execute("SELECT object, first_found_at, found_at FROM api.upkeep_findings").fetchall()
    assert [row[:2] for row in again] == [row[:2] for row in first]
    assert again[0][2] > first[0][2]

    worker.execute("SELECT api.analyze_stale()")
    assert worker.execute("SELECT api.record_findings('statistics')").fetchone() == (0,)
    assert worker.execute("SELECT count(*) FROM api.upkeep_findings").fetchone() == (0,)


@pytest.mark.parametrize("name", ["", "levels() --", None])
def test_a_report_that_there_is_not_is_om011(scratch: Shop, name: str | None) -> None:
    with pytest.raises(psycopg.Error) as caught, scratch.db.transaction():
        scratch.value("SELECT api.report(%s)", name)
    assert caught.value.sqlstate == "OM011"


def test_what_the_policies_keep_no_longer_is_pruned(scratch: Shop) -> None:
    scratch.db.execute("INSERT INTO shop.table_sizes VALUES ('orders', now()::date - 91, 1), ('orders', now(), 1)")
    scratch.db.execute(
        "INSERT INTO shop.job_runs (job, slot, state, finished_at)"
        " SELECT 'j', t, 'succeeded', t FROM unnest(ARRAY[now() - interval '1 day', now() - interval '3 days']) AS t"
    )
    scratch.db.execute("UPDATE shop.retention_policies SET keep = '2 days' WHERE kind = 'job_runs'")

    assert scratch.value("SELECT api.prune()") == 2
    assert (scratch.count("table_sizes"), scratch.count("job_runs")) == (1, 1)
