"""A token may say whose it is; of those that there are nobody has said. Approvals are a new table."""

from fota_server.migrations import add_column
from fota_server.schema import tokens

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    add_column(tokens.c.person)
