"""docker-compose.yml: valid, with passwords demanded, and its servers are as Ordermill needs them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis

from tests.servers import docker_answers
from tests.workers_fixtures import clean_environment
from workers.child import wait_until
from workers.database import connect
from workers.embedded_valkey import free_port

ROOT = Path(__file__).parent.parent.parent
COMPOSE = ["docker-compose", "--file", str(ROOT / "docker-compose.yml")]
needs_compose = pytest.mark.skipif(not shutil.which("docker-compose"), reason="docker-compose is not installed")


def compose(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMPOSE, *arguments],
        env=clean_environment() | env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@needs_compose
def test_the_compose_file_is_valid_and_demands_passwords() -> None:
    passwords = {"POSTGRES_PASSWORD": "one", "REDIS_PASSWORD": "two"}
    assert compose("config", "--quiet", **passwords).returncode == 0
    for missing in passwords:
        done = compose("config", "--quiet", **{name: text for name, text in passwords.items() if name != missing})
        assert done.returncode != 0
        assert "choose a password" in done.stderr


def _images_are_here() -> bool:
    if not docker_answers():
        return False
    asked = ["docker", "image", "inspect", "postgres:17", "redis:7"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


@needs_compose
def test_the_compose_file_gives_servers_that_ordermill_can_use() -> None:
    if not _images_are_here():
        pytest.skip("Docker does not answer, or has no postgres:17 and redis:7")
    ports = {name: str(free_port(0)) for name in ("POSTGRES_PORT", "REDIS_PORT", "CACHE_PORT")}
    env = {"POSTGRES_PASSWORD": "one", "REDIS_PASSWORD": "two", **ports}
    project = f"ordermill-test-{os.getpid()}"
    try:
        up = compose("--project-name", project, "up", "-d", **env)
        assert up.returncode == 0, up.stderr
        database_url = f"postgresql://ordermill:one@127.0.0.1:{ports['POSTGRES_PORT']}/ordermill"
        client = redis.Redis.from_url(f"redis://:two@127.0.0.1:{ports['REDIS_PORT']}/0", retry=None)
        assert wait_until(lambda: _ready(database_url, client), 60, 0.5)
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        cache = redis.Redis.from_url(f"redis://:two@127.0.0.1:{ports['CACHE_PORT']}/0", retry=None)
        assert wait_until(lambda: _ready(database_url, cache), 60, 0.5)
        assert cache.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lfu"}
        assert cache.config_get("appendonly") == {"appendonly": "no"}
        subprocess.run(
            [Path(sys.executable).parent / "ordermill", "migrate"],
            env=clean_environment() | {"DATABASE_URL": database_url},
            check=True,
            capture_output=True,
        )
    finally:
        compose("--project-name", project, "down", "--volumes", **env)


def _ready(database_url: str, client: redis.Redis) -> bool:
    try:
        with connect(database_url, connect_timeout=2):
            return bool(client.ping())
    except (psycopg.Error, redis.RedisError):
        return False
