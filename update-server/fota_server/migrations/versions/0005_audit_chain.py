"""Chain the rows that are there: what was altered before this step is not found."""

from alembic import op

from fota_server import audit, schema
from fota_server.migrations import add_column

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    add_column(schema.audit.c.hash)
    op.execute("DROP TRIGGER IF EXISTS audit_no_update")
    audit.chain_all(op.get_bind())
    op.execute(
        "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit "
        "BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END"
    )
