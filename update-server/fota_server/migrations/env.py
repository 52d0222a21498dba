"""What Alembic runs to get at a database: the connection, and the transaction, are those of the caller."""

from alembic import context

from fota_server import schema

context.configure(connection=context.config.attributes["connection"], target_metadata=schema.metadata)
context.run_migrations()
