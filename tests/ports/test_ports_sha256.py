"""The ESP32-C3's compression function in software, built for the host: FIPS 180-4, and hashlib."""

import ctypes
import hashlib
import random
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "bootloader"


@pytest.fixture(scope="module")
def software(tmp_path_factory):
    library = tmp_path_factory.mktemp("sha") / "sha.so"
    sources = (ROOT / "core/sha256.c", ROOT / "port/esp32c3/sha256_software.c")
    flags = ("-std=c11", "-O2", "-shared", "-fPIC", "-fsanitize=undefined", "-fno-sanitize-recover=all")
    subprocess.run(["cc", *flags, f"-I{ROOT / 'core'}", *sources, "-o", library], check=True)
    return ctypes.CDLL(str(library))


def digest(library, *parts: bytes) -> bytes:
    context, out = ctypes.create_string_buffer(128), ctypes.create_string_buffer(32)
    library.fota_sha256_init(context)
    for part in parts:
        library.fota_sha256_update(context, part, len(part))
    library.fota_sha256_final(context, out)
    return out.raw


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
        (b"a" * 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ],
)
def test_examples_of_the_standard(software, message, expected):
    assert digest(software, message).hex() == expected


def test_every_length_up_to_four_blocks_in_two_parts_is_what_hashlib_says(software):
    dice = random.Random(4)
    for length in range(257):
        data, cut = dice.randbytes(length), dice.randint(0, length)
        assert digest(software, data[:cut], data[cut:]) == hashlib.sha256(data).digest()
