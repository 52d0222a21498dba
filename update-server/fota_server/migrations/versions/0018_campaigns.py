"""CAMPAIGNs are a new table; which devices take them is not known before they call."""

from fota_server.migrations import add_column
from fota_server.schema import devices

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    add_column(devices.c.campaign_group)
