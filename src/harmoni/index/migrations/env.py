"""Run by Alembic: apply revisions on the connection and in the transaction of `migrate`."""

from alembic import context

from harmoni.index import schema

context.configure(
    connection=context.config.attributes["connection"], target_metadata=schema.metadata
)
with context.begin_transaction():
    context.run_migrations()
