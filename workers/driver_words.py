"""What the errors of PostgreSQL's driver mean to whoever runs a command, in one line."""

import psycopg

RIGHTS = "a login with this right: a member of ordermill_reader to look, ordermill_maintainer to act, else the owner's"


def in_one_line(error: BaseException, login: str = RIGHTS) -> str | None:
    """What is wrong and what to do, `login` being what the command needs; None for an error that says it itself."""
    words = str(error).strip()
    first = words.splitlines()[0] if words else type(error).__name__
    match error:
        case psycopg.errors.UndefinedTable() | psycopg.errors.InvalidSchemaName() | psycopg.errors.UndefinedFunction():
            return f"the database is not migrated ({first}): run `ordermill migrate`"
        case psycopg.errors.InsufficientPrivilege():
            return f"{first}: set DATABASE_URL to {login}"
        case _:
            return None
