"""Waiting for a file to change, in the kernel: inotify, by its C interface."""

import ctypes
import os
import select
import time
from pathlib import Path

IN_MODIFY, IN_DELETE_SELF = 0x2, 0x400
WITHOUT_S = 2.0  # where there is no inotify


class Watch:
    """Tells when the file at ``path``, which has to be there, is written; use ``close`` in the end."""

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None)
        self._fd = int(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        if self._fd >= 0 and libc.inotify_add_watch(self._fd, bytes(path), IN_MODIFY | IN_DELETE_SELF) < 0:
            self.close()

    def wait(self, seconds: float) -> None:
        """Return when the file was written, or after ``seconds``."""
        if self._fd < 0:
            time.sleep(min(seconds, WITHOUT_S))
        elif select.select([self._fd], [], [], seconds)[0]:
            os.read(self._fd, 4096)

    def close(self) -> None:
        """Watch no longer."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
