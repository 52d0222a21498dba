"""A release may have an attestation of its rehearsal: a table of its own, made as every new one is."""

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    pass
