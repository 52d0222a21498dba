"""What SQLite's errors mean to people (not for devices): which file, what is wrong with it, what to do."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fota_wire.errors import FotaError, InputError, StorageError

DISK_FULL = "disk-full"
FULL_BELOW = 65536
"""Bytes: with fewer than these free, what SQLite calls an I/O error is a full disk (its WAL's index, say)."""


def of_sqlite(exc: sqlite3.Error, path: Path, name: str | None = None) -> FotaError:
    """Return the error of ours; ``path``: of the database, which messages call ``name``.

    Code ``disk-full`` where that is the reason, else ``database``.
    """
    called = str(path) if name is None else name
    kind = (getattr(exc, "sqlite_errorcode", None) or 0) & 0xFF
    if kind == sqlite3.SQLITE_FULL or (kind in _OF_THE_DISK and _is_full(path)):
        return StorageError(f"{called}: disk full: free some space and try again", DISK_FULL)
    if kind == sqlite3.SQLITE_NOTADB:
        return InputError(f"{called}: not a database", "database")
    first = str(exc).partition("\n")[0] or type(exc).__name__
    return StorageError(f"{called}: {_WORDS.get(kind, first)}", "database")


@contextmanager
def sqlite_told(path: Path, name: str | None = None) -> Iterator[None]:
    """Have errors of SQLite leave the block as `of_sqlite` words them."""
    try:
        yield
    except sqlite3.Error as exc:
        raise of_sqlite(exc, path, name) from exc


_OF_THE_DISK = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
_WORDS = {
    sqlite3.SQLITE_BUSY: "in use by another process",
    sqlite3.SQLITE_LOCKED: "in use by another process",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened, or made: is its folder there, and may we write into it?",
    sqlite3.SQLITE_READONLY: "cannot be written: permissions, or a read-only file system",
    sqlite3.SQLITE_CORRUPT: "the database is damaged: restore a backup",
    sqlite3.SQLITE_IOERR: "the disk fails: it cannot be read or written there",
}


def _is_full(path: Path) -> bool:
    with suppress(OSError):
        found = os.statvfs(path.parent)
        return found.f_bavail * found.f_frsize < FULL_BELOW
    return False
