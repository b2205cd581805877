"""Applies `0009_webhooks.sql`; what it makes and why is said there."""

from workers.migrate import run_sql_file

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Append-only: a mistake is mended by a later migration."""
    run_sql_file("0009_webhooks.sql")
