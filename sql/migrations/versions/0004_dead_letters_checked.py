"""Applies `0004_dead_letters_checked.sql`; what it makes and why is said there."""

from workers.migrate import run_sql_file

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Append-only: a mistake is mended by a later migration."""
    run_sql_file("0004_dead_letters_checked.sql")
