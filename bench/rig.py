"""The servers of a run, durable as they are by default, in a folder of their own, with a template of each shop."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from psycopg.sql import SQL, Identifier
from sqlalchemy import make_url

from bench.mixes import Mix
from workers.database import connect
from workers.embedded import Servers
from workers.migrate import migrate

DURABLE = ("fsync", "synchronous_commit", "full_page_writes")


class Rig:
    """PostgreSQL and Valkey for the length of a `with` block."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.servers = Servers(home)
        self._closing = ExitStack()
        self._templates: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._closing.enter_context(self.servers)
        self.admin = self._closing.enter_context(connect(self.servers.database_url))
        self.redis = self._closing.enter_context(redis.Redis.from_url(self.servers.redis_url))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def shop(self, name: str, mix: Mix) -> str:
        """A new database with this mix's shop, loaded and analysed once a run; gives its address."""
        if mix.name not in self._templates:
            template = f"bench_template_{len(self._templates)}"
            url = self._create(template, "template0")
            migrate(url)
            with connect(url) as session:
                mix.load(session)
                session.execute("VACUUM ANALYZE")
            self._templates[mix.name] = template
        return self._create(name, self._templates[mix.name])

    def _create(self, name: str, template: str) -> str:
        self.admin.execute(
            SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(Identifier(name), Identifier(template))
        )
        return make_url(self.servers.database_url).set(database=name).render_as_string(hide_password=False)

    def drop(self, name: str) -> None:
        """Drops a database with whoever is in it."""
        self.admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))

    def server_pids(self) -> dict[str, list[int]]:
        """The servers' processes, by component."""
        servers = {"postgres": self.servers.postgres, "redis": self.servers.valkey}
        return {name: [server.pid] for name, server in servers.items() if server and server.pid}

    def facts(self) -> dict[str, str]:
        """What the servers are and that they are durable; raises RuntimeError where one is not."""
        values = {name: self._show(name) for name in DURABLE}
        if set(values.values()) != {"on"}:
            raise RuntimeError(f"the server is not durable, so its figures would mean nothing: {values}")
        answer: Any = self.redis.info("server")
        redis_version = f"{answer.get('server_name', 'redis')} {answer.get('valkey_version', '')}".strip()
        facts = {"postgres": self._show("server_version"), "redis_server": redis_version}
        return facts | {f"postgres_{name}": value for name, value in values.items()}

    def _show(self, name: str) -> str:
        row = self.admin.execute(f"SHOW {name}".encode()).fetchone()
        return str(row[0]) if row else ""
