"""The server's clock."""

import time


def now() -> int:
    """Return the time in seconds since 1970."""
    return int(time.time())
