"""Flash controller of the STM32L4 at register level (RM0351 chapter 3): erase pages, program double words,
read.

Banks are physical, 1 and 2; which of them appears at 0x0800_0000 follows SYSCFG_MEMRMP.FB_MODE. A double
word may be programmed once after an erase, so double words that are all ones are skipped: they hold that
value already. Controllers of later families are this one with registers elsewhere: subclasses.
"""

import struct

from fota_agent.boards.flash_board import FlashSlot
from fota_wire.chips import stm32l476
from fota_wire.errors import DeviceError
from fota_wire.status import FL1, FL2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fota_agent.seams import Memory, Sleep

RCC_APB2ENR, SYSCFGEN = 0x40021060, 1 << 0
SYSCFG_MEMRMP, FB_MODE = 0x40010000, 1 << 8

ACR = 0x40022000
ACR_ICEN, ACR_DCEN, ACR_ICRST, ACR_DCRST = 1 << 9, 1 << 10, 1 << 11, 1 << 12
KEY1, KEY2 = 0x45670123, 0xCDEF89AB
SR_BUSY = 3 << 16  # BSY; and WDW of families that gather words before they program
CR_PG, CR_PER, CR_BKER, CR_STRT, CR_LOCK = 1 << 0, 1 << 1, 1 << 11, 1 << 16, 1 << 31
CR_PNB_SHIFT = 3
CR_OURS = CR_LOCK | CR_STRT | CR_BKER | 0xFF << CR_PNB_SHIFT | CR_PER | CR_PG | 1 << 2 | 1 << 15
ECCR_ECCD = 1 << 31

# Longest times of the datasheet, doubled.
PROGRAM_US, ERASE_US = 200, 50_000


class Flash:
    """The whole flash of the chip.

    ``mem32`` is ``machine.mem32``; ``read(address, length)`` returns bytes at a mapped address. A double
    word that a power cut left torn raises an NMI on the chip, whose handler must return; here it shows in
    ``take_fault``.
    """

    ROW = stm32l476
    KEYR, SR, CR, ECCR = 0x40022008, 0x40022010, 0x40022014, 0x40022018
    SR_ERRORS = 0xC3FA

    def __init__(self, mem32: "Memory", read: "Callable[[int, int], bytes]", sleep_us: "Sleep") -> None:
        self._mem32 = mem32
        self._read = read
        self._sleep_us = sleep_us
        self._acr = 0

    def swapped(self) -> bool:
        """Return True if bank 2 is mapped low."""
        self._mem32[RCC_APB2ENR] |= SYSCFGEN  # without its clock SYSCFG reads as zero
        return bool(self._mem32[SYSCFG_MEMRMP] & FB_MODE)

    def address(self, bank: int, offset: int) -> int:
        """Return where ``offset`` of the physical ``bank`` is mapped now."""
        low = (bank == 1) != self.swapped()
        return (self.ROW.FLASH_BASE if low else self.ROW.OTHER_BANK_BASE) + offset

    def settings(self) -> int:
        """Return where the settings page is mapped."""
        return self.address(1, self.ROW.SETTINGS_OFFSET)

    def trust_store(self) -> int:
        """Return where the trust store is mapped."""
        return self.address(1, self.ROW.TRUST_STORE_OFFSET)

    def journal(self) -> int:
        """Return where the boot journal is mapped."""
        return self.address(self.ROW.JOURNAL_BANK, self.ROW.JOURNAL_OFFSET)

    def agent_store(self) -> int:
        """Return where the agent store is mapped."""
        return self.address(self.ROW.AGENT_STORE_BANK, self.ROW.AGENT_STORE_OFFSET)

    def bank_at(self, address: int) -> int:
        """Return the physical bank that is mapped at ``address``."""
        return 1 if 0 <= address - self.address(1, 0) < self.ROW.BANK_SIZE else 2

    def read(self, address: int, length: int) -> bytes:
        """Return ``length`` bytes from the mapped ``address``."""
        return bytes(self._read(address, length))

    def take_fault(self) -> bool:
        """Return True if a read since the last call hit a double word with an ECC fault, and forget it."""
        if not self._mem32[self.ECCR] & ECCR_ECCD:
            return False
        self._mem32[self.ECCR] = ECCR_ECCD
        return True

    def read_sound(self, address: int, length: int) -> "bytes | None":
        """Return ``length`` bytes, or None if any of them faults on ECC."""
        self.take_fault()
        data = self.read(address, length)
        return None if self.take_fault() else data

    def view(self, address: int, length: int) -> "bytes | memoryview":
        """Return ``length`` bytes from the mapped ``address``; where flash is memory, without a copy: good
        until they are erased.
        """
        return self.read(address, length)

    def is_blank(self, address: int) -> bool:
        """Return True if the page at the mapped ``address`` is wholly erased."""
        return self.read_sound(address, self.ROW.PAGE_SIZE) == b"\xff" * self.ROW.PAGE_SIZE

    def erase(self, address: int) -> None:
        """Erase the page at the mapped ``address``, a multiple of its size.

        Raises:
            DeviceError: FL2, the controller reports an error, or is busy for too long.
        """
        bank = self.bank_at(address)
        page = (address - self.address(bank, 0)) // self.ROW.PAGE_SIZE
        self._begin()
        try:
            self._clear_errors(FL2)
            select = CR_PER | page << CR_PNB_SHIFT | (CR_BKER if bank == 2 else 0)
            self._control(select)
            self._control(select | CR_STRT)
            self._wait(ERASE_US, FL2, address)
            self._control(0)
        finally:
            self._end()

    def program(self, address: int, data: "bytes | bytearray | memoryview") -> None:
        """Program erased flash at the mapped ``address``; address and length are multiples of what is
        programmed at once.

        Returns once the flash reads back as ``data``. A power cut leaves a prefix of it, and one torn
        double word.

        Raises:
            DeviceError: FL1, the controller reports an error, or the flash does not read back.
        """
        if address % self.ROW.WRITE_SIZE or len(data) % self.ROW.WRITE_SIZE:
            raise ValueError("not a whole number of flash words")
        self._begin()
        try:
            self._clear_errors(FL1)
            self._control(CR_PG)
            for at in range(0, len(data), self.ROW.WRITE_SIZE):
                words = struct.unpack_from(f"<{self.ROW.WRITE_SIZE // 4}I", data, at)
                if min(words) == 0xFFFFFFFF:
                    continue
                for number, word in enumerate(words):
                    self._mem32[address + at + 4 * number] = word
                self._wait(PROGRAM_US, FL1, address + at)
            self._control(0)
        finally:
            self._end()
        if self.read_sound(address, len(data)) != bytes(data):
            raise DeviceError(f"flash: 0x{address:08x} does not read back", FL1)

    def _begin(self) -> None:
        """Unlock; caches off: a read while the other bank is written may spoil them (erratum)."""
        self._acr = self._mem32[ACR]
        self._mem32[ACR] = self._acr & ~(ACR_ICEN | ACR_DCEN)
        if self._mem32[self.CR] & CR_LOCK:
            self._mem32[self.KEYR] = KEY1
            self._mem32[self.KEYR] = KEY2

    def _end(self) -> None:
        """Lock, empty the caches, and set them as they were."""
        self._control(CR_LOCK)
        off = self._acr & ~(ACR_ICEN | ACR_DCEN)
        self._mem32[ACR] = off | ACR_ICRST | ACR_DCRST
        self._mem32[ACR] = off
        self._mem32[ACR] = self._acr

    def _control(self, bits: int) -> None:
        """Set CR to ``bits``, leaving option lock and interrupt enables as they are."""
        self._mem32[self.CR] = self._mem32[self.CR] & ~CR_OURS | bits

    def _clear_errors(self, code: int) -> None:
        """Wait for an operation of others, and clear what it left: any error bit makes the next one fail."""
        self._wait(ERASE_US, code, 0, check=False)
        self._mem32[self.SR] = self.SR_ERRORS

    def _wait(self, limit_us: int, code: int, address: int, check: bool = True) -> None:
        waited = 0
        step = max(limit_us // 20, 10)
        status = self._mem32[self.SR]
        while status & SR_BUSY:
            if waited > limit_us:
                raise DeviceError(f"flash: busy for more than {limit_us} us at 0x{address:08x}", code)
            self._sleep_us(step)
            waited += step
            status = self._mem32[self.SR]
        if check and status & self.SR_ERRORS:
            self._control(0)
            raise DeviceError(f"flash: error 0x{status & self.SR_ERRORS:04x} at 0x{address:08x}", code)


class BankSlot(FlashSlot):
    """One firmware slot, at its mapped address."""

    ROW = stm32l476
    page_size = stm32l476.PAGE_SIZE
    chip = stm32l476.NAME
