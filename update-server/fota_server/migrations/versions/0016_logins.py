"""Tokens may be made by signing in; those that there are were made here."""

from fota_server.migrations import add_column
from fota_server.schema import tokens

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    add_column(tokens.c.login)
