"""GPIO ports: registers, and what the two modelled buses need to know of them. No electrical model."""

from typing import ClassVar

from fota_vdev.parts.bus import Peripheral

MODER, OTYPER, IDR, ODR, BSRR, AFRL, BRR = 0x00, 0x04, 0x10, 0x14, 0x18, 0x20, 0x28
RESET_MODER = {"GPIOA": 0xABFF_FFFF, "GPIOB": 0xFFFF_FEBF, "GPIOH": 0xF}


class Gpio(Peripheral):
    """One port. Inputs read as the output latch: a pulled-up, undriven board."""

    narrow = True
    STATE: ClassVar[tuple[str, ...]] = ("regs",)

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]
        self.reset()

    def reset(self) -> None:
        """Take the reset values: analog, but for the debug pins."""
        self.regs = dict.fromkeys(range(0, 0x30, 4), 0)
        self.regs[MODER] = RESET_MODER.get(self.name, 0xFFFF_FFFF)

    def read(self, offset: int) -> int:
        """Return a register; IDR shows driven outputs, and 1 for everything else."""
        if offset == IDR:
            moder, odr = self.regs[MODER], self.regs[ODR]
            outputs = sum(1 << pin for pin in range(16) if moder >> 2 * pin & 3 == 1)
            return (odr & outputs) | (0xFFFF & ~outputs)
        if offset in (BSRR, BRR):
            return 0
        if offset not in self.regs:
            raise self.unmodelled(offset, "read of")
        return self.regs[offset]

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        if offset == BSRR:
            self.regs[ODR] = self.regs[ODR] & ~(value >> 16) | value & 0xFFFF
        elif offset == BRR:
            self.regs[ODR] &= ~value
        elif offset in self.regs and offset != IDR:
            self.regs[offset] = value
        elif offset != IDR:
            raise self.unmodelled(offset, "write to")

    def alternate(self, pin: int, function: int, *, open_drain: bool = False) -> bool:
        """Return True if ``pin`` is switched to the alternate ``function`` (and open drain, if asked)."""
        mode = self.regs[MODER] >> 2 * pin & 3
        selected = self.regs[AFRL + 4 * (pin // 8)] >> 4 * (pin % 8) & 15
        drain = bool(self.regs[OTYPER] >> pin & 1)
        return mode == 2 and selected == function and (drain or not open_drain)
