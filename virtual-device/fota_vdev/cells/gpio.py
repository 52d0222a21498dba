"""GPIO ports: registers, and what the two modelled buses need to know of them. No electrical model."""

from typing import ClassVar

from fota_vdev.parts.bus import Peripheral

MODER, OTYPER, PUPDR, IDR, ODR, BSRR, AFRL, BRR = 0x00, 0x04, 0x0C, 0x10, 0x14, 0x18, 0x20, 0x28
OUTPUT, PULL_DOWN = 1, 2
RESET_MODER = {"GPIOA": 0xABFF_FFFF, "GPIOB": 0xFFFF_FEBF, "GPIOH": 0xF}


class Gpio(Peripheral):
    """One port. ``driven``: what the board pulls pins to from outside, by pin; others follow a pull-down, and
    read 1 without one: a pulled-up board.
    """

    narrow = True
    STATE: ClassVar[tuple[str, ...]] = ("regs",)

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]
        self.driven: dict[int, int] = {}
        self.reset()

    def reset(self) -> None:
        """Take the reset values: analog, but for the debug pins."""
        self.regs = dict.fromkeys(range(0, 0x30, 4), 0)
        self.regs[MODER] = RESET_MODER.get(self.name, 0xFFFF_FFFF)

    def read(self, offset: int) -> int:
        """Return a register."""
        if offset == IDR:
            return sum(self._level(pin) << pin for pin in range(16))
        if offset in (BSRR, BRR):
            return 0
        if offset not in self.regs:
            raise self.unmodelled(offset, "read of")
        return self.regs[offset]

    def _level(self, pin: int) -> int:
        if self.regs[MODER] >> 2 * pin & 3 == OUTPUT:
            return self.regs[ODR] >> pin & 1
        return self.driven.get(pin, int(self.regs[PUPDR] >> 2 * pin & 3 != PULL_DOWN))

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
