"""The folder that embedded servers and children live in (`.ordermill/`): its locks, its private files, what is running.

Everything here is only for its owner: passwords are kept in it.
"""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from workers.errors import SetupError
from workers.settings import Settings, get_settings

STATE = Path("run") / "stack.json"
STACK_LOCK = Path("run") / "stack.lock"
ADDRESSES = ("database_url", "redis_url", "broker_url", "cache_url")
_PARTS = {
    "database_url": ("database", "DATABASE_URL"),
    "redis_url": ("Redis", "REDIS_URL"),
    "broker_url": ("Redis", "REDIS_URL"),
}


class ServiceError(SetupError):
    """A part that was to be started or reached is not there; the message says what to do next."""


def prepare(home: Path) -> Path:
    """The absolute home, with its folders made; they are closed to other users."""
    home = home.absolute()
    for folder in (home, home / "run", home / "logs"):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ServiceError(f"cannot make the folder {folder} ({error.strerror}): set ORDERMILL_HOME") from error
    return home


def write_private(path: Path, values: dict[str, Any]) -> None:
    """Replace a JSON file at once, readable by its owner only: a reader sees the old one or the new one."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(values, file, indent=2)
    unfinished.replace(path)


def read_private(path: Path) -> dict[str, Any]:
    """What `write_private` wrote; empty when there is no such file or it is not whole."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


class HomeLock:
    """Held by one process at a time and let go by the kernel when that process dies, however it dies."""

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self.what = what
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, or raise `ServiceError` naming the process that has it."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise ServiceError(
                f"{self.what} in {self.path.parent.parent} already runs (process {holder}): "
                "stop it first, or set ORDERMILL_HOME to another folder"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go; harmless when not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def running_stack(home: Path) -> dict[str, Any]:
    """The addresses of what `demo` or `up` runs in this home; empty when neither does."""
    home = home.absolute()
    try:
        descriptor = os.open(home / STACK_LOCK, os.O_RDWR)
    except OSError:
        return {}
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return read_private(home / STATE)
    finally:
        os.close(descriptor)
    return {}


def located_settings(*parts: str) -> Settings:
    """The settings, their addresses from the environment, else from what runs in the home; `parts` must be known."""
    settings = get_settings()
    running = running_stack(settings.home)
    given = set(settings.model_fields_set)
    if "redis_url" not in given and settings.broker_url == settings.redis_url:
        given.discard("broker_url")  # derived from a REDIS_URL that nobody gave
    found = {name: running[name] for name in ADDRESSES if name in running}
    update: dict[str, Any] = {name: value for name, value in found.items() if name not in given}
    for part in parts:
        if part not in given and part not in update:
            what, variable = _PARTS[part]
            raise ServiceError(
                f"no {what} to use: none is running: set {variable}, or run `make up` in another terminal and try again"
            )
    return settings.model_copy(update=update)
