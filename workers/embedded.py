"""PostgreSQL and Valkey from wheels, on loopback, their data in the home: for `make demo`, `make up` and the tests.

Where DATABASE_URL or REDIS_URL is given, nothing is started for that part. What a killed run left is cleaned up first.
"""

from pathlib import Path
from typing import Self

from workers.embedded_postgres import EmbeddedPostgres
from workers.embedded_server import Started
from workers.embedded_valkey import EmbeddedValkey
from workers.home_folder import prepare
from workers.settings import Settings

__all__ = ["EmbeddedPostgres", "EmbeddedValkey", "Servers", "erase"]


class Servers(Started):
    """A database and a Redis: the ones given, else started from wheels in `home` and stopped on leaving.

    `fast` gives up durability for speed, for tests; `fresh` forgets what the started servers held before.
    """

    def __init__(
        self,
        home: Path,
        *,
        database_url: str | None = None,
        redis_url: str | None = None,
        fast: bool = False,
        fresh: bool = False,
    ) -> None:
        self.postgres = None if database_url else EmbeddedPostgres(home, fast=fast, fresh=fresh)
        self.valkey = None if redis_url else EmbeddedValkey(home, fresh=fresh)
        self._database_url = database_url or ""
        self._redis_url = redis_url or ""

    @classmethod
    def from_settings(cls, settings: Settings, *, fast: bool = False, fresh: bool = False) -> Self:
        """The servers that the environment names; what it does not name is started in the settings' home."""
        given = settings.model_fields_set
        return cls(
            settings.home,
            database_url=settings.database_url if "database_url" in given else None,
            redis_url=settings.redis_url if "redis_url" in given else None,
            fast=fast,
            fresh=fresh,
        )

    @property
    def started(self) -> list[str]:
        """The names of the servers that are ours to start."""
        return [name for name, server in (("PostgreSQL", self.postgres), ("Valkey", self.valkey)) if server]

    @property
    def database_url(self) -> str:
        """Where PostgreSQL answers; the owner's login."""
        return self.postgres.url if self.postgres else self._database_url

    @property
    def redis_url(self) -> str:
        """Where Redis or Valkey answers."""
        return self.valkey.url if self.valkey else self._redis_url

    def start(self) -> None:
        """Start what is needed; what was started is stopped again when a later part fails."""
        try:
            if self.postgres:
                self.postgres.start()
            if self.valkey:
                self.valkey.start()
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Raise `ServiceError` if a server that we started has died."""
        for server in (self.postgres, self.valkey):
            if server:
                server.check()

    def stop(self) -> None:
        """Stop what was started; harmless to repeat."""
        try:
            if self.valkey:
                self.valkey.stop()
        finally:
            if self.postgres:
                self.postgres.stop()


def erase(home: Path) -> None:
    """Remove the servers' data of this home for good, after stopping what an earlier run left running."""
    home = prepare(home)
    EmbeddedPostgres(home).erase()
    EmbeddedValkey(home).erase()
