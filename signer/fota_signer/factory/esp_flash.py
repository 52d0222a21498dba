"""What the factory writes into the flash of an ESP32 (SPEC 7.4), and how its bootloader will read it.

Addresses are offsets in flash. All that the bootloader ever erases is written blank, so that nothing of an
earlier life of the flash is left there.
"""

import hashlib
from typing import TYPE_CHECKING

from fota_signer import elf, esp_pack
from fota_signer.factory import esp_csv
from fota_wire import esp_image, esp_partitions, esp_signature, image, settings, status
from fota_wire.errors import FotaError, InputError, VerifyError

if TYPE_CHECKING:
    from fota_wire.host_chips import Espressif

ERASED = b"\xff"
Parts = list[tuple[int, bytes]]


def table_image(given: bytes | None, chip: "Espressif", name: str = "") -> bytes:
    """Return the bytes of the table's sector: of a table that is ``given``, in binary or as CSV, which has
    what FOTA needs, or of our own for the chip's flash.

    Raises:
        InputError: no table. VerifyError: PT1, one that the bootloader would not go by.
    """
    if given is None:
        return esp_partitions.build(esp_partitions.default_table(chip))
    try:
        if given[:2] != esp_partitions.MAGIC:
            given = esp_partitions.build(esp_csv.read_csv(given, chip, name))
        esp_partitions.places(esp_partitions.parse(given, chip), chip)
    except VerifyError as exc:
        raise VerifyError(f"{name}: {exc}", exc.code) from exc
    return given[: esp_partitions.MAX_SIZE]


def places(table: bytes, chip: "Espressif") -> esp_partitions.Places:
    """Return where everything is. VerifyError: PT1."""
    return esp_partitions.places(esp_partitions.parse(table, chip), chip)


def bootloader_image(data: bytes, name: str, chip: "Espressif") -> bytes:
    """Return the bootloader as it lies in flash: of bootloader.bin, or of its ELF.

    Raises:
        InputError: neither, for another chip, damaged, or too large.
    """
    if data[:4] == elf.MAGIC:
        chunks = sorted(elf.read(data, name, machine=chip.ELF_MACHINE), key=lambda chunk: chunk.address)
        parts = [(chunk.address, chunk.content + bytes(-len(chunk.content) % 4)) for chunk in chunks]
        data = esp_pack.build(esp_pack.Head(elf.entry_of(data), chip.CHIP_ID), parts)
    try:
        check_bootloader(data, chip)
    except FotaError as exc:
        raise InputError(f"{name}: no bootloader for chip {chip.NAME}: {exc}", exc.code) from exc
    return data


def check_bootloader(data: bytes, chip: "Espressif") -> None:
    """Return if the ROM would load this, and it fits its room: it ends with its SHA-256, or, for a chip whose
    own Secure Boot is on, with a signature sector, whose signatures are **not** verified.

    Raises:
        FormatError: IM1. VerifyError: IM2 to IM4, IM6, IM13, IM15.
    """
    header = esp_image.Header(data)
    esp_image.check_header(header)
    segments, end = esp_image.read_segments(data, header)
    esp_image.check_sums(data, segments, end)
    if any(esp_image.flash_mapped(chip, part.address) for part in segments):
        raise VerifyError("it is an application: part of it runs from flash", status.IM15)
    if data[end:].strip(ERASED):
        end = _end_of_signed(data, end)
    if end > chip.BOOTLOADER_SIZE or data[end:].strip(ERASED):
        raise VerifyError(f"it has {len(data)} bytes, its room {chip.BOOTLOADER_SIZE}", status.IM3)


def _end_of_signed(data: bytes, end: int) -> int:
    """Return where the signature sector of a bootloader ends. VerifyError: IM3, IM4, IM6."""
    padded = esp_image.padded_size(end)
    stop = padded + esp_signature.SECTOR
    signatures = esp_signature.read_sector(data[padded:stop])
    if data[end:padded].strip(ERASED):
        raise VerifyError("bytes between it and its signature sector are not blank", status.IM4)
    digest = hashlib.sha256(data[:padded]).digest()
    if any(one.digest != digest for one in signatures if len(one.digest) == len(digest)):
        raise VerifyError("it does not match the digest in its signature sector", status.IM6)
    return stop


def parts(
    bootloader: bytes, page: bytes, store: bytes, image_file: bytes, table: bytes, chip: "Espressif"
) -> Parts:
    """Return [(offset, bytes)] of a new device; journal, agent store and OTA data are blank."""
    where = places(table, chip)
    if len(image_file) > where.slot_a.size:
        raise InputError(
            f"the first image has {len(image_file)} bytes, partition {where.slot_a.label!r}"
            f" {where.slot_a.size}"
        )
    fota = ERASED * chip.TRUST_STORE_OFFSET + store
    return [
        (chip.BOOTLOADER_OFFSET, bootloader),
        (chip.SETTINGS_OFFSET, page),
        (chip.TABLE_OFFSET, table),
        (where.otadata.offset, ERASED * where.otadata.size),
        (where.fota.offset, fota + ERASED * (chip.STORE_SIZE - len(fota))),
        (where.slot_a.offset, image_file),
    ]


class View:
    """The flash of an ESP32 as its bootloader and agent see it; for `inspection`."""

    def __init__(self, chip: "Espressif") -> None:
        self._chip = chip
        self._flash = bytearray(ERASED * chip.FLASH_SIZE)

    def load(self, parts: Parts) -> None:
        """Take what a HEX holds. VerifyError: outside flash."""
        for offset, data in parts:
            if offset + len(data) > len(self._flash):
                name = self._chip.NAME
                raise VerifyError(f"0x{offset:08x} + {len(data)} bytes is not in the flash of {name}")
            self._flash[offset : offset + len(data)] = data

    def settings_page(self) -> bytes:
        """Return the settings, 256 bytes."""
        return self._at(self._chip.SETTINGS_OFFSET, settings.SIZE)

    def trust_store(self) -> bytes:
        """Return the whole room of the trust store. VerifyError: PT1."""
        begin = self._places().fota.offset + self._chip.TRUST_STORE_OFFSET
        return self._at(begin, self._chip.TRUST_STORE_SIZE)

    def slot(self) -> bytes:
        """Return slot A. VerifyError: PT1."""
        return self._at(self._places().slot_a.offset, self._places().slot_a.size)

    def check_bootloader(self) -> None:
        """Check what the ROM starts. FotaError: it would not."""
        check_bootloader(self._at(self._chip.BOOTLOADER_OFFSET, self._chip.BOOTLOADER_SIZE), self._chip)

    def faults(self, page: settings.Settings | None) -> list[str]:
        """Return what is wrong with places, journal and OTA data, each a sentence without its end."""
        try:
            where = self._places()
        except FotaError as exc:
            return [f"PT1 partition-table: {exc}"]
        found = []
        if page is not None and page.places != where.copy():
            found.append("the settings page holds other places than the partition table")
        if self._at(where.otadata.offset, where.otadata.size).strip(ERASED):
            found.append("OTA data is not blank")
        if self._at(where.fota.offset, self._chip.TRUST_STORE_OFFSET).strip(ERASED):
            found.append("the boot journal is not blank")
        return found

    def _places(self) -> esp_partitions.Places:
        return places(self._at(self._chip.TABLE_OFFSET, self._chip.TABLE_SIZE), self._chip)

    def _at(self, offset: int, size: int) -> bytes:
        return bytes(self._flash[offset : offset + size])


def is_flash_of(parts: Parts, chip: "Espressif") -> bool:
    """Tell whether a factory HEX is for this chip: an image of it at the bootloader's place, and a table."""
    begins = dict(parts)
    head, table = begins.get(chip.BOOTLOADER_OFFSET, b""), begins.get(chip.TABLE_OFFSET, b"")
    is_image = head[:1] == image.ESPRESSIF and esp_image.Header(head[:24].ljust(24)).chip_id == chip.CHIP_ID
    return is_image and (table or head[chip.TABLE_OFFSET :])[:2] == esp_partitions.MAGIC
