"""Builds signed images, and checks them as the bootloader does."""

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

from fota_wire import cose, host_crypto, host_keys, image, layout, status
from fota_wire.chips import stm32l476
from fota_wire.errors import InputError, VerifyError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    from fota_signer.identity import DeviceClass
    from fota_wire.host_chips import Chip, Stm32
    from fota_wire.host_keys import SigningKey


class Device(NamedTuple):
    """What a bootloader knows, as far as it is to be checked: ``roots`` x||y of the keys it accepts;
    ``class_id``; ``floor`` of the security counter and ``max_step`` above it; ``program``: a Linux gateway;
    ``vendor_id``: looked for in images that name theirs; ``chip``: the device's, None if it is not known.
    """

    roots: tuple[bytes, ...]
    class_id: bytes | None = None
    floor: int = 0
    max_step: int | None = None
    program: bool = False
    vendor_id: bytes | None = None
    chip: "Chip | None" = None


def sign_payload(payload: bytes, *, key: "EllipticCurvePrivateKey", **of_image: Any) -> bytes:  # noqa: ANN401  handed on as they are
    """Return the signed image of ``payload`` alone, by a key in memory; as `signed_payload`."""
    return signed_payload(payload, key=host_keys.in_memory(key), **of_image)[0]


def sign_application(plain: bytes, *, key: "EllipticCurvePrivateKey", **of_image: Any) -> bytes:  # noqa: ANN401
    """Return the signed image of an application alone, by a key in memory; as `signed_application`."""
    return signed_application(plain, key=host_keys.in_memory(key), **of_image)[0]


def signed_payload(
    payload: bytes,
    *,
    key: "SigningKey",
    version: tuple[int, int, int, int],
    sec_cnt: int,
    device_class: "DeviceClass",
    program: bool = False,
    chip: "Stm32 | None" = None,
) -> tuple[bytes, image.Image]:
    """Return the signed image of ``payload``, firmware or a ``program`` of Linux gateways, and what was read
    back of it; the same input gives the same bytes. ``chip``: said in the image; without it, the image is for
    the STM32L476 and does not say so, as was usual before there was a second one.

    Raises:
        InputError: ``sec_cnt`` is out of range, or the image does not fit a slot.
    """
    if not 1 <= sec_cnt <= layout.SEC_CNT_MAX:
        raise InputError(f"security counter {sec_cnt} is not in 1..{layout.SEC_CNT_MAX}")
    said, row = ("", stm32l476) if chip is None else (chip.NAME, chip)
    protected = image.build_protected(sec_cnt, device_class.class_id, device_class.vendor_id, said)
    header = image.build_header(len(payload), len(protected), version, program=program, chip=row)
    signed = header + payload + protected
    digest = hashlib.sha256(signed).digest()
    signature = key.sign(digest)
    data = signed + image.build_unprotected(digest, cose.key_hash(key.public), signature)
    limit = image.MAX_PROGRAM if program else row.SLOT_SIZE
    if len(data) > limit:
        raise InputError(f"image of {len(data)} bytes does not fit a slot of {limit}")
    device = Device(roots=(key.public,), class_id=device_class.class_id, program=program, chip=chip)
    return data, check_image(data, device)  # never hand out what nobody boots


def signed_application(
    plain: bytes,
    *,
    key: "SigningKey",
    version: tuple[int, int, int, int],
    sec_cnt: int,
    device_class: "DeviceClass",
) -> tuple[bytes, image.Image]:
    """Return the signed image of an application in Espressif's form, which `esp_firmware.load_application`
    took, and what was read back of it; the same input gives the same bytes. The vendor is not said in this
    form.

    Raises:
        InputError: ``sec_cnt`` is out of range; the image does not fit a slot, or has 16 segments already.
    """
    from fota_signer import esp_pack
    from fota_wire.host_chips import CHIPS

    if not 1 <= sec_cnt <= layout.SEC_CNT_MAX:
        raise InputError(f"security counter {sec_cnt} is not in 1..{layout.SEC_CNT_MAX}")
    data = esp_pack.sign(plain, esp_pack.block_for(version, sec_cnt, device_class.class_id, key), key)
    chip = CHIPS[esp_pack.chip_of(plain)]
    if len(data) > chip.SLOT_SIZE:
        raise InputError(f"image of {len(data)} bytes does not fit a slot of {chip.SLOT_SIZE}")
    return data, check_image(data, Device((key.public,), device_class.class_id))


def _require_made_for(chip: "Stm32", parsed: image.Image, data: bytes) -> None:
    """Return unless an image is known to be for another chip, which says nothing, or shows another.

    Raises:
        VerifyError: IM13.
    """
    from fota_signer import clocks

    fault = clocks.fault_of(data[layout.HEADER_SIZE :][: parsed.img_size], chip)
    if fault and parsed.flags != image.PROGRAM:
        raise VerifyError(f"image is {fault}", status.IM13)
    if chip.NAME not in (parsed.chip, stm32l476.NAME):
        raise VerifyError(
            f"image names no chip, so it is for {stm32l476.NAME}, not for {chip.NAME}: sign it with"
            f" --chip {chip.NAME}",
            status.IM13,
        )


def check_image(data: bytes, device: Device) -> image.Image:
    """Return the image if a bootloader with ``device``'s knowledge would boot it.

    Raises:
        FormatError: IM1, not an image. VerifyError: the status code of what is wrong.
    """
    parsed = image.parse_image(data, programs=device.program, chip=device.chip)
    if device.program and parsed.flags != image.PROGRAM:
        raise VerifyError("firmware of a microcontroller, and the device is a Linux gateway", status.IM2)
    if device.chip is not None and device.chip.FORM == image.MCUBOOT_FORM:
        _require_made_for(device.chip, parsed, data)  # type: ignore[arg-type]  # an STM32's, by its form
    if device.class_id is not None and parsed.class_id != device.class_id:
        raise VerifyError(f"image is for class {parsed.class_id.hex()}", status.IM7)
    vendors = [value for kind, value in parsed.protected if kind == image.VENDOR_ID]
    if device.vendor_id is not None and vendors and vendors != [device.vendor_id]:
        raise VerifyError(f"image is of vendor {vendors[0].hex()}", status.IM7)
    keys = {cose.key_hash(xy): xy for xy in device.roots}
    if parsed.key_hash not in keys:
        raise VerifyError(f"image is signed by key {parsed.key_hash[:8].hex()}, not one of yours", status.IM8)
    if parsed.sec_cnt < device.floor:
        raise VerifyError(f"SEC_CNT {parsed.sec_cnt} is below the floor {device.floor}", status.PO1)
    if device.max_step is not None and parsed.sec_cnt > device.floor + device.max_step:
        raise VerifyError(f"SEC_CNT {parsed.sec_cnt} is too far above {device.floor}", status.PO2)
    if not host_crypto.verify(keys[parsed.key_hash], parsed.image_hash, parsed.signature):
        raise VerifyError("image signature is wrong", status.IM10)
    return parsed
