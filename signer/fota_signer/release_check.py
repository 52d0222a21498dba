"""Holds a built release against its policy: what is there, and what it lacks. Nothing is written.

The sources have to lie there as they were built, so that the rules say again what they said then.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fota_signer import manifests, release_evidence_check
from fota_signer.images import Device
from fota_signer.images import check_image as check_by_bootloader
from fota_signer.release_build import DESCRIPTION, FORMAT, IMAGE_FOLDER, MANIFEST
from fota_signer.release_evidence_check import Row
from fota_signer.release_named import Named
from fota_signer.release_rules import Ruled, ruled
from fota_wire import cose, example_keys, host_chips, host_crypto, release, suit
from fota_wire.errors import FotaError, InputError, VerifyError
from fota_wire.files import read_input
from fota_wire.host_json import read_json
from fota_wire.host_values import uuid_text
from fota_wire.image import Image
from fota_wire.version import format_version

LIMIT = 65536


def check(named: Named, folder: Path) -> list[Row]:
    """Return a row for each thing that the policy asks of the release in ``folder``.

    Raises:
        InputError: there is no release, or no policy, ROOT or rule to hold it against.
        StorageError: something cannot be read; or there is no git, and a rule needs it.
    """
    said = _description(folder)
    raw = read_input(folder / MANIFEST, LIMIT)
    try:
        manifest = suit.unsafe_read_manifest(raw)
    except FotaError as exc:
        raise InputError(f"{folder / MANIFEST}: {exc}") from exc
    payload = folder / IMAGE_FOLDER / manifest.digest.hex()
    known = named.known()
    rows: list[Row] = []
    image = _held(rows, "image", lambda: _image(named, known, payload, manifest))
    rules = _held(rows, "sources", lambda: _sources(named, said))
    if image is not None and rules is not None:
        rows += _by_rules(rules, image, manifest)
    if image is not None:
        rows.append(_described(said, image, manifest))
    rows += _signatures(named, raw, known)
    rows += release_evidence_check.rows(named, folder, manifest)
    return rows


def _held(rows: list[Row], what: str, look: Callable[[], tuple[Any, str]]) -> Any:  # noqa: ANN401  what was found
    """Return what ``look`` finds, or None; tell ``rows`` which, and why it was refused."""
    try:
        found, detail = look()
    except (InputError, VerifyError) as exc:
        rows.append(Row(what, False, str(exc)))
        return None
    rows.append(Row(what, True, detail))
    return found


def _description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    said = read_json(read_input(path, LIMIT), str(path))
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise InputError(f"{path}: not what fota release build wrote")
    return said


def _image(named: Named, known: manifests.Known, file: Path, manifest: suit.Manifest) -> tuple[Image, str]:
    """Return the image that is in the release, if devices of the policy's class and chip take it."""
    policy, who = named.policy, named.policy.who
    if not known.keys:
        raise InputError("no IMAGE key is known: signed.image, if ROOT names none")
    data, keys = read_input(file), tuple(known.keys.values())
    chip = None if policy.chip is None else host_chips.chip(policy.chip)
    device = Device(keys, who.class_id, program=policy.program, vendor_id=who.vendor_id, chip=chip)
    image = check_by_bootloader(data, device)
    manifests.check_image(data, known)
    release.check_pair(manifest, image)
    if manifest.vendor_id != policy.who.vendor_id:
        raise VerifyError(
            f"the manifest is of vendor {uuid_text(manifest.vendor_id)}, not {policy.who.domain}"
        )
    kid = cose.kid_of(known.keys[image.key_hash])
    if policy.development_keys and kid in example_keys.PUBLISHED:
        raise VerifyError(f"signed by {kid.hex()}, a published example key")
    for text in policy.texts:
        if text.encode() in data:
            raise VerifyError(f"has the text {text!r} in it: a build that is no release")
    return image, f"signed by {kid.hex()}, {image.size} bytes, file digest {image.file_digest.hex()[:16]}"


def _sources(named: Named, said: dict[str, Any]) -> tuple[Ruled, str]:
    """Return what the rules say of the sources that lie there, if they are those of the release."""
    rules = ruled(named.policy, named.folder)
    commit = rules.sources.commit
    if said.get("commit") != commit:
        raise VerifyError(
            f"the release is of commit {str(said.get('commit'))[:12]}, and here lies {str(commit)[:12]}"
        )
    if said.get("changed") is not False and named.policy.dirty:
        raise VerifyError("the release was built of a tree that differed from its commit")
    return rules, f"commit {commit[:12]}" if commit else "not in git"


def _by_rules(rules: Ruled, image: Image, manifest: suit.Manifest) -> Iterator[Row]:
    version, ruled_version = format_version(image.version), format_version(rules.version)
    for what, found, wanted in (
        ("version", version, ruled_version),
        ("sequence", manifest.sequence, rules.sequence),
        ("security counter", image.sec_cnt, rules.security_counter),
    ):
        yield Row(
            what, found == wanted, f"{found}" if found == wanted else f"{found}, and by its rule {wanted}"
        )


def _described(said: dict[str, Any], image: Image, manifest: suit.Manifest) -> Row:
    """Return whether what programs and people read of the release is what is signed."""
    table: dict[str, Any] = {
        "version": format_version(image.version),
        "sequence": manifest.sequence,
        "security_counter": image.sec_cnt,
        "vendor": uuid_text(manifest.vendor_id),
        "class": uuid_text(manifest.class_id),
        "image.size": image.size,
        "image.sha256": image.file_digest.hex(),
        "manifest.digest": manifest.manifest_digest.hex(),
    }
    wrong = [name for name, value in table.items() if _at(said, name) != value]
    return Row("release.json", not wrong, f"says another {wrong[0]}" if wrong else "says what is signed")


def _at(said: Any, name: str) -> Any:  # noqa: ANN401  JSON
    for key in name.split("."):
        said = said.get(key) if isinstance(said, dict) else None
    return said


def _signatures(named: Named, raw: bytes, known: manifests.Known) -> Iterator[Row]:
    """Yield whether as many have signed as ROOT and the policy ask for, and who had to."""
    policy, root = named.policy, known.root
    if root is None:  # a policy names one
        raise InputError("signed.root is missing")
    try:
        standing = manifests.standing(raw, root)
    except VerifyError as exc:
        yield Row("signatures", False, str(exc))
        return
    states = {key["kid"]: key["state"] for key in standing["keys"]}
    threshold = max(standing["threshold"], policy.release)
    missing = threshold - standing["good"]
    detail = f"{standing['good']} of {threshold} by ROOT {root.version}"
    wrong = [kid for kid, state in states.items() if state == "wrong"]
    if standing["refused"]:
        detail = f"refused, however many sign: {standing['refused']}"
    elif wrong:
        detail = f"the signature of {wrong[0]} is wrong"
    elif missing > 0:
        others = ", ".join(kid for kid, state in states.items() if state == "not yet")
        detail += f"; {missing} more, of {others or 'nobody that ROOT names'}"
    good = not standing["refused"] and not wrong and missing <= 0
    yield Row("signatures", good, detail)
    signed = [kid for kid, state in states.items() if state == "signed"]
    published = [kid for kid in signed if bytes.fromhex(kid) in example_keys.PUBLISHED]
    if policy.development_keys and published:
        yield Row("signers", False, f"{published[0]} is a published example key")
    for name in policy.by:
        kid = cose.kid_of(host_crypto.load_public_key(named.path(name), "release")).hex()
        state = states.get(kid, "is no RELEASE key of this ROOT")
        yield Row(f"signed by {name}", state == "signed", f"{kid} {state}")
