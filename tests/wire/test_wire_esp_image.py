"""Espressif's image form and signature sector: what is read, and what is refused for what."""

import binascii
import hashlib
import json
import struct
from pathlib import Path

import esp_world
import pytest
from esp_refused import GOOD, REFUSED, image_of, segment

from fota_wire import cose, der, esp_image, esp_signature, host_chips, host_crypto, image, status
from fota_wire.errors import FormatError, VerifyError

END = esp_image.parse(GOOD).end
SECTOR_AT = len(GOOD) - 4096


def refusal(data: bytes) -> int:
    with pytest.raises((FormatError, VerifyError)) as caught:
        image.parse_image(data)
    return caught.value.code


def test_signed_image_is_read_through_the_one_door():
    found = image.parse_image(GOOD)
    assert (found.chip, found.version, found.sec_cnt) == ("esp32c3", (1, 1, 0, 0), 3)
    assert (found.class_id, found.size, found.load_addr) == (esp_world.CLASS_ID, len(GOOD), esp_world.ENTRY)
    key = esp_world.example_key("image-a")
    assert found.key_hash == cose.key_hash(host_crypto.public_xy(key))
    assert host_crypto.verify(host_crypto.public_xy(key), found.image_hash, found.signature)


def test_image_in_a_slot_is_read_whatever_follows_it():
    assert image.parse_image(GOOD + b"\xff" * 5000, in_flash=True).size == len(GOOD)
    assert refusal(GOOD + b"\xff") == status.IM4


def test_every_byte_of_the_image_is_under_its_hashes_and_its_signature():
    for at in [*range(0x200), *range(0x200, SECTOR_AT, 997), *range(END - 120, END + 40)]:
        changed = bytearray(GOOD)
        changed[at] ^= 0x10
        with pytest.raises((FormatError, VerifyError)):
            image.parse_image(bytes(changed))


def test_every_byte_of_the_signature_sector_is_what_it_has_to_be_or_of_the_signature_itself():
    r_and_s = range(SECTOR_AT + 101, SECTOR_AT + 165)
    for at in range(SECTOR_AT, len(GOOD), 7):
        changed = bytearray(GOOD)
        changed[at] ^= 0x10
        assert refusal(bytes(changed)) in (status.IM4, status.IM8) or at in r_and_s


@pytest.mark.parametrize(
    "size", [0, 1, 23, 24, 31, 0x120, END - 1, END, SECTOR_AT, SECTOR_AT + 1, len(GOOD) - 1]
)
def test_truncated_anywhere_is_refused(size):
    assert refusal(GOOD[:size]) in (status.IM1, status.IM3, status.IM4)


@pytest.mark.parametrize("name", REFUSED)
def test_image_with_one_thing_wrong_and_all_else_right_is_refused_for_it(name):
    code, data = REFUSED[name][1], image_of(name)
    if code is None:
        image.parse_image(data)
    else:
        assert refusal(data) == code


def rehashed(at: int, value: int) -> bytes:
    """The image with another byte, the SHA-256 and the signature made anew."""
    changed = bytearray(GOOD[:END])
    changed[at] = value
    changed[-32:] = hashlib.sha256(changed[:-32]).digest()
    return esp_world.resigned(bytes(changed))


def test_checksum_hash_and_digest_have_to_be_right_each_by_itself():
    assert refusal(rehashed(END - 33, GOOD[END - 33] ^ 1)) == status.IM6
    changed = bytearray(GOOD[:END])
    changed[-1] ^= 1
    assert refusal(esp_world.resigned(bytes(changed))) == status.IM6
    digest_of_another = GOOD[:SECTOR_AT] + esp_world.signed(sec_cnt=4)[SECTOR_AT:]
    assert refusal(digest_of_another) == status.IM6


def test_bytes_in_front_of_the_checksum_are_zero():
    assert GOOD[END - 34] == 0
    assert refusal(rehashed(END - 34, 1)) == status.IM2


def test_segment_that_is_not_of_words_is_refused():
    with pytest.raises(VerifyError, match="segment 3 has 5 bytes, not a multiple of 4"):
        image.parse_image(esp_world.rebuilt(GOOD, **segment(3, content=bytes(5))))


def test_segment_longer_than_the_file_is_told():
    with pytest.raises(VerifyError, match="segment 5 is not all there"):
        image.parse_image(GOOD[:0x10100])


def test_image_without_a_sector_is_told_apart_from_a_cut_one():
    with pytest.raises(VerifyError, match="it has no signature sector") as caught:
        image.parse_image(GOOD[:SECTOR_AT])
    assert caught.value.code == status.IM4
    assert refusal(GOOD[:-1]) == status.IM3


def test_image_larger_than_any_slot_is_refused():
    code = (0x42040020, bytes(0x3F0000 - 0x10020))
    large = esp_world.rebuilt(GOOD, lambda parts: [*parts[:5], code, parts[6]])
    with pytest.raises(VerifyError, match="larger than a slot can be") as caught:
        image.parse_image(large)
    assert caught.value.code == status.IM3


def test_what_is_no_image_at_all_is_told_by_its_magic():
    with pytest.raises(FormatError) as caught:
        esp_image.parse(b"\xea" + GOOD[1:])
    assert caught.value.code == status.IM1


def test_bytes_that_no_hash_of_espressif_covers_are_blank():
    changed = bytearray(GOOD)
    changed[END] = 0
    assert refusal(bytes(changed)) == status.IM4


def block_by(key: str, data: bytes = GOOD, signature: bytes | None = None) -> bytes:
    private = esp_world.example_key(key)
    digest = esp_image.parse(GOOD).image_hash
    made = signature or host_crypto.signer(private)(digest)
    return esp_signature.build_block(host_crypto.public_xy(private), made, digest)


def with_blocks(*blocks: bytes) -> bytes:
    return GOOD[:SECTOR_AT] + esp_signature.build_sector(list(blocks))


def test_of_several_signatures_the_one_counts_that_our_block_names():
    data = with_blocks(block_by("image-b"), block_by("release-1"), block_by("image-a"))
    assert image.parse_image(data).signature == image.parse_image(GOOD).signature
    assert refusal(with_blocks(block_by("image-b"))) == status.IM8
    assert refusal(with_blocks(block_by("image-a"), block_by("image-a"))) == status.IM4


@pytest.mark.parametrize("number", [0, der.ORDER, der.ORDER + 1])
@pytest.mark.parametrize("at", [0, 32])
def test_signature_numbers_out_of_range_are_refused(at, number):
    good = image.parse_image(GOOD).signature
    made = good[:at] + number.to_bytes(32, "big") + good[at + 32 :]
    assert refusal(with_blocks(block_by("image-a", signature=made))) == status.IM11


def with_crc(block: bytes) -> bytes:
    return block[:1196] + struct.pack("<I", binascii.crc32(block[:1196])) + bytes(16)


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [(1, 4, "is of version 04"), (3, 1, "nobody knows"), (2, 2, "nobody knows"), (36, 7, "is of curve 7")],
)
def test_block_of_an_unknown_kind_is_refused_by_it(at, value, says):
    changed = bytearray(block_by("image-a"))
    changed[at] = value
    with pytest.raises(VerifyError, match=says) as caught:
        image.parse_image(with_blocks(with_crc(bytes(changed))))
    assert caught.value.code == status.IM4


@pytest.mark.parametrize("at", [165, 700, 1195])
def test_block_with_bytes_behind_its_signature_is_refused(at):
    changed = bytearray(block_by("image-a"))
    changed[at] = 1
    with pytest.raises(VerifyError, match="bytes behind its signature"):
        image.parse_image(with_blocks(with_crc(bytes(changed))))


def test_sector_with_anything_between_or_behind_its_blocks_is_refused():
    one = block_by("image-a")
    for sector in (
        one + b"\xff" * 1216 + one + b"\xff" * 448,  # a hole
        one + b"\0" + b"\xff" * (4096 - 1217),
        one * 3 + b"\xff" * 447 + b"\0",
        b"\xff" * 4096,
    ):
        assert refusal(GOOD[:SECTOR_AT] + sector) == status.IM4


@pytest.mark.skipif(not esp_world.VECTORS.is_dir(), reason=f"no ESP32 vectors at {esp_world.VECTORS}")
def test_signature_sectors_of_espressif_are_read():
    folder = esp_world.VECTORS / "signed"
    data = (folder / "bootloader_signed_v2_ecdsa256.bin").read_bytes()
    (found,) = esp_signature.read_sector(data[-4096:])
    raw = (folder / "ecdsa256_secure_boot_signing_pubkey_raw.bin").read_bytes()
    assert found.xy == raw[:32][::-1] + raw[32:][::-1] or found.xy == raw
    assert found.key_digest.hex().startswith("f35cc5db")
    assert host_crypto.verify(found.xy, found.digest, found.signature)
    (other,) = esp_signature.read_sector((folder / "bootloader_signed_v2_ecdsa384.bin").read_bytes()[-4096:])
    assert (other.kind, other.xy) == ("ECDSA P-384", b"")


@pytest.mark.skipif(not esp_world.VECTORS.is_dir(), reason=f"no ESP32 vectors at {esp_world.VECTORS}")
def test_stock_bootloader_has_a_right_checksum_and_hash_and_is_no_application():
    data = (esp_world.VECTORS / "boot" / "c3_idf4.3dev_esptool.bin").read_bytes()
    found = esp_image.read_segments(data, esp_image.Header(data))
    assert (len(found[0]), found[1]) == (4, len(data))
    assert esp_image.checksum(data, found[0]) == data[-33]
    assert refusal(data) == status.IM15


def test_image_for_another_chip_than_the_device_has_is_refused_by_name():
    with pytest.raises(VerifyError, match="image is for chip esp32c3, not stm32u585") as caught:
        image.parse_image(GOOD, chip=host_chips.chip("stm32u585"))
    assert caught.value.code == status.IM13
    assert image.parse_image(GOOD, chip=host_chips.chip("esp32c3")).chip == "esp32c3"


def test_image_of_an_stm32_is_none_for_an_esp32():
    vectors = json.loads((Path(__file__).parents[1] / "vectors" / "image.json").read_text())
    of_stm32 = bytes.fromhex(vectors[0]["hex"])
    with pytest.raises(VerifyError, match="for an STM32, not for chip esp32c3") as caught:
        image.parse_image(of_stm32, chip=host_chips.chip("esp32c3"))
    assert caught.value.code == status.IM13
