"""What README and docs/ say is so: every command runs, every example works.

The processes that the README starts are started as it says, once for this module; everything else is asked of them.
"""

import http.client
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from sqlalchemy import make_url

from docs.generators.examples import EXAMPLES, ORDER_ID
from tests.documents import DOCUMENTS, ROOT, commands, document, fences, section
from tests.servers import Running
from tests.workers_fixtures import Mill, clean_environment, end, ready
from workers.child import Child, wait_until
from workers.database import connect
from workers.embedded import EmbeddedPostgres
from workers.embedded_valkey import free_port
from workers.sample import example_order

BIN = Path(sys.executable).parent
README = document("README.md")
PASSWORD = "only-for-this-test"

# Run here, against the processes of the README.
COMMANDS = (
    ".venv/bin/python examples/place_order.py",
    ".venv/bin/python examples/place_many_orders.py",
    ".venv/bin/python examples/submit_in_transaction.py",
    ".venv/bin/python examples/submit_with_sqlalchemy.py",
    ".venv/bin/ordermill status",
    ".venv/bin/ordermill queues list",
    ".venv/bin/ordermill queues pause views",
    ".venv/bin/ordermill queues resume views",
    ".venv/bin/ordermill queues purge views --yes",
    ".venv/bin/ordermill verify",
    ".venv/bin/ordermill dead-letters list",
    ".venv/bin/ordermill events tail --last 20",
    ".venv/bin/ordermill events tail --kind 'order.*' --json",
    ".venv/bin/ordermill events consumers",
    ".venv/bin/ordermill webhooks list",
    ".venv/bin/ordermill webhooks list --json",
    ".venv/bin/ordermill events replay alerts --from 1 --yes",
    ".venv/bin/ordermill jobs",
    ".venv/bin/ordermill report slow",
    ".venv/bin/ordermill report indexes",
    ".venv/bin/ordermill report locks",
    ".venv/bin/ordermill report statistics --json",
    ".venv/bin/ordermill archive list",
    ".venv/bin/ordermill migrate",
    'curl --fail --user "ordermill:$ORDERMILL_FLOWER_PASSWORD" http://127.0.0.1:5555/api/workers',
    "curl --fail --user \"ordermill:$ORDERMILL_FLOWER_PASSWORD\" 'http://127.0.0.1:5555/api/tasks?limit=10'",
    "make help",
)
LIMITS = "tests/integration/test_queue_limits.py::test_an_operator_sets_sees_and_takes_away_a_limit"
OVERLOAD = (
    "tests/faults/test_overload.py::test_at_three_times_capacity_the_accepted_are_served_within_a_second"
    "_and_the_others_refused_at_once"
)
SERVICE = ".venv/bin/uvicorn --app-dir examples fastapi_service:app"
ORDERED = (
    'curl --json \'{"customer": "C-1", "lines": [{"sku": "TEA-100", "quantity": 2}]}\''
    " --header 'Idempotency-Key: web-2001' http://127.0.0.1:8000/orders"
)
# Too long for a test, or a test of its own: where it is run.
RETIRING = "tests/integration/test_archives.py::test_the_command_lists_retires_checks_and_restores"
ELSEWHERE = {
    "make demo": ".ci/run",
    "make test": ".ci/run",
    "make check": ".ci/run",
    "make up": "tests/integration/test_up.py::Up",
    **{
        f".venv/bin/ordermill archive {rest}": RETIRING
        for rest in ("run", "verify", "restore orders 2025-01", "restore all 2025-01 --attach")
    },
    ".venv/bin/ordermill pools limit SAMPLE 0.5   # seconds, from 0.1 to a day; `none` takes it away": LIMITS,
    ".venv/bin/ordermill pools list": LIMITS,
    ".venv/bin/python -m tests.faults.storm.overload": OVERLOAD,
    "make site": ".ci/run",
    "make docs": "tests/integration/test_docs.py::test_generated_documents_are_up_to_date",
    "cd examples/node && npm install && npm start": "tests/integration/test_docs.py::test_the_node_example_is_placed",
}
FASTAPI = "tests/integration/test_docs.py::test_the_fastapi_service_answers_with_outcomes"
ELSEWHERE |= dict.fromkeys(("make examples", SERVICE, ORDERED), FASTAPI)
BACKUP = "tests/integration/test_backup.py::test_the_shop_is_restored_to_a_moment_and_nothing_accepted_is_lost_for_good"
BACKUP_PAGE = document("docs/backup.md")
ELSEWHERE |= {command: BACKUP for command in commands(BACKUP_PAGE) if command not in COMMANDS}
CONTAINERS = "tests/deploy/test_compose_backup.py::test_the_deployment_is_restored_to_a_moment"
ELSEWHERE |= dict.fromkeys(commands(section(BACKUP_PAGE, "The container deployment")), CONTAINERS)
COMPOSED = (
    "deploy/make-secrets",
    "docker-compose up -d",
    "docker-compose ps",
    "docker-compose run --rm migrate ordermill sample",
    "docker-compose run --rm migrate ordermill status",
    "docker-compose --profile monitoring up -d",
    "docker-compose up -d --scale orders=2",
    "docker-compose up -d --build",
    "docker-compose down",
    "export DATABASE_URL=postgresql://shop_web:$(cat secrets/web_password)@127.0.0.1:5432/ordermill",
    "export CELERY_BROKER_URL=redis://:$(cat secrets/redis_password)@127.0.0.1:6379/0",
    "export REDIS_URL=redis://:$(cat secrets/redis_password)@127.0.0.1:6379/1",
)
ELSEWHERE |= dict.fromkeys(COMPOSED, "tests/deploy/deployment.py::Deployment")
WORKER, PROCESS = ".venv/bin/ordermill worker ", ".venv/bin/celery -A workers.app "


def documented_commands() -> list[str]:
    return [line for path in DOCUMENTS for line in commands(path.read_text(encoding="utf-8"))]


def documented_processes() -> list[str]:
    return [command for command in documented_commands() if command.startswith((WORKER, PROCESS))]


def placed(text: str) -> dict[str, Any]:
    outcome: dict[str, Any] = json.loads(text)
    assert outcome["status"] == "placed", outcome
    return outcome


@pytest.fixture(scope="module")
def running(module_mill: Mill) -> Iterator[dict[str, Child]]:
    """The processes of the README over a database with the sample shop, by what they are."""
    module_mill.env |= {"ORDERMILL_FLOWER_PORT": str(free_port(0)), "ORDERMILL_FLOWER_PASSWORD": PASSWORD}
    example_order(module_mill.database_url)
    children = {}
    for command in documented_processes():
        if command.startswith(WORKER):
            module = ["workers.entry", "worker", *shlex.split(command.removeprefix(WORKER))]
            kind, mark = "orders" if "orders" in module else "general", module[-1]
        else:
            module = ["celery", "-A", "workers.app", *shlex.split(command.removeprefix(PROCESS))]
            kind, mark = module[3], "workers.app"
        assert kind not in children, command
        children[kind] = module_mill.start_module(kind, mark, *module, PYTHONUNBUFFERED="1")
    assert set(children) == {"orders", "general", "beat", "flower"}
    ready(children["orders"])
    ready(children["general"])
    ready(children["beat"], "beat: Starting")
    yield children
    codes = {kind: end(child) for kind, child in children.items() if kind != "flower"}
    end(children["flower"])
    assert set(codes.values()) == {0}, codes


@pytest.fixture
def documented(running: dict[str, Child], mill: Mill) -> Mill:
    return mill


def run(command: str, mill: Mill) -> str:
    """A command as a reader types it, in the root of the repository; gives what it printed."""
    here = command.replace(".venv/bin/", f"{shlex.quote(str(BIN))}/")
    here = here.replace("127.0.0.1:5555", f"127.0.0.1:{mill.env['ORDERMILL_FLOWER_PORT']}")
    env = clean_environment() | mill.env
    shell = ["sh", "-c", here]
    done = subprocess.run(shell, cwd=ROOT, env=env, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# Commands


def test_each_documented_command_is_run_by_a_test() -> None:
    known = {*COMMANDS, *ELSEWHERE, *documented_processes()}
    assert set(documented_commands()) == known


@pytest.mark.parametrize(("command", "where"), ELSEWHERE.items())
def test_a_command_that_is_run_elsewhere_is_run_there(command: str, where: str) -> None:
    path, _, name = where.partition("::")
    text = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"^(def|class) {name}\b", text, re.MULTILINE) if name else command in text


@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_command_works(documented: Mill, command: str) -> None:
    if command.startswith("curl"):
        if not shutil.which("curl"):
            pytest.skip("curl is not installed")
        port = documented.env["ORDERMILL_FLOWER_PORT"]
        assert wait_until(lambda: _answers(f"127.0.0.1:{port}"), 60)
    if "events tail" in command:  # beat starts the dispatcher within seconds
        run(".venv/bin/python examples/place_order.py", documented)
        order_events = "SELECT count(*) FROM api.events WHERE kind LIKE 'order.%%'"
        assert wait_until(lambda: documented.shop.value(order_events) > 0, 60)
    printed = run(command, documented)
    if command.startswith("curl"):
        assert isinstance(json.loads(printed), dict)
    elif "place_many" in command:
        assert json.loads(printed) == {"placed": 100}
    elif "examples/" in command:
        placed(printed)
    elif command.endswith("verify"):
        assert "clean" in printed
    else:
        assert printed.strip()


def _answers(address: str) -> bool:
    try:
        connection = http.client.HTTPConnection(address, timeout=5)
        connection.request("GET", "/healthcheck")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False


def test_flower_asks_for_the_password(documented: Mill) -> None:
    address = f"127.0.0.1:{documented.env['ORDERMILL_FLOWER_PORT']}"
    assert wait_until(lambda: _answers(address), 60)
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", "/api/workers")
    assert connection.getresponse().status == http.client.UNAUTHORIZED


# Examples


def test_the_sql_of_the_readme_works_and_its_order_is_placed(documented: Mill) -> None:
    blocks = [block for block in fences(README, "sql") if "CREATE ROLE" not in block]
    assert len(blocks) == 3
    with connect(documented.database_url) as session:
        for block in blocks:
            session.execute(block.encode())
    assert wait_until(lambda: (documented.shop.outcome("sql-1001") or {}).get("status") == "placed", 30)
    assert (documented.shop.outcome("confirm-1001") or {}).get("status") == "done"


def test_the_sql_of_the_tutorial_gives_what_it_says(documented: Mill) -> None:
    with connect(documented.database_url) as session:
        for block in fences(document("docs/tutorial.md"), "sql"):
            session.execute(block.encode())
            requests = [{"key": key} for key in re.findall(r"'(tutorial-\d)'\)", block)]
            assert documented.all_decided(requests, 30)
    outcomes = [documented.shop.outcome(f"tutorial-{number}") or {} for number in range(1, 5)]
    assert [each["status"] for each in outcomes] == ["placed", "rejected", "held", "done"]
    assert (outcomes[1]["code"], outcomes[1]["field"]) == ("OM001", "lines[0].quantity")


def test_the_code_in_the_readme_is_that_of_the_examples() -> None:
    programs = [path.read_text(encoding="utf-8") for path in (ROOT / "examples").rglob("*.[pj][ys]")]
    blocks = [*fences(README, "python"), *fences(README, "js")]
    assert len(blocks) == 4
    for block in blocks:
        # What a program prints or names besides is left out of the README.
        assert any(block.strip() in program for program in programs), block


def test_the_node_example_is_placed(documented: Mill) -> None:
    if not shutil.which("node") or not (ROOT / "examples" / "node" / "node_modules").is_dir():
        pytest.skip("run `npm install` in examples/node to include it")
    placed(run("cd examples/node && node place_order.js", documented))


@pytest.fixture
def service(documented: Mill) -> Iterator[str]:
    """The FastAPI service as a reader starts it; gives its port."""
    if not (BIN / "uvicorn").exists():
        pytest.skip("run `make examples` to include it")
    port = str(free_port(0))
    module = ["uvicorn", *SERVICE.split()[1:], "--port", port]
    module[module.index("examples")] = str(ROOT / "examples")
    child = documented.start_module("service", "fastapi_service:app", *module)
    yield str(ready(child, "Uvicorn running") and port)
    assert end(child) in {0, -signal.SIGTERM}


def test_the_fastapi_service_answers_with_outcomes(documented: Mill, service: str) -> None:
    def sent(command: str) -> tuple[int, dict[str, Any]]:
        here = command.replace(":8000/", f":{service}/") + " --silent --write-out '\n%{http_code}'"
        answer, _, status = run(here, documented).rpartition("\n")
        return int(status), json.loads(answer)

    status, first = sent(ORDERED)
    assert (status, first["status"]) == (201, "placed")
    assert sent(ORDERED) == (201, first)  # sent again, it is the same order
    other = ORDERED.replace("web-2001", "web-2002").replace("TEA-100", "TEA-999")
    status, second = sent(other)
    assert (status, second["status"], second["code"], second["field"]) == (409, "rejected", "OM002", "lines[0].sku")
    assert sent(other.replace('"quantity": 2', '"quantity": 0'))[0] == 422
    assert documented.shop.value("SELECT count(*) FROM api.orders WHERE key LIKE 'web-200%%'") == 1


def test_the_examples_of_tasks_md_give_what_it_says(documented: Mill) -> None:
    order_id = ""
    orders = ("orders.place", "orders.cancel", "orders.place_many", "orders.complete")
    for task in (*orders, *(t for t in EXAMPLES if "inventory" in t)):
        example = EXAMPLES[task]
        payload = json.loads(json.dumps(example.payload).replace(ORDER_ID, order_id or ORDER_ID))
        result = documented.call(task, payload, queue=task.partition(".")[0])
        if task.startswith("orders.place"):
            order_id = (result[0] if isinstance(result, list) else result)["order_id"]
        shown = re.sub(r'"order_id": "[^"]*"', f'"order_id": "{ORDER_ID}"', json.dumps(result))
        assert json.loads(shown) == example.outcome, task


def test_the_message_of_tasks_md_is_understood_without_a_celery_client(documented: Mill) -> None:
    text = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    shown = fences(text.partition("## Without a Celery client")[2], "json")[0]
    task_id = str(uuid.uuid4())
    message = shown.replace(json.loads(shown)["headers"]["id"], task_id)
    documented.broker.lpush("orders", message)
    with redis.Redis.from_url(documented.redis_url) as results:
        assert wait_until(lambda: results.exists(f"celery-task-meta-{task_id}") == 1, 30)
        answer = json.loads(results.get(f"celery-task-meta-{task_id}"))  # type: ignore[arg-type]
    assert (answer["status"], answer["result"]["key"]) == ("SUCCESS", "web-1001")


def test_the_logins_of_the_readme_can_do_what_it_says_and_no_more() -> None:
    """On a server of its own, because roles belong to the whole server."""
    setup, logins = (block for block in fences(README, "sql") if "CREATE ROLE" in block)
    passwords = dict(re.findall(r"ROLE (\w+) LOGIN.*?PASSWORD '([^']+)'", setup + logins))
    with tempfile.TemporaryDirectory(prefix="ordermill-tests-") as home:
        server = EmbeddedPostgres(Path(home), fast=True)
        server.start()
        try:
            with connect(make_url(server.url).set(database="postgres").render_as_string(hide_password=False)) as root:
                root.execute("DROP DATABASE IF EXISTS ordermill")
                for statement in filter(str.strip, setup.split(";")):
                    root.execute(statement.encode())
            _use_logins(server.url, passwords, logins)
        finally:
            server.stop()
            server.erase()


def _use_logins(server_url: str, passwords: dict[str, str], logins: str) -> None:
    urls = {
        name: make_url(server_url).set(username=name, password=password).render_as_string(hide_password=False)
        for name, password in passwords.items()
    }
    env = clean_environment() | {"DATABASE_URL": urls["ordermill_admin"]}
    for _ in range(2):
        done = subprocess.run([BIN / "ordermill", "migrate"], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    with connect(urls["ordermill_admin"]) as admin:
        admin.execute(logins.encode())
        admin.execute("SET ROLE ordermill_owner")
        admin.execute("INSERT INTO shop.categories (code, name) VALUES ('C', 'C')")
    may = {
        "shop_web": "SELECT api.submit_order('{}')",
        "shop_worker": "SET ROLE ordermill_worker; SELECT * FROM api.claim_orders(1, 1, 10)",
        "shop_analyst": "SELECT * FROM api.verify()",
    }
    for name, statement in may.items():
        with connect(urls[name]) as session:
            session.execute(statement.encode())
            for forbidden in ("SELECT FROM shop.orders", "DELETE FROM shop.categories", "SELECT shop.uuid7()"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    session.execute(forbidden.encode())
    with connect(urls["shop_analyst"]) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("SELECT api.submit_order('{}')")


# The generated documents, links and names


def generate(docs: Path, servers: Running) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, docs / "generate.py", "--check"],
        env=clean_environment() | {"DATABASE_URL": servers.admin_url},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_generated_documents_are_up_to_date(servers: Running) -> None:
    done = generate(ROOT / "docs", servers)
    assert done.returncode == 0, done.stderr


def test_the_check_names_the_document_that_is_out_of_date(servers: Running, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    document = tmp_path / "docs" / "configuration.md"
    document.write_text(document.read_text(encoding="utf-8").replace("| `8` |", "| `9` |"), encoding="utf-8")
    done = generate(tmp_path / "docs", servers)
    assert done.returncode == 1
    assert done.stderr == "docs/configuration.md is out of date: run `make docs`\n"
