"""Migrating: fresh or step by step, twice, from many processes, over what a hand has changed, and from the wheel."""

import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from tests.catalog import describe
from tests.waiting import Step
from workers.database import connect, sqlalchemy_url
from workers.errors import SetupError
from workers.migrate import LOCK, SQL, checksum, migrate

ROOT = Path(__file__).parents[2]
MIGRATE = "import sys; from workers.migrate import migrate; migrate(sys.argv[1], print)"


def step_by_step(url: str) -> Iterator[str]:
    """Goes through the numbered migrations one at a time, as a database that is as old as the project has."""
    revisions = sorted(path.stem.split("_")[0] for path in (SQL / "migrations" / "versions").glob("*.py"))
    config = Config()
    config.set_main_option("script_location", str(SQL / "migrations"))
    for revision in revisions:
        engine = create_engine(sqlalchemy_url(url))
        with engine.begin() as connection:
            connection.exec_driver_sql((SQL / "roles" / "roles.sql").read_text().replace("%", "%%"))
            connection.exec_driver_sql("SET ROLE ordermill_owner")
            connection.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS shop")
            connection.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS api")
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
        engine.dispose()
        yield revision


def test_a_schema_migrated_step_by_step_equals_a_fresh_one(database_url: str, empty_database_url: str) -> None:
    steps = list(step_by_step(empty_database_url))
    migrate(empty_database_url)

    assert steps[0] == "0001"
    fresh, migrated = describe(database_url), describe(empty_database_url)
    assert len(fresh["routines"]) > 60
    for part in fresh:
        assert migrated[part] == fresh[part], part


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    before = describe(database_url)
    told: list[str] = []

    migrate(database_url, told.append)

    assert describe(database_url) == before
    assert told[1:] == ["routines: up to date", "partitions made: 0"]
    assert checksum() in str(before["schemas"])


def test_migrating_again_does_not_wait_for_a_busy_shop(database_url: str, connect_as: Callable[..., object]) -> None:
    with connect(database_url) as busy:
        busy.execute("BEGIN")
        busy.execute("SET LOCAL ROLE ordermill_owner")
        # The lock of any writer: whoever wants more than to read or write rows would wait.
        for (name,) in busy.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'shop'").fetchall():
            busy.execute(f"LOCK TABLE shop.{name} IN ROW EXCLUSIVE MODE".encode())
        separator = "&" if "?" in database_url else "?"
        # Long, for what it does to the roles may wait for who migrates another database; `busy` never lets go.
        migrate(f"{database_url}{separator}options=-c%20lock_timeout%3D30s")
        busy.execute("ROLLBACK")


def in_processes(urls: list[str]) -> None:
    """Migrates each of these, all at once, each in a process of its own."""
    children = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, url], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for url in urls
    ]
    ends = [(child.communicate(timeout=120)[1], child.returncode) for child in children]
    assert [code for _, code in ends] == [0] * len(urls), ends


def test_eight_processes_migrate_one_empty_database_at_once(empty_database_url: str, database_url: str) -> None:
    in_processes([empty_database_url] * 8)

    assert describe(empty_database_url) == describe(database_url)


def test_two_databases_are_migrated_at_once_though_they_share_the_roles(new_database: Callable[[bool], str]) -> None:
    urls = [new_database(False) for _ in range(3)]

    in_processes(urls)

    assert describe(urls[0]) == describe(urls[2])


def test_who_migrates_waits_for_who_migrates_already(database_url: str) -> None:
    with connect(database_url) as first, connect(database_url) as second, connect(database_url) as observer:
        first.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        waiting = Step(second, f"SELECT pg_advisory_lock({LOCK})").waits(observer)
        first.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
        waiting.result()


CHANGES = {
    "a routine that a hand has changed": "CREATE OR REPLACE FUNCTION api.order_outcome(p_key text) RETURNS jsonb"
    " LANGUAGE sql AS $$ SELECT NULL::jsonb $$",
    "a routine that is left over": "CREATE FUNCTION api.place_everything() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "a routine with other parameters": "CREATE FUNCTION api.verify(p_table text) RETURNS integer LANGUAGE"
    " sql AS 'SELECT 1'",
    "a routine with another result": "DROP FUNCTION api.partitions_ahead(); CREATE FUNCTION api.partitions_ahead()"
    " RETURNS text LANGUAGE sql AS 'SELECT NULL::text'",
    "a view with other columns": "DROP VIEW api.pools; CREATE VIEW api.pools AS SELECT 1 AS one, 2 AS two",
    "a trigger that is left over": "CREATE FUNCTION shop.old() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN"
    " RETURN NULL; END';"
    " CREATE TRIGGER old AFTER INSERT ON shop.orders FOR EACH STATEMENT EXECUTE FUNCTION shop.old()",
    "a trigger that was dropped": "DROP TRIGGER orders_record_first_step ON shop.orders",
    "a view that a hand has changed": "CREATE OR REPLACE VIEW api.pools AS SELECT id, code, name, 'X' AS"
    " currency, max_wait FROM shop.pools",
    "a view that is left over": "CREATE VIEW api.everything AS SELECT 1 AS one",
    "a right given to all": "GRANT EXECUTE ON FUNCTION api.place_order(jsonb) TO PUBLIC",
    "a right that was taken": "REVOKE EXECUTE ON FUNCTION api.submit_order(jsonb) FROM ordermill_app",
    "a right that was given to a role": "GRANT EXECUTE ON FUNCTION api.place_order(jsonb) TO ordermill_app",
    "a right on a table that was given to a role": "GRANT INSERT ON shop.orders TO ordermill_app",
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_differs_is_put_right_when_the_files_changed(database_url: str, change: str) -> None:
    before = describe(database_url)
    with connect(database_url) as hand:
        hand.execute("SET ROLE ordermill_owner")
        hand.execute(CHANGES[change].encode())
        hand.execute("COMMENT ON SCHEMA api IS 'an older version'")
    assert describe(database_url) != before

    migrate(database_url)

    after = describe(database_url)
    for part in before:
        assert after[part] == before[part], part


def test_a_view_that_an_analyst_built_on_ours_outlives_a_migration(database_url: str) -> None:
    with connect(database_url) as hand:
        hand.execute("CREATE VIEW public.totals AS SELECT pool, sum(total_amount) FROM api.orders GROUP BY pool")
        hand.execute("COMMENT ON SCHEMA api IS 'an older version'")

        migrate(database_url)

        assert hand.execute("SELECT * FROM public.totals").fetchall() == []


def test_a_server_that_is_not_there_is_said_in_one_sentence() -> None:
    with pytest.raises(SetupError, match=r"PostgreSQL cannot be reached.*correct DATABASE_URL"):
        migrate("postgresql://nobody@127.0.0.1:1/none?connect_timeout=2")


def test_a_login_without_rights_is_told_which_it_needs(empty_database_url: str) -> None:
    with connect(empty_database_url) as owner:
        owner.execute("DROP ROLE IF EXISTS ordermill_test_nobody")
        owner.execute("CREATE ROLE ordermill_test_nobody LOGIN PASSWORD 'nobody'")
    login = empty_database_url.partition("://")[2].partition("@")[2]
    try:
        with pytest.raises(SetupError, match=r"may not migrate.*Use a superuser"):
            migrate(f"postgresql://ordermill_test_nobody:nobody@{login}")
    finally:
        with connect(empty_database_url) as owner:
            owner.execute("DROP ROLE ordermill_test_nobody")


def test_a_login_with_createrole_that_owns_the_database_can_migrate(empty_database_url: str) -> None:
    name = empty_database_url.rpartition("/")[2].partition("?")[0]
    with connect(empty_database_url) as owner:
        owner.execute("DROP ROLE IF EXISTS ordermill_test_maker")
        owner.execute("CREATE ROLE ordermill_test_maker LOGIN CREATEROLE PASSWORD 'maker'")
        owner.execute(f"ALTER DATABASE {name} OWNER TO ordermill_test_maker".encode())
        for role in ("owner", "worker", "app", "reader", "maintainer"):
            owner.execute(f"GRANT ordermill_{role} TO ordermill_test_maker WITH ADMIN OPTION".encode())
    login = empty_database_url.partition("://")[2].partition("@")[2]
    try:
        migrate(f"postgresql://ordermill_test_maker:maker@{login}")
    finally:
        with connect(empty_database_url) as owner:
            owner.execute(f"ALTER DATABASE {name} OWNER TO CURRENT_USER".encode())
            owner.execute("DROP OWNED BY ordermill_test_maker")
            owner.execute("DROP ROLE ordermill_test_maker")


@pytest.fixture
def unpacked_wheel(tmp_path: Path) -> Path:
    """The wheel as it would be installed, built without a network."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    return tmp_path / "site"


def test_the_wheel_carries_the_sql_and_migrates_from_it(
    unpacked_wheel: Path, empty_database_url: str, database_url: str
) -> None:
    packed = {path.relative_to(unpacked_wheel / "workers" / "_sql") for path in unpacked_wheel.rglob("*.sql")}
    script = f"import workers.migrate as m; assert 'site' in str(m.SQL), m.SQL; m.migrate({empty_database_url!r})"

    subprocess.run([sys.executable, "-c", script], cwd=unpacked_wheel, check=True, timeout=60)

    assert packed == {path.relative_to(SQL) for path in SQL.rglob("*.sql")}
    assert describe(empty_database_url) == describe(database_url)
