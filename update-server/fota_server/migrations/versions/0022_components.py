"""SBOMs and components of releases are new tables; those of before have none until somebody gives theirs."""

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    pass
