"""The artifact folder: files named by their SHA-256, each complete or not there at all.

``<folder>/ab/<sha256 hex>`` holds a file, ``<folder>/tmp/`` an upload that has not finished; what a dead
process left in ``tmp`` is deleted at the next start. Blocking calls; the async side runs them in threads.
"""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from fota_wire.errors import InputError, StorageError, VerifyError

FLOOR = 64 << 20
FORGOTTEN_S = 86400
_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Return whether ``text`` is a SHA-256 in lower-case hex."""
    return _DIGEST.fullmatch(text) is not None


def storage_error(exc: OSError, doing: str) -> StorageError:
    """Return the error that says in one line why the disk refused."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"disk full while {doing}; free some space and try again", "disk-full")
    return StorageError(f"{doing}: {exc.strerror or exc}", "storage")


def free_space(folder: Path) -> bool:
    """Return whether the disk takes a database that grows, and a release: `FLOOR` bytes."""
    return shutil.disk_usage(folder).free >= FLOOR


class ArtifactStore:
    """Content-addressed files below one folder."""

    def __init__(self, folder: Path, max_size: int) -> None:
        self._folder = folder
        self._tmp = folder / "tmp"
        self.max_size = max_size

    def prepare(self) -> None:
        """Make the folders and delete what unfinished uploads left behind.

        Raises:
            StorageError: the folder cannot be written.
        """
        try:
            self._tmp.mkdir(parents=True, exist_ok=True)
            for leftover in self._tmp.iterdir():
                leftover.unlink()
        except OSError as exc:
            raise storage_error(exc, f"preparing {self._folder}") from exc

    def path(self, digest: str) -> Path:
        """Return where the file with this digest is, or would be.

        Raises:
            InputError: not a digest; in particular, no path can be smuggled in.
        """
        if not is_digest(digest):
            raise InputError("an artifact is named by 64 lower-case hex digits", "digest")
        return self._folder / digest[:2] / digest

    def has(self, digest: str) -> bool:
        """Return whether the file is there, complete."""
        return self.path(digest).is_file()

    def read(self, digest: str) -> bytes:
        """Return the whole file, its content checked against its name.

        Raises:
            VerifyError: it is not there, or damaged.
        """
        try:
            data = self.path(digest).read_bytes()
        except FileNotFoundError as exc:
            raise VerifyError(f"no artifact {digest}: upload it first", "artifact-missing") from exc
        if hashlib.sha256(data).hexdigest() != digest:
            raise VerifyError(f"artifact {digest} is damaged on the server's disk", "artifact-damaged")
        return data

    def forgotten(self) -> list[str]:
        """Return the digests of files that arrived more than ``FORGOTTEN_S`` ago."""
        before = time.time() - FORGOTTEN_S
        found = [path for path in self._folder.glob("??/*") if is_digest(path.name)]
        return [path.name for path in found if path.stat().st_mtime < before]

    def remove(self, digests: Iterable[str]) -> None:
        """Delete files, as far as they are there. Nothing may refer to them."""
        for digest in digests:
            self.path(digest).unlink(missing_ok=True)

    def writable(self) -> bool:
        """Return whether the folder takes new files, and the disk has room for them."""
        return os.access(self._tmp, os.W_OK) and free_space(self._folder)

    def receive(self, digest: str) -> "Upload":
        """Start an upload of the file with this digest."""
        final = self.path(digest)
        return Upload(self._tmp / f"{digest}.{secrets.token_hex(8)}", final, digest, self.max_size)


class Upload:
    """One file on its way in; it gets its name only when it is complete, correct and on the disk."""

    def __init__(self, tmp: Path, final: Path, digest: str, max_size: int) -> None:
        self._tmp = tmp
        self._final = final
        self._digest = digest
        self._max_size = max_size
        self._hash = hashlib.sha256()
        self._size = 0
        try:
            self._file = tmp.open("xb")
        except OSError as exc:
            raise storage_error(exc, "starting an upload") from exc

    def write(self, data: bytes) -> None:
        """Append ``data``.

        Raises:
            InputError: longer than the store allows (``too-large``).
            StorageError: the disk refused.
        """
        self._size += len(data)
        if self._size > self._max_size:
            raise InputError(f"artifact is larger than {self._max_size} bytes", "too-large")
        self._hash.update(data)
        try:
            self._file.write(data)
        except OSError as exc:
            raise storage_error(exc, "storing the artifact") from exc

    def finish(self) -> None:
        """Check the digest, flush to the disk, and give the file its name.

        Raises:
            VerifyError: the content is not what the name says; nothing is kept.
            StorageError: the disk refused; nothing is kept.
        """
        actual = self._hash.hexdigest()
        if actual != self._digest:
            raise VerifyError(f"uploaded content has SHA-256 {actual}, not {self._digest}", "digest-mismatch")
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._final.parent.mkdir(exist_ok=True)
            self._tmp.replace(self._final)
            for folder in (self._final.parent, self._final.parent.parent):
                sync_folder(folder)
        except OSError as exc:
            raise storage_error(exc, "storing the artifact") from exc

    def discard(self) -> None:
        """Delete what arrived so far; harmless after ``finish``."""
        with contextlib.suppress(OSError):  # a full disk may refuse the last buffered bytes, deleted anyway
            self._file.close()
        self._tmp.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
