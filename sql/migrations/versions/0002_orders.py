"""Applies `0002_orders.sql`; what it makes and why is said there."""

from workers.migrate import run_sql_file

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Append-only: a mistake is mended by a later migration."""
    run_sql_file("0002_orders.sql")
