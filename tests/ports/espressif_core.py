"""The ESP32-C3's parsers in C, built for the host: their structures, and calls that hand them bytes."""

import ctypes
import struct

from core_structs import Image, Layout
from espressif_forms import SLOT_SIZE

from fota_wire import status

MIB = 1 << 20


class Chip(ctypes.Structure):
    _fields_ = [("revision", ctypes.c_uint32), ("block", ctypes.c_uint32), ("no_upper", ctypes.c_uint32)]


def parse(core: ctypes.CDLL, data: bytes, slot_size: int = SLOT_SIZE) -> tuple[str, Image]:
    core.fota_image_parse.restype = ctypes.c_uint32
    slot = ctypes.create_string_buffer((data + b"\xff" * slot_size)[:slot_size], max(slot_size, 1))
    layout, image = Layout((0, 0), slot_size, 0, 0, 0), Image()
    image.keep = slot
    code = core.fota_image_parse(slot, ctypes.byref(layout), ctypes.byref(image))
    return status.short_of(code) or status.label(code), image


class Places(ctypes.Structure):
    _fields_ = [
        ("store", ctypes.c_uint32),
        ("slot", ctypes.c_uint32 * 2),
        ("slot_size", ctypes.c_uint32 * 2),
        ("otadata", ctypes.c_uint32),
    ]


def read_table(core: ctypes.CDLL, data: bytes, flash: int = 4 * MIB) -> Places | None:
    core.fota_partitions_parse.restype = ctypes.c_uint32
    places = Places(1)
    buffer = ctypes.create_string_buffer(data, 4096)
    code = core.fota_partitions_parse(buffer, flash, ctypes.byref(places))
    if code == status.OK:
        return places
    assert status.short_of(code) == "PT1"
    assert places.store == 1  # written only when all is well
    return None


def places_copy(core: ctypes.CDLL, *words: int) -> tuple[bool, Places]:
    core.fota_places_copy.restype = ctypes.c_uint32
    settings = bytes(172) + struct.pack("<5I", *words)
    places = Places(1)
    code = core.fota_places_copy(settings.ljust(256, b"\0"), 4 * MIB, ctypes.byref(places))
    return code == status.OK, places


class OtaData(ctypes.Structure):
    _fields_ = [
        ("sequence", ctypes.c_uint32 * 2),
        ("state", ctypes.c_uint32 * 2),
    ]
