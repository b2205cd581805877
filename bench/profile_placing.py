"""Where PostgreSQL's time goes when orders are submitted and placed: 3 lines an order, one backend, a fresh shop.

    .venv/bin/python -m bench.profile_placing                      # the code as it is
    .venv/bin/python -m bench.profile_placing --sql HEAD~5 --json bench/profiles/before.json

CPU is of the backend, by the scheduler's clock; times of statements are pg_stat_statements' own, by the wall
clock, and contain what they call. The triggers' share is measured by doing the same orders without them. Linux.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.ablate import Side, sql_of
from bench.placing import Bench, erased, fresh
from workers import migrate
from workers.embedded import Servers

CALLS = (
    ("place_order", 1),
    ("place_orders", 10),
    ("place_orders", 50),
    ("place_orders", 100),
    ("place_orders", 500),
    ("submit_order", 1),
    ("submit_orders", 100),
    ("drain", 50),
    ("drain", 100),
)
PARTITIONS = (1, 7, 13, 24)
WRITTEN = """SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint AS rows,
        sum(n_tup_upd) FILTER (WHERE relname = 'stock_levels')::bigint AS updates,
        sum(n_tup_hot_upd) FILTER (WHERE relname = 'stock_levels')::bigint AS hot
    FROM pg_stat_user_tables WHERE schemaname = 'shop'"""
STATEMENTS = """SELECT regexp_replace(regexp_replace(query, '--[^\\n]*', '', 'g'), '\\s+', ' ', 'g'), calls,
        total_exec_time, wal_records, wal_bytes::bigint
    FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND query NOT LIKE '%pg_stat_statements%%' AND total_exec_time > 0
    ORDER BY total_exec_time DESC LIMIT 25"""
MONTHS = """DO $do$
    DECLARE v_table text; v_part regclass; v_month timestamptz;
    BEGIN
        FOREACH v_table IN ARRAY ARRAY(SELECT t FROM unnest(shop.partitioned_tables()) WITH ORDINALITY AS u (t, n)
            ORDER BY t <> 'order_lines')
        LOOP
            FOR v_part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = ('shop.' || v_table)::regclass LOOP
                EXECUTE format('ALTER TABLE shop.%I DETACH PARTITION %s', v_table, v_part);
                EXECUTE format('DROP TABLE %s', v_part);
            END LOOP;
        END LOOP;
        FOREACH v_table IN ARRAY shop.partitioned_tables() LOOP
            FOR i IN 0 .. $count$ - 1 LOOP
                v_month := date_trunc('month', now(), 'UTC') - make_interval(months => i);
                EXECUTE format('CREATE TABLE shop.%s PARTITION OF shop.%s FOR VALUES FROM (%L) TO (%L)',
                    v_table || '_' || i, v_table, shop.uuid7_floor(v_month),
                    shop.uuid7_floor(v_month + interval '1 month'));
            END LOOP;
        END LOOP;
    END $do$"""


class Profile:
    """Measures on shops of its own, made on one server."""

    def __init__(self, server: str, rounds: int) -> None:
        self.server, self.rounds, self.made = server, rounds, 0

    @contextmanager
    def shop(self, partitions: int | None = None) -> Iterator[Side]:
        """A fresh shop; with so many partitions attached, if said."""
        self.made += 1
        with fresh(self.server, f"ordermill_bench_{os.getpid()}_{self.made}") as bench:
            if partitions:
                bench.db.execute(MONTHS.replace("$count$", str(partitions)).encode())
            yield Side(bench)

    def calls(self) -> Iterator[dict[str, Any]]:
        """For each way and size: CPU, WAL and rows an order, and how many updates of levels are HOT."""
        with self.shop() as side:
            for way, size in CALLS:
                orders = max(500, size)
                side.block(way, size, 6 * size)
                rounds = [self.round(side, way, size, orders) for _ in range(self.rounds)]
                yield {"way": way, "orders a call": size} | {
                    name: round(statistics.median(each[name] for each in rounds), 4) for name in rounds[0]
                }

    def round(self, side: Side, way: str, size: int, orders: int) -> dict[str, float]:
        """One block of one way."""

        def meter(work: Callable[[], None]) -> tuple[float, dict[str, int]]:
            before = counters(side.bench)
            cpu = side.milliseconds(work)
            after = counters(side.bench)
            return cpu, {name: after[name] - before[name] for name in before}

        cpu, spent = side.run(way, size, orders, meter)
        return {
            "cpu_ms": cpu / orders,
            "wal_bytes": spent["wal"] / orders,
            "rows": spent["rows"] / orders,
            "hot": spent["hot"] / spent["updates"] if spent["updates"] else 1.0,
        }

    def statements(self, way: str, size: int) -> list[dict[str, Any]]:
        """What ran inside, dearest first."""
        orders = 2000
        with self.shop() as side:
            bench = side.bench
            bench.db.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            side.block(way, size, 6 * size)
            bench.db.execute("SET pg_stat_statements.track = 'all'")

            def meter(work: Callable[[], None]) -> list[Any]:
                bench.db.execute("SELECT pg_stat_statements_reset()")
                work()
                return bench.db.execute(STATEMENTS.encode()).fetchall()

            return [
                {
                    "us": round(1000 * time / orders, 2),
                    "calls": round(calls / orders, 3),
                    "wal_bytes": round(size_of / orders),
                    "wal_records": round(records / orders, 2),
                    "statement": text[:160].strip(),
                }
                for text, calls, time, records, size_of in side.run(way, size, orders, meter)
            ]

    def triggers(self, way: str, size: int) -> dict[str, float]:
        """CPU an order with all triggers, without that of history and events, and without foreign keys as well."""
        arms = {
            "all": ("SET session_replication_role = origin", "ENABLE"),
            "without history and events": ("SET session_replication_role = origin", "DISABLE"),
            "without foreign keys too": ("SET session_replication_role = replica", "DISABLE"),
        }
        spent: dict[str, list[float]] = {name: [] for name in arms}
        with self.shop() as side:
            side.block(way, size, 6 * size)
            for turn in range(2 * self.rounds):
                for name in arms if turn % 2 else reversed(arms):
                    role, able = arms[name]
                    side.bench.db.execute(role.encode())
                    side.bench.db.execute(f"ALTER TABLE shop.orders {able} TRIGGER orders_record_first_step".encode())
                    side.block(way, size, 2 * size)  # plans are made anew after ALTER TABLE
                    spent[name].append(side.block(way, size, 500))
        return {name: round(statistics.median(values), 4) for name, values in spent.items()}

    def partitions(self, way: str, size: int) -> dict[str, float]:
        """CPU an order with so many partitions attached to each table."""
        spent: dict[int, list[float]] = {count: [] for count in PARTITIONS}
        with ExitStack() as stack:
            sides = {count: stack.enter_context(self.shop(count)) for count in PARTITIONS}
            for side in sides.values():
                side.block(way, size, 6 * size)
            for turn in range(2 * self.rounds):
                for count in PARTITIONS if turn % 2 else reversed(PARTITIONS):
                    spent[count].append(sides[count].block(way, size, 500))
        return {str(count): round(statistics.median(values), 4) for count, values in spent.items()}


def counters(bench: Bench) -> dict[str, int]:
    """WAL written and rows so far; levels' updates, and those that were HOT."""
    bench.db.execute("SELECT pg_stat_force_next_flush()")
    bench.db.execute("SELECT pg_stat_clear_snapshot()")
    rows, updates, hot = bench.db.execute(WRITTEN).fetchone() or (0, 0, 0)
    [wal] = bench.db.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone() or (0,)
    return {"rows": rows, "updates": updates, "hot": hot, "wal": wal}


def show(found: dict[str, Any]) -> None:
    """The profile as tables of at most 120 columns."""
    print(f"\n{'an order, by call':<28}{'CPU ms':>8}{'WAL bytes':>11}{'rows':>7}{'HOT':>7}")
    for row in found["calls"]:
        name = f"{row['way']}, {row['orders a call']} a call"
        print(f"{name:<28}{row['cpu_ms']:8.4f}{row['wal_bytes']:11.0f}{row['rows']:7.2f}{row['hot']:7.1%}")
    for way, statements in found["statements"].items():
        print(f"\n{way}: µs an order with what it calls, calls an order, WAL bytes an order, statement")
        for row in statements:
            print(f"{row['us']:8.2f}{row['calls']:7.2f}{row['wal_bytes']:7d}  {row['statement'][:96]}")
    for title in ("triggers", "partitions"):
        for way, values in found[title].items():
            print(f"\n{way}, CPU ms an order: {title}")
            for name, value in values.items():
                print(f"  {name:<28}{value:8.4f}")


def main() -> None:
    """Profiles what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sql", default=".", help="a revision, or a folder with a folder sql (default: this one)")
    parser.add_argument("--rounds", type=int, default=3, help="the figures are medians of so many blocks")
    parser.add_argument("--json", type=Path, help="also written there")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as home,
        erased(Path(home) / "servers"),
        Servers(
            Path(home) / "servers", database_url=os.environ.get("DATABASE_URL"), redis_url="redis://unused"
        ) as servers,
    ):
        migrate.SQL = sql_of(asked.sql, Path(home) / "sql")
        profile = Profile(servers.database_url, asked.rounds)
        found = {
            "sql": asked.sql,
            "calls": list(profile.calls()),
            "statements": {
                f"{way}, {size} a call": profile.statements(way, size)
                for way, size in (("place_order", 1), ("place_orders", 50), ("submit_order", 1), ("drain", 50))
            },
            "triggers": {"place_orders, 50 a call": profile.triggers("place_orders", 50)},
            "partitions": {
                f"{way}, {size} a call": profile.partitions(way, size)
                for way, size in (("place_order", 1), ("place_orders", 50))
            },
        }
    show(found)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
