"""Evidence of a release: the files that a policy names, read, held against the image, and put into an index.

RELEASE/evidence/SHA256SUMS    the index (SPEC 9), whose digest the manifest signs
RELEASE/evidence/<kind>/<name> the files
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fota_signer.release_named import Named
from fota_signer.release_policy import ABOUT, BEFORE
from fota_wire import cose, host_crypto, host_evidence, host_statement
from fota_wire.errors import FotaError, InputError, VerifyError
from fota_wire.files import read_input
from fota_wire.host_evidence import Piece
from fota_wire.host_statement import Statement

FOLDER = "evidence"
INDEX = f"{FOLDER}/SHA256SUMS"
LIMIT = 32 << 20
"""Bytes of a piece of evidence."""
PROVENANCE = "https://slsa.dev/provenance/v1"


class Evidence(NamedTuple):
    """What goes into a release: ``files`` {name in its folder: content}, the index among them, and ``line``
    for the manifest's description; both empty if the policy names none.
    """

    files: dict[str, bytes]
    line: str


def collect(named: Named, image_digest: str, what_next: str) -> Evidence:
    """Return the evidence that goes into the manifest of the image with this SHA-256 in hex.

    Raises:
        InputError: a file is not there (``what_next`` says what to do where it is about the image), is empty,
            no statement, or its name has no place in an index.
        VerifyError: it is about another image, or a builder has not signed; code ``evidence``.
    """
    kinds = [kind for kind in (*BEFORE, *ABOUT) if kind not in named.policy.after]
    files: dict[str, bytes] = {}
    for kind in kinds:
        for name in named.policy.evidence.get(kind, ()):
            path, base = f"evidence.{kind}: {named.path(name)}", named.path(name).name
            piece = Piece(kind, base, "")
            if not host_evidence.NAME.fullmatch(base) or f"{FOLDER}/{piece.path}" in files:
                raise InputError(
                    f"{path}: call it otherwise, in ASCII, and each file of a kind by another name"
                )
            files[f"{FOLDER}/{piece.path}"] = _read(named, kind, name, what_next if kind in ABOUT else "")
    keys, signed = builders(named), set[bytes]()
    for name, content in files.items():
        kind = name.split("/")[1]
        if kind in ABOUT:
            found = statement(content, name, kind, image_digest, keys)
            signed.update(found.signed_by if kind == "provenance" else ())
    missing = [kid.hex() for kid in keys if kid not in signed]
    if missing and "provenance" in kinds:
        raise VerifyError(f"no provenance of this image is signed by builder {missing[0]}", "evidence")
    if not files:
        return Evidence({}, "")
    index = host_evidence.build_index(_pieces(files))
    host_evidence.read_index(index)  # not more than there is room for
    return Evidence({**files, INDEX: index}, host_evidence.signed_line(index))


def builders(named: Named) -> dict[bytes, bytes]:
    """Return {kid: x||y} of those who have to sign provenance.

    Raises:
        InputError: a file has no such key. VerifyError: everybody has it, and the policy refuses that.
    """
    return _evidence_keys(named, named.policy.builders, "evidence.builders")


def rehearsers(named: Named) -> dict[bytes, bytes]:
    """Return {kid: x||y} of those of whom one has to have signed the rehearsal. Raises as `builders`."""
    return _evidence_keys(named, named.policy.rehearsers, "evidence.rehearsers")


def _evidence_keys(named: Named, names: tuple[str, ...], what: str) -> dict[bytes, bytes]:
    found = {}
    for name in names:
        public = host_crypto.load_public_key(named.path(name), "evidence")
        named.require_own(public, f"{what}: {name}")
        found[cose.kid_of(public)] = public
    return found


def statement(
    content: bytes, name: str, kind: str, image_digest: str, keys: Mapping[bytes, bytes]
) -> Statement:
    """Return the statement in a file, if it is one about this image, and provenance where that is wanted.

    Raises:
        InputError: it is none. VerifyError: it is about something else; code ``evidence``.
    """
    found = host_statement.read(content, name, keys)
    if image_digest not in found.subjects:
        raise VerifyError(f"{name} is not about this image: it does not name its digest", "evidence")
    if kind == "provenance" and found.predicate_type != PROVENANCE:
        raise VerifyError(f"{name} is no provenance: it is {found.predicate_type!r:.80}", "evidence")
    return found


def _pieces(files: Mapping[str, bytes]) -> Iterator[Piece]:
    for name, content in files.items():
        _, kind, base = name.split("/")
        yield Piece(kind, base, hashlib.sha256(content).hexdigest())


def _read(named: Named, kind: str, name: str, what_next: str) -> bytes:
    path = named.path(name)
    try:
        content = read_input(path, LIMIT)
    except FotaError as exc:
        hint = f"; {what_next}" if what_next and not path.exists() else ""
        raise type(exc)(f"evidence.{kind}: {exc}{hint}") from exc
    if not content:
        raise InputError(f"evidence.{kind}: {path} is empty")
    return content
