"""New tables."""

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Nothing but tables that were not there."""
