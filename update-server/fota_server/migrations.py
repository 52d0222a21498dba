"""How a database that an earlier server made becomes one of today: an ordered list of steps.

``STEPS[0]`` leads from schema 1 to 2, and so on; the newest schema is what ``schema.py`` describes. Each step
runs once, in one transaction with the new number, so a crash leaves a whole earlier schema. Steps are never
changed once they are released: a database may be at any of them.

Tables that are missing are made as ``schema.py`` has them *before* a step runs. So a step only mends tables
that were there: ``add_column``, ``Index.create(checkfirst=True)``, rows by plain SQL. Each has to bear that
its work is done already, on a table that was missing.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, Connection, insert, inspect, select, text, update
from sqlalchemy.schema import CreateColumn

from fota_server import audit, schema
from fota_wire.errors import InputError

Step = Callable[[Connection], None]


def _tokens_expire(connection: Connection) -> None:
    add_column(connection, schema.tokens.c.expires_at)


def _new_tables(_connection: Connection) -> None:
    """Nothing but tables that were not there."""


def _roles(connection: Connection) -> None:
    """Nobody may less than before: who could operate could publish and retire, too."""
    connection.execute(text("UPDATE tokens SET role = 'viewer' WHERE role = 'read'"))
    connection.execute(text("UPDATE tokens SET role = 'admin' WHERE role = 'operate'"))


def _audit_chain(connection: Connection) -> None:
    """Chain the rows that are there: what was altered before this step is not found."""
    add_column(connection, schema.audit.c.hash)
    connection.execute(text("DROP TRIGGER IF EXISTS audit_no_update"))
    audit.chain_all(connection)
    connection.execute(
        text(
            "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit "
            "BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END"
        )
    )


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


def _orders_end(connection: Connection) -> None:
    """Rollouts keep their verdicts, releases can be withdrawn, devices have something staged."""
    rollouts, releases = schema.rollouts.c, schema.releases.c
    for column in (
        *(rollouts.release_id, rollouts.state, rollouts.planned_to, rollouts.ended_at),
        *(releases.withdrawn_at, releases.withdrawn_by),
        schema.devices.c.settled_digest,
    ):
        add_column(connection, column)
    connection.execute(text("DROP INDEX IF EXISTS targets_progress"))
    _create_indices(connection, "rollouts_state", "targets_count", "targets_release", "targets_device")
    connection.execute(text(_VERDICTS))
    connection.execute(  # all but those that are known to have something staged
        text(
            "UPDATE devices SET settled_digest = installed_digest WHERE NOT EXISTS"
            " (SELECT 1 FROM targets t WHERE t.id = devices.target_id AND t.state = 'installed')"
        )
    )


def _waves(connection: Connection) -> None:
    """Rollouts in waves; of each device it is known when it was given what a rollout wants of it."""
    rollouts, targets = schema.rollouts.c, schema.targets.c
    for column in (
        *(rollouts.policy, rollouts.seed, rollouts.digest, rollouts.chain),
        *(rollouts.open_rank, rollouts.held),
        *(targets.rank, targets.given_at),
    ):
        add_column(connection, column)
    _create_indices(connection, "targets_rank", "targets_on_trial")
    given = "'offered', 'installed', 'trial', 'confirmed', 'reverted', 'rejected', 'failed'"
    connection.execute(text(f"UPDATE targets SET given_at = updated_at WHERE state IN ({given})"))  # noqa: S608 - ours


def _filters(connection: Connection) -> None:
    """Groups may go by a filter over attributes, which is a table that was not there."""
    add_column(connection, schema.groups.c.filter)
    add_column(connection, schema.groups.c.filled_to)


def _forgiven(connection: Connection) -> None:
    """Which devices were forgiven is known, and not only how many of a wave."""
    add_column(connection, schema.targets.c.forgiven)
    _create_indices(connection, "targets_forgiven")
    if "forgiven" in {found["name"] for found in inspect(connection).get_columns("waves")}:
        connection.execute(
            text(
                "UPDATE targets SET forgiven = (1 = 1) WHERE state IN ('reverted', 'rejected', 'failed')"
                " AND rollout_id IN (SELECT rollout_id FROM waves WHERE forgiven > 0)"
            )
        )
        connection.execute(text("ALTER TABLE waves DROP COLUMN forgiven"))


def _scoped_tokens(connection: Connection) -> None:
    """Tokens may be for some groups; those that there are stay what they were, the fleet's."""
    add_column(connection, schema.tokens.c.groups)


def _persons(connection: Connection) -> None:
    """A token may say whose it is; of those that there are nobody has said. Approvals are a new table."""
    add_column(connection, schema.tokens.c.person)


def _logins(connection: Connection) -> None:
    """Tokens may be made by signing in; those that there are were made here."""
    add_column(connection, schema.tokens.c.login)


def _pruned(connection: Connection) -> None:
    """The file of a withdrawn release may go; of those that there are none has."""
    add_column(connection, schema.releases.c.pruned_at)


def _create_indices(connection: Connection, *names: str) -> None:
    for index in (*schema.rollouts.indexes, *schema.targets.indexes):
        if index.name in names:
            index.create(connection, checkfirst=True)


STEPS: tuple[Step, ...] = (
    *(_tokens_expire, _new_tables, _roles, _audit_chain, _orders_end, _waves, _filters),
    *(_forgiven, _new_tables, _new_tables, _scoped_tokens),
    *(_new_tables, _new_tables),  # changes; webhooks
    *(_persons, _logins, _pruned),
)
"""Append only."""

SCHEMA_VERSION = 1 + len(STEPS)


def version_of(connection: Connection) -> int | None:
    """Return the schema of a database, or None: it has no tables of ours.

    Raises:
        InputError: the number is none, or newer than this server.
    """
    if not inspect(connection).has_table(schema.meta.name):
        return None
    found = connection.execute(select(schema.meta.c.value).where(_IS_SCHEMA)).scalar_one_or_none()
    if found is None:
        return None
    if not (found.isascii() and found.isdigit() and 1 <= int(found[:9]) <= SCHEMA_VERSION):
        raise InputError(
            f"the database has schema {found[:20]}, this server knows up to {SCHEMA_VERSION}: "
            "it was used by a newer server; run that one",
            "schema",
        )
    return int(found)


def require_current(connection: Connection) -> None:
    """Return if the database has today's schema.

    Raises:
        InputError: it has not, and only a server that starts may change that.
    """
    found = version_of(connection)
    if found != SCHEMA_VERSION:
        raise InputError(
            f"the database has schema {found or 'none'}, this program needs {SCHEMA_VERSION}: "
            "start the server once, it brings it up to date",
            "schema",
        )


def create(connection: Connection) -> bool:
    """Make all tables, as they are today; return False if there are some, of whatever schema."""
    if version_of(connection) is not None:
        return False
    schema.metadata.create_all(connection)
    connection.execute(insert(schema.meta).values(key="schema", value=str(SCHEMA_VERSION)))
    return True


def take_step(connection: Connection) -> bool:
    """Make what tables are missing, and lead the database one schema on; return whether it was behind.

    One call, one transaction.
    """
    version = version_of(connection) or 1
    schema.metadata.create_all(connection)
    if version == SCHEMA_VERSION:
        return False
    STEPS[version - 1](connection)
    connection.execute(update(schema.meta).where(_IS_SCHEMA).values(value=str(version + 1)))
    return True


def add_column(connection: Connection, column: Column[Any]) -> None:
    """Add a column of ``schema.py`` to its table, unless it is there. It is nullable or has a default."""
    table = column.table.name
    if column.name in {found["name"] for found in inspect(connection).get_columns(table)}:
        return
    wording = CreateColumn(column).compile(dialect=connection.dialect)
    connection.execute(text(f"ALTER TABLE {table} ADD COLUMN {wording}"))


_IS_SCHEMA = schema.meta.c.key == "schema"
