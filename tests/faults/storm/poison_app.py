"""Ordermill, but that a process which is about to place a key ending in `-deadly` dies, as by a fault in a driver.

PostgreSQL has not heard of this statement, whatever the process does with the others of its batch.
"""

import os
import signal
from typing import Any

from sqlalchemy import Engine, event

from workers.app import app

__all__ = ["app"]


@event.listens_for(Engine, "before_cursor_execute")
def die(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
    """SIGKILL to this very process."""
    if "api.place_order" in statement and "-deadly'" in repr([getattr(each, "obj", each) for each in parameters]):
        os.kill(os.getpid(), signal.SIGKILL)
