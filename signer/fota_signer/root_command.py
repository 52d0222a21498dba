"""What ``fota root`` does: build, sign and show the ROOT document (SPEC 5.2)."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fota_signer import describe, passwords
from fota_wire import cose, host_crypto
from fota_wire import root as roots
from fota_wire.errors import InputError, VerifyError


def new_root(options: Mapping[str, Any]) -> bytes:
    """Return a ROOT of the options of ``fota root new``, signed by the keys under ``signing``.

    Raises:
        InputError: a key file is not usable, a digest is not hex, or devices would refuse the document.
        VerifyError: a published example key, private or public, which was not allowed.
    """
    allow = options["allow_example_keys"]
    roles = {
        roots.ROOT: (options["root_threshold"], _public(options["root_key"], "root", allow)),
        roots.RELEASE: (options["release_threshold"], _public(options["release_key"], "release", allow)),
        roots.ASSIGN: (1, _public(options["assign_key"], "assign", allow)),
    }
    image_keys = _public(options["image_key"], "image", allow)
    retired = [cose.key_hash(xy) for xy in _public(options["retire_image_key"], "image", allow)]
    if any(cose.key_hash(xy) in retired for xy in image_keys):
        raise InputError("one key under --image-key and under --retire-image-key: devices know it, or not")
    raw = roots.build_root(
        options["root_version"],
        roles,
        options["min_sequence"],
        options["min_security_counter"],
        tuple(_digest(text) for text in options["revoke"]),
        options["key_epoch"],
        tuple(retired),
        tuple(image_keys),
    )
    return sign_root(raw, options["signing"], options["password_file"], options["allow_example_keys"])


def sign_root(
    raw: bytes, keys: Iterable[Path], password_file: Path | None, allow_example_keys: bool
) -> bytes:
    """Return the ROOT with one more signature per key.

    Raises:
        InputError: a key file is not usable, or not of a ROOT key that the document names.
        VerifyError: signed by it already, or an example key.
    """
    known = roots.unsafe_read_root(raw)
    for path in keys:
        key = passwords.open_key(path, password_file, allow_example_keys, role="root")
        kid = cose.kid_of(host_crypto.public_xy(key))
        if known.version == 1 and kid not in known.role_keys(roots.ROOT):
            raise InputError(f"{path}: not one of the ROOT keys of this document")
        raw = roots.add_signature(raw, kid, host_crypto.signer(key))
    return raw


def summary(path: Path, raw: bytes) -> dict[str, Any]:
    """Return the fields of a ROOT; ``verified`` tells whether its own threshold of ROOT keys signed it."""
    table = describe.describe(path, raw)
    if table["kind"] != "root":
        raise InputError(f"{path}: not a ROOT")
    try:
        roots.open_genesis(raw, host_crypto.verify)
        table["verified"] = True
    except VerifyError as exc:
        table["verified"] = False
        table["missing"] = exc.message
    return table


def _public(paths: Iterable[Path], role: str, allow_example_keys: bool) -> list[bytes]:
    found = [(path, host_crypto.load_public_key(path, role)) for path in paths]
    for path, xy in found:
        host_crypto.refuse_example_key(xy, allow_example_keys, str(path))
    return [xy for _, xy in found]


def _digest(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise InputError(f"{text!r} is not a manifest digest (64 hex digits)")
    return raw
