"""One file per virtual device: all that survives without power. It holds the element's secrets (mode 0600).

Layout: ``FOTAVDEV | format u16 | header length u32 | header (JSON) | flash, both banks (zlib) | SHA-256``
of everything before, little endian. Files are replaced atomically; a lock file beside it keeps a second
process out.
"""

import fcntl
import hashlib
import json
import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fota_vdev.flash_array import BANK
from fota_wire.errors import FormatError, InputError, StorageError
from fota_wire.files import read_input, write_atomic

if TYPE_CHECKING:
    from fota_vdev.machine import Machine

MAGIC = b"FOTAVDEV"
FORMAT = 1
_HEAD = "<8sHI"


class FileLock:
    """An advisory lock on ``<file>.lock``, held by one process at a time and freed when it dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        name = path.with_name(f"{path.name}.lock")
        try:
            self._fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise StorageError(f"cannot lock {path}: {exc.strerror}") from exc
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._fd, 20, 0).decode(errors="replace").strip() or "?"
            os.close(self._fd)
            raise StorageError(f"{path} is in use by process {holder}: wait for it or end it") from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let others in."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def save(machine: "Machine", path: Path) -> None:
    """Write the machine's persistent state.

    Raises:
        StorageError: the file cannot be written, or another process holds it.
    """
    if machine.lock is not None and machine.lock.path == path:
        write_atomic(path, _encode(machine), 0o600)
        return
    lock = FileLock(path)
    try:
        write_atomic(path, _encode(machine), 0o600)
    finally:
        lock.release()


def _encode(machine: "Machine") -> bytes:
    flash = machine.flash.state()
    cells = zlib.compress(flash.pop("bank1") + flash.pop("bank2"), 1)
    element = machine.element
    header = {
        "flash": flash,
        "element": element.persistent_state() if element is not None else None,
        "seed": machine.seed,
        "power_ups": machine.power_ups,
        "random_position": machine.board.rng.stream.position,
        "last_report": machine.last_report.hex(),
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    body = struct.pack(_HEAD, MAGIC, FORMAT, len(text)) + text + cells
    return body + hashlib.sha256(body).digest()


def load(path: Path) -> "Machine":
    """Return the machine in a file, without power; the file stays locked until `Machine.close`.

    Raises:
        InputError: no such file, or not one of ours, or damaged.
        StorageError: another process holds it.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such virtual device; make one with: fota vdev create {path}")
    lock = FileLock(path)
    try:
        machine = _decode(path, read_input(path))
    except BaseException:
        lock.release()
        raise
    machine.lock = lock
    return machine


def _decode(path: Path, raw: bytes) -> "Machine":
    from fota_vdev.atecc608 import Atecc608
    from fota_vdev.machine import Machine

    header, cells = _split(path, raw)
    try:
        element = None if header["element"] is None else Atecc608.from_persistent_state(header["element"])
        machine = Machine(element=element, seed=int(header["seed"]))
        machine.flash.restore(header["flash"] | {"bank1": cells[:BANK], "bank2": cells[BANK:]})
        machine.power_ups = int(header["power_ups"])
        machine.board.rng.stream.position = int(header["random_position"])
        machine.last_report = bytes.fromhex(header["last_report"])
    except (KeyError, TypeError, ValueError) as exc:
        raise FormatError(f"{path}: a field of the virtual device is missing or wrong ({exc})") from exc
    return machine


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
    if not isinstance(header, dict) or len(cells) != 2 * BANK:
        raise FormatError(f"{path}: damaged")
    return header, cells
