"""Alembic's entry point. The connection, its role and the lock are those of `workers.migrate`, which calls Alembic."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table="schema_version",
    version_table_schema="shop",
    transaction_per_migration=True,  # so that one may check, under a weak lock, what the one before it added
)
with context.begin_transaction():
    context.run_migrations()
