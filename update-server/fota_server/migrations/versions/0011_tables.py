"""New tables."""

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Nothing but tables that were not there."""
