"""Applies `0011_queue_limits.sql`; what it makes and why is said there."""

from workers.migrate import run_sql_file

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Append-only: a mistake is mended by a later migration."""
    run_sql_file("0011_queue_limits.sql")
