"""The evidence of a release as one archive for who audits it, and the technical file's table."""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import NamedTuple

from fota_signer import cra, manifests
from fota_signer.release_build import DESCRIPTION, MANIFEST
from fota_signer.release_evidence import FOLDER, INDEX
from fota_signer.release_evidence_check import signed_files
from fota_wire import host_evidence, suit
from fota_wire.errors import VerifyError
from fota_wire.files import read_input

LIMIT = 65536


class Audited(NamedTuple):
    """A release whose manifest enough people have signed: its ``files`` {name in the archive: content}, ROOT
    among them, and of its ``evidence`` {kind: pointers}.
    """

    files: dict[str, bytes]
    evidence: dict[str, list[str]]
    manifest_digest: str


def audit(folder: Path, root_file: Path) -> Audited:
    """Return the evidence in a release's ``folder``, held against its manifest, and that against ROOT.

    Raises:
        InputError: there is no release, or no ROOT.
        VerifyError: too few have signed, no evidence is signed, or it is not what was signed.
    """
    raw = read_input(folder / MANIFEST, LIMIT)
    manifests.verify_envelope(raw, manifests.load_known(root_file, ()))
    manifest = suit.unsafe_read_manifest(raw)
    signed = host_evidence.signed_digest(manifest.text)
    if signed is None:
        raise VerifyError(f"{folder}: the manifest signs no evidence", "evidence")
    pieces = signed_files(folder, signed)
    files = {f"{FOLDER}/{name}": content for name, content in pieces.items()}
    files |= {name: read_input(folder / name, LIMIT) for name in (INDEX, MANIFEST, DESCRIPTION)}
    files["root.cbor"] = read_input(root_file, LIMIT)
    found: dict[str, list[str]] = {}
    for name, content in pieces.items():
        digest = hashlib.sha256(content).hexdigest()
        found.setdefault(name.partition("/")[0], []).append(f"{FOLDER}/{name}, SHA-256 {digest}")
    return Audited(files, found, manifest.manifest_digest.hex())


def archive(found: Audited) -> bytes:
    """Return the archive (tar, ustar): the same files give the same bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(found.files):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(found.files[name]), 0o644
            tar.addfile(entry, io.BytesIO(found.files[name]))
    return out.getvalue()


def table(found: Audited) -> list[cra.Answer]:
    """Return what the release answers of a technical file."""
    return cra.answers(found.evidence)
