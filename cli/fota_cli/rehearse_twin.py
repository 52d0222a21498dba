"""Devices to rehearse with, made by the factory's own steps: of a bootloader, or of a factory HEX."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from fota_cli.rehearsal import flash_hex, twin
from fota_cli.rehearse_device import Device, Release, Symbols
from fota_cli.vdev import manufacture
from fota_signer.factory.ca import make_ca
from fota_signer.factory.flash import Firmware, chip_of_hex, load_hex
from fota_signer.factory.record import DeviceRecord
from fota_vdev import stand_in
from fota_vdev.atecc608 import Atecc608
from fota_vdev.machine import Machine
from fota_vdev.models import MODELS
from fota_vdev.places import places
from fota_wire import settings
from fota_wire.cose import key_hash
from fota_wire.errors import FotaError, InputError
from fota_wire.host_chips import Chip
from fota_wire.host_chips import chip as row_of
from fota_wire.image import parse_image
from fota_wire.layout import SLOT_A

NOWHERE = "https://rehearsal.invalid"
"""The server of such a device: a name that nobody may have (RFC 6761)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What all devices of a rehearsal have in common. ``bootloader``: its bytes, as `bootloader_image` gives
    them, with the partition ``table`` of an ESP32; or the factory's ``hex_text``. ``root_a``, ``root_b``:
    x||y of the IMAGE keys in the element.
    """

    chip: Chip
    root_a: bytes
    root_b: bytes
    seed: int
    vendor_id: bytes = b""
    genesis: bytes = b""
    bootloader: bytes = b""
    table: bytes = b""
    hex_text: str = ""
    stand_ins: list[stand_in.StandIn] = field(default_factory=list)
    symbols: list[Symbols] = field(default_factory=list)


def device(kit: Kit, old: Release, new: Release) -> Device:
    """Return a device that left its factory with ``old``; without power.

    Raises:
        VerifyError: no device could live with it; says why. InputError: it does not fit.
    """
    try:
        machine = _of_hex(kit, old) if kit.hex_text else _of_bootloader(kit, old)
    except FotaError as exc:
        raise type(exc)(f"{old.name}: no device can be made with it: {exc}", exc.code) from exc
    stand_in.attach(machine, kit.stand_ins)
    return Device(machine, old, new, kit.seed, kit.symbols)


def _of_bootloader(kit: Kit, old: Release) -> Machine:
    machine = Machine(element=Atecc608(seed=kit.seed), seed=kit.seed, chip=MODELS[kit.chip.NAME])
    ca = make_ca("rehearsal", 2)
    firmware = Firmware(
        bootloader=kit.bootloader,
        image=old.image,
        class_id=old.parsed.class_id,
        vendor_id=kit.vendor_id,
        root_a_xy=kit.root_a,
        root_b_xy=kit.root_b,
        genesis_root=kit.genesis,
        server_ca_der=ca.certificate.public_bytes(Encoding.DER),
        server_url=NOWHERE,
        chip=kit.chip,
        table=kit.table,
    )
    manufacture(machine, firmware, ca, "the rehearsal's device", old.parsed.sec_cnt)
    return machine


def _of_hex(kit: Kit, old: Release) -> Machine:
    """A device with serial number, pairing keys and flash of the HEX, and ``old`` in slot A."""
    page = _settings(kit.hex_text, kit.chip)
    roots = kit.root_a, kit.root_b
    if (page.root_a, page.root_b) != (key_hash(roots[0]), key_hash(roots[1])):
        raise InputError("the HEX is of other firmware roots than --image-key-a and --image-key-b")
    with tempfile.TemporaryDirectory() as folder:
        record = DeviceRecord(
            path=Path(folder),
            serial=page.serial,
            address=bytes([page.address]),
            root_a=page.root_a,
            root_b=page.root_b,
            io_key=page.io_key,
            mac_key=page.mac_key,
            floor=old.parsed.sec_cnt.to_bytes(4, "little"),
            latched=b"\0",
        )
        machine = twin(record, kit.chip, roots, old.parsed.sec_cnt, Path(folder))
    flash_hex(machine, kit.hex_text, "the HEX")
    slot = places(machine).slots[SLOT_A]
    machine.flash.write_phys(slot.bank, slot.offset, old.image.ljust(slot.size, b"\xff"))
    return machine


def chip_of(text: str, name: str) -> Chip:
    """Return the chip of a factory HEX. InputError: no Intel HEX, or not a factory's."""
    chip = chip_of_hex(load_hex(text, name))
    if chip not in MODELS:
        raise InputError(f"{name}: no factory HEX: 'fota provision hex' makes one")
    return row_of(chip)


def image_in(text: str, name: str, chip: Chip) -> bytes:
    """Return the image in slot A of a factory HEX. FotaError: there is none."""
    machine = Machine(chip=MODELS[chip.NAME])
    flash_hex(machine, text, name)
    seen = places(machine).slots[SLOT_A].read(machine)
    return seen[: parse_image(seen, in_flash=True, chip=chip).size]


def _settings(text: str, chip: Chip) -> settings.Settings:
    at = chip.FLASH_BASE + chip.SETTINGS_OFFSET
    return settings.unpack(_at(text, "the HEX", at, settings.SIZE)[: settings.SIZE])


def _at(text: str, name: str, at: int, size: int) -> bytes:
    for address, data in load_hex(text, name):
        if address <= at and at + size <= address + len(data):
            return data[at - address :]
    raise InputError(f"{name}: no factory HEX: nothing lies at 0x{at:08x}")
