"""The flash controller of STM32s (base 0x4002_2000): keys, locks, what is programmed at once, errors, ECC.

Numbers here are those of the STM32L4; a chip with others says so in the class variables of its controller.
"""

from collections.abc import Callable
from typing import ClassVar

from fota_vdev.cells.flash_array import FlashArray
from fota_vdev.parts.bus import BusFaultError, Peripheral
from fota_vdev.parts.clock import PS_PER_US, Clock

ACR, PDKEYR, KEYR, OPTKEYR, SR, CR, ECCR, OPTR = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x18, 0x20
OPTION_REGISTERS = {0x20: "optr", 0x2C: "wrp1ar", 0x30: "wrp1br", 0x4C: "wrp2ar", 0x50: "wrp2br"}
PCROP_RESETS = {0x24: 0xFFFF_FFFF, 0x28: 0x7FFF_0000, 0x44: 0xFFFF_FFFF, 0x48: 0x7FFF_0000}
KEYS = (0x4567_0123, 0xCDEF_89AB)

EOP, PROGERR, WRPERR, PGAERR, SIZERR, PGSERR = 1 << 0, 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7
SR_ERRORS = 0xC3FA
BSY = 1 << 16
PG, PER, MER1, BKER, MER2, STRT, OPTSTRT, FSTPG = (
    1,
    1 << 1,
    1 << 2,
    1 << 11,
    1 << 15,
    1 << 16,
    1 << 17,
    1 << 18,
)
EOPIE, OBL_LAUNCH, OPTLOCK, LOCK = 1 << 24, 1 << 27, 1 << 30, 1 << 31
ECCC, ECCD = 1 << 30, 1 << 31
DCEN = 1 << 10
MASS_ERASE_PS = 22_130 * PS_PER_US


class FlashController(Peripheral):
    """Registers and rules. ``mapped`` tells which physical bank and offset an address means right now."""

    name = "FLASH"
    STATE: ClassVar[tuple[str, ...]] = (
        "acr", "sr", "cr", "eccr", "_keys", "_key_lockout", "_unit", "_unit_at", "busy_until_ps",
    )  # fmt: skip
    # where its registers are, and what they begin with
    ACR: ClassVar[int] = ACR
    KEYR: ClassVar[int] = KEYR
    SR: ClassVar[int] = SR
    CR: ClassVar[int] = CR
    ECCR: ClassVar[int] = ECCR
    ACR_RESET: ClassVar[int] = 0x600
    ACR_BITS: ClassVar[int] = 0x7F07
    ERRORS: ClassVar[int] = SR_ERRORS
    WAITING: ClassVar[int] = 0  # of SR, while a unit is not complete
    OPTION_REGISTERS: ClassVar[dict[int, str]] = OPTION_REGISTERS
    ALSO_READ: ClassVar[dict[int, int]] = {PDKEYR: 0, KEYR: 0, OPTKEYR: 0, **PCROP_RESETS}
    ECC_BANK: ClassVar[int] = 19  # of ECCR: the bit that names the bank, the bits of the address in it
    ECC_ADDRESS: ClassVar[int] = 0x7_FFF8
    UNIT: ClassVar[int] = 8  # bytes programmed at once, and what ECC covers: a double word
    PROGRAM_PS: ClassVar[int] = 81_690_000  # 81.69 us, typical
    ERASE_PS: ClassVar[int] = 22_020 * PS_PER_US  # 22.02 ms per page, typical
    _WRITABLE: ClassVar[int] = PG | PER | MER1 | 0xFF << 3 | BKER | MER2 | STRT | FSTPG | EOPIE | 3 << 25

    def __init__(self, array: FlashArray, clock: Clock, warn: Callable[[str], None]) -> None:
        self.array = array
        self._clock = clock
        self._warn = warn
        self.on_acr: Callable[[], None] = lambda: None
        self.busy_until_ps = 0
        self.reset()

    def reset(self) -> None:
        """Lock the controller; an erase under way is over (power was kept, the pump finishes)."""
        self.acr = self.ACR_RESET
        self.sr = 0
        self.cr = LOCK | OPTLOCK
        self.eccr = 0
        self._keys: list[int] = []
        self._key_lockout = False
        self._unit = b""
        self._unit_at = 0

    @property
    def nmi(self) -> bool:
        """True while an uncorrectable ECC error waits to be acknowledged (ECCD)."""
        return bool(self.eccr & ECCD)

    @property
    def latency(self) -> int:
        """Wait states set in ACR."""
        return self.acr & 7

    # -- registers ---------------------------------------------------------------------------------------

    def read(self, offset: int) -> int:
        """Return a register. Reading SR with BSY set lets time run on to the end of the operation."""
        if offset == self.SR:
            value = self.sr | (self.WAITING if self._unit else 0)
            if self._clock.ps < self.busy_until_ps:
                value |= BSY
                self._clock.wait_until(self.busy_until_ps)
            return value
        if offset in self.OPTION_REGISTERS:
            return self._options[self.OPTION_REGISTERS[offset]]
        plain = {self.ACR: self.acr, self.CR: self.cr, self.ECCR: self.eccr, **self.ALSO_READ}
        if offset not in plain:
            raise self.unmodelled(offset, "read of")
        return plain[offset]

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        if offset == self.ACR:
            self.acr = value & self.ACR_BITS
            self.on_acr()
        elif offset == self.KEYR:
            self._write_key(value)
        elif offset == self.SR:
            self.sr &= ~(value & (self.ERRORS | EOP))
        elif offset == self.CR:
            self._write_cr(value)
        elif offset == self.ECCR:
            self.eccr &= ~(value & (ECCC | ECCD))
        else:
            self._write_option(offset, value)

    @property
    def _options(self) -> dict[str, int]:
        """What the option registers read as."""
        return self.array.options

    def _write_option(self, offset: int, value: int) -> None:
        """Take an option register, or the key to them."""
        raise self.unmodelled(offset, "write to")

    def _write_key(self, value: int) -> None:
        """Take one of the two keys; a wrong one locks until reset and is a bus error."""
        expected = KEYS[len(self._keys)] if len(self._keys) < len(KEYS) else None
        if self._key_lockout or value != expected or not self.cr & LOCK:
            self._key_lockout = True
            self.cr |= LOCK
            raise BusFaultError(0x4002_2000 + self.KEYR, "wrong flash key sequence")
        self._keys.append(value)
        if len(self._keys) == len(KEYS):
            self._keys = []
            self.cr &= ~LOCK

    def _write_cr(self, value: int) -> None:
        """Take CR; starts an erase. While the controller is locked nothing but LOCK is heard."""
        if self.cr & LOCK:
            return
        self._stall()
        if value & (OPTSTRT | OBL_LAUNCH | FSTPG):
            raise self.unmodelled(CR, "option byte programming or fast programming through")
        self.cr = value & self._WRITABLE & ~STRT | OPTLOCK | value & LOCK
        if not self.cr & PG:
            self._unit = b""
        if value & STRT:
            self._start_erase()
        if value & LOCK:
            self._keys = []

    def _stall(self) -> None:
        """Hold the bus until a running operation ends."""
        self._clock.wait_until(self.busy_until_ps)

    # -- erase -------------------------------------------------------------------------------------------

    def _start_erase(self) -> None:
        """Erase what PER or MER1/MER2 name. BKER and MERx name physical banks whatever is mapped."""
        if self.sr & self.ERRORS or self.cr & PG:
            self.sr |= PGSERR
            return
        banks = [bank for bank, bit in ((1, MER1), (2, MER2)) if self.cr & bit]
        if self.cr & PER and banks:
            self.sr |= PGSERR
        elif self.cr & PER:
            page = self.cr >> 3 & (self.array.geometry.pages - 1)
            self._erase([(2 if self.cr & BKER else 1, page)], self.ERASE_PS)
        elif banks:
            self._erase(
                [(bank, page) for bank in banks for page in range(self.array.geometry.pages)], MASS_ERASE_PS
            )

    def _erase(self, pages: list[tuple[int, int]], duration_ps: int) -> None:
        if any(self.array.protected(bank, page) for bank, page in pages):
            self.sr |= WRPERR
            return
        self._check_cache()
        for bank, page in pages:
            self.array.erase(bank, page)
        self._finish(duration_ps)

    # -- program -----------------------------------------------------------------------------------------

    def store(self, bank: int, offset: int, size: int, value: int) -> None:
        """Take one store of the bus to flash (programming is by mapped address; the caller has resolved it).

        Rules: 32-bit stores only (SIZERR); the first to an aligned address and the others right after it
        (PGAERR); PG set, no erase selected, no error pending (PGSERR); not write-protected (WRPERR); the
        unit blank, or the new value all zero (PROGERR). Any error drops the operation.

        Raises:
            PowerCutError: an armed cut falls on this operation.
        """
        self._stall()
        place = bank * self.array.geometry.bank + offset
        if self.sr & self.ERRORS or not self.cr & PG or self.cr & (PER | MER1 | MER2):
            self._fail(PGSERR)
        elif size != 4:
            self._fail(SIZERR)
        elif place != self._unit_at + len(self._unit) if self._unit else offset % self.UNIT:
            self._fail(PGAERR)
        else:
            self._unit_at = place - len(self._unit)
            self._unit += value.to_bytes(4, "little")
            if len(self._unit) == self.UNIT:
                data, self._unit = self._unit, b""
                self._program(bank, offset + 4 - self.UNIT, data)

    def _program(self, bank: int, offset: int, data: bytes) -> None:
        old = self.array.read_phys(bank, offset, self.UNIT)
        blank = old == b"\xff" * self.UNIT and (bank, offset) not in self.array.ecc_bad
        if self.array.protected(bank, offset // self.array.geometry.page):
            self._fail(WRPERR)
        elif not blank and data != bytes(self.UNIT):
            self._fail(PROGERR)
        else:
            self._check_cache()
            self.array.program(bank, offset, data)
            self._finish(self.PROGRAM_PS)

    def _fail(self, flag: int) -> None:
        self.sr |= flag
        self._unit = b""

    def _finish(self, duration_ps: int) -> None:
        self.busy_until_ps = self._clock.ps + duration_ps
        if self.cr & EOPIE:
            self.sr |= EOP

    def _check_cache(self) -> None:
        if self.acr & DCEN:
            self._warn("flash changed with the data cache on (STM32L4 erratum 2.2.3: clear ACR.DCEN first)")

    # -- ECC ---------------------------------------------------------------------------------------------

    def ecc_fault(self, bank: int, offset: int) -> None:
        """Report a read of a torn unit: ECCD, its address in the bank, its physical bank."""
        if not self.eccr & ECCD:
            where = (bank - 1) << self.ECC_BANK | offset & self.ECC_ADDRESS
            self.eccr = ECCD | self.eccr & 1 << 24 | where
