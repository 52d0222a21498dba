"""Tokens may expire."""

from fota_server.migrations import add_column
from fota_server.schema import tokens

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    add_column(tokens.c.expires_at)
