"""The workers' fixtures for the tests of this folder, and their logs where one fails."""

from tests.workers_fixtures import fresh_mill, pytest_runtest_makereport

__all__ = ["fresh_mill", "pytest_runtest_makereport"]
