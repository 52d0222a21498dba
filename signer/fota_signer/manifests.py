"""Makes, signs and checks the manifest of a release (SPEC 5.1) for an image that was signed before."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fota_signer.identity import DeviceClass
from fota_wire import cose, host_crypto, host_evidence, release, signed, suit
from fota_wire import root as roots
from fota_wire.errors import FotaError, InputError, VerifyError
from fota_wire.files import read_input
from fota_wire.host_values import UsageError, uuid_text
from fota_wire.image import Image
from fota_wire.version import format_version

UNCHECKED = "not checked: no IMAGE key is known; give --image-key FILE, or --root of a ROOT that names them"


class Known(NamedTuple):
    """What devices are known to trust: ``root``, if it was given, and ``keys`` {KEYHASH: x||y} for images."""

    root: roots.Root | None
    keys: dict[bytes, bytes]


def load_known(root_file: Path | None, image_keys: Sequence[Path]) -> Known:
    """Return what the files say.

    Raises:
        InputError: a file cannot be read, or is none of these. VerifyError: ROOT lacks signatures.
    """
    root = load_root(root_file) if root_file is not None else None
    configured = tuple(host_crypto.load_public_key(path, "image") for path in image_keys)
    return Known(root, release.image_keys(root, configured))


def load_root(path: Path) -> roots.Root:
    """Return the ROOT in a file, as its own keys have signed it.

    Raises:
        InputError: it cannot be read, or is none. VerifyError: it lacks signatures.
    """
    try:
        return roots.open_genesis(read_input(path, roots.MAX_ROOT), host_crypto.verify)
    except FotaError as exc:
        text = str(exc)
        raise type(exc)(text if text.startswith(str(path)) else f"{path}: {text}", exc.code) from exc


def check_image(data: bytes, known: Known) -> Image:
    """Return the image if devices would take it, as far as is known; see `fota_wire.release.check_image`."""
    return release.check_image(data, known.root, known.keys, host_crypto.verify)


def new_envelope(
    image_file: bytes,
    *,
    sequence: int,
    device_class: DeviceClass,
    known: Known,
    description: str | None = None,
) -> bytes:
    """Return an unsigned envelope about the image file. ``description`` of the update goes into its text.

    Raises:
        UsageError: vendor unknown. InputError: the image is for another class.
        FotaError: no image that a bootloader would look at, or one that devices would refuse.
    """
    image = check_image(image_file, known)
    if image.class_id != device_class.class_id:
        raise InputError(
            f"the image is for class {uuid_text(image.class_id)}, not {uuid_text(device_class.class_id)}"
        )
    if device_class.vendor_id is None:
        raise UsageError("say who the vendor is: --vendor-domain NAME")
    version = format_version(image.version)
    text = suit.build_text(device_class.domain or "", device_class.model or "", version, description)
    manifest = suit.build_manifest(
        sequence, device_class.vendor_id, device_class.class_id, image.file_digest, image.size, text
    )
    raw = suit.build_envelope(manifest, [], text)
    if known.root is not None:
        release.check_manifest(suit.unsafe_read_manifest(raw), known.root)
    return raw


def check_before_signing(raw: bytes, image_file: bytes | None, known: Known) -> Image | None:
    """Return the image that a manifest is about, if it is given; nothing that devices would refuse is worth a
    signature, nor is what another key of ROOT has signed wrongly.

    Raises:
        FormatError: malformed. VerifyError: refused by ROOT, or about another image.
    """
    manifest = suit.unsafe_read_manifest(raw)
    if known.root is not None:
        release.check_manifest(manifest, known.root)
        _require_signatures_hold(raw, known.root.role_keys(roots.RELEASE))
    if image_file is None:
        return None
    image = check_image(image_file, known)
    release.check_pair(manifest, image)
    return image


def _require_signatures_hold(raw: bytes, keys: dict[bytes, bytes]) -> None:
    """Return if no key of ``keys`` signed the envelope wrongly, be they many, few or none."""
    envelope = suit.parse_envelope(raw)
    if any(signature.kid in keys for signature in envelope.signatures):
        signed.check_signatures(envelope.signatures, envelope.signed, b"", keys, 1, host_crypto.verify)


def require_release_key(kid: bytes, known: Known) -> None:
    """Return unless ROOT is known and does not count signatures of this key.

    Raises:
        VerifyError: it does not.
    """
    if known.root is not None and kid not in known.root.role_keys(roots.RELEASE):
        raise VerifyError(
            f"key {kid.hex()} is no RELEASE key of ROOT {known.root.version}: it would not count"
        )


def verify_envelope(raw: bytes, known: Known, image_file: bytes | None = None) -> Image | None:
    """Return the image, if it is given, when ROOT allows the manifest and it is about this very image.

    Raises:
        FormatError: malformed.
        VerifyError: too few or wrong signatures, revoked, below the ROOT's minimum, or another image.
    """
    if known.root is None:
        raise InputError("a manifest is verified by a ROOT")
    keys, threshold = known.root.role_keys(roots.RELEASE), known.root.threshold(roots.RELEASE)
    suit.open_envelope(raw, keys, threshold, host_crypto.verify)
    return check_before_signing(raw, image_file, known)


def standing(raw: bytes, root: roots.Root) -> dict[str, Any]:
    """Return who has signed an envelope, by a ROOT, who may, and what is missing.

    ``keys``: [{kid, state}], ``state`` "signed", "not yet", "wrong" (no device takes the envelope) or "does
    not count". ``good`` of ``threshold`` are there, ``missing`` more are needed. ``refused``: why ROOT would
    refuse the manifest however many sign, or None. ``complete``: devices would take it. ``evidence``: digest
    of the index that it signs, in hex, or None.

    Raises:
        FormatError: malformed. VerifyError: a key signed twice (``duplicate-signer``).
    """
    envelope, keys = suit.parse_envelope(raw), root.role_keys(roots.RELEASE)
    states: dict[bytes, str] = {}
    for signature in envelope.signatures:
        kid = signature.kid or b""
        if kid in states:
            raise VerifyError(f"key {kid.hex()} signed twice", "duplicate-signer")
        states[kid] = "does not count"
        if kid in keys:
            states[kid] = "signed" if _holds(signature, keys[kid], envelope.signed) else "wrong"
    found = list(states.values())
    good, threshold = found.count("signed"), root.threshold(roots.RELEASE)
    manifest, refused = suit.unsafe_read_manifest(raw), None
    try:
        release.check_manifest(manifest, root)
    except VerifyError as exc:
        refused = exc.message
    return {
        "root_version": root.version,
        "good": good,
        "threshold": threshold,
        "missing": max(threshold - good, 0),
        "keys": [{"kid": kid.hex(), "state": states.get(kid, "not yet")} for kid in sorted({*keys, *states})],
        "refused": refused,
        "evidence": host_evidence.signed_digest(manifest.text),
        "complete": good >= threshold and "wrong" not in found and refused is None,
    }


def _holds(signature: cose.Sign1, public_xy: bytes, payload: bytes | memoryview) -> bool:
    try:
        signature.check(public_xy, b"", payload, host_crypto.verify)
    except VerifyError:
        return False
    return True


def image_facts(image: Image | None, known: Known) -> dict[str, object]:
    """Return what there is to show of the image behind a manifest."""
    if image is None:
        return {"image": "not looked at: give --image FILE"}
    return {
        "image_version": format_version(image.version),
        "security_counter": image.sec_cnt,
        "image_key": cose.kid_of(known.keys[image.key_hash]).hex()
        if known.keys
        else image.key_hash[:8].hex(),
        "image_signature": "verified" if known.keys else UNCHECKED,
    }
