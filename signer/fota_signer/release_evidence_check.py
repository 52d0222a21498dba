"""Holds the evidence of a release against the digest that its manifest signs, and against the policy."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fota_signer.release_evidence import FOLDER, INDEX, LIMIT, builders, rehearsers, statement
from fota_signer.release_named import Named
from fota_signer.release_policy import ABOUT
from fota_wire import host_evidence, host_rehearsal, suit
from fota_wire.errors import InputError, VerifyError
from fota_wire.files import read_input


class Row(NamedTuple):
    """One thing that the policy asks for: ``what``, whether it is ``good``, and ``detail`` for people."""

    what: str
    good: bool
    detail: str


def rows(named: Named, folder: Path, manifest: suit.Manifest) -> Iterator[Row]:
    """Yield whether the evidence in a release's ``folder`` is what ``manifest`` signs, and what the policy
    asks for; of what comes after the manifest, the file is where the policy says.

    Raises:
        StorageError: something cannot be read.
    """
    policy = named.policy
    signed = host_evidence.signed_digest(manifest.text)
    files: dict[str, bytes] = {}
    if signed or (folder / FOLDER).exists() or set(policy.evidence) - set(policy.after):
        try:
            files = signed_files(folder, signed)
            yield Row("evidence", True, f"{len(files)} files, index {str(signed)[:16]}, as it is signed")
        except (InputError, VerifyError) as exc:
            yield Row("evidence", False, str(exc))
    try:
        keys, fault = builders(named), ""
    except (InputError, VerifyError) as exc:
        keys, fault = {}, str(exc)
        yield Row("builders", False, fault)
    agreed: set[bytes] = set()
    for kind, names in policy.evidence.items():
        found = []
        try:
            for name in names:
                content = _content(named, kind, name, files)
                found.append(f"{name}, {hashlib.sha256(content).hexdigest()[:16]}")
                if kind in ABOUT:
                    said = statement(content, name, kind, manifest.digest.hex(), keys)
                    agreed.update(said.signed_by if kind == "provenance" else ())
                if kind == "rehearsal" and policy.rehearsers:
                    who = rehearsers(named)
                    host_rehearsal.require(content, name, who, manifest.digest, manifest.manifest_digest)
            yield Row(kind, True, "; ".join(found))
        except (InputError, VerifyError) as exc:
            yield Row(kind, False, str(exc))
    for kid, name in zip(keys, policy.builders, strict=not fault):
        detail = "has signed provenance of this image" if kid in agreed else "has signed none of this image"
        yield Row(f"built by {name}", kid in agreed, f"{kid.hex()} {detail}")


def signed_files(folder: Path, signed: str | None) -> dict[str, bytes]:
    """Return {kind/name: content} of the evidence in a release's ``folder``, all of it and no more, if
    ``signed`` is the digest of its index.

    Raises:
        InputError: something is not there, or cannot be read. VerifyError: it is another.
    """
    index = read_input(folder / INDEX, host_evidence.LIMIT)
    if signed is None:
        raise VerifyError("the manifest signs no evidence")
    if hashlib.sha256(index).hexdigest() != signed:
        raise VerifyError(f"{INDEX} is not the index that the manifest signs, {signed[:16]}")
    files = {}
    for piece in host_evidence.read_index(index):
        files[piece.path] = read_input(folder / FOLDER / piece.path, LIMIT)
        if hashlib.sha256(files[piece.path]).hexdigest() != piece.sha256:
            raise VerifyError(f"{FOLDER}/{piece.path} is not the file that was signed")
    for path in sorted((folder / FOLDER).rglob("*")):
        name = path.relative_to(folder / FOLDER).as_posix()
        if not path.is_dir() and name not in files and path != folder / INDEX:
            raise VerifyError(f"{FOLDER}/{name} is there, and not in the index that was signed")
    return files


def _content(named: Named, kind: str, name: str, files: dict[str, bytes]) -> bytes:
    if kind in named.policy.after:
        return read_input(named.path(name), LIMIT)
    path = f"{kind}/{named.path(name).name}"
    if path not in files:
        raise VerifyError(f"{FOLDER}/{path} is not among what the manifest signs")
    return files[path]
