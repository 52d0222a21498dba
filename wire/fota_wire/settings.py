"""Settings page (SPEC 1.2) and trust store (SPEC 1.3): what the factory writes, and nobody changes later."""

import binascii
import struct

from fota_wire import cbor, check
from fota_wire.certify import MAX_CERTIFICATE
from fota_wire.chips import stm32l476
from fota_wire.errors import FormatError, InputError
from fota_wire.layout import SEC_CNT_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SIZE = 256
MAGIC = 0x54455346
DEFAULT_ADDRESS = 0x60
DEFAULT_TRIES = 3
DEFAULT_WATCHDOG_S = 16
DEFAULT_MAX_STEP = 255
_LAYOUT = "<IHH16s9sBBBI32s32s32s32sB3x5I60x"
NO_PLACES = (0, 0, 0, 0, 0)


class Settings:
    """Fields of SPEC 1.2: ``class_id`` 16 bytes, ``serial`` 9 bytes and ``address`` (7 bit) of the element,
    ``tries`` 1..15, ``watchdog_s`` 1..30, ``max_step`` of the security counter, ``io_key`` and ``mac_key``
    32 bytes (secret), ``root_a`` and ``root_b`` KEYHASHes, 32 bytes; ``watchdog_always``: in every boot, not
    in trials only; ``places``, zeros but on an ESP32: offset of the partition ``fota``, offset and size of
    slot A, offset and size of slot B.
    """

    def __init__(
        self,
        *,
        class_id: bytes,
        serial: bytes,
        io_key: bytes,
        mac_key: bytes,
        root_a: bytes,
        root_b: bytes,
        address: int = DEFAULT_ADDRESS,
        tries: int = DEFAULT_TRIES,
        watchdog_s: int = DEFAULT_WATCHDOG_S,
        max_step: int = DEFAULT_MAX_STEP,
        watchdog_always: bool = True,
        places: "tuple[int, int, int, int, int]" = NO_PLACES,
    ) -> None:
        self.class_id = check.bstr(class_id, "class id", 16)
        self.serial = check.bstr(serial, "element serial", 9)
        self.address = check.uint(address, "element address", 0x7F)
        self.tries = check.uint(tries, "tries", 15)
        self.watchdog_s = check.uint(watchdog_s, "watchdog", 30)
        self.max_step = check.uint(max_step, "counter step", SEC_CNT_MAX)
        self.io_key = check.bstr(io_key, "IO protection key", 32)
        self.mac_key = check.bstr(mac_key, "pairing MAC key", 32)
        self.root_a = check.bstr(root_a, "KEYHASH of root A", 32)
        self.root_b = check.bstr(root_b, "KEYHASH of root B", 32)
        self.watchdog_always = watchdog_always
        self.places = places
        if not (self.address and self.tries and self.watchdog_s and self.max_step):
            raise FormatError("settings: address, tries, watchdog and step are at least 1", "settings")


def pack(settings: Settings) -> bytes:
    """Return the 256 bytes of the settings page, CRC included."""
    body = struct.pack(
        _LAYOUT,
        MAGIC,
        1,
        SIZE,
        settings.class_id,
        settings.serial,
        settings.address,
        settings.tries,
        settings.watchdog_s,
        settings.max_step,
        settings.io_key,
        settings.mac_key,
        settings.root_a,
        settings.root_b,
        int(settings.watchdog_always),
        *settings.places,
    )
    return body + struct.pack("<I", binascii.crc32(body))


def unpack(raw: "bytes | memoryview") -> Settings:
    """Return the settings in 256 bytes.

    Raises:
        FormatError: magic, format, length, CRC or a value is wrong.
    """
    if len(raw) != SIZE or struct.unpack("<I", raw[252:])[0] != binascii.crc32(raw[:252]):
        raise FormatError("settings: missing or damaged", "settings")
    values = struct.unpack(_LAYOUT, raw[:252])
    if values[:3] != (MAGIC, 1, SIZE) or values[13] > 1 or any(raw[169:172]) or any(raw[192:252]):
        raise FormatError("settings: magic, format or length is not ours", "settings")
    return Settings(
        class_id=values[3],
        serial=values[4],
        address=values[5],
        tries=values[6],
        watchdog_s=values[7],
        max_step=values[8],
        io_key=values[9],
        mac_key=values[10],
        root_a=values[11],
        root_b=values[12],
        watchdog_always=values[13] == 1,
        places=values[14:19],
    )


class TrustStore:
    """Fields of SPEC 1.3: ``genesis_root`` as received; ``server_ca`` and ``device_cert`` DER;
    ``server_url`` like ``https://host:port``; ``vendor_id`` and ``class_id`` 16 bytes; ``chip`` the NAME of
    the device's, "" if it does not say: agents of before there was a second one take no such field.
    """

    def __init__(
        self,
        *,
        genesis_root: "bytes | memoryview",
        server_ca: "bytes | memoryview",
        device_cert: "bytes | memoryview",
        server_url: str,
        vendor_id: bytes,
        class_id: bytes,
        chip: str = "",
        group: str = "",
    ) -> None:
        self.genesis_root = check.blob(genesis_root, "genesis ROOT", 4096)
        self.server_ca = check.blob(server_ca, "server CA certificate", 2048)
        self.device_cert = check.blob(device_cert, "device certificate", 2048)
        self.server_url = check.tstr(server_url, "server URL")
        self.vendor_id = check.bstr(vendor_id, "vendor id", 16)
        self.class_id = check.bstr(class_id, "class id", 16)
        self.chip = check.tstr(chip, "chip")
        self.group = check.tstr(group, "campaign group", check.MAX_GROUP)


def pack_trust_store(store: TrustStore, room: int = stm32l476.TRUST_STORE_SIZE) -> bytes:
    """Return ``length u32 | CRC-32 u32 | map``, at most ``room`` bytes.

    Raises:
        InputError: it does not fit, or the device certificate is longer than TLS on a chip sends.
    """
    if len(store.device_cert) > MAX_CERTIFICATE:
        raise InputError(
            f"device certificate of {len(store.device_cert)} bytes: devices take up to {MAX_CERTIFICATE}"
        )
    fields: dict[object, object] = {
        1: store.genesis_root,
        2: store.server_ca,
        3: store.device_cert,
        4: store.server_url,
        5: store.vendor_id,
        6: store.class_id,
    }
    if store.chip:
        fields[7] = store.chip
    if store.group:
        fields[8] = check.campaign_group(store.group)
    body = cbor.encode(fields)
    if len(body) + 8 > room:
        raise InputError(f"trust store has {len(body) + 8} bytes, room is for {room}")
    return struct.pack("<II", len(body), binascii.crc32(body)) + body


def unpack_trust_store(raw: "bytes | memoryview") -> TrustStore:
    """Return the trust store at the start of ``raw`` (flash behind it is not looked at). Of a view, ROOT
    and certificates in it are views, too.

    Raises:
        FormatError: missing or damaged.
    """
    length, crc = struct.unpack("<II", raw[:8]) if len(raw) >= 8 else (0, 0)
    body = raw[8 : 8 + length]
    if not length or len(body) != length or binascii.crc32(body) != crc:
        raise FormatError("trust store: missing or damaged", "trust-store")
    fields: dict[object, Any] = check.fields(cbor.decode(body), "trust store", (1, 2, 3, 4, 5, 6), (7, 8))
    return TrustStore(  # which checks them
        genesis_root=fields[1],
        server_ca=fields[2],
        device_cert=fields[3],
        server_url=fields[4],
        vendor_id=fields[5],
        class_id=fields[6],
        chip=fields.get(7, ""),
        group=fields.get(8, ""),
    )
