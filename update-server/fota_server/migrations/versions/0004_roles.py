"""Nobody may less than before: who could operate could publish and retire, too."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("UPDATE tokens SET role = 'viewer' WHERE role = 'read'")
    op.execute("UPDATE tokens SET role = 'admin' WHERE role = 'operate'")
