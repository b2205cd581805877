"""Retiring old months: anchored, detached, archived, read back, dropped, at any moment resumed, and brought back."""

import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from tests.months import AGE, TABLES, attached, history, make_month, month_ago, move_to, owner, rows, told
from tests.shop import Shop, order
from workers import retiring
from workers.child import wait_until
from workers.database import connect
from workers.errors import DatabaseError, OrdermillError
from workers.settings import Settings

pytest.importorskip("duckdb")


def test_a_month_is_archived_and_dropped_and_comes_back_to_the_value(
    shop: Shop, database_url: str, tmp_path: Path
) -> None:
    month = history(shop)
    assert shop.verify() == []
    before = {table: rows(shop.db, f"{table}{month:_%Y_%m}") for table in TABLES}
    assert all(before.values())
    levels = [shop.level("A", "E1"), shop.level("B", "E2")]
    assert shop.maps("SELECT * FROM api.months_to_retire()") == [{"month": month, "reasons": []}]

    result = retiring.retire_due(
        Settings(database_url=database_url, archive_dir=tmp_path), shop.maps("SELECT * FROM api.months_to_retire()")
    )

    assert result == {"retired": [f"{month:%Y-%m}"], "waiting": {}}
    assert shop.maps("SELECT * FROM shop.parts_of_month(%s)", month) == []
    assert (shop.count("orders"), shop.count("stock_movements"), shop.count("events")) == (0, 0, 0)
    assert shop.verify() == []
    assert [shop.level("A", "E1"), shop.level("B", "E2")] == levels
    files = shop.rows("SELECT file FROM api.archives")
    assert sorted(f"{path.relative_to(tmp_path)}" for path in tmp_path.rglob("*.*")) == sorted(files)
    assert {file.rpartition("-")[0] for file in files} == {f"{table}/{table}{month:_%Y_%m}" for table in TABLES}
    shop.place(order("after", ("A", 1)))
    assert shop.verify() == []

    with owner(database_url) as session:
        for table in TABLES:
            assert retiring.check(session, tmp_path, table, month) is None
            name, count = retiring.restore(session, tmp_path, table, month)
            assert (name, count) == (f"restored.{table}{month:_%Y_%m}", len(before[table]))
            assert rows(session, f"{table}{month:_%Y_%m}", "restored") == before[table]
        for table in TABLES:
            retiring.restore(session, tmp_path, table, month, attach=True)
        assert attached(shop, month) == len(TABLES)
        assert {table: rows(shop.db, f"{table}{month:_%Y_%m}") for table in TABLES} == before
        assert shop.verify() == []
        # Attached again it stays, until a person has it retired anew.
        assert shop.maps("SELECT * FROM api.months_to_retire()") == []
        retiring.retire(session, tmp_path, month)
    assert attached(shop, month) == 0
    assert shop.verify() == []


def test_all_due_months_are_retired_in_one_run_the_oldest_first(shop: Shop, database_url: str, tmp_path: Path) -> None:
    for age in (18, 19):
        make_month(shop.db, month_ago(shop.db, age))
    month = history(shop)
    settings = Settings(database_url=database_url, archive_dir=tmp_path)

    result = retiring.retire_due(settings, shop.maps("SELECT * FROM api.months_to_retire()"))

    assert result == {"retired": [f"{month_ago(shop.db, age):%Y-%m}" for age in (20, 19, 18)], "waiting": {}}
    assert month == month_ago(shop.db, 20)
    assert shop.value("SELECT count(*) FROM api.archives") == 3 * len(TABLES)


def test_an_order_of_a_retired_month_that_was_finished_in_a_later_one_leaves_verify_clean_and_sharp(
    shop: Shop, database_url: str, tmp_path: Path
) -> None:
    month = history(shop, cancelled=False)
    later = month_ago(shop.db, AGE - 1)
    make_month(shop.db, later)
    for order_id in shop.rows("SELECT id::text FROM shop.orders"):
        assert shop.cancel(order_id)["status"] == "done"
    told(shop)
    move_to(shop.db, later)
    assert shop.verify() == []

    with owner(database_url) as session:
        retiring.retire(session, tmp_path, month)
        # 5 orders took 2 of A and 1 of B; they gave it back in the later month.
        assert shop.maps("SELECT available, committed FROM shop.opening_balances ORDER BY variant_id") == [
            {"available": 40, "committed": 10},
            {"available": 4, "committed": 5},
        ]
        assert shop.verify() == []
        with pytest.raises(psycopg.Error) as caught:
            shop.value("SELECT api.rewind_consumer('nobody', 1)")
        assert caught.value.sqlstate == "OM011"
        retiring.retire(session, tmp_path, later)
    assert shop.maps("SELECT available, committed FROM shop.opening_balances ORDER BY variant_id") == [
        {"available": 50, "committed": 0},
        {"available": 9, "committed": 0},
    ]
    assert shop.verify() == []
    with shop.db.transaction(force_rollback=True):
        shop.db.execute("UPDATE shop.opening_balances SET available = available + 1 WHERE available = 50")
        assert [finding[:2] for finding in shop.verify()] == [("level_is_its_movements", "A at E1")]


ENDPOINT = (
    "INSERT INTO shop.webhook_endpoints (name, url, kinds, secret)"
    " VALUES ('shop', 'https://shop.example/', '{*}', 'whsec_' || repeat('A', 43) || '=')"
)
REASONS: dict[str, tuple[str, str]] = {
    "an unfinished order": (
        "ALTER TABLE shop.orders DISABLE TRIGGER USER; UPDATE shop.orders SET status = 'placed'",
        "orders are not finished",
    ),
    "a hold": ("UPDATE shop.order_allocations SET state = 'committed'", "allocations hold stock"),
    "a key": (
        "INSERT INTO shop.request_keys (key, kind, body_hash, status, answer, received_at, decided_at) SELECT 'k',"
        " 'order.place', '', 'placed', jsonb_build_object('order_id', id), created_at, now() FROM shop.orders LIMIT 1",
        "1 request keys still answer",
    ),
    "an event without a position": (
        "INSERT INTO shop.events_inbox (id, stream, kind, payload) SELECT id, 's', 'k', '{}' FROM shop.orders LIMIT 1",
        "1 events have no position",
    ),
    "a consumer that is behind": (
        "INSERT INTO shop.event_consumers (consumer, position) VALUES ('late', 1)",
        "consumer late has not taken its events",
    ),
    "an open letter": (
        "INSERT INTO shop.dead_letters (id, source, payload, code, reason, attempts) SELECT shop.uuid7(), 'events',"
        " jsonb_build_object('consumer', 'c', 'event', to_jsonb(e)), 'X', 'x', 1 FROM shop.events AS e LIMIT 1",
        "1 dead letters about its events",
    ),
    "an open letter about a delivery": (
        "INSERT INTO shop.dead_letters (id, source, payload, code, reason, attempts) SELECT shop.uuid7(), 'webhooks',"
        " jsonb_build_object('event_id', e.id), 'X', 'x', 1 FROM shop.events AS e LIMIT 1",
        "1 dead letters about its events",
    ),
    "a delivery that waits": (
        f"{ENDPOINT}; INSERT INTO shop.webhook_deliveries (endpoint_id, position, event_id, stream)"
        " SELECT w.id, e.position, e.id, e.stream FROM shop.events AS e, shop.webhook_endpoints AS w LIMIT 1",
        "1 deliveries to webhooks wait",
    ),
    "a replay at work": (
        f"{ENDPOINT}; UPDATE shop.webhook_endpoints SET replay_position = 1, replay_until = 2",
        "its events are replayed to shop",
    ),
    "a movement of a later order": (
        "UPDATE shop.stock_movements SET order_id = shop.uuid7() WHERE cause = 'opening'",
        "movements are of orders of a later month",
    ),
    "a policy that keeps it": ("SELECT", "it is kept until"),
    "an older month": ("SELECT", "comes first"),
}  # fmt: skip


@pytest.mark.breaks_the_shop
@pytest.mark.parametrize("reason", REASONS)
def test_a_month_with_unfinished_work_stays_and_says_why(scratch: Shop, reason: str) -> None:
    young = reason == "a policy that keeps it"
    month = history(scratch, 10 if young else AGE)
    if reason == "an older month":
        make_month(scratch.db, month_ago(scratch.db, AGE + 1))
    assert scratch.value("SELECT shop.reasons_to_keep(%s)", month) == [] or young or reason == "an older month"
    statement, words = REASONS[reason]
    scratch.db.execute(statement.encode())

    with pytest.raises(psycopg.Error) as caught, scratch.db.transaction():
        scratch.value("SELECT shop.begin_retiring(%s)", month)

    assert caught.value.sqlstate == "OM050"
    assert words in str(caught.value)
    assert scratch.count("retirements") == scratch.count("opening_balances") == 0
    due = scratch.maps("SELECT * FROM api.months_to_retire() WHERE month = %s", month)
    assert [words in " ".join(each["reasons"]) for each in due] == ([] if young else [True])


@pytest.mark.parametrize("month", [date(1969, 5, 1), date(2001, 1, 1), None])
def test_a_month_that_has_no_partitions_is_not_retired_and_verify_stays_clean(
    scratch: Shop, month: date | None
) -> None:
    scratch.stock("A", "E1", 5)
    scratch.place(order("a", ("A", 1)))
    month = month or month_ago(scratch.db, -12)

    with pytest.raises(psycopg.Error, match="has no partitions") as caught, scratch.db.transaction():
        scratch.value("SELECT shop.begin_retiring(%s)", month)

    assert caught.value.sqlstate == "OM050"
    assert scratch.count("retirements") == 0
    assert scratch.verify() == []


POLICIES = {
    "none": "DELETE FROM shop.retention_policies WHERE kind = 'partitions'",
    "a day": "ALTER TABLE shop.retention_policies DROP CONSTRAINT months_kept_leave_room_ahead;"
    " UPDATE shop.retention_policies SET keep = '1 day' WHERE kind = 'partitions'",
}


@pytest.mark.breaks_the_shop
@pytest.mark.parametrize(
    ("policy", "age", "kept"),
    [("none", 40, True), ("none", 1, True), ("none", 0, True), ("a day", 4, False), ("a day", 3, True),
     ("a day", 1, True), ("a day", 0, True)],
)  # fmt: skip
def test_without_a_policy_a_month_is_kept_for_ever_and_with_any_policy_for_three_months(
    scratch: Shop, policy: str, age: int, kept: bool
) -> None:
    month = month_ago(scratch.db, age)
    if age > 1:
        make_month(scratch.db, month)
    for each in scratch.rows("SELECT month FROM shop.attached_months() WHERE month < %s", month):
        for table in TABLES:
            scratch.db.execute(f"DROP TABLE shop.{table}{each:_%Y_%m} CASCADE".encode())
    told(scratch)
    scratch.db.execute(POLICIES[policy].encode())

    reasons = scratch.value("SELECT shop.reasons_to_keep(%s)", month)

    words = "it is kept for ever" if policy == "none" else "it is kept until"
    assert [reason.startswith(words) for reason in reasons] == [True] * kept
    due = scratch.maps("SELECT * FROM api.months_to_retire() WHERE month = %s AND reasons = '{}'", month)
    assert bool(due) == (not kept)


def test_a_partition_that_an_operator_attached_is_no_month(scratch: Shop) -> None:
    months = scratch.rows("SELECT month FROM shop.attached_months()")
    scratch.db.execute("CREATE TABLE shop.orders_default PARTITION OF shop.orders DEFAULT")
    scratch.db.execute(
        "CREATE TABLE shop.archive_2001_01 PARTITION OF shop.events FOR VALUES"
        " FROM ('00000000-0000-7000-8000-000000000001') TO ('00000000-0000-7000-8000-000000000002')"
    )

    assert scratch.rows("SELECT month FROM shop.attached_months()") == months
    assert scratch.maps("SELECT * FROM api.months_to_retire()") == []
    assert scratch.rows("SELECT object FROM api.report('statistics')") == []


def test_by_the_policy_at_most_24_months_are_attached_and_the_oldest_are_due_first(scratch: Shop) -> None:
    for age in range(2, 20):
        make_month(scratch.db, month_ago(scratch.db, age))

    due = scratch.rows("SELECT month FROM api.months_to_retire()")

    assert due == [month_ago(scratch.db, age) for age in (19, 18, 17)]
    assert scratch.value("SELECT count(*) FROM shop.attached_months()") - len(due) == 16 + 1 + 6
    assert scratch.rows("SELECT object FROM api.report('statistics')") == ["more than 24 months attached"]
    assert scratch.rows("SELECT reasons FROM api.months_to_retire()") == [
        [], [f"{due[0]:%Y-%m} comes first"], [f"{due[0]:%Y-%m} comes first"]]  # fmt: skip


def test_without_a_folder_or_an_owner_nothing_is_touched_and_the_result_says_what_to_set(
    shop: Shop, database_url: str, tmp_path: Path
) -> None:
    month = history(shop)
    months = shop.maps("SELECT * FROM api.months_to_retire()")
    role = f"plain_{os.getpid()}"
    login = make_url(database_url).set(username=role, password="plain").render_as_string(hide_password=False)
    shop.db.execute("RESET ROLE")
    shop.db.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'plain' IN ROLE ordermill_maintainer".encode())
    try:
        nowhere = retiring.retire_due(Settings(database_url=database_url), months)
        powerless = retiring.retire_due(Settings(database_url=login, archive_dir=tmp_path), months)
        helped = Settings(database_url=login, maintenance_url=database_url, archive_dir=tmp_path / "file" / "x")
        (tmp_path / "file").write_text("in the way")
        blocked = retiring.retire_due(helped, months)
    finally:
        shop.db.execute(f"DROP ROLE {role}".encode())
        shop.db.execute("SET ROLE ordermill_owner")

    assert nowhere["due"] == powerless["due"] == blocked["due"] == [f"{month:%Y-%m}"]
    assert "set ORDERMILL_ARCHIVE_DIR" in nowhere["to_do"]
    assert "set ORDERMILL_MAINTENANCE_URL" in powerless["to_do"]
    assert "ORDERMILL_ARCHIVE_DIR" in blocked["to_do"]
    assert attached(shop, month) == len(TABLES)
    assert shop.count("retirements") == 0


KILLED = """
import os, signal, sys
from datetime import date
from pathlib import Path
from workers import archive
from workers.retiring import owner_session, retire
from workers.settings import get_settings
step, month = sys.argv[1], date.fromisoformat(sys.argv[2])
def report(done):
    if done.startswith(step):
        os.kill(os.getpid(), signal.SIGKILL)
if step == "half archived":
    archive.sha256 = lambda _: report(step)
with owner_session(get_settings()) as session:
    retire(session, Path(sys.argv[3]), month, report)
"""
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
STEPS = (
    "begun", "detached events", "detached order_lines", "detached orders", "half archived",
    "archived events", "dropped events", "archived order_lines", "dropped order_lines", "archived orders",
    "dropped orders",
)  # fmt: skip


def test_killed_at_each_step_the_next_run_goes_on_and_verify_is_clean_in_between(
    shop: Shop, database_url: str, tmp_path: Path
) -> None:
    month = history(shop)
    expected = {table: len(rows(shop.db, f"{table}{month:_%Y_%m}")) for table in TABLES}
    environment = os.environ | {"DATABASE_URL": database_url}

    for step in STEPS:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, step, str(month), str(tmp_path)],
            env=environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, (step, done.stderr)
        # Its session may have locks until the server notices its end.
        assert wait_until(lambda: shop.value(OTHERS) == 0, 30), step
        assert shop.verify() == [], step
        assert shop.value("SELECT count(*) FROM shop.retirements WHERE finished_at IS NULL") == 1, step
        assert len(list(tmp_path.rglob(".unfinished*"))) == (step == "half archived"), step

    assert retiring.retire_due(
        Settings(database_url=database_url, archive_dir=tmp_path), shop.maps("SELECT * FROM api.months_to_retire()")
    )["retired"] == [f"{month:%Y-%m}"]  # fmt: skip
    assert dict(shop.db.execute("SELECT table_name, rows FROM api.archives").fetchall()) == expected
    with owner(database_url) as session:
        assert [retiring.check(session, tmp_path, table, month) for table in TABLES] == [None] * len(TABLES)
    assert shop.value("SELECT sum(available) FROM shop.opening_balances") == 59


def test_a_detach_that_a_long_report_stops_is_brought_to_its_end_and_orders_go_on(
    shop: Shop, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    month = history(shop)
    monkeypatch.setattr(retiring, "LOCK_ATTEMPTS", 1)
    with connect(database_url) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM shop.events")
        with pytest.raises(DatabaseError) as caught, owner(database_url) as session:
            retiring.retire(session, tmp_path, month)
        assert caught.value.sqlstate == "55P03"
        assert shop.rows("SELECT state FROM shop.parts_of_month(%s) WHERE table_name = 'events'", month) == [
            "detaching"
        ]
        assert shop.place(order("meanwhile", ("A", 1)))[0]["status"] == "placed"
        assert shop.verify() == []
        reader.execute("ROLLBACK")

    monkeypatch.setattr(retiring, "LOCK_ATTEMPTS", 10)
    with owner(database_url) as session:
        with pytest.raises(OrdermillError, match="another session is retiring"), owner(database_url):
            pass
        retiring.retire(session, tmp_path, month)
    assert attached(shop, month) == 0


def test_a_partition_that_is_not_its_archive_to_the_value_is_not_dropped(
    shop: Shop, database_url: str, tmp_path: Path
) -> None:
    month = history(shop)
    part = f"shop.orders{month:_%Y_%m}"

    class StopError(Exception):
        pass

    def stop(step: str) -> None:
        if step.startswith("archived orders"):
            raise StopError

    with owner(database_url) as session:
        with pytest.raises(StopError):
            retiring.retire(session, tmp_path, month, stop)
        session.execute(
            f"UPDATE {part} SET status_reason = 'changed' WHERE id = (SELECT id FROM {part} LIMIT 1)".encode()
        )
        with pytest.raises(psycopg.Error) as caught:
            session.execute("SELECT shop.drop_archived('orders', %s)", [month])
        assert caught.value.sqlstate == "OM051"
        with pytest.raises(psycopg.Error) as caught:
            session.execute("SELECT shop.drop_archived('orders', %s)", [month_ago(shop.db, 0)])
        assert caught.value.sqlstate == "OM051"
        [file] = (tmp_path / "orders").iterdir()
        file.write_bytes(file.read_bytes()[:-1] + b"!")
        assert "has changed" in str(retiring.check(session, tmp_path, "orders", month))
        with pytest.raises(OrdermillError, match="nothing is restored"):
            retiring.restore(session, tmp_path, "orders", month)
        retiring.retire(session, tmp_path, month)  # the file no longer counts: archived anew, as the rows are now
        assert retiring.check(session, tmp_path, "orders", month) is None
        (tmp_path / shop.value("SELECT file FROM api.archives WHERE table_name = 'orders'")).unlink()
        assert "is not there" in str(retiring.check(session, tmp_path, "orders", month))
