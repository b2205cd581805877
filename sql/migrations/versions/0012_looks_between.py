"""Applies `0012_looks_between.sql`; what it makes and why is said there."""

from workers.migrate import run_sql_file

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Append-only: a mistake is mended by a later migration."""
    run_sql_file("0012_looks_between.sql")
