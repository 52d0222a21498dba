"""A blank chip and blank flash become a locked, paired device, over the packets that a factory would send."""

import hashlib
import secrets
from dataclasses import dataclass, field

from fota_vdev.atecc608.crc import crc16
from fota_vdev.host import ChipHost

# SPEC: layout of the crypto element, slot by slot (SlotConfig, KeyConfig as they lie in the zone)
UNUSED = (bytes.fromhex("8f8f"), bytes.fromhex("1c00"))
LAYOUT: dict[int, tuple[bytes, bytes]] = {
    0: (bytes.fromhex("8120"), bytes.fromhex("3300")),
    1: (bytes.fromhex("8220"), bytes.fromhex("3300")),
    2: (bytes.fromhex("8120"), bytes.fromhex("3300")),
    4: (bytes.fromhex("8f0f"), bytes.fromhex("3c00")),
    6: (bytes.fromhex("9f0f"), bytes.fromhex("3c00")),
    7: (bytes.fromhex("8f8f"), bytes.fromhex("1c00")),
    8: (bytes.fromhex("0f0f"), bytes.fromhex("3c00")),
    10: (bytes.fromhex("0f8f"), bytes.fromhex("1c00")),
    11: (bytes.fromhex("0f8f"), bytes.fromhex("1000")),
    12: (bytes.fromhex("0f8f"), bytes.fromhex("1c00")),
    14: (bytes.fromhex("0f0f"), bytes.fromhex("3000")),
    15: (bytes.fromhex("0f0f"), bytes.fromhex("3000")),
}
SECURE_BOOT = bytes.fromhex("03f7")
CHIP_OPTIONS = bytes.fromhex("0260")
IDENTITY_SLOT, ATTESTATION_SLOT, NEXT_SLOT, MAC_SLOT, IO_SLOT, ROOT_B_SLOT, ROOT_A_SLOT = 0, 1, 2, 4, 6, 14, 15


def element_config(blank: bytes) -> bytes:
    """Return the wanted configuration zone of a chip whose zone is ``blank`` now."""
    zone = bytearray(blank)
    for slot in range(16):
        slot_config, key_config = LAYOUT.get(slot, UNUSED)
        zone[20 + 2 * slot : 22 + 2 * slot] = slot_config
        zone[96 + 2 * slot : 98 + 2 * slot] = key_config
    zone[70:72] = SECURE_BOOT
    zone[90:92] = CHIP_OPTIONS
    return bytes(zone)


def provision_element(host: ChipHost, *, io_key: bytes, mac_key: bytes, root_a_xy: bytes, root_b_xy: bytes) -> bytes:
    """Configure, key and lock a blank chip; return X||Y of its identity key, which never leaves it.

    Raises:
        DeviceError: the chip does not answer, or refuses: it is not blank.
    """
    before = host.read_config()
    wanted = element_config(before)
    for offset in [*range(16, 84, 4), *range(88, 128, 4)]:
        if wanted[offset : offset + 4] != before[offset : offset + 4]:
            host.write_config_word(offset, wanted[offset : offset + 4])
    host.lock_config(crc16(wanted))
    identity = host.generate_key(IDENTITY_SLOT)
    host.generate_key(ATTESTATION_SLOT)
    host.generate_key(NEXT_SLOT)
    host.write_slot(MAC_SLOT, mac_key)
    host.write_slot(IO_SLOT, io_key)
    host.write_public_key(ROOT_A_SLOT, root_a_xy)
    host.write_public_key(ROOT_B_SLOT, root_b_xy)
    for slot in (IDENTITY_SLOT, MAC_SLOT, IO_SLOT, ROOT_A_SLOT, ROOT_B_SLOT):
        host.lock_slot(slot)
    host.lock_data()
    return identity
