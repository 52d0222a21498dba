"""Slots, journal, floor and the agent's memory of a gateway, in files or on block devices.

What was acknowledged is on the disk: every write ends in fdatasync, small files are replaced whole.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fota_wire import journal
from fota_wire.errors import DeviceError, StorageError
from fota_wire.files import open_lock, write_atomic
from fota_wire.journal import PAGE_SIZE
from fota_wire.layout import SEC_CNT_MAX
from fota_wire.status import FL1, FL2, FL3, JO1

BLANK = b"\xff"
MOST_RESERVED = 64 << 20
DEVICES = Path("/dev")
BLOCK = 4096  # bytes that a disk writes at once


class FileSlot:
    """The ``Slot`` of ``fota_agent.seams`` in a file or block device; blank is 0xFF, or behind its end.

    ``named``: settings name it, so it has to be there, and is never made: a device that is missing is not a
    file of that name, nor is what lies under /dev, by a link either. ``reserve``: bytes of the file system
    that are left to the program, None = 5 % of it, at most 64 MiB.
    """

    def __init__(
        self, path: Path, size: int, page_size: int, named: bool = False, reserve: int | None = None
    ) -> None:
        self.path = path
        self.size = size
        self.page_size = page_size
        self._named = named
        self._reserve = reserve

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes, 0xFF where the file has ended. DeviceError FL3."""
        try:
            self._look(FL3)
            with self.path.open("rb") as file:
                file.seek(offset)
                data = file.read(length)
        except FileNotFoundError:
            data = b""
        except OSError as exc:
            raise DeviceError(f"{self.path}: {exc.strerror}", FL3) from exc
        return data + BLANK * (length - len(data))

    def _look(self, code: int) -> None:
        """Return if a slot may lie here. DeviceError; FileNotFoundError: nothing is here yet, and may be."""
        try:
            kind = self.path.stat().st_mode
        except FileNotFoundError:
            if self._named:
                raise DeviceError(f"{self.path}: is missing, and gateway.toml names it", code) from None
            if self.path.is_symlink():
                raise DeviceError(f"{self.path}: a link to what is missing", code) from None
            raise
        if stat.S_ISBLK(kind):
            return
        if not stat.S_ISREG(kind):
            raise DeviceError(f"{self.path}: neither a file nor a block device", code)
        if DEVICES in self.path.resolve().parents:
            raise DeviceError(f"{self.path}: a file where a block device has to be", code)

    def is_blank(self, offset: int) -> bool:
        """Return True if the page at ``offset`` is wholly erased."""
        return not self.read(offset, self.page_size).strip(BLANK)

    def erase(self, offset: int) -> None:
        """Fill the page at ``offset`` with 0xFF. DeviceError FL2."""
        self._write(offset, BLANK * self.page_size, FL2)

    def salvage(self, offset: int) -> int:
        """Return where writing goes on in the page at ``offset``, which a cut left half written.

        A file needs no erasing: only the last block may be torn. DeviceError FL3.
        """
        written = len(self.read(offset, self.page_size).rstrip(BLANK))
        return offset + max(0, written - 1) // BLOCK * BLOCK

    def program(self, offset: int, data: bytearray | memoryview) -> None:
        """Write erased bytes within one page, and read them back. DeviceError FL1."""
        wanted = bytes(data)
        self._write(offset, wanted, FL1)
        if self.read(offset, len(wanted)) != wanted:
            raise DeviceError(f"{self.path}: does not read back as written", FL1)

    def _write(self, offset: int, data: bytes, code: int) -> None:
        if offset < 0 or offset + len(data) > -(-self.size // self.page_size) * self.page_size:
            raise DeviceError(f"{self.path}: write outside the slot", code)
        try:
            with suppress(FileNotFoundError):
                self._look(code)
            make = 0 if self._named else os.O_CREAT
            fd = os.open(self.path, os.O_WRONLY | make | os.O_CLOEXEC, 0o600)
            try:
                self._leave_room(fd, offset + len(data), code)
                if os.pwrite(fd, data, offset) != len(data):
                    raise DeviceError(f"{self.path}: no room", code)
                os.fdatasync(fd)
            finally:
                os.close(fd)
        except OSError as exc:
            raise DeviceError(f"{self.path}: {exc.strerror}", code) from exc

    def _leave_room(self, fd: int, end: int, code: int) -> None:
        """Return if a file that reaches to ``end`` leaves the program its part of the disk. DeviceError."""
        found = os.fstat(fd)
        more = end - found.st_blocks * 512
        if not stat.S_ISREG(found.st_mode) or more <= 0:
            return
        disk = os.fstatvfs(fd)
        reserve = self._reserve
        if reserve is None:
            reserve = min(MOST_RESERVED, disk.f_blocks * disk.f_frsize // 20)
        if disk.f_bavail * disk.f_frsize < more + reserve:
            raise DeviceError(
                f"{self.path}: the disk is full but for the {reserve >> 10} KiB that are the program's", code
            )


class JournalFile:
    """The boot journal (SPEC 3) in a file; one writer at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def state(self) -> journal.Record:
        """Return the newest valid record. DeviceError JO1."""
        if not self._path.exists():
            return journal.EMPTY
        with self._open(os.O_RDONLY, fcntl.LOCK_SH) as fd:
            return self._scan(fd)[0]

    def append(self, record_of: "journal.Record | None", expected: journal.Record) -> None:
        """Write ``record_of`` (None: nothing) if the state still is ``expected``. DeviceError JO1."""
        if record_of is None:
            return
        with self._open(os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX) as fd:
            found, page, cell = self._scan(fd)
            if found != expected:
                raise DeviceError("boot journal: somebody else has written it meanwhile", JO1)
            if cell == 0:
                self._write(fd, page * PAGE_SIZE, BLANK * PAGE_SIZE)
            self._write(fd, page * PAGE_SIZE + cell * journal.RECORD_SIZE, journal.pack(record_of))
            if self._scan(fd)[0] != record_of:
                raise DeviceError("boot journal: the record is not there after writing it", JO1)

    @contextmanager
    def _open(self, how: int, lock: int) -> Iterator[int]:
        try:
            fd = os.open(self._path, how | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)  # a pipe is no journal
            try:
                fcntl.flock(fd, lock)
                yield fd
            finally:
                os.close(fd)
        except OSError as exc:
            raise DeviceError(f"boot journal {self._path}: {exc.strerror}", JO1) from exc

    @staticmethod
    def _scan(fd: int) -> tuple[journal.Record, int, int]:
        data = os.pread(fd, 2 * PAGE_SIZE, 0)
        data += BLANK * (2 * PAGE_SIZE - len(data))
        return journal.scan(data[:PAGE_SIZE], data[PAGE_SIZE:])

    @staticmethod
    def _write(fd: int, offset: int, data: bytes) -> None:
        os.pwrite(fd, data, offset)
        os.fdatasync(fd)


def open_plain(path: Path, how: int, mode: int = 0o600) -> int:
    """Return the descriptor of a file that neither waits for somebody nor has no end. OSError."""
    fd = os.open(path, how | os.O_CLOEXEC | os.O_NONBLOCK, mode)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file")
    return fd


def read_plain(path: Path) -> bytes:
    """Return the content of such a file. OSError."""
    with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as file:
        return file.read()


def read_floor(path: Path) -> int:
    """Return the security floor, 0 if none was ever written. DeviceError if the file is damaged."""
    try:
        text = read_plain(path).decode("ascii").strip()
    except FileNotFoundError:
        return 0
    except (OSError, UnicodeDecodeError) as exc:
        raise DeviceError(f"{path}: cannot be read") from exc
    if not (text.isdigit() and len(text) <= len(str(SEC_CNT_MAX)) and int(text) <= SEC_CNT_MAX):
        raise DeviceError(f"{path}: damaged: not a number")
    return int(text)


def raise_floor(path: Path, floor: int) -> None:
    """Write a floor that is above the old one. StorageError."""
    write_atomic(path, f"{floor}\n".encode())


def overwrite(path: Path, data: bytes) -> None:
    """Write ``data`` where the file's beginning is: a full disk takes that, once the file is there. A cut
    leaves a torn one. StorageError.
    """
    try:
        fd = open_plain(path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(fd, data, 0)
        finally:
            os.close(fd)
    except OSError as exc:
        raise StorageError(f"cannot write {path}: {exc.strerror}") from exc


def blank(path: Path) -> None:
    """Fill the file with zeros, if it is there."""
    if path.exists():
        overwrite(path, bytes(path.stat().st_size))


def read_store(path: Path) -> bytes | None:
    """Return what was saved last, or None."""
    with suppress(OSError):
        return read_plain(path)
    return None


def write_store(path: Path, data: bytes) -> None:
    """Replace what was saved. DeviceError."""
    try:
        write_atomic(path, data, 0o600)
    except StorageError as exc:
        raise DeviceError(str(exc)) from exc


_held: dict[str, int] = {}


def _open_read_only(path: Path) -> int | None:
    """Return a descriptor of an old lock, or of the settings, on a disk that is read-only; None otherwise."""
    for place in (path, path.parent.parent / "gateway.toml"):  # the folder itself is the launcher's, then
        with suppress(OSError):
            if os.statvfs(place).f_flag & os.ST_RDONLY:
                return os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    return None


def claim(path: Path) -> None:
    """Make this process the one agent of a gateway, until it ends. StorageError if another one is, or the
    lock is a link.
    """
    name = str(path.parent.resolve() / path.name)
    if name in _held:
        return
    try:
        fd = open_lock(path)
    except StorageError:
        if (found := _open_read_only(path)) is None:
            raise
        fd = found
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(fd)
        raise StorageError(f"{path.parent.parent}: another agent is running for this gateway") from exc
    except OSError as exc:
        os.close(fd)
        raise StorageError(f"{path}: {exc.strerror}") from exc
    for leftover in path.parent.parent.glob(".store.*.tmp"):  # of an agent that was cut while it saved
        with suppress(OSError):
            leftover.unlink()
    _held[name] = fd
