"""Applies `0001_shop.sql`; what it makes and why is said there."""

from workers.migrate import run_sql_file

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Append-only: a mistake is mended by a later migration."""
    run_sql_file("0001_shop.sql")
