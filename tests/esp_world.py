"""Images in Espressif's form of our own making, and Espressif's own tools, which judge them."""

import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path
from random import Random

from fota_signer import esp_pack
from fota_signer.chunk import Chunk
from fota_signer.examples import example_key
from fota_wire import esp_image, esp_signature, host_crypto, host_keys
from fota_wire.chips import esp32c3

VECTORS = Path(
    os.environ.get("FOTA_ESP32_VECTORS", Path(__file__).parents[2] / "shared" / "vectors" / "esp32")
)
CLASS_ID = bytes.fromhex("a811ee0d55535b3eb13c41922315f230")
ENTRY = 0x40380100


def descriptor(project: str = "world", version: str = "1.1.0") -> bytes:
    out = bytearray(esp_image.DESCRIPTOR_SIZE)
    out[:4] = esp_image.DESCRIPTOR_MAGIC
    out[16 : 16 + len(version)] = version.encode()
    out[48 : 48 + len(project)] = project.encode()
    out[112:118] = b"v5.5.1"
    out[180] = 16
    return bytes(out)


def chunks(seed: int = 1) -> list[Chunk]:
    """What a linker makes of an application: both windows onto flash, both buses of RAM, RTC RAM."""
    some = Random(seed).randbytes
    return [
        Chunk(0x3C030020, descriptor() + some(5000)),
        Chunk(0x42000020, some(70_000)),
        Chunk(0x40380000, some(30_001)),
        Chunk(0x3FC88000, some(777)),
        Chunk(0x50000000, bytes(16)),
    ]


def application(seed: int = 1, **head) -> bytes:
    """An application's .bin, as idf.py makes it: no block of ours, no signature."""
    fields = {"entry": ENTRY, "chip_id": esp32c3.CHIP_ID, "min_rev": 3, "max_rev": 199} | head
    return esp_pack.build(esp_pack.Head(**fields), esp_pack.place(chunks(seed), esp32c3))


def signed(plain: bytes | None = None, *, key: str = "image-a", sec_cnt: int = 3, **block) -> bytes:
    private = host_keys.in_memory(example_key(key))
    ours = esp_pack.block_for((1, 1, 0, 0), sec_cnt, CLASS_ID, private)
    for name, value in block.items():
        setattr(ours, name, value)
    return esp_pack.sign(application() if plain is None else plain, ours, private)


def parts(data: bytes) -> list[tuple[int, bytes]]:
    """The segments of an image as it says them, unchecked."""
    at, found = esp_image.HEADER_SIZE, []
    for _ in range(data[1]):
        address, size = struct.unpack_from("<II", data, at)
        found.append((address, data[at + 8 : at + 8 + size]))
        at += 8 + size
    return found


def rebuilt(data: bytes, change_parts=None, change_header=None, key: str = "image-a") -> bytes:
    """An image changed, with checksum, hash and signature anew: everything is right but what was changed."""
    changed = parts(data)
    if change_parts:
        changed = change_parts(changed) or changed
    plain = bytearray(esp_pack.build(esp_pack.head_of(esp_image.Header(data)), changed))
    if change_header:
        change_header(plain)
        plain[-32:] = hashlib.sha256(plain[:-32]).digest()
    return resigned(bytes(plain), key)


def resigned(plain: bytes, key: str = "image-a") -> bytes:
    private = example_key(key)
    padded = plain + b"\xff" * (-len(plain) % 4096)
    digest = hashlib.sha256(padded).digest()
    block = esp_signature.build_block(
        host_crypto.public_xy(private), host_crypto.signer(private)(digest), digest
    )
    return padded + esp_signature.build_sector([block])


def tool(name: str, *words) -> str:
    """Run esptool or espsecure; return what it prints."""
    command = [sys.executable, "-m", name, *[str(word) for word in words]]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
