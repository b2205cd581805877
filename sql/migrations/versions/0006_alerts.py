"""Applies `0006_alerts.sql`; what it makes and why is said there."""

from workers.migrate import run_sql_file

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Append-only: a mistake is mended by a later migration."""
    run_sql_file("0006_alerts.sql")
