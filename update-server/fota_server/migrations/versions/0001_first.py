"""What the first released server made; databases begin here or later."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """It was made by that server."""
