"""Whether a data folder holds all of a server's life, or only what was left of it.

SQLite in WAL mode keeps what was written last in ``fota.db-wal``. A copy without that file opens without
complaint, and lacks it: at worst it is empty, and a server on it would let retired devices in again. So a
running server is marked in the database itself; found so, without its WAL, the database is not whole.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from fota_wire.errors import StorageError, VerifyError
from fota_wire.host_sqlite import sqlite_told

_RUNNING = "running"
HINT = "restore a backup ('fota server restore'), or accept what is lost with 'fota server run --accept-loss'"


def require_whole(path: Path, data: Path, *, accept_loss: bool = False) -> None:
    """Return if the database at ``path`` is whole, or if there is none and never was. Hold the data lock.

    A server that died leaves its WAL; it is taken in here.

    Raises:
        VerifyError: something is missing; code ``loss``.
        StorageError: this is no database, or it cannot be read.
    """
    if not path.parent.is_dir():
        raise StorageError(f"{path}: unable to open database file, there is no such folder", "database")
    wal = path.with_name(path.name + "-wal").exists()
    loss = _loss_without_tables(path, data, wal)
    if loss is None and path.exists() and path.stat().st_size:
        with _opened(path) as connection:
            if _is_running(connection):
                loss = (
                    None if wal else f"{path} was copied from a running server, without its {path.name}-wal"
                )
                if wal or accept_loss:
                    connection.execute("DELETE FROM meta WHERE key = ?", (_RUNNING,))
    if loss and not accept_loss:
        raise VerifyError(f"{loss}: what it wrote last is missing; {HINT}", "loss")


def mark_running(path: Path, *, running: bool) -> None:
    """Note in the database that a server runs, or that it has ended well; all of it is in its one file then.

    Raises:
        StorageError: the disk refused.
    """
    with _opened(path) as connection:
        connection.execute("DELETE FROM meta WHERE key = ?", (_RUNNING,))
        if running:
            connection.execute("INSERT INTO meta (key, value) VALUES (?, '1')", (_RUNNING,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def checkpoint(path: Path) -> None:
    """Bring what stands in the WAL into the file, without waiting for anybody. Raises StorageError."""
    with _opened(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    place = f"file:{quote(str(path.resolve()))}?mode=rw"
    with (
        sqlite_told(path),
        closing(sqlite3.connect(place, uri=True, isolation_level=None, timeout=5)) as connection,
    ):
        yield connection


def _has_tables(connection: sqlite3.Connection) -> bool:
    query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'meta'"
    return bool(connection.execute(query).fetchone()[0])


def _is_running(connection: sqlite3.Connection) -> bool:
    if not _has_tables(connection):
        return False
    return connection.execute("SELECT 1 FROM meta WHERE key = ?", (_RUNNING,)).fetchone() is not None


def _loss_without_tables(path: Path, data: Path, wal: bool) -> str | None:
    """Return what is lost if there is no database, or an empty one, where one has been."""
    if path.exists() and path.stat().st_size:
        with _opened(path) as connection:
            if _has_tables(connection) or wal:
                return None
        return f"{path} is empty, and has been a server's database"
    signs = [data / name for name in ("server.json", "operator.token") if (data / name).exists()]
    signs += [found for found in (data / "artifacts").glob("??/*") if found.is_file()][:1]
    return f"there is no database, and {signs[0]} tells of an earlier server" if signs else None
