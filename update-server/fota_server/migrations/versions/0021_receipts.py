"""A release has a RECEIPT, and devices say whether they take one; a start of the server makes them."""

from fota_server.migrations import add_column
from fota_server.schema import devices, releases

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    add_column(releases.c.receipt)
    add_column(devices.c.takes_receipts)
