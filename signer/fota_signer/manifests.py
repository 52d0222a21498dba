"""Makes, signs and checks the manifest of a release (SPEC 5.1) for an image that was signed before."""

from fota_signer.identity import DeviceClass
from fota_wire import host_crypto, suit
from fota_wire import root as roots
from fota_wire.errors import InputError, VerifyError
from fota_wire.image import parse_image
from fota_wire.version import format_version


def new_envelope(image_file: bytes, *, sequence: int, device_class: DeviceClass) -> bytes:
    """Return an unsigned envelope about the image file.

    Raises:
        InputError: vendor unknown, or the image is for another class.
        FotaError: not an image that a bootloader would look at.
    """
    image = parse_image(image_file, programs=True)
    if image.class_id != device_class.class_id:
        raise InputError(f"the image is for class {image.class_id.hex()}, not {device_class.class_id.hex()}")
    if device_class.vendor_id is None:
        raise InputError("say who the vendor is: --vendor-domain NAME")
    text = suit.build_text(device_class.domain or "", device_class.model or "", format_version(image.version))
    manifest = suit.build_manifest(
        sequence, device_class.vendor_id, device_class.class_id, image.file_digest, image.size, text
    )
    return suit.build_envelope(manifest, [], text)


def verify_envelope(raw: bytes, root: roots.Root, image_file: bytes | None = None) -> suit.Manifest:
    """Return the manifest if ``root`` allows it and the image file, if given, is the one it names.

    Raises:
        FormatError: malformed.
        VerifyError: too few or wrong signatures, revoked, below the ROOT's minimum, or another image.
    """
    keys, threshold = root.role_keys(roots.RELEASE), root.threshold(roots.RELEASE)
    manifest = suit.open_envelope(raw, keys, threshold, host_crypto.verify)
    if manifest.manifest_digest in root.revoked:
        raise VerifyError(f"ROOT {root.version} revokes this manifest", "revoked")
    if manifest.sequence < root.min_sequence:
        raise VerifyError(
            f"sequence {manifest.sequence} is below the minimum {root.min_sequence} of ROOT {root.version}",
            "rollback",
        )
    if image_file is not None:
        _check_image(manifest, root, image_file)
    return manifest


def _check_image(manifest: suit.Manifest, root: roots.Root, image_file: bytes) -> None:
    image = parse_image(image_file, programs=True)
    if image.file_digest != manifest.digest or image.size != manifest.size:
        raise VerifyError("the manifest is about another image file", "image-digest")
    if image.class_id != manifest.class_id:
        raise VerifyError("manifest and image name different classes", "class")
    if image.sec_cnt < root.min_secver:
        raise VerifyError(
            f"SEC_CNT {image.sec_cnt} is below the minimum {root.min_secver} of ROOT {root.version}",
            "rollback",
        )
