"""Bytes of others in the hands of a library that may panic over them (not for devices).

The cryptography package is partly Rust. In a state that it did not expect, it writes lines of its own to
standard error and raises a ``PanicException``, which is no ``Exception``. To us a damaged key is bad input.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def panics_refused(*, quiet: bool = False) -> Iterator[None]:
    """Have a panic be a ValueError. ``quiet``: without its lines, for processes with one thread.

    Raises:
        ValueError: the library panicked.
    """
    kept = _silence() if quiet else -1
    try:
        yield
    except BaseException as exc:
        if type(exc).__name__ != "PanicException":
            raise
        raise ValueError(f"the library gave up: {exc}") from None
    finally:
        if kept >= 0:
            os.dup2(kept, 2)
            os.close(kept)


def _silence() -> int:
    """Lead standard error nowhere; return where it led to, or -1."""
    with suppress(OSError):
        kept = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        return kept
    return -1
