"""Whose update ended badly or was closed has an index of its own: each one that fails is counted at once."""

from fota_server.migrations import create_indices

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    create_indices("targets_out")
