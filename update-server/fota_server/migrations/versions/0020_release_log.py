"""Releases that were published before there was a log get their leaves, in the order of their publication."""

from alembic import op

from fota_server import release_log

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    release_log.append_missing(op.get_bind())
