"""The set-up of docs/security.md as it says: PostgreSQL with TLS and SCRAM only, Redis with TLS and logins, a role for
each process; and no secret in anything that a process says."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from kombu.exceptions import OperationalError

from tests.integration.test_flower import listed
from tests.secure_shop import FLOWER_PASSWORD, SECRETS, Secure, shows_no_secret, sku_of
from tests.shop import order
from tests.workers_fixtures import clean_environment
from workers.child import wait_until
from workers.database import connect

# TLS, SCRAM and ACL


def test_an_order_travels_by_tls_only_through_each_door_and_is_placed(secure: Secure) -> None:
    sku, mill = sku_of(secure), secure.mill
    by_celery = mill.call("orders.place", order(None, (sku, 1)))
    request = order(None, (sku, 1))
    with connect(secure.database("shop_web", 3)) as app:
        app.execute("SELECT api.submit_order(%s)", [json.dumps(request)])

    assert by_celery["status"] == "placed"
    assert wait_until(lambda: (mill.shop.outcome(request["key"]) or {}).get("status") == "placed", 60)
    clear = "SELECT FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_port > 0 AND NOT ssl"
    logins = "SELECT DISTINCT usename::text FROM pg_stat_activity WHERE application_name = 'ordermill'"
    with connect(secure.root_url) as root:
        assert root.execute(clear.encode()).fetchall() == []
        assert root.execute(logins.encode()).fetchall() == [("shop_worker",)]


def test_a_cached_read_works_by_tls(secure: Secure) -> None:
    sku = sku_of(secure)

    def hits() -> int:
        found = secure.mill.call("catalog.availability", {"skus": [sku]}, queue="cache")
        assert found["items"][0]["sku"] == sku
        stats = json.loads(secure.run("cache", "stats", "--json").stdout)
        assert stats["answers"] is True
        return int(stats["kinds"]["availability"]["hits"])

    assert wait_until(lambda: hits() >= 1, 60)  # the event of its new stock deletes what was read before


@pytest.mark.parametrize(
    "command", ["status --json", "verify", "queues list", "jobs --json", "dead-letters list", "events consumers"]
)
def test_the_command_line_works_by_tls(secure: Secure, command: str) -> None:
    reader = secure.database("shop_analyst", 4)
    done = secure.run(*command.split(), **({"DATABASE_URL": reader} if "status" in command else {}))
    if "status" in command:
        state = json.loads(done.stdout)
        assert not [each for each in state["problems"] if each["problem"] == "silent"], state["problems"]
        assert state["cache"]["answers"] is True
    else:
        assert done.returncode == 0, done.stdout + done.stderr


def test_flower_shows_workers_tasks_and_queues_by_tls(secure: Secure) -> None:
    def queues() -> set[str]:
        if len(asked(secure, "workers?refresh=1")) != 2:  # which asks them, too, what they consume
            return set()
        return {each["name"] for each in asked(secure, "queues/length").get("active_queues", [])}

    assert wait_until(lambda: bool(asked(secure, "tasks")), 60, 0.2)  # it listens: beat sends some each five seconds
    result = secure.mill.send("orders.place", order(None, (sku_of(secure), 1)))
    result.get(timeout=60)

    assert wait_until(lambda: asked(secure, "tasks").get(result.id, {}).get("state") == "SUCCESS", 60, 0.2)
    assert wait_until(lambda: queues() >= {"orders", "cache"}, 60, 0.2)


def asked(secure: Secure, path: str) -> dict[str, Any]:
    return listed(secure.flower_port, f"/api/{path}", f"ordermill:{FLOWER_PASSWORD}")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sslmode": "disable", "channel_binding": "disable"}, "no encryption"),
        ({"host": "127.0.0.1"}, "does not match host name"),
        ({"sslrootcert": "system"}, "certificate verify failed"),
    ],
    ids=["in plain text", "another name", "an authority that did not sign it"],
)
def test_postgresql_is_not_spoken_to(secure: Secure, changes: dict[str, str], words: str) -> None:
    with pytest.raises(psycopg.OperationalError, match=words):
        connect(secure.database("shop_worker", 2, **changes))
    done = secure.run("verify", DATABASE_URL=secure.database("shop_worker", 2, **changes))
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_postgresql_keeps_scram_verifiers_and_takes_no_wrong_password(secure: Secure) -> None:
    with connect(secure.database("ordermill_admin", 1)) as admin:
        assert admin.execute("SHOW password_encryption").fetchone() == ("scram-sha-256",)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(secure.database("shop_worker", 3))


@pytest.mark.parametrize(
    "changes",
    [{"host": "127.0.0.1"}, {"ssl_ca_certs": "/etc/ssl/certs/ca-certificates.crt"}],
    ids=["another name", "an authority that did not sign it"],
)
def test_redis_is_not_spoken_to(secure: Secure, changes: dict[str, str]) -> None:
    urls = {
        name: secure.redis("mill", 5, base, **changes) for name, base in (("REDIS_URL", 0), ("CELERY_BROKER_URL", 1))
    }
    done = secure.run("status", "--json", **urls)
    said = [each["detail"] for each in json.loads(done.stdout)["problems"] if each["problem"] == "silent"]
    assert len(said) == 2, done.stdout
    assert all("certificate verify failed" in line.lower() for line in said), said
    worker = secure.mill.start("refused", "worker", "-Q", "views", "-P", "solo", "-n", "refused@test", **urls)
    assert wait_until(lambda: "CERTIFICATE_VERIFY_FAILED" in worker.log.read_text(), 60, 0.1)
    worker.stop()


def test_an_application_may_send_and_read_its_results_and_nothing_else_in_redis(secure: Secure) -> None:
    with redis.Redis.from_url(secure.redis("shop", 6, 1)) as shop:
        for command in (
            ("LRANGE", "orders", 0, -1),
            ("RPOP", "orders"),
            ("DEL", "orders"),
            ("LPUSH", "inventory", "x"),
            ("HGETALL", "orders.unacked"),
            ("SADD", "ordermill.paused", "orders"),
            ("GET", "ordermill:product:A"),
            ("EVAL", "return 1", 0),
            ("KEYS", "*"),
            ("FLUSHALL",),
            ("CONFIG", "GET", "*"),
            ("MONITOR",),
            ("PUBLISH", "celery-task-meta-x", "forged"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                shop.execute_command(*command)
    with redis.Redis.from_url(secure.redis("mill", 5, 1)) as mill:
        for command in (("KEYS", "*"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("SHUTDOWN",), ("ACL", "LIST")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                mill.execute_command(*command)
    with pytest.raises((OperationalError, redis.exceptions.RedisError)):
        redis.Redis.from_url(secure.redis("mill", 6, 1)).ping()


# Roles


MAY_NOT = {
    "any": (
        "SELECT FROM shop.orders",
        "UPDATE shop.stock_levels SET available = 10",
        "DELETE FROM shop.request_keys",
        "SELECT shop.uuid7()",
        "SET ROLE ordermill_owner",
        "CREATE TABLE shop.mine (n integer)",
        "CREATE FUNCTION api.mine() RETURNS integer LANGUAGE sql RETURN 1",
        "CREATE SCHEMA mine",
        "CREATE EXTENSION dblink",
        "CREATE ROLE mine",
        "ALTER ROLE ordermill_admin PASSWORD 'mine'",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT passwd FROM pg_shadow",
        "SELECT api.upkeep_findings FROM api.upkeep_findings, shop.orders",
        "DROP DATABASE ordermill",
    ),
    "shop_worker": ("SELECT api.set_view_freshness('sales_by_day', p_enabled => false)", "SET ROLE ordermill_app"),
    "shop_web": (
        "SELECT api.place_orders('[]')",
        "SELECT api.adjust_inventory('k', 'A', 'E1', 5, 'gift', NULL)",
        "SELECT api.bury_order('{}', 'OM001', 'x', 1)",
        "SELECT api.used_keys('{}')",
        "SELECT FROM api.dead_letters",
        "SELECT FROM api.job_runs",
        "SET ROLE ordermill_worker",
    ),
    "shop_analyst": (
        "SELECT api.submit_order('{}')",
        "SELECT api.cancel_order('k', gen_random_uuid(), 'x')",
        "SELECT FROM api.upkeep_findings",
        "SET ROLE ordermill_maintainer",
    ),
}
LOGINS = {"shop_worker": 2, "shop_web": 3, "shop_analyst": 4}


@pytest.mark.parametrize("login", LOGINS)
def test_a_login_may_not(secure: Secure, login: str) -> None:
    """Over the server on which the workers, with these very logins, do all the other tests of this module."""
    with connect(secure.database(login, LOGINS[login])) as session:
        for statement in (*MAY_NOT["any"], *MAY_NOT[login]):
            allowed = None
            with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                allowed = session.execute(statement.encode())
            assert allowed is None, statement


# Secrets


BREAKING = (
    ("verify", "DATABASE_URL", "postgresql://shop_worker:{}@localhost:1/ordermill"),
    ("verify", "DATABASE_URL", "postgresql://shop_worker:{}@localhost:port/ordermill"),
    ("verify", "DATABASE_URL", "postgresql://shop_worker:{}@localhost/ordermill?nonsense=1"),
    ("status", "DATABASE_URL", "mysql://shop_worker:{}@localhost/ordermill"),
    ("migrate", "DATABASE_URL", "postgresql://ordermill_admin:{}@localhost:1/ordermill"),
    ("status", "CELERY_BROKER_URL", "rediss://mill:{}@localhost:1/0"),
    ("queues list", "CELERY_BROKER_URL", "rediss://mill:{}@localhost:port/0"),
    ("status", "REDIS_URL", "http://mill:{}@localhost:1/0"),
    ("cache stats", "ORDERMILL_CACHE_URL", "redis://mill:{}@localhost:1/x"),
    ("cache clear", "ORDERMILL_CACHE_URL", "redis://mill:{}@localhost:1/3"),
    ("status", "ORDERMILL_SMTP_URL", "imap://mill:{}@localhost:1"),
    ("status", "ORDERMILL_SMTP_URL", "smtp://mill:{}@localhost:port"),
    ("archive list", "ORDERMILL_MAINTENANCE_URL", "mysql://ordermill_admin:{}@localhost:1/o"),
)


# Each command in a fork of one process, which has imported everything once.
IN_FORKS = """
import json, os, sys
from workers import cli
from workers.settings import get_settings

for arguments, env in json.loads(sys.stdin.read()):
    sys.stderr.flush()
    if not os.fork():
        os.environ.update(env)
        get_settings.cache_clear()
        sys.argv = ["ordermill", *arguments]
        cli.main()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), file=sys.stderr)
"""
EVERY_HELP = """
import typer, typer.main
from workers import cli

def show(command, context):
    command.get_help(context) and print(command.get_help(context))
    for name, sub in getattr(command, "commands", {}).items():
        show(sub, type(context)(sub, info_name=name, parent=context))

command = typer.main.get_command(cli.app)
show(command, command.make_context("ordermill", ["verify"], resilient_parsing=True))
"""


def in_python(secure: Secure, program: str, given: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment() | secure.mill.env | env,
        cwd=secure.mill.folder,
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    secure.said.append(done.stdout + done.stderr)
    return done


@pytest.mark.parametrize("debug", ["", "1"], ids=["as a line", "as a traceback"])
def test_no_error_of_the_command_line_shows_a_password(secure: Secure, debug: str) -> None:
    cases = [(command.split(), {name: url.format(SECRETS["change-me-5"])}) for command, name, url in BREAKING]
    done = in_python(secure, IN_FORKS, json.dumps(cases), **({"ORDERMILL_DEBUG": debug} if debug else {}))
    codes = [int(line) for line in done.stderr.splitlines() if line.isdigit()]
    assert len(codes) == len(cases), done.stderr
    assert all(codes), list(zip(codes, cases, strict=True))


def test_no_help_shows_a_password(secure: Secure) -> None:
    told = in_python(secure, EVERY_HELP)
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("Usage: ") > 30
    celery = "from workers.app import app; from celery.bin.celery import celery; celery(['-A', 'workers.app', '{}'])"
    for command in ("report", "--help"):
        assert in_python(secure, celery.format(command)).stdout


def test_no_command_line_of_a_process_has_a_password(secure: Secure) -> None:
    for child in secure.mill.children:
        if child.alive() and child.process:
            line = Path(f"/proc/{child.process.pid}/cmdline")
            if not line.exists():
                pytest.skip("no /proc here")
            secure.said.append(line.read_text(errors="replace"))
    titles = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=False).stdout
    secure.said.append(titles)


def test_no_log_shows_a_secret_after_an_order_and_an_error(secure: Secure) -> None:
    """And at the end of this module all logs and all that was printed is looked through once more."""
    secure.mill.call("orders.place", order(None, (sku_of(secure), 1)))
    secure.run("verify", DATABASE_URL=secure.database("shop_worker", 3))
    shows_no_secret(secure)
