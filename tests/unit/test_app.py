"""The application in a process of its own: what Celery reads from the environment by itself."""

import os
import subprocess
import sys

import pytest

SAY = "from workers.app import app; print(app.conf.broker_url, app.conf.broker_read_url, app.conf.result_backend)"


def told(**env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY_", "REDIS_URL"))}
    return subprocess.run(
        [sys.executable, "-c", SAY], env=kept | env, capture_output=True, text=True, timeout=60, check=True
    )


def test_the_settings_win_over_celerys_own_variables_which_are_named() -> None:
    done = told(
        REDIS_URL="redis://r/1",
        CELERY_RESULT_BACKEND="redis://elsewhere/9",
        CELERY_BROKER_READ_URL="redis://elsewhere/8",
    )

    assert done.stdout.split() == ["redis://r/1", "redis://r/1", "redis://r/1"]
    assert "CELERY_RESULT_BACKEND is ignored: set REDIS_URL" in done.stderr
    assert "CELERY_BROKER_READ_URL is ignored" in done.stderr


def test_the_brokers_variable_is_a_setting_and_nothing_is_said() -> None:
    done = told(REDIS_URL="redis://r/1", CELERY_BROKER_URL="redis://q/2")

    assert done.stdout.split() == ["redis://q/2", "redis://q/2", "redis://r/1"]
    assert "is ignored" not in done.stderr


TRANSPORT = """
from workers.app import _choose_transport, app
_choose_transport(app.conf, {{"queues": "{queue}", "pool": "solo"}})
with app.connection_for_read() as connection:
    print(connection.get_transport_cls().__module__, connection.ssl)
"""


def begun(queue: str, url: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY_", "REDIS_URL"))}
    return subprocess.run(
        [sys.executable, "-c", TRANSPORT.format(queue=queue)],
        env=kept | {"REDIS_URL": "redis://r/1", "CELERY_BROKER_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def transport_of(queue: str, url: str) -> list[str]:
    return begun(queue, url).stdout.split(maxsplit=1)


@pytest.mark.parametrize("url", ["redis://q/2", "rediss://q:6380/2", "redis+socket:///run/redis.sock"])
@pytest.mark.parametrize(("queue", "module"), [("orders", "workers.transport"), ("inventory", "workers.undecodable")])
def test_no_form_of_address_gives_a_worker_the_stock_transport(queue: str, module: str, url: str) -> None:
    assert transport_of(queue, url)[0] == module


def test_an_address_with_tls_is_spoken_to_with_tls_and_its_certificate_is_checked() -> None:
    _, tls = transport_of("orders", "rediss://q:6380/2")

    assert "CERT_REQUIRED" in tls


@pytest.mark.parametrize(
    ("queue", "said"),
    [
        ("ordrs", "ordrs is no queue of Ordermill: nothing is sent to it; is orders meant?\n"),
        ("inventory,event", "event is no queue of Ordermill: nothing is sent to it; is events meant?\n"),
        ("inventory,emails", ""),
        ("orders", ""),
    ],
)
def test_a_worker_of_a_misspelt_queue_says_so(queue: str, said: str) -> None:
    assert begun(queue, "redis://q/2").stderr == said
