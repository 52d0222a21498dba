"""The file of a withdrawn release may go; of those that there are none has."""

from fota_server.migrations import add_column
from fota_server.schema import releases

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    add_column(releases.c.pruned_at)
