"""The one way to PostgreSQL: an SQLAlchemy engine over psycopg, whose connections take the worker's role and timeouts.

Each call is one routine in one transaction (autocommit: one round trip), retried whole where `workers.retry` says so.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from workers import metrics
from workers.errors import DatabaseError, FaultError, OutageError
from workers.retry import CHECK_VIOLATION, classify, retrying
from workers.settings import Settings, get_settings
from workers.traces import routine_span

__all__ = [
    "Jsonb",
    "call",
    "call_one",
    "connect",
    "engine",
    "forget",
    "holdable",
    "lock_session",
    "reachable",
    "session",
    "sqlalchemy_url",
]

# A peer that is frozen or cut off is noticed within some 15 s, by either side; a statement still has its own timeout.
CLIENT_SIDE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 15_000}
CONNECTING: dict[str, Any] = {"connect_timeout": 5, **CLIENT_SIDE}
# The server forgets a worker's locks in the same time. On a Unix socket these do nothing.
SERVER_SIDE = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
STATEMENT_GONE = "26"
WENT_DOWN = {None, "57P02"}  # the connection broke, or PostgreSQL ended all sessions because one had crashed
CANNOT_BE_HELD = re.compile("[\x00\ud800-\udfff]")


def sqlalchemy_url(url: str) -> str:
    """The same database for SQLAlchemy with psycopg 3; raises ValueError when it is no PostgreSQL address."""
    parsed = make_url(url)
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise ValueError(f"DATABASE_URL must start with postgresql://, not {parsed.drivername}://")
    return parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def connect(url: str, **options: Any) -> psycopg.Connection[Any]:
    """A plain psycopg connection, in autocommit, for scripts and maintenance by the owner.

    It is made within five seconds or not at all; the URL and the options may say otherwise.
    """
    parsed = make_url(url)
    patience = {name: value for name, value in CONNECTING.items() if name not in parsed.query}
    plain = parsed.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True, **patience | options)


def build_engine(settings: Settings) -> Engine:
    """An engine whose every connection has the role and the timeouts of these settings."""
    made = create_engine(
        sqlalchemy_url(settings.database_url),
        isolation_level="AUTOCOMMIT",
        pool_size=2,
        max_overflow=2,
        pool_recycle=1800,
        connect_args={"application_name": "ordermill", **CONNECTING},
    )

    @event.listens_for(made, "connect")
    def _prepare(driver: psycopg.Connection[Any], _record: object) -> None:
        before, driver.autocommit = driver.autocommit, True
        if settings.role:
            driver.execute(psycopg.sql.SQL("SET ROLE {}").format(psycopg.sql.Identifier(settings.role)))
        timeouts = {
            "lock_timeout": f"{settings.lock_timeout_ms}ms",
            "statement_timeout": f"{settings.statement_timeout_ms}ms",
        }
        names, values = zip(*(timeouts | SERVER_SIDE).items(), strict=True)
        driver.execute(
            "SELECT set_config(n, v, false) FROM unnest(%s::text[], %s::text[]) AS s (n, v)",
            (list(names), list(values)),
        )
        driver.autocommit = before

    _watch_pool(made)
    return made


def _watch_pool(made: Engine) -> None:
    """Has the pool's state counted: what each event says of one connection, for the pool's own sums lag behind."""
    states: dict[int, str] = {}

    def becomes(state: str | None) -> Callable[..., None]:
        def note(driver: object, *_: object) -> None:
            states.pop(id(driver), None)
            if state:
                states[id(driver)] = state
            metrics.pool_is(states.values())

        return note

    for moment, state in (("connect", "idle"), ("checkout", "in_use"), ("checkin", "idle"), ("detach", "detached")):
        event.listen(made, moment, becomes(state))
    for moment in ("close", "close_detached"):
        event.listen(made, moment, becomes(None))


@lru_cache(maxsize=1)
def _engine_of(process: int) -> Engine:
    return build_engine(get_settings())


def engine() -> Engine:
    """This process's engine: never one that a parent made before the fork."""
    return _engine_of(os.getpid())


def forget() -> None:
    """Drops the engine, so that the next call connects anew."""
    _engine_of.cache_clear()


@contextmanager
def session() -> Iterator[Connection]:
    """A connection of its own for work that needs one session; for advisory locks see `lock_session`.

    Here and in `_rows` the driver's errors become those of `workers.errors`; nobody else sees one.
    """
    try:
        with engine().connect() as connection:
            yield connection
    except (DBAPIError, psycopg.Error) as error:
        raise translate(error) from error


@contextmanager
def lock_session() -> Iterator[Connection]:
    """A session for advisory locks: none of them is held any more when the block is left, or soon, if it breaks.

    The locks go with this session, whatever happens. Yet a server notices its end only later, and whoever comes next,
    such as a successor that was sent for, would find them taken: so they are given back before.
    """
    with session() as connection:
        connection.detach()
        yield connection
        if not connection.invalidated:
            with suppress(DBAPIError):  # a session that breaks has none
                connection.exec_driver_sql("SELECT pg_advisory_unlock_all()")


def reachable() -> bool:
    """Whether PostgreSQL answers now; it is asked once."""
    try:
        with session() as connection:
            connection.exec_driver_sql("SELECT 1")
    except DatabaseError:
        return False
    return True


def holdable(text: object) -> str:
    """The text with U+FDD0 for each NUL and lone surrogate, as `shop.parse_request` has it: PostgreSQL can hold it."""
    return CANNOT_BE_HELD.sub("\ufdd0", str(text))


def call(routine: str, *arguments: object, on: Connection | None = None, patience: float | None = None) -> list[Any]:
    """Runs `SELECT * FROM routine(arguments)` and gives its rows, as mappings or as single values.

    Without `on` the call is retried as a whole: quickly after a deadlock, slowly in an outage, for `patience` seconds
    (default: ORDERMILL_RETRY_SLOW_SECONDS; 0: it is tried once). Raises the errors of
    `workers.errors`: `OutageError` when an outage outlasts the slow retries, `BusinessError` for a state of class OM,
    `PermanentError` for what no retry can mend.
    """
    statement = f"SELECT * FROM {routine}({', '.join(['%s'] * len(arguments))})"  # noqa: S608 - a name of ours
    if on is not None:
        with routine_span(routine, statement):
            return _rows(on, statement, arguments)
    if patience == 0:
        return _in_session(routine, statement, arguments)
    midway = False
    for attempt in retrying(get_settings(), patience):
        with attempt:
            try:
                return _in_session(routine, statement, arguments)
            except DatabaseError as error:
                midway = error.midway = midway or error.midway
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def call_one(routine: str, *arguments: object, on: Connection | None = None, patience: float | None = None) -> Any:
    """The same for a routine that gives one row."""
    return call(routine, *arguments, on=on, patience=patience)[0]


def _in_session(routine: str, statement: str, arguments: Sequence[object]) -> list[Any]:
    with routine_span(routine, statement), session() as connection:
        return _rows(connection, statement, arguments)


def translate(error: DBAPIError | psycopg.Error) -> DatabaseError:
    """The error of `workers.errors` that stands for a driver's error."""
    cause: BaseException | None = error
    broken = False
    if isinstance(error, DBAPIError):
        cause, broken = error.orig, error.connection_invalidated
    sqlstate: str | None = getattr(cause, "sqlstate", None)
    message = str(cause).strip().partition("\n")[0]
    if sqlstate == CHECK_VIOLATION and isinstance(cause, psycopg.Error) and not cause.diag.constraint_name:
        return FaultError(message, sqlstate)
    # Else a text that psycopg cannot encode would be an outage for ever.
    broken |= sqlstate is None and isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
    return classify(sqlstate, broken)(message, sqlstate)


def _rows(connection: Connection, statement: str, arguments: Sequence[object]) -> list[Any]:
    try:
        result = connection.exec_driver_sql(statement, tuple(arguments))
        rows = result.mappings().all()
    except DBAPIError as error:
        translated = translate(error)
        if (translated.sqlstate or "").startswith(STATEMENT_GONE):
            connection.invalidate()  # psycopg would use it again on this connection
        translated.midway = isinstance(translated, OutageError) and translated.sqlstate in WENT_DOWN
        raise translated from error
    return [next(iter(row.values())) if len(row) == 1 else dict(row) for row in rows]
