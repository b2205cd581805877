"""Which failures are worth another attempt: each row of the table, and how often each kind is tried."""

from collections.abc import Callable

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from workers.database import translate
from workers.errors import BusinessError, DatabaseError, FaultError, OutageError, PermanentError, TransientError
from workers.retry import FAULT_CLASSES, QUICK, SLOW, SLOW_CLASSES, classify, retrying
from workers.settings import Settings


@pytest.mark.parametrize("sqlstate", ["40P01", "40001", "55P03"])
def test_a_conflict_is_tried_again_at_once(sqlstate: str) -> None:
    assert classify(sqlstate) is TransientError
    assert sqlstate in QUICK


@pytest.mark.parametrize("sqlstate", ["25006", "25P03", "40003"])
def test_an_outage_is_waited_out(sqlstate: str) -> None:
    assert classify(sqlstate) is OutageError
    assert sqlstate in SLOW


@pytest.mark.parametrize(
    "sqlstate",
    ["08000", "08006", "08P01", "53100", "53200", "53300", "57014", "57P01", "57P02", "57P03", "57P05", "58030"],
)
def test_so_is_a_class_of_outages(sqlstate: str) -> None:
    assert classify(sqlstate) is OutageError
    assert sqlstate[:2] in SLOW_CLASSES


@pytest.mark.parametrize("sqlstate", ["0A000", "42501", "42883", "42846", "42P01"])
def test_a_broken_deployment_is_nobodys_fault_and_decides_nothing(sqlstate: str) -> None:
    assert classify(sqlstate) is FaultError
    assert sqlstate[:2] in FAULT_CLASSES


@pytest.mark.parametrize("sqlstate", ["OM001", "OM099"])
def test_a_rule_of_the_shop_is_final(sqlstate: str) -> None:
    assert classify(sqlstate) is BusinessError


@pytest.mark.parametrize("sqlstate", ["22012", "22P02", "23502", "23505", "23514", "XX000", "P0001", None])
def test_what_no_retry_can_mend_is_permanent(sqlstate: str | None) -> None:
    assert classify(sqlstate) is PermanentError


@pytest.mark.parametrize("sqlstate", [*QUICK, *SLOW])
def test_a_broken_connection_is_an_outage_unless_a_conflict_ended_it(sqlstate: str) -> None:
    assert classify(sqlstate, disconnected=True) is (TransientError if sqlstate in QUICK else OutageError)
    assert classify("22012", disconnected=True) is OutageError
    assert classify(None, disconnected=True) is OutageError


@pytest.mark.parametrize(
    ("cause", "kind", "sqlstate"),
    [
        (psycopg.errors.DeadlockDetected("deadlock detected\nDETAIL: …"), TransientError, "40P01"),
        (psycopg.errors.AdminShutdown("terminating connection"), OutageError, "57P01"),
        (psycopg.OperationalError("server closed the connection unexpectedly"), OutageError, None),
        (psycopg.InterfaceError("connection already closed"), OutageError, None),
        (psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"), PermanentError, None),
        (psycopg.errors.UniqueViolation("duplicate key"), PermanentError, "23505"),
        (psycopg.errors.CheckViolation('no partition of relation "orders" found for row'), FaultError, "23514"),
    ],
)
def test_a_drivers_error_becomes_one_of_ours_with_its_state_and_first_line(
    cause: psycopg.Error, kind: type[DatabaseError], sqlstate: str | None
) -> None:
    for error in (cause, DBAPIError("SELECT 1", None, cause)):
        translated = translate(error)
        assert type(translated) is kind
        assert translated.sqlstate == sqlstate
        assert translated.args[0] == str(cause).partition("\n")[0]
        assert str(sqlstate or "no SQLSTATE") in str(translated)


@pytest.fixture
def waits(caplog: pytest.LogCaptureFixture) -> Callable[[], float]:
    """How many seconds were waited between attempts until now."""
    return lambda: sum(told.args[0] for told in caplog.records if told.name == "workers.retry")  # type: ignore[misc, index]


def attempts(error: Exception, **settings: float) -> int:
    """How often a step that always fails like this is tried."""
    tried = 0

    def step() -> None:
        nonlocal tried
        for attempt in retrying(Settings(**settings)):
            with attempt:
                tried += 1
                raise error

    with pytest.raises(type(error)):
        step()
    return tried


def test_a_conflict_is_tried_so_many_times(waits: Callable[[], float]) -> None:
    assert attempts(TransientError("deadlock", "40P01"), retry_quick_attempts=4) == 4
    assert 0 < waits() < 2


def test_an_outage_is_tried_for_so_long(waits: Callable[[], float]) -> None:
    assert 2 <= attempts(OutageError("gone"), retry_slow_seconds=0.4) <= 5
    assert 0 < waits() < 2


@pytest.mark.parametrize("error", [PermanentError("no", "22012"), BusinessError("no", "OM001"), ValueError("a bug")])
def test_the_rest_is_not_tried_again(error: Exception) -> None:
    assert attempts(error) == 1
