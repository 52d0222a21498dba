"""Pins (GPIO 0x6000_4000): levels with pull-ups, and the matrix that leads peripherals to them."""

from typing import ClassVar

from fota_vdev.chips.esp32c3.registers import Plain

OUT, OUT_SET, OUT_CLEAR, ENABLE, ENABLE_SET, ENABLE_CLEAR, STRAP, IN = (
    0x04, 0x08, 0x0C, 0x20, 0x24, 0x28, 0x38, 0x3C,
)  # fmt: skip
PIN, IN_SELECT, OUT_SELECT = 0x74, 0x154, 0x554
OPEN_DRAIN, FROM_MATRIX = 1 << 2, 1 << 6
PINS = 22
BOOT_FROM_FLASH = 8  # GPIO9 high
NO_SIGNAL = 128


class Gpio(Plain):
    """Nothing outside drives a pin: an input reads 1, unless the chip itself pulls it low."""

    STATE: ClassVar[tuple[str, ...]] = ("regs",)

    def __init__(self) -> None:
        super().__init__(
            "GPIO", {STRAP: BOOT_FROM_FLASH, **{OUT_SELECT + 4 * n: NO_SIGNAL for n in range(PINS)}}
        )

    def read(self, offset: int) -> int:
        """Return a register."""
        if offset == IN:
            low = self.regs.get(ENABLE, 0) & ~self.regs.get(OUT, 0)
            return ((1 << PINS) - 1) & ~low
        return super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        for register, set_, clear in ((OUT, OUT_SET, OUT_CLEAR), (ENABLE, ENABLE_SET, ENABLE_CLEAR)):
            if offset == set_:
                self.regs[register] = self.regs.get(register, 0) | value
                return
            if offset == clear:
                self.regs[register] = self.regs.get(register, 0) & ~value
                return
        if offset not in (STRAP, IN):
            super().write(offset, value)

    def open_drain(self, signal: int, pin: int) -> bool:
        """Return True if ``signal`` is led out and in at ``pin``, open drain."""
        return (
            self.regs.get(OUT_SELECT + 4 * pin, NO_SIGNAL) & 0xFF == signal
            and self.regs.get(IN_SELECT + 4 * signal, 0) == pin | FROM_MATRIX
            and bool(self.regs.get(PIN + 4 * pin, 0) & OPEN_DRAIN)
        )
