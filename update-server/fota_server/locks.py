"""One server at a time: on a data folder, and on a SQLite file, whatever folder names it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fota_server.database import read_url, sqlite_path
from fota_wire.errors import StorageError
from fota_wire.files import take_lock

_BUSY = "is in use by another server (process {pid}): "


@contextmanager
def data_lock(data: Path, database_url: str | None) -> Iterator[None]:
    """Hold the data folder, and the SQLite file that it or ``database_url`` names, for this process.

    Raises:
        StorageError: another server has one of them, or it cannot be written.
        InputError: ``database_url`` is none.
    """
    path = sqlite_path(read_url(database_url, data))
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise StorageError(f"cannot use {data}: {exc.strerror}") from exc
    with ExitStack() as held:
        held.callback(os.close, take_lock(data / "lock", data, _BUSY + "stop it first"))
        if path and path.parent.is_dir():  # else the database will be missed by its own name
            file = path.resolve()
            lock = file.with_name(f"{file.name}.lock")
            held.callback(os.close, take_lock(lock, path, _BUSY + "each needs a database of its own"))
        yield
