"""Whether somebody ordered under `ordermill up` since the last demo, which begins anew and would forget it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from workers.home_folder import ServiceError, read_private, running_stack, write_private

MARK = Path("run") / "ordered.json"
KEYS = "SELECT count(*) FROM shop.request_keys"


@contextmanager
def marked(home: Path, database_url: str) -> Iterator[None]:
    """For the length of `up`: the mark is there from its start, so that it outlives a kill, and goes at its end where
    nothing was ordered meanwhile."""
    mark = home / MARK
    known, before = mark.exists(), _keys(database_url)
    if not known:
        write_private(mark, {"since": datetime.now(UTC).isoformat(timespec="seconds")})
    try:
        yield
    finally:
        with suppress(psycopg.Error):  # the server is gone: then nothing is known, and the mark stays
            if not known and _keys(database_url) == before:
                mark.unlink(missing_ok=True)


def forget(home: Path, *, meant: bool) -> None:
    """Takes the mark away before the shop is emptied; raises ServiceError where it is there and that is not meant."""
    if running_stack(home):
        return  # nothing is emptied then: the start of a second one says what runs
    mark = home / MARK
    if mark.exists() and not meant:
        since = read_private(mark).get("since", "the last demo")
        raise ServiceError(
            f"Somebody ordered in this shop under `make up` (since {since}), and a demo begins with an empty one.\n"
            "To forget what was ordered: make demo ANEW=1\n"
            "To keep it: run the demo in another folder, as in ORDERMILL_HOME=/tmp/demo make demo"
        )
    mark.unlink(missing_ok=True)


def _keys(database_url: str) -> int:
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute(KEYS).fetchone()
    return int(row[0]) if row else 0
