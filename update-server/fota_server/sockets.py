"""UNIX sockets: names in the file system."""

import os
import socket
import stat
from pathlib import Path

from fota_wire.errors import InputError, StorageError

WAIT_S = 20.0


def make_way(path: Path) -> None:
    """Take away a socket that a process left when it was killed.

    Raises:
        InputError: something else is there. StorageError: another process listens, or it cannot be known.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise InputError(f"{path} is there, and is no socket: choose another name")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as beside:
        beside.settimeout(WAIT_S)
        try:
            beside.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as exc:
            raise StorageError(f"cannot use {path}: {exc.strerror or exc}") from exc
    raise StorageError(f"{path} is in use: another process listens there")
