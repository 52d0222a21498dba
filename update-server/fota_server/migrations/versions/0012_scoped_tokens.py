"""Tokens may be for some groups; those that there are stay what they were, the fleet's."""

from fota_server.migrations import add_column
from fota_server.schema import tokens

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    add_column(tokens.c.groups)
