"""What every station (signer, server) asks of a release before it hands it on: image, manifest and ROOT fit.

The device checks all of it again. Nothing is needed but the documents, and the IMAGE keys where ROOT does not
name them.
"""

from fota_wire import cose, image, status
from fota_wire.errors import VerifyError
from fota_wire.version import format_version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_wire.root import Root
    from fota_wire.seams import Verify
    from fota_wire.suit import Manifest


MAX_SEQUENCE = 0xFFFFFFFF - (1 << 20)
"""Highest sequence of a manifest that is signed or published: devices take more, and nothing could follow."""


def image_keys(root: "Root | None", configured: "tuple[bytes, ...]" = ()) -> "dict[bytes, bytes]":
    """Return {KEYHASH: x||y} of the keys that devices know images by: those that ROOT names, else those
    ``configured`` (x||y); empty if nobody says.
    """
    if root is not None and root.image_keys:
        return root.image_keys
    return {cose.key_hash(xy): xy for xy in configured}


def check_image(
    data: bytes, root: "Root | None", keys: "dict[bytes, bytes]", verify: "Verify"
) -> "image.Image":
    """Return the image if devices that know ``keys`` (of `image_keys`) and ``root`` would take it, whatever
    their class and floor. Without ``keys`` its signature is **not** checked.

    Raises:
        FormatError: IM1, not an image.
        VerifyError: malformed (IM2 to IM12), signed by a key that devices do not know (IM8) or not rightly
            (IM10); by a key that ROOT retired, or below its minimum (``root-minimum``).
    """
    parsed = image.parse_image(data, programs=True)
    if keys:
        if parsed.key_hash not in keys:
            known = ", ".join([key_hash[:8].hex() for key_hash in keys])
            raise VerifyError(
                f"the image is signed by key {parsed.key_hash[:8].hex()}, which devices do not know:"
                f" sign it with one of {known}",
                status.IM8,
            )
        if verify(keys[parsed.key_hash], parsed.image_hash, parsed.signature) is not True:
            raise VerifyError("the image's signature is wrong: sign it anew", status.IM10)
    if root is not None:
        refusal = root_refuses_image(root, parsed.key_hash, parsed.sec_cnt)
        if refusal:
            raise VerifyError(refusal, "root-minimum")
    return parsed


def check_manifest(manifest: "Manifest", root: "Root") -> None:
    """Return if ``root`` allows a manifest that its RELEASE keys have signed.

    Raises:
        VerifyError: revoked, below the minimum sequence, or above `MAX_SEQUENCE`.
    """
    if manifest.sequence > MAX_SEQUENCE:
        raise VerifyError(
            f"sequence {manifest.sequence}: no release could follow it for long; {MAX_SEQUENCE} is the most",
            "sequence",
        )
    refusal = root_refuses_manifest(root, manifest.manifest_digest, manifest.sequence)
    if refusal:
        raise VerifyError(refusal, "root-minimum")


def check_pair(manifest: "Manifest", parsed: "image.Image") -> None:
    """Return if the manifest is about this image, and says of it what it says itself.

    Raises:
        VerifyError: codes ``size``, ``digest``, ``class``, ``version``.
    """
    if manifest.size != parsed.size:
        raise VerifyError(
            f"the manifest is about another image file: of {manifest.size} bytes, this one has {parsed.size}",
            "size",
        )
    if manifest.digest != parsed.file_digest:
        raise VerifyError("the manifest is about another image file: digests differ", "digest")
    if manifest.class_id != parsed.class_id:
        raise VerifyError(
            f"the manifest is for class {manifest.class_id.hex()}, the image for {parsed.class_id.hex()}",
            "class",
        )
    version = format_version(parsed.version)
    named = (manifest.text or {}).get("version", version)
    if named not in (version, version + "+0"):
        raise VerifyError(f"the manifest calls the release {named}, the image says {version}", "version")


def root_refuses_image(root: "Root", key_hash: bytes | None, sec_cnt: int) -> str | None:
    """Return why ``root`` has devices refuse an image, or None; ``key_hash`` None: not known."""
    if key_hash is not None and key_hash in root.retired:
        return f"the image is signed by an IMAGE key that ROOT {root.version} retired"
    if key_hash is not None and root.image_keys and key_hash not in root.image_keys:
        return (
            f"the image is signed by key {key_hash[:8].hex()}, which is no IMAGE key of ROOT {root.version}"
        )
    if sec_cnt < root.min_secver:
        return f"security counter {sec_cnt} is below {root.min_secver}, the minimum of ROOT {root.version}"
    return None


def root_refuses_manifest(root: "Root", manifest_digest: bytes, sequence: int) -> str | None:
    """Return why ``root`` has devices refuse a manifest, or None."""
    if root.revokes(manifest_digest):
        return f"ROOT {root.version} revokes this manifest"
    if sequence < root.min_sequence:
        return (
            f"manifest sequence {sequence} is below {root.min_sequence}, the minimum of ROOT {root.version}"
        )
    return None
