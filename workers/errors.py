"""The errors of the runtime; `workers.database` turns a driver's error into one, by the table in `workers.retry`."""


class OrdermillError(Exception):
    """Anything Ordermill raises; `args[0]` is a sentence for people."""


class DatabaseError(OrdermillError):
    """PostgreSQL did not do what was asked; carries its SQLSTATE, None when it had no say.

    `midway`: it, or the connection, went down in the middle of a statement, perhaps by that very statement.
    """

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message, sqlstate)
        self.sqlstate = sqlstate
        self.midway = False

    def __str__(self) -> str:
        return f"{self.args[0]} ({self.sqlstate or 'no SQLSTATE'})"


class TransientError(DatabaseError):
    """The same transaction may succeed when it is run again."""


class OutageError(DatabaseError):
    """The database is away, or too full to answer; nothing is known about the transaction, so run it again."""


class FaultError(DatabaseError):
    """This deployment is wrong, not the request: a routine, a right, a table or a partition is missing.

    Nothing may be decided.
    """


class BusinessError(DatabaseError):
    """A rule of the shop said no: SQLSTATE class OM, see docs/errors.md."""


class PermanentError(DatabaseError):
    """No retry can mend it: the request or the code is wrong."""


class SetupError(OrdermillError):
    """Something outside the code has to be put right first; the message says what to do."""
