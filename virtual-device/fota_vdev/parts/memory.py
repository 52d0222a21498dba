"""Memory that is the device's: mapped into the emulator, and copied with the process."""

import mmap


def private_memory(size: int) -> mmap.mmap:
    """Return ``size`` zero bytes. A process that is forked has them for itself, as it has the emulator."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE)
