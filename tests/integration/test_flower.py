"""Flower as anyone would start it: on loopback, behind a password, with workers and order tasks in it."""

import base64
import json
import re
import socket
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.shop import order
from tests.workers_fixtures import Mill
from workers.child import Child, wait_until
from workers.embedded_valkey import free_port


@pytest.fixture
def mill(module_mill: Mill, mill: Mill) -> Mill:
    """The module's mill, in which an order may wait for a lock as long as Flower takes to show it."""
    module_mill.env |= {
        "ORDERMILL_LOCK_TIMEOUT_MS": "59000",
        "ORDERMILL_STATEMENT_TIMEOUT_MS": "60000",
        "ORDERMILL_CLAIM_LEASE_SECONDS": "90",
        "ORDERMILL_VISIBILITY_TIMEOUT": "90",
    }
    return mill


def get(port: int, path: str, login: str = "") -> tuple[int, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if login:
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


def listed(port: int, path: str, login: str) -> dict[str, Any]:
    status, body = get(port, path, login)
    return dict(json.loads(body)) if status == 200 else {}


def flower(mill: Mill, **env: str) -> tuple[Child, int]:
    port = free_port(None)
    child = mill.start("flower", "flower", ORDERMILL_FLOWER_PORT=str(port), **env)
    assert wait_until(lambda: get(port, "/healthcheck")[0] == 200 or not child.alive(), 60, 0.1)
    child.check()
    return child, port


def test_with_the_password_it_lists_workers_and_order_tasks_and_without_nothing(at_work: Mill, sku: str) -> None:
    _, port = flower(at_work, ORDERMILL_FLOWER_USER="ada", ORDERMILL_FLOWER_PASSWORD="secret")
    login = "ada:secret"

    for path in ("/", "/workers", "/tasks", "/api/workers", "/api/tasks"):
        assert get(port, path)[0] == 401
        assert get(port, path, "ada:wrong")[0] == 401
    assert wait_until(lambda: len(listed(port, "/api/workers?refresh=1", login)) == 2, 60, 0.2)
    result = at_work.send("orders.place", order(None, (sku, 1)))
    result.get(timeout=30)

    def task() -> dict[str, Any]:
        return listed(port, "/api/tasks", login).get(result.id, {})

    def lengths() -> dict[str, int]:
        queues = listed(port, "/api/queues/length", login).get("active_queues", [])
        return {queue["name"]: queue["messages"] for queue in queues}

    with at_work.locked_stock(sku):  # the first is in hand, and so would be all that come with it
        at_work.send("orders.place", order(None, (sku, 1)))
        at_work.wait_blocked()
        for _ in range(3):
            at_work.send("orders.place", order(None, (sku, 1)))
        assert wait_until(lambda: lengths().get("orders") == 3, 30, 0.1)

    assert wait_until(lambda: task().get("state") == "SUCCESS", 30, 0.1)
    assert task()["name"] == "orders.place"


def test_bare_it_is_on_loopback_and_prints_a_password_that_works(at_work: Mill) -> None:
    child, port = flower(at_work)

    said = re.search(r"log in as (\S+) with (\S+)", child.log.read_text())
    assert said
    assert get(port, "/api/tasks")[0] == 401
    assert get(port, "/api/tasks", f"{said[1]}:{said[2]}")[0] == 200
    assert not answers_elsewhere(port)


def test_a_blank_login_of_its_own_is_no_open_door(at_work: Mill) -> None:
    _, port = flower(at_work, FLOWER_BASIC_AUTH="", ORDERMILL_FLOWER_PASSWORD="secret")

    assert get(port, "/api/tasks")[0] == 401
    assert get(port, "/api/tasks", "ordermill:secret")[0] == 200


def test_a_password_that_it_would_split_is_refused_in_one_line(at_work: Mill) -> None:
    port = str(free_port())
    child = at_work.start("flower", "flower", ORDERMILL_FLOWER_PASSWORD="a,b", ORDERMILL_FLOWER_PORT=port)

    assert wait_until(lambda: not child.alive(), 60)
    assert child.process is not None
    assert child.process.returncode == 1
    said = child.log.read_text()
    assert "ORDERMILL_FLOWER_PASSWORD must not contain a comma" in said
    assert "Traceback" not in said


def test_a_port_in_use_is_named_with_what_sets_it_in_one_line(at_work: Mill) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        child = at_work.start("flower", "flower", ORDERMILL_FLOWER_PORT=str(port), ORDERMILL_FLOWER_PASSWORD="secret")
        assert wait_until(lambda: not child.alive(), 60)
    assert child.process is not None
    assert child.process.returncode == 1
    assert child.log.read_text().splitlines() == [
        f"Flower: port {port} of 127.0.0.1 is in use: stop what listens there, or set ORDERMILL_FLOWER_PORT to another"
    ]


def answers_elsewhere(port: int) -> bool:
    """Whether the port is open on an address of this machine that others can reach."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: only asks which address would be used
        except OSError:
            pytest.skip("this machine has no other address than loopback")
        address = probe.getsockname()[0]
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex((address, port)) == 0
