"""Artifacts: files named by their SHA-256, each complete or not there at all; and the folder that holds them.

``<folder>/ab/<sha256 hex>`` holds a file, ``<folder>/tmp/`` an upload that has not finished; what a dead
process left in ``tmp`` is deleted at the next start. `bucket.py` has the other home. Blocking calls; the
async side runs them by `aside`, on threads of their own: whoever waits for a home keeps no device waiting.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from fota_wire.errors import InputError, StorageError, VerifyError

FLOOR = 64 << 20
FORGOTTEN_S = 86400
_DIGEST = re.compile(r"[0-9a-f]{64}")

P = ParamSpec("P")
T = TypeVar("T")
_threads = ThreadPoolExecutor(4, "artifacts")


class ArtifactsAway(StorageError):
    """The home of the artifacts does not answer, or lets nobody in; what was asked is not known."""


async def aside(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what a blocking call to a home returns."""
    return await asyncio.get_running_loop().run_in_executor(_threads, lambda: work(*args, **kwargs))


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


class ArtifactStore(Protocol):
    """Where artifacts are kept: a folder, or a bucket. Only `at_hand` and `fetch` return at once.

    Any call raises InputError for a name that is no digest, and ArtifactsAway where the home does not answer.
    """

    max_size: int
    """Bytes of the largest artifact."""
    shared: bool
    """Whether other servers store and delete there, too."""
    where: str
    """What people call it."""
    folder: Path
    """What it takes of this machine's disk."""

    def prepare(self) -> None:
        """Get ready; a home that is away may come later.

        Raises:
            StorageError: the folder cannot be written.
        """

    def has(self, digest: str) -> bool:
        """Return whether it is there; its content is not looked at."""

    def keep(self, digest: str) -> bool:
        """Return whether it is there and need not be sent again: nobody will find it `forgotten` for long."""

    def read(self, digest: str) -> bytes:
        """Return all of it from its home, its content checked against its name.

        Raises:
            VerifyError: it is not there, or damaged.
        """

    def at_hand(self, digest: str) -> int | None:
        """Return a descriptor of the whole file, open for reading, if it is on this machine."""

    def fetch(self, digest: str) -> "Future[None]":
        """Bring it onto this machine, checked against its name; return what is done once it is `at_hand`.

        The future raises as `read` does, and StorageError: the disk here refused.
        """

    def receive(self, digest: str) -> "Upload":
        """Start an upload of the file with this digest."""

    def forgotten(self) -> list[str]:
        """Return the digests of files that arrived, or were kept, more than ``FORGOTTEN_S`` ago."""

    def remove(self, digests: Iterable[str]) -> None:
        """Delete files, as far as they are there. Nothing may refer to them."""

    def why_not(self) -> str | None:
        """Return why no artifact can be stored now; None if it can."""


def open_artifact(store: ArtifactStore, digest: str) -> int:
    """Return a descriptor of the whole file, brought here if need be. Raises as ``fetch``."""
    fd = store.at_hand(digest)
    if fd is None:
        store.fetch(digest).result()
        fd = store.at_hand(digest)
    if fd is None:
        raise StorageError(f"artifact {digest} went as it came: the disk has no room for it")
    return fd


class FolderStore:
    """Content-addressed files below one folder. ``shown``: others on this machine may read them, if they get
    there: a front does, and the folder above lets nobody else in.
    """

    shared = False

    def __init__(self, folder: Path, max_size: int, *, shown: bool = False) -> None:
        self.folder = folder
        self._shown = shown
        self.where = str(folder)
        self._tmp = folder / "tmp"
        self.max_size = max_size

    def prepare(self) -> None:
        """Make the folders and delete what unfinished uploads left behind."""
        try:
            self._tmp.mkdir(parents=True, exist_ok=True)
            for leftover in self._tmp.iterdir():
                leftover.unlink()
            if self._shown:
                self._tmp.chmod(0o700)
                for path in (self.folder, *self.folder.glob("??"), *self.folder.glob("??/*")):
                    show(path)
        except OSError as exc:
            raise storage_error(exc, f"preparing {self.folder}") from exc

    def path(self, digest: str) -> Path:
        """Return where the file with this digest is, or would be.

        Raises:
            InputError: not a digest; in particular, no path can be smuggled in.
        """
        return self.folder / place(digest)

    def has(self, digest: str) -> bool:
        """Return whether the file is there, complete."""
        return self.path(digest).is_file()

    def keep(self, digest: str) -> bool:
        """Return whether the file is there; from now on it is as if it had come just now."""
        try:
            os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise storage_error(exc, f"keeping artifact {digest}") from exc
        return True

    def read(self, digest: str) -> bytes:
        """Return the whole file, its content checked against its name."""
        try:
            data = self.path(digest).read_bytes()
        except FileNotFoundError as exc:
            raise missing(digest) from exc
        if hashlib.sha256(data).hexdigest() != digest:
            raise VerifyError(f"artifact {digest} is damaged on the server's disk", "artifact-damaged")
        return data

    def at_hand(self, digest: str) -> int | None:
        """Return a descriptor of the file, if it is there."""
        try:
            return os.open(self.path(digest), os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise storage_error(exc, f"opening artifact {digest}") from exc

    def fetch(self, digest: str) -> "Future[None]":
        """There is nowhere to fetch it from."""
        done: Future[None] = Future()
        if self.has(digest):
            done.set_result(None)
        else:
            done.set_exception(missing(digest))
        return done

    def receive(self, digest: str) -> "Upload":
        """Start an upload of the file with this digest."""
        return self.receive_for(digest, None)

    def receive_for(self, digest: str, beforehand: Callable[[Path], None] | None) -> "Upload":
        """As ``receive``; ``beforehand`` gets the verified file before it has its name, and may raise."""
        tmp, final = self._tmp / f"{digest}.{secrets.token_hex(8)}", self.path(digest)
        return Upload(tmp, final, digest, self.max_size, beforehand, shown=self._shown)

    def ages(self) -> list[tuple[float, str, int]]:
        """Return when each file came (seconds since 1970), its digest and its size, the oldest first."""
        found = []
        for path in self.folder.glob("??/*"):
            if is_digest(path.name):
                with contextlib.suppress(FileNotFoundError):  # one that is deleted meanwhile
                    about = path.stat()
                    found.append((about.st_mtime, path.name, about.st_size))
        return sorted(found)

    def forgotten(self) -> list[str]:
        """Return the digests of files that arrived, or were kept, more than ``FORGOTTEN_S`` ago."""
        before = time.time() - FORGOTTEN_S
        return [digest for arrived, digest, _ in self.ages() if arrived < before]

    def remove(self, digests: Iterable[str]) -> None:
        """Delete files, as far as they are there. Nothing may refer to them."""
        for digest in digests:
            self.path(digest).unlink(missing_ok=True)

    def why_not(self) -> str | None:
        """Return why the folder takes no new files; None if it does, and the disk has room for them."""
        if os.access(self._tmp, os.W_OK) and free_space(self.folder):
            return None
        return "the artifact folder cannot be written, or its disk is nearly full"


def place(digest: str) -> str:
    """Return the name of an artifact below a folder or a bucket's prefix.

    Raises:
        InputError: not a digest.
    """
    if not is_digest(digest):
        raise InputError("an artifact is named by 64 lower-case hex digits", "digest")
    return f"{digest[:2]}/{digest}"


def show(path: Path) -> None:
    """Let others read a file, or pass through a folder, whatever the mask of this process is."""
    path.chmod(0o755 if path.is_dir() else 0o644)


def missing(digest: str) -> VerifyError:
    """Return the error that says that an artifact is not there."""
    return VerifyError(f"no artifact {digest}: upload it first", "artifact-missing")


class Upload:
    """One file on its way in; it gets its name only when it is complete, correct and on the disk."""

    def __init__(
        self,
        tmp: Path,
        final: Path,
        digest: str,
        max_size: int,
        beforehand: Callable[[Path], None] | None,
        *,
        shown: bool = False,
    ) -> None:
        self._tmp = tmp
        self._shown = shown
        self._beforehand = beforehand
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
            StorageError: the disk refused, or the home behind it; nothing is kept.
        """
        actual = self._hash.hexdigest()
        if actual != self._digest:
            raise VerifyError(f"uploaded content has SHA-256 {actual}, not {self._digest}", "digest-mismatch")
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if self._beforehand:
                self._beforehand(self._tmp)
            self._final.parent.mkdir(exist_ok=True)
            if self._shown:
                show(self._final.parent)
                show(self._tmp)
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
