"""Signed notes, checkpoints of logs (C2SP signed-note, tlog-checkpoint, tlog-cosignature; not for devices).

A note is a text that ends with a line feed, an empty line, a line for each signature: em dash, blank, name
of the key, blank, base64 of key id (4 bytes) and signature. Keys are Ed25519, the one kind that every reader
of checkpoints has to know: a log signs the text itself (kind 1), a witness the text behind a time (kind 4).
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fota_wire.errors import FormatError, InputError, VerifyError

LOG, WITNESS = 1, 4
MAX_NOTE, MAX_SIGNATURES = 16384, 32
MAX_NAME = 128
MAX_SIZE = 1 << 48
_PRIVATE = "PRIVATE+KEY+"
_NAME = re.compile(r"[!-*,-~]{1,128}")  # ASCII without blank and plus
_SIZE = re.compile(r"0|[1-9][0-9]{0,14}")
_DASH = "\u2014 "


def _text_of(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes_of(text: str) -> bytes:
    """Return what is in base64, if that is its only form. ValueError: it is none."""
    raw = base64.b64decode(text, validate=True)
    if _text_of(raw) != text:
        raise ValueError(text)
    return raw


def require_name(name: str) -> None:
    """Return if a log or witness may be called so. InputError: it may not."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"a log's or witness's name is 1 to {MAX_NAME} ASCII letters, digits and signs, no '+'"
        )


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The key of a log or witness: ``name``, ``kind`` (LOG or WITNESS), its 32 bytes."""

    name: str
    kind: int
    raw: bytes

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that signatures name it by, beside its name."""
        return _key_id(self.name, self.kind, self.raw)

    def __str__(self) -> str:
        """Return it as people hand it on (vkey)."""
        return f"{self.name}+{self.key_id.hex()}+{_text_of(bytes([self.kind]) + self.raw)}"

    def holds(self, text: str, signature: bytes) -> bool:
        """Tell whether this key made ``signature`` over a text: 64 bytes, a witness's 8 more in front."""
        message = text.encode()
        if self.kind == WITNESS:
            message = _cosigned(text, time_of(signature)) if len(signature) == 72 else b""
            signature = signature[8:]
        if len(signature) != 64:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


def read_public_key(text: str, kind: int) -> PublicKey:
    """Return a key of a ``kind`` as `PublicKey` prints it.

    Raises:
        InputError: it is none, or of another kind.
    """
    what = {LOG: "log", WITNESS: "witness"}[kind]
    name, _, rest = text.strip().partition("+")
    key_id, _, key = rest.partition("+")
    try:
        raw = _bytes_of(key)
    except ValueError:
        raw = b""
    found = PublicKey(name, raw[0] if raw else 0, raw[1:])
    if not _NAME.fullmatch(name) or len(raw) != 33 or found.key_id.hex() != key_id:
        raise InputError(f"not the public key of a {what}: NAME+8 hex digits+base64")
    if found.kind != kind:
        raise InputError(
            f"the key of {name} is none of a {what}: its kind is {found.kind}, not {kind}", "key-kind"
        )
    return found


def _key_id(name: str, kind: int, raw: bytes) -> bytes:
    return hashlib.sha256(f"{name}\n".encode() + bytes([kind]) + raw).digest()[:4]


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key of a log or witness; ``secret`` is never shown."""

    name: str
    kind: int
    secret: bytes = field(repr=False)

    @property
    def public(self) -> PublicKey:
        """Its public half."""
        return PublicKey(self.name, self.kind, self._key().public_key().public_bytes_raw())

    def to_text(self) -> bytes:
        """Return the line that is kept in a file (mode 0600), as Go's package note has it."""
        public = self.public
        head = PublicKey(self.name, LOG, public.raw).key_id.hex()
        return f"{_PRIVATE}{self.name}+{head}+{_text_of(bytes([LOG]) + self.secret)}\n".encode()

    def sign(self, text: str, now: int) -> str:
        """Return the signature line over a note's text; ``now``: s since 1970, in what a witness signs."""
        message, head = text.encode(), b""
        if self.kind == WITNESS:
            message, head = _cosigned(text, now), now.to_bytes(8, "big")
        signature = self.public.key_id + head + self._key().sign(message)
        return f"{_DASH}{self.name} {_text_of(signature)}\n"

    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.secret)


def new_signer(name: str, kind: int) -> Signer:
    """Return a new key. InputError: nobody may be called so."""
    require_name(name)
    return Signer(name, kind, Ed25519PrivateKey.generate().private_bytes_raw())


def read_signer(data: bytes, kind: int, where: str) -> Signer:
    """Return the key in a file called ``where``, to be used as one of ``kind``.

    Raises:
        InputError: there is none; what is there instead is not shown.
    """
    found = _private(data)
    if found is None:
        raise InputError(f"{where}: no key of a log or witness")
    name, key_id, secret = found
    signer = Signer(name, kind, secret)
    if PublicKey(name, LOG, signer.public.raw).key_id.hex() != key_id:
        raise InputError(f"{where}: no key of a log or witness")
    return signer


def _private(data: bytes) -> tuple[str, str, bytes] | None:
    """Return name, key id and secret of a key's file, None if it is none."""
    try:
        head, name, key_id, key = (
            data.decode("ascii").removesuffix("\n").replace(_PRIVATE, "+", 1).split("+", 3)
        )
        raw = _bytes_of(key)
    except ValueError:
        return None
    whole = data.startswith(_PRIVATE.encode()) and _NAME.fullmatch(name) and len(raw) == 33
    return (name, key_id, raw[1:]) if whole and not head and raw[0] == LOG else None


def _cosigned(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def time_of(cosignature: bytes) -> int:
    """Return when a witness signed, in s since 1970."""
    return int.from_bytes(cosignature[:8], "big")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of itself: its name (``origin``), number of leaves, root over them."""

    origin: str
    size: int
    root: bytes

    def to_text(self) -> str:
        """Return the text of its note."""
        return f"{self.origin}\n{self.size}\n{_text_of(self.root)}\n"


def read_checkpoint(text: str) -> Checkpoint:
    """Return the checkpoint in a note's text; lines behind the third, which nobody can check, are refused.

    Raises:
        FormatError: there is none.
    """
    lines = text.split("\n")
    try:
        origin, size, root, end = lines
        found = Checkpoint(origin, int(size) if _SIZE.fullmatch(size) else -1, _bytes_of(root))
    except (ValueError, binascii.Error) as exc:
        raise FormatError("checkpoint: not a name, a size and a root, a line each", "checkpoint") from exc
    if not _NAME.fullmatch(origin) or not 0 <= found.size <= MAX_SIZE or len(found.root) != 32 or end:
        raise FormatError("checkpoint: not a name, a size and a root, a line each", "checkpoint")
    return found


@dataclass(frozen=True, slots=True)
class Note:
    """A note that was parsed, and not verified: ``text``, and of each signature name, key id, value."""

    text: str
    signatures: tuple[tuple[str, bytes, bytes], ...]

    def of(self, key: PublicKey) -> bytes | None:
        """Return the verified signature of ``key``; None: it did not sign.

        Raises:
            VerifyError: one by its name and id is not its own; code ``signature``.
        """
        made = [raw for name, key_id, raw in self.signatures if (name, key_id) == (key.name, key.key_id)]
        if not all(key.holds(self.text, raw) for raw in made):
            raise VerifyError(f"checkpoint: a signature of {key.name} does not hold", "signature")
        return made[0] if made else None


def read_note(data: bytes) -> Note:
    """Return the parts of a signed note.

    Raises:
        FormatError: it is none; code ``note``.
    """
    try:
        whole = data.decode()
    except UnicodeDecodeError as exc:
        raise FormatError("note: not UTF-8", "note") from exc
    if len(data) > MAX_NOTE:
        raise FormatError(f"note: longer than {MAX_NOTE} bytes", "note")
    text, gap, rest = whole.rpartition("\n\n")
    lines = rest.split("\n")
    if not gap or lines.pop() or not lines or any(c < " " and c != "\n" for c in whole):
        raise FormatError("note: not a text, an empty line and signatures", "note")
    if len(lines) > MAX_SIGNATURES:
        raise FormatError(f"note: more than {MAX_SIGNATURES} signatures", "note")
    return Note(text + "\n", tuple(map(_read_signature, lines)))


def _read_signature(line: str) -> tuple[str, bytes, bytes]:
    try:
        dash, name, value = line.split(" ")
        raw = _bytes_of(value)
    except ValueError as exc:
        raise FormatError("note: a line that is no signature", "note") from exc
    if dash + " " != _DASH or not name or "+" in name or any(c.isspace() for c in name) or len(raw) < 5:
        raise FormatError("note: a line that is no signature", "note")
    return name, raw[:4], raw[4:]


def open_checkpoint(data: bytes, key: PublicKey) -> tuple[Checkpoint, Note]:
    """Return a checkpoint that a log signed with ``key``, which is named as the log, and its note.

    Raises:
        FormatError: it is none. VerifyError: not signed by this log; codes ``log-key``, ``signature``.
    """
    note = read_note(data)
    if note.of(key) is None:
        said = ", ".join(f"{name}+{key_id.hex()}" for name, key_id, _ in note.signatures)
        raise VerifyError(
            f"checkpoint: not signed by {key.name}+{key.key_id.hex()}, but by {said}", "log-key"
        )
    found = read_checkpoint(note.text)
    if found.origin != key.name:
        raise VerifyError(f"checkpoint: of the log {found.origin}, not of {key.name}", "log-key")
    return found, note


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer, now: int = 0) -> bytes:
    """Return the signed note of a checkpoint."""
    text = checkpoint.to_text()
    return (text + "\n" + signer.sign(text, now)).encode()


def cosign(data: bytes, signer: Signer, now: int) -> bytes:
    """Return a note, which its reader has verified, with one more signature."""
    return data + signer.sign(read_note(data).text, now).encode()


def witnesses_of(note: Note, witnesses: Sequence[PublicKey]) -> Mapping[str, int]:
    """Return which of these witnesses signed, by name, and when (s since 1970).

    Raises:
        VerifyError: a signature does not hold.
    """
    made = {key.name: note.of(key) for key in witnesses}
    return {name: time_of(raw) for name, raw in made.items() if raw is not None}
