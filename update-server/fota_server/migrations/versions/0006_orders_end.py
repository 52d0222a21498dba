"""Rollouts keep their verdicts, releases can be withdrawn, devices have something staged."""

from alembic import op

from fota_server.migrations import add_column, create_indices
from fota_server.schema import devices, releases, rollouts

revision = "0006"
down_revision = "0005"

_VERDICTS = """
UPDATE rollouts SET state = f.state, ended_at = CASE WHEN f.state = 'running' THEN NULL ELSE f.at END
FROM (
    SELECT rollout_id, max(updated_at) AS at, CASE
        WHEN sum(state IN ('pending', 'offered', 'installed', 'trial')) > 0 THEN 'running'
        WHEN sum(state IN ('reverted', 'rejected', 'failed')) > 0 THEN 'failed'
        WHEN sum(state = 'superseded') > 0 THEN 'superseded'
        ELSE 'done' END AS state
    FROM targets GROUP BY rollout_id
) AS f WHERE f.rollout_id = rollouts.id
"""


def upgrade() -> None:
    for column in (
        *(rollouts.c.release_id, rollouts.c.state, rollouts.c.planned_to, rollouts.c.ended_at),
        *(releases.c.withdrawn_at, releases.c.withdrawn_by),
        devices.c.settled_digest,
    ):
        add_column(column)
    op.execute("DROP INDEX IF EXISTS targets_progress")
    create_indices("rollouts_state", "targets_count", "targets_release", "targets_device")
    op.execute(_VERDICTS)
    op.execute(  # all but those that are known to have something staged
        "UPDATE devices SET settled_digest = installed_digest WHERE NOT EXISTS"
        " (SELECT 1 FROM targets t WHERE t.id = devices.target_id AND t.state = 'installed')"
    )
