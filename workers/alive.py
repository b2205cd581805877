"""A file that says by its age whether a process does its work: a container's health check reads that for nothing.

A worker touches it with each report to Redis, which its own loop sends every two seconds; beat with each message, at
least every five. So it gets old where the process hangs, and also where Redis is away.
"""

import logging
from typing import Any

from workers.settings import get_settings

log = logging.getLogger(__name__)


def touch(**_: Any) -> None:
    """Makes the file of ORDERMILL_ALIVE_FILE new, where there is one to be; what stands in its way is only logged."""
    if path := get_settings().alive_file:
        try:
            path.touch()
        except OSError as error:
            log.error("ORDERMILL_ALIVE_FILE cannot be touched: %s", error)
