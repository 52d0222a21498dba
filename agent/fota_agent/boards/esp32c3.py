"""A board with an ESP32-C3 whose second stage is ours (SPEC 7): `fota_agent.boards.flash_board` with the row
of that chip, SPI flash, and images in Espressif's form.
"""

import struct

from fota_agent.boards.flash_board import FlashBoard, FlashSlot
from fota_agent.boards.flash_esp32c3 import NorFlash
from fota_wire import esp_image
from fota_wire.chips import esp32c3
from fota_wire.errors import DeviceError, FormatError, VerifyError
from fota_wire.image import MAGIC
from fota_wire.status import IM3, IM13, SE1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.seams import Slot


EFUSE_DATA1 = 0x60008834
CRYPT_COUNT_AT = 18  # SPI_BOOT_CRYPT_CNT, three bits: an odd number of them switches flash encryption on


class SectorSlot(FlashSlot):
    """One firmware slot: a partition."""

    ROW = esp32c3
    page_size = esp32c3.PAGE_SIZE
    chip = esp32c3.NAME


class Esp32C3Board(FlashBoard):
    """The ``Board`` of ``fota_agent.seams``."""

    ROW = esp32c3
    RESET_REGISTER, RESET_VALUE = 0x60008000, 1 << 31  # RTC_CNTL_OPTIONS0.SW_SYS_RST
    slot_kind = SectorSlot

    _flash: NorFlash

    def slots(self) -> "tuple[tuple[int, int], tuple[int, int]]":
        """Return (address, size) of the slot that runs, and of the other one.

        Raises:
            DeviceError: no boot report; SE1, flash encryption is on (we read flash as it lies), or the
            bootloader has found its partitions elsewhere than we have.
        """
        burnt = self._mem32[EFUSE_DATA1] >> CRYPT_COUNT_AT
        if (burnt ^ burnt >> 1 ^ burnt >> 2) & 1:
            raise DeviceError("flash encryption is on (eFuse SPI_BOOT_CRYPT_CNT): not supported", SE1)
        report = self.boot_report()
        if report.store != self._flash.journal():
            raise DeviceError(f"partitions: the bootloader has its journal at 0x{report.store:06x}", SE1)
        return self._flash.slots(report.running)

    def inspect(self, size: int) -> "tuple[int, bytes]":
        """Return (security counter, class UUID) of the image in the first ``size`` bytes of the other slot.

        Only what decides whether a trial makes sense; the bootloader checks all of it.

        Raises:
            VerifyError: IM1 to IM4; IM13, it is for another chip.
        """
        return inspect(self.inactive, size)


def inspect(slot: "Slot", size: int) -> "tuple[int, bytes]":
    """Return (security counter, class UUID) of an image in Espressif's form. VerifyError IM1 to IM4, IM13."""
    head = slot.read(0, esp_image.HEADER_SIZE)
    if head[:4] == MAGIC.to_bytes(4, "little"):
        raise VerifyError(f"image is for an STM32, not for chip {esp32c3.NAME}", IM13)
    try:
        header = esp_image.Header(head)
    except FormatError as exc:
        raise VerifyError(str(exc), exc.code) from exc
    if header.chip_id != esp32c3.CHIP_ID:
        raise VerifyError(f"image is for {header.chip_name}", IM13)
    esp_image.check_header(header)
    at, raws = esp_image.HEADER_SIZE, []
    for _ in range(header.count):
        start = at + esp_image.SEGMENT_HEADER_SIZE
        if start > size:
            raise VerifyError("image sizes do not fit", IM3)
        address, length = struct.unpack("<II", slot.read(at, esp_image.SEGMENT_HEADER_SIZE))
        at = start + length
        if at + len(esp_image.BLOCK_MAGIC) > size:  # more comes behind the last segment
            raise VerifyError("image sizes do not fit", IM3)
        if address == 0 and slot.read(start, len(esp_image.BLOCK_MAGIC)) == esp_image.BLOCK_MAGIC:
            raws.append(slot.read(start, min(length, esp_image.BLOCK_SIZE + 1)))
    block = esp_image.only_block(raws)
    return block.sec_cnt, block.class_id
