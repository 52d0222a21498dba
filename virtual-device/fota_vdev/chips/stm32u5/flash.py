"""The flash controller of the STM32U5, non-secure side (base 0x4002_2000): quad-words and option bytes."""

from collections.abc import Callable
from typing import ClassVar

from fota_vdev.cells.flash import (
    LOCK,
    MER1,
    MER2,
    OBL_LAUNCH,
    OPTLOCK,
    OPTSTRT,
    PER,
    PG,
    PGSERR,
    STRT,
    FlashController,
)
from fota_vdev.chips.stm32u5.flash_array import FlashArrayU5
from fota_vdev.parts.bus import BusFaultError, UnmodelledError
from fota_vdev.parts.clock import PS_PER_US, Clock

ACR, NSKEYR, OPTKEYR, NSSR, NSCR, ECCR = 0x00, 0x08, 0x10, 0x20, 0x28, 0x30
OPTION_KEYS = (0x0819_2A3B, 0x4C5D_6E7F)
WDW, BKER, BWR = 1 << 17, 1 << 11, 1 << 14
OPTIONS_PS = 50_000 * PS_PER_US


class FlashControllerU5(FlashController):
    """Its rules are those of the STM32L4 but for the unit, the second lock and the option bytes."""

    STATE: ClassVar[tuple[str, ...]] = (*FlashController.STATE, "_option_keys", "requested")
    _WRITABLE: ClassVar[int] = PG | PER | 0x7F << 3 | BKER | 3 << 24
    ACR: ClassVar[int] = ACR
    KEYR: ClassVar[int] = NSKEYR
    SR: ClassVar[int] = NSSR
    CR: ClassVar[int] = NSCR
    ECCR: ClassVar[int] = ECCR
    ACR_RESET: ClassVar[int] = 1
    ACR_BITS: ClassVar[int] = 0x790F
    ERRORS: ClassVar[int] = 0x20FA
    WAITING: ClassVar[int] = WDW
    OPTION_REGISTERS: ClassVar[dict[int, str]] = {
        0x40: "optr", 0x58: "wrp1ar", 0x5C: "wrp1br", 0x68: "wrp2ar", 0x6C: "wrp2br",
    }  # fmt: skip
    ALSO_READ: ClassVar[dict[int, int]] = {}
    ECC_BANK: ClassVar[int] = 21
    ECC_ADDRESS: ClassVar[int] = 0xF_FFF0
    UNIT: ClassVar[int] = 16  # a quad-word
    PROGRAM_PS: ClassVar[int] = 118 * PS_PER_US
    ERASE_PS: ClassVar[int] = 1_500 * PS_PER_US

    def __init__(self, array: FlashArrayU5, clock: Clock, warn: Callable[[str], None]) -> None:
        self._u5 = array
        self.keeps_request = True  # the option registers, over a reset that loads nothing
        self.requested = dict(array.loaded)
        self.on_launch: Callable[[], None] = lambda: None
        super().__init__(array, clock, warn)

    def reset(self) -> None:
        """Lock everything; the option registers keep what was asked for, or not (ASSUMPTIONS)."""
        super().reset()
        self._option_keys: list[int] = []
        if not self.keeps_request:
            self.requested = dict(self._u5.loaded)

    def load(self) -> None:
        """Load the option bytes."""
        self._u5.load_options()
        self.requested = dict(self._u5.loaded)

    @property
    def _options(self) -> dict[str, int]:
        return self.requested

    def _write_option(self, offset: int, value: int) -> None:
        if offset == OPTKEYR:
            self._write_option_key(value)
        elif offset not in self.OPTION_REGISTERS:
            raise self.unmodelled(offset, "write to")
        elif self.cr & OPTLOCK:
            raise UnmodelledError("an option register was written while OPTLOCK is set")
        else:
            self.requested[self.OPTION_REGISTERS[offset]] = value

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

    def _write_cr(self, value: int) -> None:
        if self.cr & LOCK:
            return
        self._stall()
        if value & (MER1 | MER2 | BWR):
            raise self.unmodelled(NSCR, "mass erase or burst programming through")
        unlocked = not self.cr & OPTLOCK
        self.cr = value & (self._WRITABLE | LOCK) | self.cr & OPTLOCK | value & OPTLOCK
        if not self.cr & PG:
            self._unit = b""
        if value & STRT:
            self._start_erase()
        if value & OPTSTRT and unlocked:
            self._start_options()
        if value & OBL_LAUNCH and unlocked:
            self.on_launch()
        if value & LOCK:
            self.cr |= OPTLOCK
            self._keys = []

    def _start_options(self) -> None:
        if self.sr & self.ERRORS:
            self.sr |= PGSERR
            return
        self._u5.program_options(self.requested)
        self._finish(OPTIONS_PS)

    def _check_cache(self) -> None:
        """No cache of flash is modelled; enabling it ends the run."""
