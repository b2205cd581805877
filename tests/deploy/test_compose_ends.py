"""docker-compose.yml: what becomes of orders when containers end."""

import subprocess
import sys
import threading
from contextlib import suppress

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from tests.deploy.deployment import MARKS, OURS, SERVERS, Deployment, docker, one_unit
from workers.child import wait_until

pytestmark = MARKS


class Shopper(threading.Thread):
    """An application that sends an order every 100 ms until it is told to stop, and keeps each key with the cart."""

    def __init__(self, deployment: Deployment, name: str) -> None:
        super().__init__(daemon=True)
        addresses = deployment.application()
        self.shop = Celery("a-shop", broker=addresses["CELERY_BROKER_URL"], backend=addresses["REDIS_URL"])
        self.shop.conf.broker_transport_options = {"socket_timeout": 2, "socket_connect_timeout": 2}
        self.named = name
        self.keys: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.1):
            self.keys.append(f"{self.named}-{len(self.keys)}")
            self.send(self.keys[-1])

    def send(self, key: str) -> None:
        """Sends it once; whether it arrived is not known where Redis is away."""
        with suppress(OperationalError):
            self.shop.send_task(
                "orders.place", [one_unit(key, "CUP-1")], queue="orders", retry=False, ignore_result=True
            )


@pytest.mark.parametrize("service", ["orders", "redis", "postgres"])
def test_a_container_is_killed_while_orders_are_under_way_and_each_is_placed_once(
    deployment: Deployment, service: str
) -> None:
    shopper = Shopper(deployment, f"killed-{service}")

    def placed() -> set[str]:
        with deployment.administrator() as owner:
            like = "SELECT key FROM api.orders WHERE key LIKE %s"
            found = [key for (key,) in owner.execute(like, [f"{shopper.named}-%"])]
        assert len(found) == len(set(found))
        return set(found)

    shopper.start()
    try:
        assert wait_until(lambda: len(placed()) >= 20, 30)
        docker("kill", deployment.container(service))
        deployment.compose("up", "--detach")
        again = len(shopper.keys)
        assert wait_until(lambda: any(key in placed() for key in shopper.keys[again:]), 30, 0.2)
    finally:
        shopper.over.set()
        shopper.join(30)
    # What a killed Redis had not yet written is unknown to the shop: it is sent again under its key.
    for key in sorted(set(shopper.keys) - placed()):
        shopper.send(key)
    assert wait_until(lambda: placed() == set(shopper.keys), 30, 0.2), set(shopper.keys) - placed()


def test_after_that_the_shop_is_clean(deployment: Deployment) -> None:
    assert "clean" in deployment.compose("run", "--rm", "-T", "migrate", "ordermill", "verify")


def test_what_waits_outlives_the_containers_of_the_servers(deployment: Deployment) -> None:
    """Redis and PostgreSQL made anew over their volumes; the message is then placed."""
    deployment.compose("stop", "orders")
    waits = ["--queue", "orders", "--args", '[{"version": 1, "key": "kept-1", "customer": "C-1", "pool": "SAMPLE",'
             ' "lines": [{"sku": "TEA-100", "quantity": 1}]}]']  # fmt: skip
    celery = [sys.executable, "-m", "celery", "--broker", deployment.application()["CELERY_BROKER_URL"]]
    subprocess.run([*celery, "call", "orders.place", *waits], check=True, capture_output=True, timeout=60)
    with deployment.redis("REDIS_PORT") as client:
        assert client.llen("orders") == 1

    deployment.compose("rm", "--stop", "--force", "postgres", "redis")
    deployment.compose("up", "--detach")
    assert wait_until(lambda: (deployment.outcome("kept-1") or {}).get("status") == "placed", 60, 0.5)


def test_everything_stops_in_its_grace_and_says_that_it_has_ended_well(deployment: Deployment) -> None:
    """Last in this module: after it nothing runs."""
    deployment.compose("stop")
    ends = {service: deployment.inspect(service)["State"]["ExitCode"] for service in (*OURS, *SERVERS)}
    assert ends == dict.fromkeys(ends, 0) | {"metrics": 128 + 15}
