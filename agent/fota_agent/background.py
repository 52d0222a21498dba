"""A thread for hosts that have them."""

import threading
from collections.abc import Callable


def spawn(work: Callable[[], None]) -> None:
    """Run ``work`` in a thread that does not keep the process alive once its main thread ends."""
    threading.Thread(target=work, name="fota-agent", daemon=True).start()
