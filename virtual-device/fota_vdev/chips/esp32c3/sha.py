"""The SHA engine (0x6003_B000): SHA-256 of one block at a time, its state open to the program."""

import struct
from typing import ClassVar

from fota_vdev.atecc608 import sha256
from fota_vdev.chips.esp32c3.registers import Plain
from fota_vdev.parts.bus import UnmodelledError
from fota_vdev.parts.clock import PS_PER_S, Clock

MODE, START, CONTINUE, BUSY, DMA_START, DMA_CONTINUE = 0x00, 0x10, 0x14, 0x18, 0x1C, 0x20
STATE, MESSAGE = 0x40, 0x80
SHA256 = 2
BLOCK_CYCLES = 72


def compress(state: bytes, block: bytes) -> bytes:
    """Return the state after a block; both as SHA-256 writes them, big endian."""
    return struct.pack(">8I", *sha256.compress(struct.unpack(">8I", state), block))


class Sha(Plain):
    """Words are memory as it is, little endian. Modes other than SHA-256, and DMA, end the run."""

    STATE: ClassVar[tuple[str, ...]] = ("regs", "busy_until_ps")

    def __init__(self, clock: Clock) -> None:
        super().__init__("SHA")
        self._clock = clock
        self.busy_until_ps = 0

    def read(self, offset: int) -> int:
        """Return a register; polling BUSY lets time run on to the end."""
        if offset == BUSY:
            if self._clock.ps >= self.busy_until_ps:
                return 0
            self._clock.wait_until(self.busy_until_ps)
            return 1
        return super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """Write a register; START and CONTINUE hash the message words."""
        if offset in (START, CONTINUE):
            if value & 1:
                self._block(first=offset == START)
        elif offset in (DMA_START, DMA_CONTINUE):
            raise UnmodelledError("DMA of the SHA engine is not modelled")
        else:
            super().write(offset, value)

    def _words(self, at: int, n: int) -> bytes:
        return struct.pack(f"<{n}I", *(self.regs.get(at + 4 * i, 0) for i in range(n)))

    def _block(self, *, first: bool) -> None:
        if self.regs.get(MODE, 0) != SHA256:
            raise UnmodelledError(
                f"mode {self.regs.get(MODE, 0)} of the SHA engine: only SHA-256 is modelled"
            )
        state = struct.pack(">8I", *sha256.START) if first else self._words(STATE, 8)
        for i, word in enumerate(struct.unpack("<8I", compress(state, self._words(MESSAGE, 16)))):
            self.regs[STATE + 4 * i] = word
        self.busy_until_ps = self._clock.ps + BLOCK_CYCLES * PS_PER_S // self._clock.hz
