"""What the servers that come with pip have in common: how one is started, watched and stopped."""

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from workers.child import Child
from workers.home_folder import HomeLock, prepare


class Started(ABC):
    """What runs for the length of a `with` block."""

    @abstractmethod
    def start(self) -> None:
        """Start it; what was started is stopped again when a later part fails."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it; harmless to repeat."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class EmbeddedServer(Started):
    """A server in a home, on a port of 127.0.0.1: the given one, else one that is free; `fresh` forgets what was."""

    def __init__(self, home: Path, name: str, lock: str, *, port: int | None, fresh: bool) -> None:
        self.home = home.absolute()
        self.port = port or 0
        self.fresh = fresh
        self._fixed_port = port
        self._password = ""
        self._lock = HomeLock(self.home / "run" / lock, name)
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """The server's process, while it runs."""
        return self._child.process.pid if self._child and self._child.process else None

    def start(self) -> None:
        """Start it, making what it needs the first time, and wait until it answers."""
        prepare(self.home)
        self._lock.acquire()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    @abstractmethod
    def _start(self) -> None: ...

    def check(self) -> None:
        """Raise `ServiceError` if it has died."""
        if self._child:
            self._child.check()
