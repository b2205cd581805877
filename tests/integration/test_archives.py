"""Archives as files and by command: never replaced by another's, checked, restored and attached again."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.months import TABLES, attached, history, make_month, month_ago, owner, rows
from tests.shop import Shop
from workers import archive, retiring
from workers.database import connect

pytest.importorskip("duckdb")
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ordermill(database_url: str) -> Command:
    def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("ordermill")), *arguments]
        environment = os.environ | {"DATABASE_URL": database_url, "COLUMNS": "80"} | env
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    return run


def files(shop: Shop, folder: Path) -> dict[str, Path]:
    return {table: folder / file for table, file in shop.db.execute("SELECT table_name, file FROM api.archives")}


def test_two_databases_with_one_folder_keep_each_its_archives(
    shop: Shop, database_url: str, new_database: Callable[[bool], str], tmp_path: Path
) -> None:
    month = history(shop)
    with owner(database_url) as session:
        retiring.retire(session, tmp_path, month)
    other = new_database(True)
    with connect(other) as theirs:
        theirs.execute("SET ROLE ordermill_owner")
        make_month(theirs, month)

    with owner(other) as session:
        retiring.retire(session, tmp_path, month)
        assert [retiring.check(session, tmp_path, table, month) for table in TABLES] == [None] * len(TABLES)

    with owner(database_url) as session:
        assert [retiring.check(session, tmp_path, table, month) for table in TABLES] == [None] * len(TABLES)
    assert len(list(tmp_path.rglob("*.parquet"))) == 2 * len(TABLES)


def test_a_month_that_is_archived_anew_keeps_the_file_of_before(shop: Shop, database_url: str, tmp_path: Path) -> None:
    month = history(shop)
    with owner(database_url) as session:
        retiring.retire(session, tmp_path, month)
        before = files(shop, tmp_path)
        content = archive.content(before["orders"])
        retiring.restore(session, tmp_path, "orders", month, attach=True)
        session.execute(f"DELETE FROM shop.orders{month:_%Y_%m}".encode())
        retiring.retire(session, tmp_path, month)

        assert content.rows == 5
        assert archive.content(before["orders"]) == content
        after = files(shop, tmp_path)
        assert {table for table in TABLES if after[table] != before[table]} == {"orders"}
        assert archive.content(after["orders"]).rows == 0
        assert retiring.check(session, tmp_path, "orders", month) is None


def test_the_same_rows_archived_anew_are_the_same_file_and_a_damaged_one_is_mended(
    shop: Shop, database_url: str, tmp_path: Path
) -> None:
    month = history(shop)
    with owner(database_url) as session:
        retiring.retire(session, tmp_path, month)
        file = files(shop, tmp_path)["orders"]
        written = file.stat().st_ino
        part = f"restored.{retiring.restore(session, tmp_path, 'orders', month)[0].partition('.')[2]}"
        assert archive.write(session, part, file.parent, f"orders{month:_%Y_%m}") == file
        assert file.stat().st_ino == written
        file.write_bytes(b"PAR1")

        assert archive.write(session, part, file.parent, f"orders{month:_%Y_%m}") == file

        assert retiring.check(session, tmp_path, "orders", month) is None


def test_what_cannot_be_restored_says_what_to_do_and_a_broken_off_attach_goes_on(
    shop: Shop, database_url: str, tmp_path: Path, ordermill: Command
) -> None:
    month = history(shop)
    name = f"{month:%Y-%m}"

    def run(*arguments: str) -> tuple[int, str]:
        done = ordermill("archive", *arguments, ORDERMILL_ARCHIVE_DIR=str(tmp_path))
        return done.returncode, done.stdout + done.stderr

    assert run("restore", "all", "2001-01") == (
        2, "ordermill: there is no archive of 2001-01: `ordermill archive list` shows them\n")  # fmt: skip
    with owner(database_url) as session:
        retiring.retire(session, tmp_path, month)
    assert run("restore", "order_lines", name, "--attach") == (
        2, f"ordermill: order_lines {name} refers to rows that are not there: attach orders first\n")  # fmt: skip
    assert run("restore", "orders", name, "--attach")[0] == 0  # as if it was killed behind its first table

    code, said = run("restore", "all", name, "--attach")

    assert (code, said.splitlines()[0]) == (0, f"shop.orders{month:_%Y_%m} is attached already")
    assert attached(shop, month) == len(TABLES)
    assert run("restore", "orders", name, "--attach") == (2, f"ordermill: shop.orders{month:_%Y_%m} is attached\n")
    assert shop.verify() == []


def test_verify_reports_an_archive_that_cannot_be_read_and_goes_on(
    shop: Shop, database_url: str, tmp_path: Path, ordermill: Command
) -> None:
    month = history(shop)
    with owner(database_url) as session:
        retiring.retire(session, tmp_path, month)
    file = files(shop, tmp_path)["events"]
    file.unlink()
    file.mkdir()  # the first of the list

    done = ordermill("archive", "verify", ORDERMILL_ARCHIVE_DIR=str(tmp_path))

    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        f"events {month:%Y-%m}: {file} cannot be read: Is a directory", "5 of 6 archives are whole"]  # fmt: skip


def test_an_archive_from_before_a_column_was_added_is_restored_with_its_default(
    shop: Shop, database_url: str, tmp_path: Path
) -> None:
    month = history(shop)
    part = f"orders{month:_%Y_%m}"
    with owner(database_url) as session:
        before = rows(session, part)
        retiring.retire(session, tmp_path, month)
        session.execute("ALTER TABLE shop.orders ADD COLUMN note text DEFAULT 'none'")

        retiring.restore(session, tmp_path, "orders", month, attach=True)

        assert rows(session, part) == [(*row, "none") for row in before]
    assert attached(shop, month) == 1
    assert shop.verify() == []


def test_a_column_of_an_unknown_type_is_om052_and_leaves_no_file(shop: Shop, database_url: str, tmp_path: Path) -> None:
    with owner(database_url) as session:
        session.execute("CREATE TABLE shop.odd (id uuid, span interval)")
        with pytest.raises(psycopg.Error) as caught:
            archive.write(session, "shop.odd", tmp_path, "odd")
    assert caught.value.sqlstate == "OM052"
    assert list(tmp_path.iterdir()) == []
    shop.db.execute("DROP TABLE shop.odd")


def test_the_command_lists_retires_checks_and_restores(
    shop: Shop, database_url: str, tmp_path: Path, ordermill: Command
) -> None:
    month = history(shop)
    name = f"{month:%Y-%m}"

    def run(*arguments: str) -> str:
        done = ordermill(*arguments, ORDERMILL_ARCHIVE_DIR=str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert max(map(len, done.stdout.splitlines())) <= 80
        return done.stdout

    assert run("archive", "list") == f"{name} is due: nothing keeps it\n"
    assert run("archive", "run").endswith(f"{name} is retired\n")
    assert run("archive", "run") == "no month is due\n"
    assert "6 of 6 archives are whole" in run("archive", "verify")
    assert run("archive", "list").count("archived") == 6
    assert "restored.orders" in run("archive", "restore", "orders", name)
    assert run("archive", "restore", "all", name, "--attach").count("as they were archived") == 6
    assert run("archive", "run", name).endswith("is retired\n")
    nothing = ordermill("archive", "restore", "orders", "2001-1", ORDERMILL_ARCHIVE_DIR=str(tmp_path))
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert nothing.stderr == "ordermill: '2001-1' is no month: give one such as 2025-01\n"
    soon = ordermill("archive", "run", f"{month_ago(shop.db, 1):%Y-%m}", ORDERMILL_ARCHIVE_DIR=str(tmp_path))
    assert soon.returncode == 2
    assert "it is kept until" in soon.stderr
