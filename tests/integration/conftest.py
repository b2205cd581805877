"""The workers' fixtures for the tests of this folder, and their logs where one fails."""

from tests.letters import clean, three
from tests.secure_shop import secure
from tests.waiting import ticks
from tests.workers_fixtures import at_work, door, fresh_mill, mill, module_mill, patient, pytest_runtest_makereport, sku

__all__ = [
    "at_work",
    "clean",
    "door",
    "fresh_mill",
    "mill",
    "module_mill",
    "patient",
    "pytest_runtest_makereport",
    "secure",
    "sku",
    "three",
    "ticks",
]
