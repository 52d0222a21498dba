"""Flash controller of the STM32U5 at register level (RM0456 chapter 7): as the STM32L4's, but for its
addresses, quad-words, the instruction cache, and how the mapping of the banks is known.

TrustZone is off: everything goes through the non-secure registers.
"""

from fota_agent.boards.flash_stm32l4 import CR_LOCK, KEY1, KEY2, BankSlot, Flash
from fota_wire.chips import stm32u585

ICACHE_CR, ICACHE_SR, ICACHE_EN, ICACHE_BUSY = 0x40030400, 0x40030404, 1, 1


class FlashU5(Flash):
    """The whole flash of the chip; ``Flash`` of the STM32L4 says how it is used."""

    ROW = stm32u585
    KEYR, SR, CR, ECCR = 0x40022008, 0x40022020, 0x40022028, 0x40022030
    SR_ERRORS = 0x20FA

    def swapped(self) -> bool:
        """Return True if bank 2 is mapped low: the factory's layout in the low bank says where slot A is.

        Option registers may already read as they were written, while the banks are still as they were.
        """
        slot_a = self._mem32[self.ROW.FLASH_BASE + self.ROW.LAYOUT_OFFSET]
        return slot_a == self.ROW.INACTIVE_SLOT_ADDRESS

    def _begin(self) -> None:
        """Unlock; the instruction cache off: it serves data reads too, and would hide what is programmed."""
        self._acr = self._mem32[ICACHE_CR]
        if self._acr & ICACHE_EN:
            self._mem32[ICACHE_CR] = self._acr & ~ICACHE_EN
            while self._mem32[ICACHE_SR] & ICACHE_BUSY:
                self._sleep_us(1)
        if self._mem32[self.CR] & CR_LOCK:
            self._mem32[self.KEYR] = KEY1
            self._mem32[self.KEYR] = KEY2

    def _end(self) -> None:
        """Lock, and set the cache as it was."""
        self._control(CR_LOCK)
        if self._acr & ICACHE_EN:
            self._mem32[ICACHE_CR] = self._acr


class BankSlotU5(BankSlot):
    """One firmware slot at its mapped address; the ``Slot`` of ``fota_agent.seams``."""

    ROW = stm32u585
    page_size = stm32u585.PAGE_SIZE
    chip = stm32u585.NAME
