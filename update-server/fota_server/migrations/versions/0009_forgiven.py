"""Which devices were forgiven is known, and not only how many of a wave."""

from alembic import op
from sqlalchemy import inspect

from fota_server.migrations import add_column, create_indices
from fota_server.schema import targets

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    add_column(targets.c.forgiven)
    create_indices("targets_forgiven")
    if "forgiven" in {found["name"] for found in inspect(op.get_bind()).get_columns("waves")}:
        op.execute(
            "UPDATE targets SET forgiven = (1 = 1) WHERE state IN ('reverted', 'rejected', 'failed')"
            " AND rollout_id IN (SELECT rollout_id FROM waves WHERE forgiven > 0)"
        )
        op.drop_column("waves", "forgiven")
