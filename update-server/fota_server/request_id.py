"""The id of a request: in its answer, in what the log says of it, in what a client is told of a mistake.

A client may give one, so that its own log and ours can be read side by side; it is 1 to 64 letters, digits
and ``-``, or we make another.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

HEADER = b"x-request-id"
_FORM = re.compile(rb"[A-Za-z0-9-]{1,64}")
current: ContextVar[str] = ContextVar("request", default="")
"""Of the request that this task answers; empty: it answers none."""


def choose(given: bytes | None = None) -> str:
    """Return the id that a client has given, if it is one, or a new one: 16 hex digits."""
    if given is not None and _FORM.fullmatch(given):
        return given.decode("ascii")
    return secrets.token_hex(8)


@contextmanager
def about(request: str) -> Iterator[None]:
    """Have what is logged meanwhile name ``request``."""
    token = current.set(request)
    try:
        yield
    finally:
        current.reset(token)


def mistake() -> str:
    """Return what a client is told of a mistake of ours."""
    return f"the server made a mistake; its log says which, at request {current.get()}"
