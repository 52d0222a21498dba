"""Files of the host (not for devices): atomic writes and one-line errors."""

import os
from contextlib import suppress
from pathlib import Path

from fota_wire.errors import InputError, StorageError


def read_input(path: Path, max_size: int = 64 << 20) -> bytes:
    """Return the content of ``path``.

    Raises:
        InputError: there is no such regular file, or it is longer than ``max_size`` bytes.
    """
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: not a regular file")
        if path.stat().st_size > max_size:
            raise InputError(f"{path}: larger than {max_size} bytes")
        return path.read_bytes()
    except OSError as exc:
        raise InputError(f"{path}: {exc.strerror}") from exc


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace ``path`` with ``data``; a crash or a full disk leaves the old file or the new one.

    Raises:
        StorageError: the file cannot be written; nothing is left behind.
    """
    tmp = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    try:
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(fd, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        tmp.replace(path)
        dir_fd = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(dir_fd)
        finally:
            os.close(dir_fd)
    except BaseException as exc:  # a signal that ends the process, too
        with suppress(OSError):  # no such folder, say: then it was not made either
            tmp.unlink()
        if isinstance(exc, OSError):
            raise StorageError(f"cannot write {path}: {exc.strerror}") from exc
        raise
