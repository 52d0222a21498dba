"""How a database that an earlier server made becomes one of today: by Alembic, whose revisions lie in
``versions``, numbered, one after the other; the newest schema is what ``schema.py`` describes.

Each revision runs once, in one transaction with its number, so a crash leaves a whole earlier schema.
Revisions are never changed once they are released: a database may be at any of them. A database that is new
or of today costs no Alembic: its number is looked at, and nothing is loaded.

Tables that are missing are made as ``schema.py`` has them *before* a revision runs. So a revision only mends
tables that were there (``add_column``, ``create_indices``, ``op.execute``) and has to bear that its work is
done already, on a table that was missing.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, MetaData, String, Table, delete, insert, inspect, select, text
from sqlalchemy.schema import CreateColumn, PrimaryKeyConstraint

from fota_server import schema
from fota_wire.errors import InputError

SCHEMA_VERSION = max(int(path.name[:4]) for path in (Path(__file__).parent / "versions").glob("[0-9]*.py"))
"""The newest revision."""

_versions = Table(  # Alembic's own
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
_OF_BEFORE = schema.meta.c.key == "schema"
"""Where servers of before this used Alembic look; they refuse what is no number of theirs."""


def version_of(connection: Connection) -> int | None:
    """Return the schema of a database, or None: it has no tables of ours.

    Raises:
        InputError: the number is none, or newer than this server.
    """
    here = inspect(connection)
    if not here.has_table(schema.meta.name):
        return None
    where = select(_versions.c.version_num)
    if not here.has_table(_versions.name):
        where = select(schema.meta.c.value).where(_OF_BEFORE)
    names = connection.execute(where).scalars().all()
    if not names:
        return None
    found = " ".join(names)
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
    _note(connection, SCHEMA_VERSION)
    return True


def take_step(connection: Connection) -> bool:
    """Make what tables are missing, and lead the database one schema on; return whether it was behind.

    One call, one transaction.
    """
    version = version_of(connection) or 1
    schema.metadata.create_all(connection)
    if not inspect(connection).has_table(_versions.name):
        _note(connection, version)
    if version == SCHEMA_VERSION:
        return False
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "fota_server:migrations")
    command.upgrade(config, f"{version + 1:04}")
    return True


def _note(connection: Connection, version: int) -> None:
    """Note the schema where Alembic looks, and that it is noted there."""
    _versions.create(connection, checkfirst=True)
    connection.execute(insert(_versions).values(version_num=f"{version:04}"))
    connection.execute(delete(schema.meta).where(_OF_BEFORE))
    connection.execute(insert(schema.meta).values(key="schema", value="alembic"))


def add_column(column: Column[Any]) -> None:
    """Add a column of ``schema.py`` to its table, unless it is there. It is nullable or has a default."""
    from alembic import op

    connection, table = op.get_bind(), column.table.name
    if column.name in {found["name"] for found in inspect(connection).get_columns(table)}:
        return
    wording = CreateColumn(column).compile(dialect=connection.dialect)
    connection.execute(text(f"ALTER TABLE {table} ADD COLUMN {wording}"))


def create_indices(*names: str) -> None:
    """Make those indices of ``schema.py`` that are not there."""
    from alembic import op

    for table in schema.metadata.tables.values():
        for index in table.indexes:
            if index.name in names:
                index.create(op.get_bind(), checkfirst=True)
