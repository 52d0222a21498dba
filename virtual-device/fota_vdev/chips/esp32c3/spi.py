"""The SPI controllers of the flash: SPI1 for commands of a program, SPI0 for the cache (settings only)."""

from typing import ClassVar

from fota_vdev.chips.esp32c3 import flash_chip as chip
from fota_vdev.chips.esp32c3.registers import Plain

CMD, ADDR, CTRL, USER, USER1, USER2, MOSI_DLEN, MISO_DLEN, RD_STATUS, FSM, W0 = (
    0x00, 0x04, 0x08, 0x18, 0x1C, 0x20, 0x24, 0x28, 0x2C, 0x54, 0x58,
)  # fmt: skip
BUFFER = 64
# bit of CMD: command of the flash chip
FIXED = {30: chip.WREN, 29: chip.WRDI, 28: chip.RDID, 27: chip.RDSR, 26: chip.WRSR, 25: chip.PP, 24: chip.SE,
         23: chip.BE64, 22: chip.CE, 20: 0xAB}  # fmt: skip
READ_BIT, USR = 31, 18
HAS_COMMAND, HAS_ADDRESS, HAS_MISO, HAS_MOSI = 31, 30, 28, 27


class Spi1(Plain):
    """SPI1, base 0x6000_2000. Commands are done at once; the flash chip is busy for their time."""

    name = "SPI1"
    STATE: ClassVar[tuple[str, ...]] = ("regs",)

    def __init__(self, flash: chip.FlashChip) -> None:
        super().__init__("SPI1", {CMD: 0, CTRL: 0x2C_A000, USER2: 0x7000_0000})
        self._flash = flash

    def read(self, offset: int) -> int:
        """Return a register; no command is ever under way."""
        return 0 if offset in (CMD, FSM) else super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """Write a register; bits of CMD start commands.

        Raises:
            PowerCutError: an armed cut falls on the command.
            UnmodelledError: the flash chip does not know it.
        """
        super().write(offset, value)
        if offset != CMD:
            return
        self.regs[CMD] = 0
        if value >> USR & 1:
            self._user()
        for bit, code in FIXED.items():
            if value >> bit & 1:
                self._fixed(code)
        if value >> READ_BIT & 1:
            self._answer(self._flash.command(0x03, self._address(), answer=self._length(MISO_DLEN)))

    def _fixed(self, code: int) -> None:
        if code == chip.RDSR:
            self.regs[RD_STATUS] = self._flash.command(code, answer=1)[0]
        elif code == chip.RDID:
            self._answer(self._flash.command(code, answer=3))
        elif code == chip.WRSR:
            self._flash.command(code, data=bytes([self.regs.get(RD_STATUS, 0) & 0xFF]))
        elif code == chip.PP:
            count = self.regs.get(ADDR, 0) >> 24
            self._flash.command(code, self._address(), self._buffer(count or BUFFER))
        else:
            self._flash.command(code, self._address())

    def _user(self) -> None:
        user = self.regs.get(USER, 0)
        if not user >> HAS_COMMAND & 1:
            return
        bits = (self.regs.get(USER2, 0) >> 28) + 1
        code = self.regs.get(USER2, 0) & ((1 << bits) - 1) & 0xFF
        address = self._address() if user >> HAS_ADDRESS & 1 else 0
        data = self._buffer(self._length(MOSI_DLEN)) if user >> HAS_MOSI & 1 else b""
        answer = self._length(MISO_DLEN) if user >> HAS_MISO & 1 else 0
        self._answer(self._flash.command(code, address, data, answer))

    def _address(self) -> int:
        return self.regs.get(ADDR, 0) & 0xFF_FFFF

    def _length(self, register: int) -> int:
        return min((self.regs.get(register, 0) & 0x3FF) // 8 + 1, BUFFER)

    def _buffer(self, n: int) -> bytes:
        words = (self.regs.get(W0 + 4 * i, 0) for i in range(BUFFER // 4))
        return b"".join(word.to_bytes(4, "little") for word in words)[:n]

    def _answer(self, data: bytes) -> None:
        for at in range(0, len(data), 4):
            self.regs[W0 + at] = int.from_bytes(data[at : at + 4], "little")
