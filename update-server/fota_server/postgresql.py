"""What is particular to PostgreSQL: how it is opened, who may write, what its errors mean.

All servers that share a database write in turn, by one advisory lock that a transaction holds to its end, and
that PostgreSQL gives in the order of asking. So a transaction that writes sees, as on SQLite, what all before
it have left, and two of them never meet. They have to agree on what time it is, too: who does not, writes
nothing (ADR 80).
"""

from typing import Any

from sqlalchemy import URL, Engine, String, create_engine, event
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import TypeCompiler

from fota_server.clock import now
from fota_wire.errors import StorageError

READ_ONLY = "fota_read_only"
"""Execution option of connections whose transactions only read."""

WRITE_LOCK = 0x464F5441
WEBHOOK_LOCK = WRITE_LOCK + 1  # of who sends them (alone.py)
CLOCK_S = 30
"""So far the clock of a server that writes may be from the database's."""
CONNECT_S = 5
_OPTIONS = {
    "lock_timeout": "5s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "15s",  # a machine that is gone shall not keep the lock
    "timezone": "UTC",
}


def open_engine(url: URL) -> Engine:
    """Return an engine; a connection that died while it was idle is noticed and replaced."""
    settings = " ".join(f"-c {name}={value}" for name, value in _OPTIONS.items())
    arguments = {"connect_timeout": CONNECT_S, "application_name": "fota-server", "options": settings}
    engine = create_engine(
        url, pool_pre_ping=True, connect_args=arguments, execution_options={"preserve_rowcount": True}
    )
    event.listen(engine, "connect", _connect)
    event.listen(engine, "begin", _begin)
    return engine


def _connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own type
    from psycopg.types.string import StrDumper

    class NoNul(StrDumper):
        """PostgreSQL's texts cannot hold NUL, which a device may well send."""

        def dump(self, obj: str) -> Any:  # noqa: ANN401 - the driver's own types
            return super().dump(obj.replace("\0", "\ufffd"))

    connection.adapters.register_dumper(str, NoNul)


def _begin(connection: Any) -> None:  # noqa: ANN401 - sqlalchemy's event signature
    if connection.get_execution_options().get(READ_ONLY, False):
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    else:
        # The first column is ready before the second is begun: the time is that of when our turn came.
        asked = f"SELECT pg_advisory_xact_lock({WRITE_LOCK}), extract(epoch FROM clock_timestamp())"  # noqa: S608
        apart = now() - int(connection.exec_driver_sql(asked).one()[1])
        if abs(apart) > CLOCK_S:
            raise StorageError(
                f"the clock of this machine is {abs(apart)} s {'ahead of' if apart > 0 else 'behind'} the"
                " database's: nothing is written until they agree; set it right (NTP)",
                "clock",
            )


def is_full(exc: object) -> bool:
    """Tell whether an error of the driver says that the database's disk is full."""
    return getattr(exc, "sqlstate", None) == "53100"


@compiles(String, "postgresql")
def _text(element: String, compiler: TypeCompiler, **kwargs: Any) -> str:  # noqa: ANN401
    """As on SQLite: as long as it is, and compared byte by byte, whatever the database's language."""
    return 'TEXT COLLATE "C"' if kwargs.get("type_expression") is not None else "TEXT"
