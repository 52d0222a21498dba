"""Makes a release by its policy: one folder, whole or not at all.

RELEASE/payload/<sha256 hex>   the signed image
RELEASE/manifest.suit          its manifest's envelope, with the signature of the policy's key or with none
RELEASE/release.json           what it is, for programs and people
RELEASE/evidence/              what is known of it, and the index that the manifest signs (`release_evidence`)

That is an update package as devices take it from a card (docs/agent.md), and what is published.
"""

import json
import os
import shutil
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, NamedTuple

from fota_signer import manifests, release_evidence, release_image
from fota_signer.release_named import Named
from fota_signer.release_policy import Policy
from fota_signer.release_rules import Ruled, ruled
from fota_signer.signing import Door
from fota_wire import cose, suit
from fota_wire.errors import InputError, StorageError
from fota_wire.files import check_output, making_folder, read_input, write_output
from fota_wire.host_values import uuid_text
from fota_wire.version import format_version

IMAGE_FOLDER, MANIFEST, DESCRIPTION = "payload", "manifest.suit", "release.json"
FORMAT = 1


class Built(NamedTuple):
    """The ``files`` of a release {name in its folder: content}, what ``release.json`` says of it, and notes
    of what was filled or left out.
    """

    files: dict[str, bytes]
    description: dict[str, Any]
    notes: list[str]


def build(named: Named, door: Door, allow_example_keys: bool, image_file: Path | None = None) -> Built:
    """Return a release of the sources as they lie there; nothing is written. ``door``: to the IMAGE key;
    ``image_file``: the image that was made before of these sources, in its place.

    Raises:
        VerifyError: a build that the policy refuses, evidence about something else, or an image or manifest
            that devices would refuse.
        FotaError: as `ruled`, `collect` and `Door.open`. Prepared: as `Door`.
    """
    policy = named.policy
    rules, known = ruled(policy, named.folder), named.known()
    if image_file is None:
        made = release_image.sign(named, rules, door)
        what_next = "fota release image makes the image that it is about, and build --image takes that"
    else:
        made = release_image.held_against_sources(
            named, rules, known, read_input(image_file), str(image_file)
        )
        what_next = "make it of this image"
    image = made.image
    evidence = release_evidence.collect(named, image.file_digest.hex(), what_next)
    envelope = manifests.new_envelope(
        made.data,
        sequence=rules.sequence,
        device_class=policy.who,
        known=known,
        description=evidence.line or None,
    )
    signers = []
    if policy.release_key is not None:
        place = named.key(policy.release_key, "keys.release")
        release_key = Door(place, door.password_file, allow_example_keys).open("release")
        named.require_own(release_key.public, "keys.release")
        manifests.require_release_key(release_key.kid, known)
        envelope = suit.add_signature(envelope, release_key.kid, release_key.sign)
        signers.append(release_key.kid.hex())
    name = f"{IMAGE_FOLDER}/{image.file_digest.hex()}"
    description = {
        **_of_rules(rules, policy),
        "image": {
            "file": name,
            "size": image.size,
            "sha256": image.file_digest.hex(),
            "key": cose.kid_of(made.public).hex(),
        },
        "manifest": {
            "file": MANIFEST,
            "digest": suit.unsafe_read_manifest(envelope).manifest_digest.hex(),
            "signed_by": signers,
        },
        "evidence": sorted(evidence.files),
    }
    text = json.dumps(description, indent=1, ensure_ascii=False) + "\n"
    files = {name: made.data, MANIFEST: envelope, DESCRIPTION: text.encode(), **evidence.files}
    return Built(files, description, made.notes)


def write(built: Built, output: Path) -> bool:
    """Write a release into a new folder; tell whether it was, or the very same one is there already.

    Raises:
        InputError: something else is there. StorageError: it cannot be written; nothing is left behind.
    """
    if os.path.lexists(output):
        require_same(built, output)
        return False
    with making_folder(output.parent):
        half = output.with_name(f".{output.name[:200]}.{os.urandom(8).hex()}.tmp")
        try:
            for name, content in built.files.items():
                with making_folder((half / name).parent):
                    write_output(half / name, content)
            os.rename(half, output)  # noqa: PTH104  a file that came meanwhile is not replaced by a folder
        except OSError as exc:
            if not os.path.lexists(output):
                raise StorageError(f"cannot write {output}: {exc.strerror}") from exc
            require_same(built, output)  # another one was faster
            return False
        finally:
            shutil.rmtree(half, ignore_errors=True)
    return True


def require_free(output: Path) -> None:
    """Return if a release may be written there, or perhaps lies there: asked before there is work or a
    question.

    Raises:
        InputError: there is something that is no release.
    """
    if not os.path.lexists(output):
        if output.parent.exists():
            check_output(output, force=False)
    elif not (output / DESCRIPTION).is_file():
        raise InputError(f"{output} exists, and is no release: choose another name")


def require_same(built: Built, output: Path) -> None:
    """Return if the release in a folder is this one, to the byte. InputError: it is another."""
    there = {
        path.relative_to(output).as_posix()
        for path in (output.rglob("*") if output.is_dir() else ())
        if not path.is_dir() or path.is_symlink()
    }
    other = sorted(there ^ built.files.keys())
    other += [
        name
        for name, content in built.files.items()
        if name in there and read_input(output / name) != content
    ]
    if other or not output.is_dir():
        what = f": {other[0]} differs" if other else ""
        raise InputError(f"{output} exists, and is not the same{what}: choose another name, or take it away")


def _of_rules(rules: Ruled, policy: Policy) -> dict[str, object]:
    who = policy.who
    return {
        "format": FORMAT,
        "version": format_version(rules.version),
        "sequence": rules.sequence,
        "security_counter": rules.security_counter,
        "vendor": uuid_text(who.vendor_id or b""),
        "class": uuid_text(who.class_id),
        "vendor_domain": who.domain,
        "model": who.model,
        "chip": policy.chip,
        "commit": rules.sources.commit,
        "changed": rules.sources.changed is not None,
        "time": rules.time,
        "tool": f"fota {version_of('fota')}",
    }
