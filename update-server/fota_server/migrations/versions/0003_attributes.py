"""New tables."""

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Nothing but tables that were not there."""
