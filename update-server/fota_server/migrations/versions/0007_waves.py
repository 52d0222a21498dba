"""Rollouts in waves; of each device it is known when it was given what a rollout wants of it."""

from alembic import op

from fota_server.migrations import add_column, create_indices
from fota_server.schema import rollouts, targets

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    for column in (
        *(rollouts.c.policy, rollouts.c.seed, rollouts.c.digest, rollouts.c.chain),
        *(rollouts.c.open_rank, rollouts.c.held),
        *(targets.c.rank, targets.c.given_at),
    ):
        add_column(column)
    create_indices("targets_rank", "targets_on_trial")
    op.execute(
        "UPDATE targets SET given_at = updated_at WHERE state IN"
        " ('offered', 'installed', 'trial', 'confirmed', 'reverted', 'rejected', 'failed')"
    )
