"""Alembic's entry: `retail-stream init` hands over the connection (see commands/init.py)."""

from alembic import context
from sqlalchemy import text

connection = context.config.attributes["connection"]
# A migration makes in `public` what it does not name `pipeline.…`.
connection.execute(text("SET LOCAL search_path = public, pipeline"))
context.configure(connection=connection, target_metadata=None, transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
