"""An image says its chip; one that does not stays as it was; that of another chip is refused by name."""

import hashlib
import struct
import subprocess
import sys
import uuid

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fota_signer.examples import example_key
from fota_signer.identity import DeviceClass
from fota_signer.images import Device, check_image, sign_payload
from fota_wire import image, status
from fota_wire.errors import InputError, VerifyError
from fota_wire.host_chips import STM32
from fota_wire.host_crypto import public_xy
from fota_wire.image import parse_image

CLASS = DeviceClass(vendor_id=b"v" * 16, class_id=b"k" * 16)
KEY = example_key("image-a")
L4, U5 = STM32["stm32l476"], STM32["stm32u585"]


def payload(size=1024):
    return struct.pack("<II", 0x20001000, 0x08004301).ljust(size, b"\xa5")


def signed(chip=None, size=1024):
    return sign_payload(
        payload(size), key=KEY, version=(1, 2, 3, 4), sec_cnt=3, device_class=CLASS, chip=chip
    )


def test_image_names_its_chip_under_the_signature():
    made = parse_image(signed(U5))
    assert (made.chip, made.protected[-1]) == ("stm32u585", (0xA0, b"stm32u585"))
    raw = bytearray(signed(U5))
    at = raw.index(b"stm32u585")
    raw[at : at + 9] = b"stm32l476"
    with pytest.raises(VerifyError) as refused:
        parse_image(bytes(raw))
    assert refused.value.code == status.IM6


def test_image_that_names_no_chip_has_no_such_entry_and_runs_anywhere():
    raw = signed()
    assert [kind for kind, _ in parse_image(raw).protected] == [
        image.SEC_CNT,
        image.VENDOR_ID,
        image.CLASS_ID,
    ]
    assert {parse_image(raw, chip=row).chip for row in (L4, U5, None)} == {""}


@pytest.mark.parametrize(("made", "device"), [(U5, L4), (L4, U5)], ids=["u5-on-l4", "l4-on-u5"])
def test_image_of_another_chip_is_refused_by_name(made, device):
    with pytest.raises(VerifyError, match=f"image is for chip {made.NAME}, not {device.NAME}") as refused:
        check_image(signed(made), Device(roots=(public_xy(KEY),), chip=device))
    assert refused.value.code == status.IM13
    assert check_image(signed(made), Device(roots=(public_xy(KEY),), chip=made)).chip == made.NAME


def rebuilt(entries):
    """An image with these protected entries behind the usual ones."""
    area = image.build_protected(3, CLASS.class_id)
    area += b"".join(struct.pack("<HH", image.CHIP, len(value)) + value for value in entries)
    area = area[:2] + struct.pack("<H", len(area)) + area[4:]
    body = image.build_header(1024, len(area), (1, 2, 3, 4)) + payload() + area
    return body + image.build_unprotected(hashlib.sha256(body).digest(), bytes(32), b"\x01" * 64)


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ((b"stm32h573",), status.IM13),
        ((b"esp32c3",), status.IM13),
        ((b"stm32l476", b"stm32u585"), status.IM4),
        ((b"\xff\xfe",), status.IM4),
        ((b"stm32l476",), None),
    ],
    ids=["unknown", "of-another-form", "two", "no-text", "good"],
)
def test_chip_entry_is_read_strictly(entries, code):
    if code is None:
        assert parse_image(rebuilt(entries)).chip == "stm32l476"
        return
    with pytest.raises(VerifyError) as refused:
        parse_image(rebuilt(entries))
    assert refused.value.code == code


@pytest.mark.parametrize("chip", [None, L4, U5], ids=["none", "l4", "u5"])
def test_largest_image_is_that_of_the_chip_and_no_byte_more(chip):
    room = (chip or L4).SLOT_SIZE
    overhead = len(signed(chip)) - 1024 + 2  # a signature's length varies by a byte or two
    raw = signed(chip, room - overhead - 6)
    assert parse_image(raw).size <= room
    with pytest.raises(InputError, match=f"does not fit a slot of {room}"):
        signed(chip, room - overhead + 6)


def imgtool(*arguments):
    command = [sys.executable, "-m", "imgtool.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_imgtool_makes_and_verifies_images_that_name_their_chip(tmp_path):
    key, plain = tmp_path / "key.pem", tmp_path / "plain.bin"
    theirs, ours = tmp_path / "theirs.img", tmp_path / "ours.img"
    imgtool("keygen", "-k", key, "-t", "ecdsa-p256")
    plain.write_bytes(payload())
    vendor, device_class = (uuid.UUID(bytes=value) for value in (CLASS.vendor_id, CLASS.class_id))
    imgtool("sign", "-k", key, "-v", "1.2.3+4", "-s", "3", "-H", "0x200", "--pad-header", "-S", "0xF0000",
            "--align", "8", "--rom-fixed", "0x08004000", "--public-key-format", "hash", "--vid", vendor,
            "--cid", device_class, "--custom-tlv", "0x00a0", "stm32u585", plain, theirs)  # fmt: skip
    made = parse_image(theirs.read_bytes())
    assert (made.chip, made.class_id) == ("stm32u585", CLASS.class_id)
    own = load_pem_private_key(key.read_bytes(), None)
    raw = sign_payload(payload(), key=own, version=(1, 2, 3, 4), sec_cnt=3, device_class=CLASS, chip=U5)
    ours.write_bytes(raw)
    assert parse_image(raw).protected == made.protected
    assert "was correctly validated" in imgtool("verify", "-k", key, ours)
