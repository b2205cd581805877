"""Whoever had an advisory lock has it no more when he says that he is done: a successor may be there at once."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from tests.shop import Shop
from workers import dispatch, drain, webhooks
from workers.retiring import owner_session
from workers.settings import Settings, get_settings

FREE = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = %s"
TURNS = 50


def retire(settings: Settings) -> bool:
    with owner_session(settings):
        return True


@pytest.mark.parametrize(
    "done",
    [
        retire,
        lambda settings: dispatch.dispatch(settings, 0),
        lambda settings: webhooks.deliver(settings, 0),
        lambda settings: drain.drain(settings, 0, until_empty=True),
    ],
    ids=["retire", "dispatch", "deliver", "drain"],
)
def test_at_the_end_of_a_run_its_lock_is_free(shop: Shop, runtime: None, done: Callable[[Settings], Any]) -> None:
    held = []
    database = shop.value("SELECT oid FROM pg_database WHERE datname = current_database()")
    for _ in range(TURNS):
        assert done(get_settings()) is not None
        held.append(shop.value(FREE, database))

    assert held == [0] * TURNS


def test_a_session_that_broke_meanwhile_is_no_error(shop: Shop, runtime: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: dispatch.Dispatcher, *_: object) -> None:
        with pytest.raises(DBAPIError):
            self.connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    monkeypatch.setattr(dispatch.Dispatcher, "run", run)

    assert dispatch.dispatch(get_settings(), 0) is not None
