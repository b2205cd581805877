"""Applies `${up_revision}_${message}.sql`; what it makes and why is said there."""

from workers.migrate import run_sql_file

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Append-only: a mistake is mended by a later migration."""
    run_sql_file("${up_revision}_${message}.sql")
