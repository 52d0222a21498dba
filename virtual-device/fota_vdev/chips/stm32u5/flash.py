"""The flash controller of the STM32U5, non-secure side (base 0x4002_2000): quad-words and option bytes."""

from collections.abc import Callable
from typing import ClassVar

from fota_vdev.cells.flash import (
    ECCC,
    ECCD,
    EOP,
    KEYS,
    LOCK,
    MER1,
    MER2,
    OBL_LAUNCH,
    OPTLOCK,
    OPTSTRT,
    PER,
    PG,
    PGAERR,
    PGSERR,
    PROGERR,
    SIZERR,
    STRT,
    WRPERR,
    FlashController,
)
from fota_vdev.chips.stm32u5.flash_array import FlashArrayU5
from fota_vdev.parts.bus import BusFaultError, UnmodelledError
from fota_vdev.parts.clock import PS_PER_US, Clock

ACR, NSKEYR, OPTKEYR, NSSR, NSCR, ECCR = 0x00, 0x08, 0x10, 0x20, 0x28, 0x30
OPTION_REGISTERS = {0x40: "optr", 0x58: "wrp1ar", 0x5C: "wrp1br", 0x68: "wrp2ar", 0x6C: "wrp2br"}
OPTION_KEYS = (0x0819_2A3B, 0x4C5D_6E7F)
ERRORS = 0x20FA
BSY, WDW, BKER, BWR = 1 << 16, 1 << 17, 1 << 11, 1 << 14
QUAD = 16
PROGRAM_PS, ERASE_PS, OPTIONS_PS = 118 * PS_PER_US, 1_500 * PS_PER_US, 50_000 * PS_PER_US


class FlashControllerU5(FlashController):
    """Its rules are those of the STM32L4 but for the unit, the second lock and the option bytes."""

    STATE: ClassVar[tuple[str, ...]] = (
        "acr", "sr", "cr", "eccr", "_keys", "_key_lockout", "busy_until_ps", "_quad", "_quad_at",
        "_option_keys", "requested",
    )  # fmt: skip
    _WRITABLE: ClassVar[int] = PG | PER | 0x7F << 3 | BKER | 3 << 24

    def __init__(self, array: FlashArrayU5, clock: Clock, warn: Callable[[str], None]) -> None:
        self._u5 = array
        self.keeps_request = True  # the option registers, over a reset that loads nothing
        self.requested = dict(array.loaded)
        self.on_launch: Callable[[], None] = lambda: None
        super().__init__(array, clock, warn)

    def reset(self) -> None:
        """Lock everything; the option registers keep what was asked for, or not (ASSUMPTIONS)."""
        super().reset()
        self.acr = 1
        self._quad = b""
        self._quad_at = 0
        self._option_keys: list[int] = []
        if not self.keeps_request:
            self.requested = dict(self._u5.loaded)

    def load(self) -> None:
        """Load the option bytes."""
        self._u5.load_options()
        self.requested = dict(self._u5.loaded)

    def read(self, offset: int) -> int:
        """Return a register. Reading NSSR with BSY set lets time run on to the end of the operation."""
        if offset == NSSR:
            value = self.sr | (WDW if self._quad else 0)
            if self._clock.ps < self.busy_until_ps:
                value |= BSY
                self._clock.wait_until(self.busy_until_ps)
            return value
        if offset in OPTION_REGISTERS:
            return self.requested[OPTION_REGISTERS[offset]]
        plain = {ACR: self.acr, NSCR: self.cr, ECCR: self.eccr}
        if offset not in plain:
            raise self.unmodelled(offset, "read of")
        return plain[offset]

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        if offset == ACR:
            self.acr = value & 0x790F
            self.on_acr()
        elif offset == NSKEYR:
            self._write_key(value)
        elif offset == OPTKEYR:
            self._write_option_key(value)
        elif offset == NSSR:
            self.sr &= ~(value & (ERRORS | EOP))
        elif offset == NSCR:
            self._write_cr(value)
        elif offset == ECCR:
            self.eccr &= ~(value & (ECCC | ECCD))
        elif offset in OPTION_REGISTERS:
            if self.cr & OPTLOCK:
                raise UnmodelledError("an option register was written while OPTLOCK is set")
            self.requested[OPTION_REGISTERS[offset]] = value
        else:
            raise self.unmodelled(offset, "write to")

    def _write_option_key(self, value: int) -> None:
        """Take one of the two option keys, after the others; a wrong one locks until reset, a bus error."""
        keys = self._option_keys
        expected = OPTION_KEYS[len(keys)] if len(keys) < len(OPTION_KEYS) else None
        if self._key_lockout or value != expected or self.cr & LOCK:
            self._key_lockout = True
            self.cr |= OPTLOCK
            raise BusFaultError(0x4002_2000 + OPTKEYR, "wrong option key sequence")
        keys.append(value)
        if len(keys) == len(OPTION_KEYS):
            self._option_keys = []
            self.cr &= ~OPTLOCK

    def _write_key(self, value: int) -> None:
        expected = KEYS[len(self._keys)] if len(self._keys) < len(KEYS) else None
        if self._key_lockout or value != expected or not self.cr & LOCK:
            self._key_lockout = True
            self.cr |= LOCK
            raise BusFaultError(0x4002_2000 + NSKEYR, "wrong flash key sequence")
        self._keys.append(value)
        if len(self._keys) == len(KEYS):
            self._keys = []
            self.cr &= ~LOCK

    def _write_cr(self, value: int) -> None:
        if self.cr & LOCK:
            return
        self._stall()
        if value & (MER1 | MER2 | BWR):
            raise self.unmodelled(NSCR, "mass erase or burst programming through")
        unlocked = not self.cr & OPTLOCK
        self.cr = value & (self._WRITABLE | LOCK) | self.cr & OPTLOCK | value & OPTLOCK
        if not self.cr & PG:
            self._quad = b""
        if value & STRT:
            self._start_erase()
        if value & OPTSTRT and unlocked:
            self._start_options()
        if value & OBL_LAUNCH and unlocked:
            self.on_launch()
        if value & LOCK:
            self.cr |= OPTLOCK
            self._keys = []

    def _start_erase(self) -> None:
        """Erase the page of PNB in the physical bank of BKER, whatever SWAP_BANK says (RM0456 7.5.8)."""
        if self.sr & ERRORS or self.cr & PG:
            self.sr |= PGSERR
        elif self.cr & PER:
            self._erase([(2 if self.cr & BKER else 1, self.cr >> 3 & 0x7F)], ERASE_PS)

    def _start_options(self) -> None:
        if self.sr & ERRORS:
            self.sr |= PGSERR
            return
        self._u5.program_options(self.requested)
        self._finish(OPTIONS_PS)

    def store(self, bank: int, offset: int, size: int, value: int) -> None:
        """Take one store of the bus to flash: four in a row from a 16-aligned address program.

        Raises:
            PowerCutError: an armed cut falls on this operation.
        """
        self._stall()
        place = bank << 24 | offset
        if self.sr & ERRORS or not self.cr & PG or self.cr & PER:
            self._fail(PGSERR)
        elif size != 4:
            self._fail(SIZERR)
        elif (not self._quad and offset % QUAD) or (self._quad and place != self._quad_at + len(self._quad)):
            self._fail(PGAERR)
        else:
            self._quad_at = place - len(self._quad)
            self._quad += value.to_bytes(4, "little")
            if len(self._quad) == QUAD:
                data, self._quad = self._quad, b""
                self._program(bank, offset - 12, data)

    def _program(self, bank: int, offset: int, data: bytes) -> None:
        old = self.array.read_phys(bank, offset, QUAD)
        blank = old == b"\xff" * QUAD and (bank, offset) not in self.array.ecc_bad
        if self.array.protected(bank, offset // self.array.geometry.page):
            self._fail(WRPERR)
        elif not blank and data != bytes(QUAD):
            self._fail(PROGERR)
        else:
            self.array.program(bank, offset, data)
            self._finish(PROGRAM_PS)

    def _fail(self, flag: int) -> None:
        self.sr |= flag
        self._quad = b""

    def _check_cache(self) -> None:
        """No cache of flash is modelled; enabling it ends the run."""

    def ecc_fault(self, bank: int, offset: int) -> None:
        """Report a read of a torn quad-word: ECCD, its address in the bank, its physical bank."""
        if not self.eccr & ECCD:
            self.eccr = ECCD | self.eccr & 1 << 24 | (bank - 1) << 21 | offset & 0xF_FFF0
