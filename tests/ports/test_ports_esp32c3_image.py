"""Espressif's image form, as the ESP32-C3's bootloader parses it, on the host."""

import ctypes
import hashlib
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from espressif_core import Chip, parse
from espressif_forms import (
    CLASS_ID,
    DRAM,
    DROM,
    IRAM,
    IROM,
    PAGE,
    RTC,
    Image,
    body,
    default_segments,
    descriptor,
    fota_block,
    sector,
    signature_block,
)

from fota_wire.cose import key_hash
from fota_wire.host_crypto import public_xy, signer


@pytest.fixture
def chip(espressif_core: ctypes.CDLL) -> Chip:
    """What the eFuses say: revision 0.4, block version 1.2."""
    chip = Chip.in_dll(espressif_core, "fota_chip")
    chip.revision, chip.block, chip.no_upper = 4, 102, 0
    return chip


@pytest.fixture
def image(keys: Any, chip: Chip) -> Image:
    return Image(key=keys.root_a)


def test_good_image_names_all_that_the_core_needs(espressif_core: Any, image: Image) -> None:
    data = image(version=(3, 1, 4, 15), sec_cnt=9)
    verdict, found = parse(espressif_core, data)
    assert verdict == "ok"
    assert found.hashed_size == len(data) - 4096
    digest = hashlib.sha256(data[:-4096]).digest()
    assert ctypes.string_at(found.hash, 32) == digest
    assert ctypes.string_at(found.version, 8) == struct.pack("<BBHI", 3, 1, 4, 15)
    assert ctypes.string_at(found.sec_cnt, 4) == struct.pack("<I", 9)
    assert ctypes.string_at(found.class_id, 16) == CLASS_ID
    xy = public_xy(image.key)
    assert ctypes.string_at(found.key_hash, 32) == key_hash(xy)
    from fota_wire.host_crypto import verify

    assert verify(xy, digest, bytes(found.rs))


def with_segment(image: Image, address: int, size: int = 16) -> tuple[tuple[int, bytes], ...]:
    """The usual segments, and one more, whose file offset fits the address if flash is mapped there."""
    parts = list(default_segments(image))
    parts.insert(1, (address, bytes(size)))
    address_of_padding = next(i for i, (at, _) in enumerate(parts) if at == 0)
    length = len(parts[address_of_padding][1]) - 8 - size
    parts[address_of_padding] = (0, bytes(length))
    return tuple(parts)


@pytest.mark.parametrize(
    ("address", "size", "verdict"),
    [
        pytest.param(0x3FC80000 + 0x20000, 16, "ok", id="data"),
        pytest.param(0x3FCCE700, 16, "ok", id="last-data"),
        pytest.param(0x3FCCE700, 20, "IM15", id="data-into-the-room-above"),
        pytest.param(0x403CE700, 16, "ok", id="last-code"),
        pytest.param(0x403CE704, 16, "IM15", id="code-into-the-room-above"),
        pytest.param(0x3FCD8000, 16, "IM15", id="the-loader's-stack"),
        pytest.param(0x403D8600, 16, "IM15", id="the-loader's-code"),
        pytest.param(0x3FC7FFFC, 16, "IM15", id="below-the-data"),
        pytest.param(0x4037C000, 16, "IM15", id="the-cache"),
        pytest.param(0x4037FFFC, 16, "IM15", id="below-the-code"),
        pytest.param(0x3FCDE160, 16, "IM15", id="the-ROM's-data"),
        pytest.param(0x50001EF0, 16, "ok", id="last-RTC"),
        pytest.param(0x50001EF4, 16, "IM15", id="the-boot-report"),
        pytest.param(0x60008090, 16, "IM15", id="a-watchdog"),
        pytest.param(0x600C5000, 16, "IM15", id="the-MMU"),
        pytest.param(0xFFFFFFF8, 16, "IM15", id="wraps"),
        pytest.param(0x20000000, 16, "IM15", id="nothing-there"),
        pytest.param(0x10000000, 16, "IM15", id="first-that-would-be-loaded"),
        pytest.param(0x0FFFFFFC, 16, "IM15", id="nearly-padding"),
        pytest.param(DRAM, 16, "IM15", id="on-another"),
        pytest.param(DRAM + 0x700000, 16, "IM15", id="on-another-by-its-alias"),
        pytest.param(IRAM - 0x700000, 16, "IM15", id="on-code-by-its-alias"),
        pytest.param(RTC + 8, 16, "IM15", id="on-another-in-RTC"),
        pytest.param(0x3C7F0000, 16, "IM15", id="the-last-MMU-entry"),
        pytest.param(0x3FCA0002, 18, "IM15", id="length-not-in-words"),
    ],
)
def test_segment_lies_where_it_may_or_is_refused(
    espressif_core: Any, image: Image, address: int, size: int, verdict: str
) -> None:
    data = image(segments=with_segment(image, address, size))
    assert parse(espressif_core, data)[0] == verdict


def test_mapped_segment_fits_its_page(espressif_core: Any, image: Image) -> None:
    *parts, (address, code) = default_segments(image)
    good = image(segments=(*parts, (address, code)))
    assert parse(espressif_core, good)[0] == "ok"
    for wrong in (address + 4, address - 0x20, address + 0x8000):
        data = image(segments=(*parts, (wrong, code)), entry=wrong)
        assert parse(espressif_core, data)[0] == "IM15", hex(wrong)


def test_one_mmu_entry_shows_one_page(espressif_core: Any, image: Image) -> None:
    """DROM and IROM share the MMU's entries: code at the entry of the data would hide them."""
    *parts, (_, code) = default_segments(image)
    clash = 0x42000000
    assert parse(espressif_core, image(segments=(*parts, (clash, code)), entry=clash))[0] == "IM15"
    free = 0x42050000
    assert parse(espressif_core, image(segments=(*parts, (free, code)), entry=free))[0] == "ok"


@pytest.mark.parametrize(
    ("entry", "verdict"),
    [
        (IROM + 1198, "ok"),
        (IROM + 1200, "IM15"),
        (IROM + 1, "IM15"),
        (IRAM, "ok"),
        (DRAM, "IM15"),
        (DROM, "IM15"),
        (0, "IM15"),
        (0x40000000, "IM15"),
        (0x403D8600, "IM15"),
    ],
)
def test_entry_lies_in_code_of_the_image(espressif_core: Any, image: Image, entry: int, verdict: str) -> None:
    assert parse(espressif_core, image(entry=entry))[0] == verdict


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        pytest.param({"magic": 0xEA}, "IM1", id="magic"),
        pytest.param({"chip": 9}, "IM13", id="chip"),
        pytest.param({"chip": 0}, "IM13", id="first-ESP32"),
        pytest.param({"least": 4}, "ok", id="this-revision"),
        pytest.param({"least": 5}, "IM14", id="newer-revision"),
        pytest.param({"most": 4}, "ok", id="up-to-this-revision"),
        pytest.param({"most": 3}, "IM14", id="older-revision"),
        pytest.param({"most": 0}, "ok", id="no-limit"),
        pytest.param({"descriptor": 0xABCD5433}, "IM2", id="descriptor"),
        pytest.param({"hashed": 0}, "IM2", id="no-hash"),
        pytest.param({"count": 0}, "IM2", id="no-segments"),
        pytest.param({"count": 17}, "IM2", id="17-segments"),
        pytest.param({"count": 16}, "IM3", id="more-segments-than-there-are"),
        pytest.param({"count": 6}, "IM4", id="one-segment-less"),
        pytest.param({"sec_cnt": 0}, "IM4", id="counter-0"),
        pytest.param({"sec_cnt": 262143}, "ok", id="counter-last"),
        pytest.param({"sec_cnt": 262144}, "IM4", id="counter-too-large"),
    ],
)
def test_header_and_block_are_held_to_their_limits(
    espressif_core: Any, image: Image, parts: dict[str, int], verdict: str
) -> None:
    assert parse(espressif_core, image(**parts))[0] == verdict


def test_limits_of_revisions_give_way_to_efuses(espressif_core: Any, image: Image, chip: Chip) -> None:
    data = image(most=3)
    chip.no_upper = 1
    assert parse(espressif_core, data)[0] == "ok"
    parts = list(default_segments(image))
    for least, most, no_upper, verdict in [
        (102, 102, 0, "ok"),
        (103, 0, 0, "IM14"),
        (0, 101, 0, "IM14"),
        (0, 101, 2, "ok"),
    ]:
        parts[0] = (DROM, descriptor(image, least, most) + parts[0][1][256:])
        chip.no_upper = no_upper
        assert parse(espressif_core, image(segments=tuple(parts)))[0] == verdict


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        pytest.param(lambda block: (), "IM4", id="none"),
        pytest.param(lambda block: (block, block), "IM4", id="two"),
        pytest.param(lambda block: (block + bytes(4),), "IM4", id="longer"),
        pytest.param(lambda block: (block[:-4],), "IM4", id="shorter"),
        pytest.param(lambda block: (b"FOTB" + block[4:],), "IM4", id="magic"),
        pytest.param(lambda block: (block[:4] + b"\x02" + block[5:],), "IM4", id="format"),
        pytest.param(lambda block: (block[:6] + b"\x45" + block[7:],), "IM4", id="length-field"),
        pytest.param(lambda block: (bytes(64), block), "ok", id="behind-padding"),
    ],
)
def test_there_is_exactly_one_fota_block(
    espressif_core: Any, image: Image, change: Callable[[bytes], tuple[bytes, ...]], verdict: str
) -> None:
    assert parse(espressif_core, image(blocks=change(fota_block(image))))[0] == verdict


# --- signature sector ---


def test_block_that_counts_is_that_of_keyhash(espressif_core: Any, keys: Any, image: Image) -> None:
    covered = body(image)
    digest = hashlib.sha256(covered).digest()
    ours, theirs = signature_block(keys.root_a, digest), signature_block(keys.thief, digest)
    rsa = b"\xe7\x02\0\0" + bytes(1212)
    p384 = ours[:36] + b"\x03" + ours[37:]
    for blocks, verdict in [
        ((ours,), "ok"),
        ((theirs, ours), "ok"),
        ((rsa, theirs, ours), "ok"),
        ((theirs,), "IM8"),
        ((rsa,), "IM8"),
        ((p384,), "IM8"),
        ((), "IM8"),
        ((ours, ours), "IM4"),
        ((ours[:200] + b"\1" + ours[201:],), "IM4"),
        ((ours[:-20] + b"\0" + ours[-19:],), "IM4"),
    ]:
        verdict_now, found = parse(espressif_core, covered + sector(*blocks))
        assert verdict_now == verdict
        if verdict == "ok":
            at = covered + sector(*blocks)
            assert found.hash - found.base == at.index(ours) + 4


ORDER = bytes.fromhex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551")


@pytest.mark.parametrize("at", [101, 133])
@pytest.mark.parametrize("value", [bytes(32), ORDER, b"\xff" * 32])
def test_scalar_outside_its_range_is_refused_before_the_element_sees_it(
    espressif_core: Any, image: Image, at: int, value: bytes
) -> None:
    covered = body(image)
    block = bytearray(signature_block(image.key, hashlib.sha256(covered).digest()))
    block[at : at + 32] = value[::-1]
    block[1196:1200] = struct.pack("<I", zlib.crc32(bytes(block[:1196])))
    assert parse(espressif_core, covered + sector(bytes(block)))[0] == "IM11"


def test_wrong_digest_in_the_block_is_found_by_the_core_s_hash(espressif_core: Any, image: Image) -> None:
    """The parser hands over what the block says; the core compares it with what it hashed."""
    covered = body(image)
    other = hashlib.sha256(b"other").digest()
    verdict, found = parse(espressif_core, covered + sector(signature_block(image.key, other)))
    assert verdict == "ok"
    assert ctypes.string_at(found.hash, 32) == other != hashlib.sha256(covered).digest()
    assert bytes(found.rs) != signer(image.key)(hashlib.sha256(covered).digest())


def test_image_as_large_as_the_slot_fits_and_not_a_byte_more(espressif_core: Any, image: Image) -> None:
    data = image()
    assert parse(espressif_core, data, len(data))[0] == "ok"
    for size in (len(data) - 1, len(data) - 4096, len(data) // 2, 300, 288, 32, 24, 1, 0):
        assert parse(espressif_core, data, size)[0] in ("IM3", "IM1"), size


def test_no_flipped_or_random_byte_leads_outside_of_the_slot(espressif_core: Any, image: Image) -> None:
    """Run under the undefined-behaviour sanitizer; every pointer lies in the slot, or there is none."""
    data = bytearray(image())
    heads = [*range(24), *(24 + i for i in range(8)), *range(len(data) - 4096, len(data) - 4096 + 240)]
    dice = random.Random(1)
    for at in heads:
        kept = data[at]
        for value in (0, 0xFF, kept ^ 1, kept ^ 0x80, dice.randrange(256)):
            data[at] = value
            verdict, found = parse(espressif_core, bytes(data), len(data))
            assert verdict.startswith("IM") or verdict == "ok"
            if verdict == "ok":
                for pointer in (found.version, found.sec_cnt, found.class_id, found.hash, found.key_hash):
                    assert 0 <= pointer - found.base <= len(data) - 4
        data[at] = kept


def test_padding_segment_as_esptool_makes_it_is_skipped(espressif_core: Any, image: Image) -> None:
    assert any(address == 0 and len(data) > PAGE // 2 for address, data in default_segments(image))
    assert parse(espressif_core, image())[0] == "ok"
