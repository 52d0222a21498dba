"""Groups may go by a filter over attributes, which is a table that was not there."""

from fota_server.migrations import add_column
from fota_server.schema import groups

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    add_column(groups.c.filter)
    add_column(groups.c.filled_to)
