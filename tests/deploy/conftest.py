"""The workers' fixtures for the tests of this folder, with their logs where one fails; and one deployment for all."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.deploy.deployment import IMAGES, Deployment
from tests.servers import docker_answers
from tests.workers_fixtures import fresh_mill, pytest_runtest_makereport

__all__ = ["fresh_mill", "pytest_runtest_makereport"]


@pytest.fixture(scope="package")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Everything up and well, with the sample shop in it."""
    if not docker_answers():
        pytest.skip("Docker does not answer")
    known = subprocess.run(["docker", "image", "inspect", *IMAGES], capture_output=True, check=False)
    if known.returncode:
        pytest.skip(f"Docker has not all of {', '.join(IMAGES)}")
    made = Deployment(tmp_path_factory.mktemp("compose"))
    try:
        made.build()
        made.started()
        made.compose("run", "--rm", "migrate", "ordermill", "sample")
        yield made
    finally:
        made.down()
