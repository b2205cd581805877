"""docker-compose.yml: what it runs, the examples are placed, and no password can be seen."""

import base64
import importlib.util
import json
import re
import shutil
import subprocess
import sys

import pytest
import redis
import yaml

from tests.deploy.deployment import IMAGES, MARKS, OURS, ROOT, SERVERS, Deployment, docker, passes
from tests.workers_fixtures import clean_environment
from workers.child import wait_until
from workers.embedded_valkey import free_port

ALIVE = "/tmp/alive"  # noqa: S108  # in a container

pytestmark = MARKS


# The file


def test_the_broker_loses_nothing_and_the_cache_evicts(deployment: Deployment) -> None:
    wanted = {
        "REDIS_PORT": {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec"},
        "CACHE_PORT": {"maxmemory-policy": "allkeys-lfu", "appendonly": "no", "save": "", "maxmemory": "268435456"},
    }
    for port, settings in wanted.items():
        with deployment.redis(port) as client:
            assert client.config_get(*settings) == settings
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=int(deployment.ports[port]), retry=None).ping()


def test_every_port_is_on_loopback_and_flower_and_metrics_come_only_when_asked_for(deployment: Deployment) -> None:
    for service in (*OURS, *SERVERS):
        bound = deployment.inspect(service)["NetworkSettings"]["Ports"] or {}
        assert {each["HostIp"] for port in bound.values() for each in port or ()} <= {"127.0.0.1"}
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    monitoring = {name for name, service in services.items() if service.get("profiles") == ["monitoring"]}
    assert (monitoring, set(services)) == ({"flower", "metrics"}, {*OURS, *SERVERS, "migrate"})


def test_our_containers_have_no_right_that_they_do_not_need(deployment: Deployment) -> None:
    for service in OURS:
        found = deployment.inspect(service)
        host = found["HostConfig"]
        assert found["Config"]["User"] == "ordermill"
        assert (host["ReadonlyRootfs"], host["CapDrop"]) == (True, ["ALL"])
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert docker("exec", deployment.container("orders"), "id", "-u").strip() == "10001"


def test_no_password_is_seen_in_containers_commands_configuration_or_logs(deployment: Deployment) -> None:
    passwords = [deployment.secret(path.name) for path in deployment.secrets.glob("*_password")]
    assert len(set(passwords)) == 5
    shown = [json.dumps(deployment.inspect(service)) for service in (*OURS, *SERVERS, "migrate")]
    shown += [deployment.compose("config"), deployment.compose("logs", "--no-color"), deployment.compose("top")]
    for text in shown:
        assert text
        for password in passwords:
            assert password not in text


def test_secrets_are_made_once_and_are_for_their_owner(deployment: Deployment) -> None:
    assert deployment.secrets.stat().st_mode & 0o777 == 0o700
    before = {path.name: path.read_text() for path in deployment.secrets.iterdir()}
    subprocess.run([ROOT / "deploy" / "make-secrets", deployment.secrets], check=True)
    assert {path.name: path.read_text() for path in deployment.secrets.iterdir()} == before


def test_the_image_is_small_and_has_nothing_to_install_with(deployment: Deployment) -> None:
    base, ours = (
        int(docker("image", "inspect", "--format", "{{.Size}}", each)) for each in (IMAGES[2], "ordermill-test")
    )
    assert ours - base < 220_000_000  # a third of it DuckDB, for archives
    listed = docker("run", "--rm", "ordermill-test", "ls", "/opt/ordermill/bin").split()
    assert not {"pip", "pytest", "ruff"} & set(listed)
    assert {"ordermill", "celery"} <= set(listed)


# At work


@pytest.mark.parametrize(
    "program",
    ["place_order.py", "place_many_orders.py", "submit_in_transaction.py", "submit_with_sqlalchemy.py", "node"],
)
def test_an_example_places_its_orders(deployment: Deployment, program: str) -> None:
    examples = ROOT / "examples"
    command = [sys.executable, str(examples / program)]
    if program == "node":
        if not shutil.which("node") or not (examples / "node" / "node_modules").is_dir():
            pytest.skip("run `npm install` in examples/node to include it")
        command = ["node", str(examples / "node" / "place_order.js")]
    env = clean_environment() | deployment.application()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer == {"placed": 100} or answer["status"] == "placed", answer


def test_the_web_service_places_an_order(deployment: Deployment) -> None:
    if not importlib.util.find_spec("uvicorn"):
        pytest.skip("run `make examples` to include it")
    port = str(free_port(0))
    command = [sys.executable, "-m", "uvicorn", "--app-dir", "examples", "fastapi_service:app", "--port", port]
    order = '{"customer": "C-1", "lines": [{"sku": "TEA-100", "quantity": 2}]}'
    address = f"http://127.0.0.1:{port}/orders"
    asked = ["curl", "--silent", "--json", order, "--header", "Idempotency-Key: web-1", address]

    def listens() -> bool:
        return subprocess.run(["curl", "--silent", "--output", "/dev/null", address], check=False).returncode == 0

    env = clean_environment() | deployment.application()
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as service:
        try:
            assert wait_until(listens, 30, 0.2)
            answer = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30).stdout
        finally:
            service.terminate()
    assert json.loads(answer)["status"] == "placed", answer


def test_a_command_is_run_in_a_container_and_finds_the_shop_clean(deployment: Deployment) -> None:
    assert "clean" in deployment.compose("run", "--rm", "-T", "migrate", "ordermill", "verify")


def test_flower_asks_for_the_password_of_its_secret(deployment: Deployment) -> None:
    address = f"http://127.0.0.1:{deployment.ports['FLOWER_PORT']}/api/workers"
    login = base64.b64encode(f"ordermill:{deployment.secret('flower_password')}".encode()).decode()
    answers = {}
    for name, headers in (("without", []), ("with", ["--header", f"Authorization: Basic {login}"])):
        asked = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", *headers, address]
        answers[name] = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30).stdout
    assert answers == {"without": "401", "with": "200"}


def test_metrics_count_what_the_workers_in_other_containers_did(deployment: Deployment) -> None:
    env = clean_environment() | deployment.application()
    subprocess.run([sys.executable, ROOT / "examples" / "place_order.py"], env=env, check=True, capture_output=True)
    asked = ["curl", "--silent", "--fail", f"http://127.0.0.1:{deployment.ports['METRICS_PORT']}/metrics"]
    served = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30).stdout
    counted = re.search(r'^ordermill_requests_total{outcome="placed",task="orders.place"} (\S+)', served, re.MULTILINE)
    assert counted
    assert float(counted[1]) >= 1


def test_one_migrates_before_the_others_start_and_all_get_healthy(deployment: Deployment) -> None:
    assert deployment.inspect("migrate")["State"]["ExitCode"] == 0
    assert wait_until(lambda: deployment.healthy(*OURS, *SERVERS), 60, 1)


@pytest.mark.parametrize("service", ["orders", "general", "beat"])
def test_a_process_that_hangs_is_noticed_by_its_health_check(deployment: Deployment, service: str) -> None:
    found = deployment.inspect(service)
    check = found["Config"]["Healthcheck"]["Test"]
    assert passes(found["Id"], check)
    docker("kill", "--signal", "STOP", found["Id"])
    try:
        docker("exec", found["Id"], "touch", "--date=-31 seconds", ALIVE)
        assert not passes(found["Id"], check)
    finally:
        docker("kill", "--signal", "CONT", found["Id"])
    assert wait_until(lambda: passes(found["Id"], check), 30, 0.5)


def test_there_can_be_more_orders_workers_and_status_sees_them(deployment: Deployment) -> None:
    def workers() -> list[str]:
        status = ("run", "--rm", "-T", "migrate", "ordermill", "status", "--json")
        found = deployment.compose(*status, codes=(0, 1))  # 1: it sees a problem, such as a worker that has just gone
        return [worker["worker"].partition("@")[0] for worker in json.loads(found)["workers"]]

    deployment.compose("up", "--detach", "--scale", "orders=2")
    try:
        assert wait_until(lambda: sorted(workers()) == ["general", "orders", "orders"], 60, 0.5)
    finally:
        deployment.compose("up", "--detach", "--scale", "orders=1")
    assert deployment.container("orders")
