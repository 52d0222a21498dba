"""Files of the host (not for devices): the one home of all that a command line names, and atomic writes.

``-`` is standard input or output. What can be read once (a pipe, ``<(...)``, ``/dev/stdin``) is read once,
and kept for whoever in this process names it again. A file that was read or written is not replaced by the
same run: inputs are never outputs.
"""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fota_wire.errors import FotaError, InputError, StorageError

STREAM = Path("-")
LIMIT = 64 << 20
_OF_OTHERS = 0o066
_NO_SUCH_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO)
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)

_streams: dict[tuple[int, int], bytes] = {}
_used: set[tuple[int, int]] = set()  # files by device and inode: whatever name leads to them


def begin() -> None:
    """Forget what was read and written: a command begins."""
    _streams.clear()
    _used.clear()


def name_of(path: Path) -> str:
    """Return how messages call ``path`` as an input."""
    return "standard input" if path == STREAM else str(path)


def place_of(path: Path) -> str:
    """Return where what was written is, as messages say it; `STREAM` is standard output."""
    return "on standard output" if path == STREAM else f"in {path}"


def stream_of(path: Path) -> tuple[int, int] | None:
    """Return which stream an input is that can be read once; None: a file, or nothing that is there."""
    try:
        stdin: os.stat_result | None = os.fstat(0)
    except OSError:  # closed
        stdin = None
    if path == STREAM:
        return _inode(stdin) if stdin else (-1, 0)
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    mode, is_stdin = found.st_mode, stdin is not None and os.path.samestat(found, stdin)
    once = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and is_stdin)
    return _inode(found) if once else None


def _inode(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def read_input(path: Path, limit: int = LIMIT) -> bytes:
    """Return the content of ``path``, at most ``limit`` bytes.

    Raises:
        InputError: there is no such file, it is a folder, or longer.
        StorageError: it is there and cannot be read.
    """
    name = name_of(path)
    try:
        data = _read(path, limit + 1)
    except OSError as exc:
        raise _of_system(exc, name) from exc
    if len(data) > limit:
        raise InputError(f"{name}: larger than {limit} bytes")
    return data


def peek(path: Path, count: int) -> bytes:
    """Return the first ``count`` bytes of a file; b"" if it cannot be read, which its reader tells, or is a
    stream, whose bytes are its reader's.
    """
    try:
        is_file = stat.S_ISREG(path.stat().st_mode) and stream_of(path) is None
        return _read_all(path, count) if is_file else b""
    except (OSError, ValueError):
        return b""


def read_text(path: Path, limit: int = LIMIT) -> str:
    """Return the content of a text file, UTF-8 with or without a byte order mark; raises as `read_input`."""
    try:
        return read_input(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise InputError(f"{name_of(path)}: not text in UTF-8 (byte {exc.start})") from exc


def require_secret(path: Path, what: str) -> None:
    """Return if the file with a password, PIN or token, ``what`` says which, is there.

    Raises:
        InputError: it is not; its name is not shown, since perhaps the secret itself was typed.
    """
    if path != STREAM and not os.path.lexists(path):
        raise InputError(f"there is no such file with the {what} (not shown: it may be the {what} itself)")


def require_unshared(path: Path, what: str) -> None:
    """Return if ``path``, which holds a ``what``, is a file that only its owner can read, or a stream.

    Raises:
        InputError: group or others can read it, or it is not there; says what to type; code ``mode``.
    """
    try:
        found = path.stat() if path != STREAM else os.fstat(0)
    except OSError as exc:
        raise InputError(f"{name_of(path)}: {exc.strerror}") from exc
    if stat.S_ISREG(found.st_mode) and path != STREAM and found.st_mode & _OF_OTHERS:
        raise InputError(
            f"{path}: others on this machine can read this {what} (mode {found.st_mode & 0o777:o}):"
            f" chmod 600 {path}, or hand it over as a stream: - < {path}",
            "mode",
        )


def read_line(path: Path, what: str) -> str:
    """Return the first line of a file that holds one: a password, PIN or token, ``what`` says which.

    Raises:
        InputError, StorageError: as `read_input`; or the line is empty.
    """
    require_secret(path, what)
    line, _, _ = read_text(path, 4096).partition("\n")
    line = line.rstrip("\r")
    if not line:
        raise InputError(f"{name_of(path)}: no {what} in its first line", what)
    return line


def _of_system(exc: OSError, name: str) -> FotaError:
    """Return the error of ours: a name that leads to no file is the caller's, all else this machine's."""
    kind = InputError if exc.errno in _NO_SUCH_FILE else StorageError
    return kind(f"{name}: {exc.strerror}")


def _read(path: Path, count: int) -> bytes:
    if path == STREAM and sys.__stdin__ is None:
        raise InputError("standard input is closed")
    found = os.fstat(0) if path == STREAM else path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    key = _inode(found)
    if stat.S_ISREG(found.st_mode):
        _used.add(key)
        if path != STREAM:
            return _read_all(path, count)
    if key not in _streams:
        _streams[key] = _read_all(path, count)
    return _streams[key]


def _read_all(path: Path, count: int) -> bytes:
    fd = os.dup(0) if path == STREAM else os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(fd, "rb") as file:
        return file.read(count)


def check_output(path: Path, force: bool, over: Path | None = None) -> None:
    """Return if `write_output` may write ``path``: asked before work is done and people are asked.

    ``over``: the one input that may be replaced, by its next form, and without ``force``.

    Raises:
        InputError: it exists, and ``force`` was not given; or it is no file that could be written, or
            there is no such folder.
        StorageError: its folder cannot be looked into, or nothing can be written there.
    """
    try:
        if path == STREAM:
            _check_stdout()
            return
        if _is_stream(path):
            return
        require_folder(path.parent)
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise InputError(f"{path} is not a regular file: name another")
        _require_writable(path.parent)
        if over is not None and _is_same(path, over):
            return
        if not force and path.exists():
            raise InputError(f"{path} exists: choose another name, or say --force")
        if path.exists() and _inode(path.stat()) in _used:
            raise InputError(f"{path} is used by this command already: name another output")
    except OSError as exc:
        raise _of_system(exc, str(path)) from exc


def _require_writable(folder: Path) -> None:
    """Return if files can be made there: a secret that nothing can hold is not asked for."""
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        shut = os.statvfs(folder).f_flag & os.ST_RDONLY
        wrong = errno.EROFS if shut else errno.EACCES
        raise OSError(wrong, os.strerror(wrong))


def require_folder(folder: Path) -> None:
    """Return if there is a folder to write into. InputError: there is none, or it is something else."""
    if not folder.exists():
        raise InputError(f"{folder}: no such folder: make it first")
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder")


@contextmanager
def making_folder(path: Path, mode: int = 0o777) -> Iterator[None]:
    """Make a folder, and those above it; an error that leaves the block takes away what is empty of them.

    Raises:
        InputError, StorageError: it cannot be made.
    """
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        try:
            path.mkdir(mode, parents=True, exist_ok=True)
        except FileExistsError as exc:
            raise InputError(f"{path} is no folder") from exc
        except OSError as exc:
            raise _of_system(exc, str(path)) from exc
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):  # not empty: something was done
                folder.rmdir()
        raise


def _check_stdout() -> None:
    """Raise InputError if standard output is a file that this command has read: ``>> key``, ``1<> key``."""
    try:
        found = os.fstat(1)
    except OSError:  # closed, which is told when something is written
        return
    if stat.S_ISREG(found.st_mode) and _inode(found) in _used:
        raise InputError("standard output leads to a file that this command reads: name another")


def check_own_kind(path: Path | None, head: bytes) -> None:
    """Return if a run that is repeated may write ``path``: it is new, or of the kind that begins so.

    Raises:
        InputError: something else is there.
        StorageError: as `check_output`.
    """
    if path is None:
        return
    check_output(path, force=True)
    if path.is_file() and _read_all(path, len(head)) != head:
        raise InputError(f"{path} exists and is something else: choose another name")


def write_output(
    path: Path, data: bytes, *, force: bool = False, secret: bool = False, over: Path | None = None
) -> None:
    """Write what a command makes; ``-`` is standard output. A file is whole or is not there.

    ``force`` replaces a file that exists; else of several processes that write the same name one does.
    ``secret``: mode 0600. ``over``: as for `check_output`.

    Raises:
        InputError: as `check_output`.
        StorageError: it cannot be written; nothing is left behind.
    """
    check_output(path, force, over)
    if path == STREAM or _is_stream(path):
        _write_stream(path, data)
        return
    _write(
        path,
        data,
        0o600 if secret else 0o644,
        exclusive=not (force or (over is not None and _is_same(path, over))),
    )
    _used.add(_inode(path.stat()))


@contextmanager
def alone_at(path: Path) -> Iterator[None]:
    """Have other processes that change ``path`` in place, as this one does, wait until this one is done.

    Raises:
        StorageError: its folder cannot be opened.
    """
    if path == STREAM or _is_stream(path):
        yield
        return
    import fcntl

    try:
        fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise _of_system(exc, str(path)) from exc
    try:
        with suppress(OSError):  # a file system without locks: as before
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def take_lock(path: Path, of: Path, busy: str) -> int:
    """Return the descriptor that holds the lock file at ``path`` for this process, until it is closed.

    ``busy``: what to say of ``of`` where another process has it, with its number in place of ``{pid}``.

    Raises:
        InputError: there is no folder for it.
        StorageError: another process has it; code ``locked``. Or it cannot be opened or locked, is a link, or
            no file.
    """
    import fcntl

    require_folder(path.parent)
    while True:
        fd = open_lock(path)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            pid = os.pread(fd, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise StorageError(f"{of} {busy.format(pid=pid)}", "locked") from exc
        except OSError as exc:  # NFS whose lock service is down, say
            os.close(fd)
            raise StorageError(f"{path}: its file system gives no locks: {exc.strerror}") from exc
        with suppress(OSError):  # removed by whoever had it before: then it is no lock any more
            if os.path.samestat(os.fstat(fd), path.stat()):
                break
        os.close(fd)
    with suppress(OSError):  # a full disk: who has it is a courtesy
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def open_lock(path: Path) -> int:
    """Return a descriptor of a lock file, made if need be: what its holder writes goes to no other file.

    Raises:
        StorageError: it cannot be opened, or is a link to something else, or no file.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as exc:
        told = "a link, where a lock belongs: remove it" if exc.errno == errno.ELOOP else exc.strerror
        raise StorageError(f"{path}: {told}") from exc
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(fd)
        raise StorageError(f"{path}: another name of a file, or no file, where a lock belongs: remove it")
    return fd


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace ``path`` with ``data``; a crash or a full disk leaves the old file or the new one.

    For files that are ours: state, settings. What a person names as an output goes through `write_output`.

    Raises:
        StorageError: the file cannot be written; nothing is left behind.
    """
    _write(path, data, mode, exclusive=False)


def _write(path: Path, data: bytes, mode: int, *, exclusive: bool) -> None:
    if path.exists() and not path.is_file():
        raise StorageError(f"cannot write {path}: it is not a regular file")
    tmp = path.with_name(f".{path.name[:200]}.{os.urandom(8).hex()}.tmp")
    try:
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(fd, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        if exclusive:
            _claim(tmp, path)
        else:
            tmp.replace(path)
        dir_fd = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(dir_fd)
        finally:
            os.close(dir_fd)
    except BaseException as exc:  # a signal that ends the process, too
        with suppress(OSError):  # no such folder, say: then it was not made either
            tmp.unlink()
        if isinstance(exc, FileExistsError):
            raise InputError(f"{path} exists: choose another name, or say --force") from exc
        if isinstance(exc, OSError):
            raise StorageError(f"cannot write {path}: {exc.strerror}") from exc
        raise


def _claim(tmp: Path, path: Path) -> None:
    """Give ``tmp`` its name, unless somebody has it. Raises FileExistsError."""
    try:
        os.link(tmp, path)
    except OSError as exc:
        if exc.errno not in _NO_HARD_LINKS:
            raise
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        tmp.replace(path)
    else:
        tmp.unlink()


def _write_stream(path: Path, data: bytes) -> None:
    name = "standard output" if path == STREAM else str(path)
    if path == STREAM and sys.__stdout__ is None:
        raise StorageError("standard output is closed: nothing was written")
    try:
        if path == STREAM:
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            _write_to_device(path, data)
    except OSError as exc:
        raise StorageError(f"cannot write {name}: {exc.strerror}") from exc


def _write_to_device(path: Path, data: bytes) -> None:
    # Not made, not cut short: in place of the pipe that was here a moment ago, there may be a file by now.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY), "wb") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EEXIST, "it has become a file")
        file.write(data)


def _is_stream(path: Path) -> bool:
    """Tell whether ``path`` is a pipe, a terminal or such: written as it is, never replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False
