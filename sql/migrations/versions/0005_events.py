"""Applies `0005_events.sql`; what it makes and why is said there."""

from workers.migrate import run_sql_file

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Append-only: a mistake is mended by a later migration."""
    run_sql_file("0005_events.sql")
