"""The index of a release's evidence, and where a manifest signs it (SPEC 9; not for devices).

The index is what `sha256sum -c` reads: a line for each file, in order. Its digest is the last line of the
manifest's update description, which devices hold against the signed digest and do not look into.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fota_wire.errors import FormatError

KINDS = ("sbom", "vex", "provenance", "rehearsal")
MAX_FILES = 32
LIMIT = 8192
"""Bytes of an index."""
_NAME = "[A-Za-z0-9][A-Za-z0-9._+-]{0,127}"
_LINE = re.compile(rf"([0-9a-f]{{64}})  ({'|'.join(KINDS)})/({_NAME})\n")
_SIGNED = re.compile(r"(?:.*\n)?evidence sha256:([0-9a-f]{64})", re.DOTALL)
NAME = re.compile(_NAME)
"""A file's name in an index, without its folder."""


class Piece(NamedTuple):
    """A piece of evidence: its ``kind``, of KINDS, the ``name`` of its file, ``sha256`` in hex."""

    kind: str
    name: str
    sha256: str

    @property
    def path(self) -> str:
        """Where it lies, from the index's folder."""
        return f"{self.kind}/{self.name}"


def build_index(pieces: Iterable[Piece]) -> bytes:
    """Return the index of ``pieces``: the same ones give the same bytes."""
    lines = [f"{piece.sha256}  {piece.path}\n" for piece in sorted(pieces, key=lambda piece: piece.path)]
    return "".join(lines).encode()


def read_index(raw: bytes) -> list[Piece]:
    """Return what an index says, in its one form.

    Raises:
        FormatError: it is none; code ``evidence``.
    """
    if len(raw) > LIMIT:
        raise FormatError(f"index of evidence: longer than {LIMIT} bytes", "evidence")
    text = raw.decode("ascii", "replace")
    pieces = [Piece(kind, name, sha256) for sha256, kind, name in _LINE.findall(text)]
    names = {piece.path for piece in pieces}
    if not 1 <= len(pieces) <= MAX_FILES or len(names) < len(pieces) or build_index(pieces) != raw:
        raise FormatError(
            f"index of evidence: not 1 to {MAX_FILES} lines 'SHA-256  kind/name', each once and in order,"
            f" with kinds {', '.join(KINDS)}",
            "evidence",
        )
    return pieces


def signed_line(index: bytes) -> str:
    """Return the line of an update description by which a manifest signs an index."""
    return f"evidence sha256:{hashlib.sha256(index).hexdigest()}"


def signed_digest(text: "Mapping[str, str] | None") -> str | None:
    """Return the digest of the index, in hex, that a manifest's ``text`` names in the last line of its
    description; None: it names none, or there is no text.
    """
    found = _SIGNED.fullmatch((text or {}).get("description", ""))
    return found[1] if found else None
