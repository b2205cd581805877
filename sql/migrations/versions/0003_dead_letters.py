"""Applies `0003_dead_letters.sql`; what it makes and why is said there."""

from workers.migrate import run_sql_file

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Append-only: a mistake is mended by a later migration."""
    run_sql_file("0003_dead_letters.sql")
