"""New tables."""

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Nothing but tables that were not there."""
