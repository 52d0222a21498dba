"""Makes a release by its policy: one folder, whole or not at all.

RELEASE/payload/<sha256 hex>   the signed image
RELEASE/manifest.suit          its manifest's envelope, with the signature of the policy's key or with none
RELEASE/release.json           what it is, for programs and people

That is an update package as devices take it from a card (docs/agent.md), and what is published.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, NamedTuple

from fota_signer import manifests, sign_command
from fota_signer.release_policy import BEFORE, LIMIT, Policy, parse
from fota_signer.release_rules import Ruled, ruled
from fota_signer.signing import Door
from fota_wire import cose, example_keys, suit
from fota_wire.errors import FotaError, InputError, StorageError, VerifyError
from fota_wire.files import check_output, making_folder, read_input, read_text, write_output
from fota_wire.host_keys import place_of
from fota_wire.host_values import UsageError, uuid_text
from fota_wire.version import format_version

IMAGE_FOLDER, MANIFEST, DESCRIPTION = "payload", "manifest.suit", "release.json"
FORMAT = 1


class Named(NamedTuple):
    """A policy, and the ``folder`` that its files are named from."""

    policy: Policy
    folder: Path

    def path(self, name: str) -> Path:
        """Return where a file of the policy is."""
        return self.folder / name

    def key(self, name: str, what: str) -> Any:  # noqa: ANN401  a Path or a `host_keys.Place`
        """Return where a key of the policy is kept. InputError: a URI that names no key."""
        try:
            place = place_of(name)
        except InputError as exc:
            raise InputError(f"{what}: {exc}") from exc
        return self.path(name) if isinstance(place, Path) else place

    def known(self) -> manifests.Known:
        """Return what devices trust, by the policy. FotaError: as `manifests.load_known`."""
        return manifests.load_known(
            self.path(self.policy.root), [self.path(one) for one in self.policy.image_keys]
        )


class Built(NamedTuple):
    """The ``files`` of a release {name in its folder: content}, what ``release.json`` says of it, and notes
    of what was filled or left out.
    """

    files: dict[str, bytes]
    description: dict[str, Any]
    notes: list[str]


def read_policy(file: Path) -> Named:
    """Return the policy in a file.

    Raises:
        InputError: it cannot be read, or is none.
    """
    text = read_text(file, LIMIT)
    try:
        return Named(parse(text), file.absolute().parent)
    except InputError as exc:
        raise InputError(f"{file}: {exc}") from exc


def build(named: Named, door: Door, allow_example_keys: bool) -> Built:
    """Return a release of the sources as they lie there; nothing is written. ``door``: to the IMAGE key.

    Raises:
        VerifyError: a build that the policy refuses, or an image or manifest that devices would refuse.
        FotaError: as `ruled` and `Door.open`. Prepared: as `Door`.
    """
    policy = named.policy
    rules, known = ruled(policy, named.folder), named.known()
    evidence = {
        kind: _evidence(kind, policy.evidence[kind], named) for kind in BEFORE if kind in policy.evidence
    }
    notes: list[str] = []
    payload, sign = _payload(named, door, notes)
    for text in policy.texts:
        if text.encode() in payload:
            raise VerifyError(
                f"{policy.firmware} has the text {text!r} in it: it is a build that is no release"
                " (refuse.texts)",
                "text",
            )
    key = door.open("image")
    _require_own(policy, key.public, "keys.image")
    data, image = sign(
        payload, key=key, version=rules.version, sec_cnt=rules.security_counter, device_class=policy.who
    )
    envelope = manifests.new_envelope(data, sequence=rules.sequence, device_class=policy.who, known=known)
    signers = []
    if policy.release_key is not None:
        place = named.key(policy.release_key, "keys.release")
        release_key = Door(place, door.password_file, allow_example_keys).open("release")
        _require_own(policy, release_key.public, "keys.release")
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
            "key": cose.kid_of(key.public).hex(),
        },
        "manifest": {
            "file": MANIFEST,
            "digest": suit.unsafe_read_manifest(envelope).manifest_digest.hex(),
            "signed_by": signers,
        },
        "evidence": evidence,
    }
    text = json.dumps(description, indent=1, ensure_ascii=False) + "\n"
    files = {name: data, MANIFEST: envelope, DESCRIPTION: text.encode()}
    return Built(files, description, notes)


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


def _payload(named: Named, door: Door, notes: list[str]) -> tuple[bytes, Callable[..., tuple[bytes, Any]]]:
    """Return what is to be signed, and the function of `images` that does it."""
    policy = named.policy

    def number(value: int | None) -> str | None:
        return None if value is None else str(value)

    options = sign_command.SignOptions(
        source=named.path(policy.firmware),
        output=named.folder,
        key=door.key,
        version="",
        security_counter=0,
        linked_for=number(policy.linked_for),
        header_size=number(policy.header_size),
        leave_out=policy.leave_out,
        program=policy.program,
        chip=policy.chip,
    )
    try:
        return sign_command.prepared(options, notes)
    except UsageError as exc:  # what two words of a line would be are two keys of the policy
        raise InputError(str(exc)) from exc


def _require_own(policy: Policy, public: bytes, what: str) -> None:
    """Return unless a key that everybody has signs, and the policy refuses that, whatever is allowed else."""
    if policy.development_keys and cose.kid_of(public) in example_keys.PUBLISHED:
        raise VerifyError(
            f"{what}: a published example key: name one of your own (refuse.development-keys)", "example-key"
        )


def _evidence(kind: str, file: str, named: Named) -> dict[str, object]:
    path = named.path(file)
    try:
        content = read_input(path)
    except FotaError as exc:
        raise type(exc)(f"evidence.{kind}: {exc}") from exc
    if not content:
        raise InputError(f"evidence.{kind}: {path} is empty")
    return {"file": file, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


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
