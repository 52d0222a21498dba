"""One file per virtual device: all that survives without power. It holds the element's secrets (mode 0600).

Layout: ``FOTAVDEV | format u16 | header length u32 | header (JSON) | flash, both banks (zlib) | SHA-256``
of everything before, little endian. Files are replaced atomically; a lock file beside it keeps a second
process out.
"""

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fota_wire.errors import FormatError, InputError
from fota_wire.files import read_input, take_lock, write_atomic

MAGIC = b"FOTAVDEV"
FORMAT = 1
_HEAD = "<8sHI"


class FileLock:
    """An advisory lock on ``<file>.lock``, held by one process at a time and freed when it dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.with_name(f"{path.name}.lock")
        self._fd = take_lock(self._file, path, "is in use by process {pid}: wait for it or end it")

    def release(self) -> None:
        """Let others in. A device that is not there needs no lock."""
        if self._fd >= 0:
            if not self.path.exists():
                self._file.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1


def save(path: Path, header: dict[str, Any], cells: bytes, lock: FileLock | None) -> None:
    """Write a header (plain data for JSON) and the cells of flash. ``lock``: the one that is held, if any.

    Raises:
        StorageError: the file cannot be written, or another process holds it.
    """
    held = lock is not None and lock.path == path
    own = None if held else FileLock(path)
    try:
        text = json.dumps(header, separators=(",", ":")).encode()
        body = struct.pack(_HEAD, MAGIC, FORMAT, len(text)) + text + zlib.compress(cells, 1)
        write_atomic(path, body + hashlib.sha256(body).digest(), 0o600)
    finally:
        if own is not None:
            own.release()


@contextmanager
def opened(path: Path) -> Iterator[tuple[dict[str, Any], bytes, FileLock]]:
    """Header and cells of a file, and the lock on it, which is held on unless the block raises.

    Raises:
        InputError: no such file, or not one of ours, or damaged, or the block found a field missing or wrong.
        StorageError: another process holds it.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such virtual device; make one with: fota vdev create {path}")
    lock = FileLock(path)
    try:
        header, cells = _split(path, read_input(path))
        try:
            yield header, cells, lock
        except (KeyError, TypeError, ValueError) as exc:
            raise FormatError(f"{path}: a field of the virtual device is missing or wrong ({exc})") from exc
    except BaseException:
        lock.release()
        raise


def _split(path: Path, raw: bytes) -> tuple[dict[str, Any], bytes]:
    size = struct.calcsize(_HEAD)
    if raw[:8] != MAGIC or len(raw) < size + 32:
        raise FormatError(f"{path}: not a virtual device")
    _, version, length = struct.unpack(_HEAD, raw[:size])
    if version != FORMAT:
        raise FormatError(f"{path}: format {version}; this program reads format {FORMAT}")
    if hashlib.sha256(raw[:-32]).digest() != raw[-32:]:
        raise FormatError(f"{path}: damaged (checksum); go back to a copy or create the device anew")
    try:
        header = json.loads(raw[size : size + length])
        cells = zlib.decompress(raw[size + length : -32])
    except (ValueError, zlib.error) as exc:
        raise FormatError(f"{path}: damaged") from exc
    if not isinstance(header, dict):
        raise FormatError(f"{path}: damaged")
    return header, cells
