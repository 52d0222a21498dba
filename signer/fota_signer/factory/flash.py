"""The factory HEX: all that a new device has in flash, its first image included, in one Intel HEX."""

import io
import struct
from dataclasses import dataclass

from fota_signer import intel_hex
from fota_signer.factory import esp_flash
from fota_signer.factory.record import DeviceRecord
from fota_signer.firmware import read_chunks
from fota_wire import settings
from fota_wire.chips import stm32l476
from fota_wire.cose import key_hash
from fota_wire.errors import FormatError, InputError
from fota_wire.host_chips import DEFAULT, ESPRESSIF, STM32, Chip, Stm32
from fota_wire.settings import (
    DEFAULT_MAX_STEP,
    DEFAULT_TRIES,
    DEFAULT_WATCHDOG_S,
    Settings,
    TrustStore,
    pack,
    pack_trust_store,
    unpack_trust_store,
)

ERASED = b"\xff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """What all devices of a batch have in flash; ``tries`` to ``watchdog_always`` as in SPEC 1.2. ``table``:
    the partition table of an ESP32 (`esp_flash.table_image`). ``campaign_group``: of SPEC 5.8, "" for none.
    """

    bootloader: bytes
    image: bytes
    class_id: bytes
    vendor_id: bytes
    root_a_xy: bytes
    root_b_xy: bytes
    genesis_root: bytes
    server_ca_der: bytes
    server_url: str
    tries: int = DEFAULT_TRIES
    watchdog_s: int = DEFAULT_WATCHDOG_S
    max_step: int = DEFAULT_MAX_STEP
    watchdog_always: bool = True
    chip: Chip = stm32l476
    table: bytes = b""
    campaign_group: str = ""


def _rooms(chip: Stm32) -> tuple[tuple[int, int], ...]:
    """Return (begin, end) of where a bootloader may have bytes; the first is its own, others it may share."""
    return (
        (chip.BOOTLOADER_OFFSET, chip.BOOTLOADER_OFFSET + chip.BOOTLOADER_SIZE),
        (chip.RECOVERY_OFFSET, chip.SETTINGS_OFFSET),
        (chip.TAIL_OFFSET, chip.LAYOUT_OFFSET),
    )


def bootloader_image(elf: bytes, name: str, chip: Stm32 = stm32l476) -> bytes:
    """Return the bootloader's bytes from its first on; erased where trust store and settings go.

    Raises:
        InputError: not an ELF (or HEX) of a bootloader for this chip, or something in it would be left out.
    """
    chunks = read_chunks(elf, name)
    if chunks is None:
        raise InputError(f"{name}: not an ELF")
    out = bytearray()
    for address, data, _ in chunks:
        offset = address - chip.FLASH_BASE
        room = next((end for begin, end in _rooms(chip) if begin <= offset < end), 0)
        if offset < len(out) or offset + len(data) > room:
            raise InputError(
                f"{name}: 0x{address:08x} + {len(data)} bytes is outside the bootloader's room on chip"
                f" {chip.NAME} (SPEC 1)"
            )
        out += b"\xff" * (offset - len(out)) + data
    if len(out) <= chip.TAIL_OFFSET < chip.LAYOUT_OFFSET:
        raise InputError(
            f"{name}: has nothing at 0x{chip.FLASH_BASE + chip.TAIL_OFFSET:08x}, where the bootloader of chip"
            f" {chip.NAME} changes banks: it is another chip's"
        )
    return bytes(out)


def _parts(firmware: Firmware, trust_store: bytes, chip: Stm32) -> list[tuple[int, bytes]]:
    """Return (offset, bytes) of bootloader and trust store, which a bootloader with recovery surrounds.

    Raises:
        InputError: the trust store does not fit in front of recovery.
    """
    parts = [(chip.TRUST_STORE_OFFSET, trust_store)]
    for begin, end in _rooms(chip):
        data = firmware.bootloader[begin:end].rstrip(ERASED)
        if data:
            parts.append((begin, data))
            if begin == chip.RECOVERY_OFFSET and len(trust_store) > begin - chip.TRUST_STORE_OFFSET:
                raise InputError(
                    f"trust store has {len(trust_store)} bytes; with recovery in the bootloader, room is for"
                    f" {begin - chip.TRUST_STORE_OFFSET}"
                )
    return parts


def layout_words(chip: Stm32, bank: int) -> bytes:
    """Return the bootloader's ``fota_layout`` as it is while ``bank`` (1 or 2) is mapped low.

    ``slot A u32 | slot B u32 | slot size u32 | run address u32 | RAM low u32 | RAM high u32``.
    """
    slots = (chip.SLOT_ADDRESS, chip.INACTIVE_SLOT_ADDRESS)
    if bank == 2:
        slots = slots[1], slots[0]
    return struct.pack("<6I", *slots, chip.SLOT_SIZE, chip.SLOT_ADDRESS, chip.RAM_BASE, chip.STACK_TOP_MAX)


def factory_hex(firmware: Firmware, record: DeviceRecord) -> str:
    """Return the Intel HEX of one device; `inspection` says whether it can live with it. It holds the pairing
    keys: keep it as such.

    Raises:
        InputError: something does not fit its place, or the record is not that of a finished chip.
    """
    from intelhex import IntelHex

    page = _settings(firmware, record)
    store = pack_trust_store(_trust_store(firmware, record), firmware.chip.TRUST_STORE_SIZE)
    out = IntelHex()
    for address, data in _flash_parts(firmware, page, store):
        out.puts(address, _filled(data, firmware.chip))
    text = io.StringIO()
    out.write_hex_file(text)
    return text.getvalue()


def _flash_parts(firmware: Firmware, settings: Settings, store: bytes) -> list[tuple[int, bytes]]:
    """Return [(address, bytes)] of all that the factory writes."""
    espressif = ESPRESSIF.get(firmware.chip.NAME)
    if espressif is not None:
        settings.places = esp_flash.places(firmware.table, espressif).copy()
        page = pack(settings)
        return esp_flash.parts(firmware.bootloader, page, store, firmware.image, firmware.table, espressif)
    chip = STM32[firmware.chip.NAME]
    parts = [*_parts(firmware, store, chip), (chip.SETTINGS_OFFSET, pack(settings))]
    out = []
    for bank in chip.FACTORY_BANKS:
        own = (
            [(chip.LAYOUT_OFFSET, layout_words(chip, bank))] if chip.LAYOUT_OFFSET < chip.SLOT_OFFSET else []
        )
        base = chip.FLASH_BASE if bank == 1 else chip.OTHER_BANK_BASE
        out += [(base + offset, data) for offset, data in parts + own]
    return [*out, (chip.SLOT_ADDRESS, firmware.image)]


def _settings(firmware: Firmware, record: DeviceRecord) -> Settings:
    if record.certificate is None or record.io_key is None or record.mac_key is None:
        what = "has no certificate yet: finish fota provision device"
        if record.certificate is not None:
            what = "holds no pairing keys any more: they are in the factory HEX that was made of it"
        raise InputError(f"{record.path}: {what}")
    roots = key_hash(firmware.root_a_xy), key_hash(firmware.root_b_xy)
    if (record.root_a, record.root_b) != roots:
        raise InputError(
            f"{record.path}: the chip holds other firmware roots than --image-key-a and --image-key-b"
        )
    return Settings(
        class_id=firmware.class_id,
        serial=record.serial,
        address=record.address[0],
        io_key=record.io_key,
        mac_key=record.mac_key,
        root_a=roots[0],
        root_b=roots[1],
        tries=firmware.tries,
        watchdog_s=firmware.watchdog_s,
        max_step=firmware.max_step,
        watchdog_always=firmware.watchdog_always,
    )


def _trust_store(firmware: Firmware, record: DeviceRecord) -> TrustStore:
    name = firmware.chip.NAME
    return TrustStore(
        genesis_root=firmware.genesis_root,
        server_ca=firmware.server_ca_der,
        device_cert=record.certificate or b"",
        server_url=firmware.server_url,
        vendor_id=firmware.vendor_id,
        class_id=firmware.class_id,
        chip="" if name == DEFAULT else name,
        group=firmware.campaign_group,
    )


def _filled(data: bytes, chip: Chip) -> bytes:
    """Return ``data`` up to the end of what is programmed at once."""
    return data + ERASED * (-len(data) % chip.WRITE_SIZE)


def load_hex(text: str, name: str) -> list[tuple[int, bytes]]:
    """Return [(address, bytes)] of an Intel HEX.

    Raises:
        InputError: it is none, or something in it would be left out.
    """
    return [(chunk.address, chunk.content) for chunk in intel_hex.read(text.encode(), name)]


def chip_of_hex(parts: list[tuple[int, bytes]]) -> str:
    """Return the name of the chip that a factory HEX of these parts is for, as its trust store says; "" if it
    has none.
    """
    for name, espressif in ESPRESSIF.items():
        if esp_flash.is_flash_of(parts, espressif):
            return name
    at = stm32l476.FLASH_BASE + stm32l476.TRUST_STORE_OFFSET  # the same on all STM32s
    for address, data in parts:
        if address <= at < address + len(data):
            try:
                return unpack_trust_store(data[at - address :]).chip or DEFAULT
            except FormatError:
                return ""
    return ""


def serial_of_hex(parts: list[tuple[int, bytes]], chip: Chip) -> bytes:
    """Return the serial number of the element that a factory HEX of these parts is for; b"" if none."""
    at = chip.FLASH_BASE + chip.SETTINGS_OFFSET
    for address, data in parts:
        page = data[at - address :][: settings.SIZE] if address <= at else b""
        if len(page) == settings.SIZE:
            try:
                return settings.unpack(page).serial
            except FormatError:
                return b""
    return b""


def refuse_factory_hex(data: bytes, name: str) -> None:
    """Return unless a file is a factory HEX.

    Raises:
        InputError: it is; says so. Or a damaged Intel HEX.
    """
    if not intel_hex.looks_like_hex(data):
        return
    chip = chip_of_hex([(chunk.address, chunk.content) for chunk in intel_hex.read(data, name)])
    if chip:
        raise InputError(
            f"{name}: is the factory HEX of a device of chip {chip}, with its bootloader and keys: give what"
            " the linker made"
        )
