"""docker-compose.yml as a stranger has it: a project of Compose, on ports and with secrets of its own."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
from psycopg import Connection
from psycopg.types.json import Jsonb

from tests.workers_fixtures import clean_environment
from workers.child import wait_until
from workers.database import connect
from workers.embedded_valkey import free_port

ROOT = Path(__file__).parent.parent.parent
FILES = "docker-compose.yml:tests/deploy/password_file.yml"
PORTS = ("POSTGRES_PORT", "REDIS_PORT", "CACHE_PORT", "FLOWER_PORT", "METRICS_PORT")
OURS = ("orders", "general", "beat", "flower", "metrics")
SERVERS = ("postgres", "redis", "cache")
PYTHON = "python:3.11-slim"
IMAGES = ("postgres:17", "redis:7", PYTHON)
UP_SECONDS = 150
MARKS = [
    pytest.mark.skipif(not shutil.which("docker-compose"), reason="docker-compose is not installed"),
    pytest.mark.timeout(600),  # the first makes the image and starts all
]


class Deployment:
    """One project of Compose, by the commands that a reader types."""

    def __init__(self, folder: Path) -> None:
        self.secrets = folder / "secrets"
        self.ports: dict[str, str] = {}
        self.env = clean_environment() | {"COMPOSE_HTTP_TIMEOUT": "200"}
        self.env |= {"SECRETS": str(self.secrets), "BUILD_NETWORK": "host", "ORDERMILL_IMAGE": "ordermill-test"}
        self.project = f"ordermill-test-{os.getpid()}"
        self.env |= {"COMPOSE_FILE": FILES, "COMPOSE_PROJECT_NAME": self.project}
        subprocess.run([ROOT / "deploy" / "make-secrets", self.secrets], check=True)

    def compose(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        """What `docker-compose` printed; another exit code fails the test."""
        return self._run(["docker-compose", "--profile", "monitoring", *arguments], self.env, codes)

    def typed(self, command: str, env: Mapping[str, str]) -> str:
        """What a documented command printed, with these variables besides."""
        return self._run(["sh", "-c", command], self.env | env, (0,))

    @staticmethod
    def _run(command: list[str], env: Mapping[str, str], codes: tuple[int, ...]) -> str:
        kept: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 220}
        done = subprocess.run(command, cwd=ROOT, env=env, check=False, **kept)
        assert done.returncode in codes, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def build(self) -> None:
        """Makes the image, asking the registries twice where they fail; then chooses ports, which are kept a minute."""
        try:
            self.compose("build")
        except AssertionError:
            self.compose("build")
        self.ports = {name: str(free_port(0)) for name in PORTS}
        self.env |= self.ports

    def started(self) -> None:
        """Everything is up and well, by the checks themselves: Docker asks them twice a minute."""
        self.compose("up", "--detach")
        for service in OURS:
            found = self.inspect(service)
            check = found["Config"]["Healthcheck"]["Test"]
            assert wait_until(lambda f=found, c=check: passes(f["Id"], c), UP_SECONDS, 0.5), service

    def down(self) -> None:
        """Nothing is left, the volumes of a restore neither."""
        self.compose("down", "--volumes", "--timeout", "5")
        label = f"label=com.docker.compose.project={self.project}"
        if left := docker("volume", "ls", "--quiet", "--filter", label).split():
            docker("volume", "rm", *left)

    def container(self, service: str) -> str:
        labels = {"project": self.project, "service": service, "oneoff": "False"}
        asked = (
            word for name, value in labels.items() for word in ("--filter", f"label=com.docker.compose.{name}={value}")
        )
        [found] = docker("ps", "--all", "--quiet", "--no-trunc", *asked).split()
        return found

    def inspect(self, service: str) -> dict[str, Any]:
        [found] = json.loads(docker("inspect", self.container(service)))
        return dict(found)

    def healthy(self, *services: str) -> bool:
        asked = [self.inspect(service)["State"].get("Health", {}).get("Status") for service in services]
        return set(asked) == {"healthy"}

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text().strip()

    def application(self) -> dict[str, str]:
        """The addresses of an application on this machine; its login may submit orders and write no table of ours."""
        broker, database = (f"127.0.0.1:{self.ports[name]}" for name in ("REDIS_PORT", "POSTGRES_PORT"))
        return {
            "DATABASE_URL": f"postgresql://shop_web:{self.secret('web_password')}@{database}/ordermill",
            "REDIS_URL": f"redis://:{self.secret('redis_password')}@{broker}/1",
            "CELERY_BROKER_URL": f"redis://:{self.secret('redis_password')}@{broker}/0",
        }

    def administrator(self) -> Connection:
        """The owner's session."""
        server = f"127.0.0.1:{self.ports['POSTGRES_PORT']}"
        return connect(f"postgresql://ordermill_admin:{self.secret('postgres_password')}@{server}/ordermill")

    def submitted(self, key: str) -> dict[str, Any] | None:
        """The outcome of this order of one unit, sent now through the SQL door, once it has one."""
        with connect(self.application()["DATABASE_URL"]) as session:
            session.execute("SELECT api.submit_order(%s)", [Jsonb(one_unit(key))])
        assert wait_until(lambda: (self.outcome(key) or {})["status"] != "accepted", 60), key
        return self.outcome(key)

    def outcome(self, key: str) -> dict[str, Any] | None:
        """What the shop says of this key; nothing where it does not know it."""
        with connect(self.application()["DATABASE_URL"]) as session:
            [found] = session.execute("SELECT api.order_outcome(%s)", [key]).fetchone() or [None]
        return found

    def redis(self, port: str) -> redis.Redis:
        password = self.secret("redis_password")
        return redis.Redis(port=int(self.ports[port]), password=password, retry=None, decode_responses=True)


def one_unit(key: str, sku: str = "TEA-100") -> dict[str, Any]:
    """An order of one unit of the sample shop."""
    lines = [{"sku": sku, "quantity": 1}]
    return {"version": 1, "key": key, "customer": "C-1", "pool": "SAMPLE", "lines": lines}


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def passes(container: str, check: list[str]) -> bool:
    """Whether a container's health check would say that it is well, now."""
    command = ["sh", "-c", check[1]] if check[0] == "CMD-SHELL" else check[1:]
    done = subprocess.run(["docker", "exec", container, *command], capture_output=True, check=False, timeout=60)
    return done.returncode == 0
