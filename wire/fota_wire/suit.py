"""SUIT envelope (draft-ietf-suit-manifest-37): signatures outside, manifest inside (SPEC 5.1).

The manifest's own profile is in :mod:`fota_wire.suit_profile`. What is signed: D, the content of the first
wrapper element, ``[-16, digest]``; the digest is SHA-256 over the *encoded* manifest bstr, head included.
"""

from fota_wire import cbor, check, cose, signed, suit_profile
from fota_wire.errors import FormatError, VerifyError
from fota_wire.suit_profile import SHA256, build_manifest, build_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fota_wire.seams import Sign, Verify

__all__ = [
    "Envelope",
    "Manifest",
    "add_signature",
    "build_envelope",
    "build_manifest",
    "build_text",
    "manifest_digest",
    "merge",
    "open_envelope",
    "parse_envelope",
    "unsafe_read_manifest",
    "with_receipt",
    "without_receipt",
]

TAG_ENVELOPE = 107
AUTHENTICATION, MANIFEST, RECEIPT = 2, 3, -257
MAX_ENVELOPE = 4096
MAX_SIGNATURES = 4


class Manifest:
    """What a manifest says. Only :func:`open_envelope` returns a verified one.

    ``vendor_id``, ``class_id`` 16 bytes; ``digest`` 32 bytes and ``size`` in bytes of the whole image file;
    ``uri`` relative to the server's ``/v1/``; ``sequence``; ``manifest_digest`` 32 bytes. ``envelope``
    returns the envelope where it lies now, or None if it is gone. ``receipt``: what lies in it of SPEC 5.9,
    unverified, or None; good as long as the envelope stays where it was.
    """

    def __init__(
        self,
        content: "suit_profile.Content",
        manifest_digest: bytes,
        envelope: "Callable[[], bytes | memoryview | None]",
    ) -> None:
        self.vendor_id = content.vendor_id
        self.class_id = content.class_id
        self.digest = content.digest
        self.size = content.size
        self.uri = content.uri
        self.sequence = content.sequence
        self.manifest_digest = manifest_digest
        self.envelope = envelope
        self.receipt: bytes | memoryview | None = None

    @property
    def text(self) -> "dict[str, str] | None":
        """{"vendor", "model", "version", ? "description"}, or None when it was severed or is gone. Read from
        the envelope, and checked, at each look: a small device has no room for both. FormatError.
        """
        raw = self.envelope()
        envelope = None if raw is None else parse_envelope(raw)
        if envelope is None or envelope.manifest_digest != self.manifest_digest:
            return None
        text = suit_profile.parse_manifest(envelope.manifest, envelope.members).text
        return None if text is None else suit_profile.parse_text(text)


class Envelope:
    """A parsed and **unverified** envelope.

    ``signed`` is D (what signatures cover), ``manifest_digest`` the digest in it, ``blocks`` the encodings
    of signatures, ``manifest`` the content of the manifest bstr, ``members`` {label: content} of the rest,
    but for ``receipt`` (SPEC 5.9), of which the manifest does not speak, or None.
    All but ``manifest_digest`` are views if that was parsed from a view.
    """

    def __init__(
        self, signed: "bytes | memoryview", blocks: "list[bytes | memoryview]", unsafe_draft: bool
    ) -> None:
        self.signed = signed
        self.manifest_digest = suit_profile.digest_of(cbor.decode(signed), "authentication wrapper")
        self.blocks = blocks
        self._unsafe_draft = unsafe_draft
        for _ in self.each_signature():
            pass  # all of them can be read
        self.manifest: bytes | memoryview = b""
        self.members: dict[int, bytes | memoryview] = {}
        self.receipt: bytes | memoryview | None = None

    @property
    def signatures(self) -> "list[cose.Sign1]":
        """The signatures, unverified."""
        return list(self.each_signature())

    def each_signature(self) -> "Iterator[cose.Sign1]":
        """Yield them one after the other: a small device has no room for all at once."""
        for block in self.blocks:
            yield cose.parse_sign1(block, True, self._unsafe_draft)


def manifest_digest(manifest: "bytes | memoryview") -> bytes:
    """Return SHA-256 over the encoded bstr of a manifest (its head included), 32 bytes."""
    return cbor.hash_bstr(manifest)


def build_envelope(
    manifest: "bytes | memoryview",
    signatures: "Sequence[bytes | memoryview]",
    text: "bytes | memoryview | None" = None,
) -> bytes:
    """Return an envelope around ``manifest``; ``signatures`` are encoded COSE_Sign1, none at first."""
    wrapper: list[object] = [_signed_part(manifest)]
    wrapper.extend(signatures)
    members: dict[int, object] = {AUTHENTICATION: cbor.encode(wrapper), MANIFEST: manifest}
    if text is not None:
        members[suit_profile.TEXT] = text
    return cbor.encode(cbor.Tag(TAG_ENVELOPE, members))


def with_receipt(raw: bytes, receipt: bytes) -> bytes:
    """Return an envelope that has no RECEIPT with one: its label sorts behind all others."""
    member = cbor.encode(RECEIPT) + cbor.encode(receipt)
    return raw[:2] + bytes([raw[2] + 1]) + raw[3:] + member


def without_receipt(raw: bytes) -> bytes:
    """Return an envelope without its RECEIPT, if it has one. FormatError: it is none."""
    receipt = parse_envelope(raw).receipt
    if receipt is None:
        return raw
    member = cbor.encode(RECEIPT) + cbor.encode(receipt)
    return raw[:2] + bytes([raw[2] - 1]) + raw[3 : -len(member)]


def add_signature(raw: bytes, kid: bytes, sign: "Sign") -> bytes:
    """Return the envelope ``raw`` with one more signature; everything else stays, byte for byte.

    Raises:
        FormatError: not an envelope of our profile (nobody signs what devices refuse).
        VerifyError: this key has signed already; code ``duplicate-signer``.
    """
    envelope = parse_envelope(raw)
    _read(envelope, raw)
    for signature in envelope.signatures:
        if signature.kid == kid:
            raise VerifyError(f"key {kid.hex()} has signed this envelope already", "duplicate-signer")
    if len(envelope.blocks) >= MAX_SIGNATURES:
        raise VerifyError(f"the envelope has {MAX_SIGNATURES} signatures already", "limit")
    blocks = envelope.blocks + [cose.sign1(envelope.signed, kid, sign, detached=True)]
    return build_envelope(envelope.manifest, blocks, envelope.members.get(suit_profile.TEXT))


def merge(first: bytes, second: bytes) -> bytes:
    """Return the envelope ``first`` with the signatures of ``second`` too: of people who signed apart.

    Raises:
        FormatError: not envelopes of our profile.
        VerifyError: of two manifests (``manifest-digest``), or one key signed differently in both
            (``duplicate-signer``), or too many (``limit``).
    """
    envelope, other = parse_envelope(first), parse_envelope(second)
    _read(envelope, first)
    _read(other, second)
    if envelope.signed != other.signed:
        raise VerifyError("these are two different manifests", "manifest-digest")
    blocks = signed.merge_blocks(envelope.blocks, other.blocks, MAX_SIGNATURES)
    text = envelope.members.get(suit_profile.TEXT, other.members.get(suit_profile.TEXT))
    return build_envelope(envelope.manifest, blocks, text)


def parse_envelope(raw: "bytes | memoryview", unsafe_draft: bool = False) -> Envelope:
    """Return the parts of an envelope: shape and limits only, no signature checked, manifest not looked into.

    ``unsafe_draft`` is for the draft's own examples, in tests: any member, ES256, no key id.

    Raises:
        FormatError: not an envelope, or beyond a limit.
        VerifyError: the manifest does not match the wrapper's digest; code ``manifest-digest``.
    """
    if len(raw) > MAX_ENVELOPE:
        raise FormatError(f"envelope is longer than {MAX_ENVELOPE} bytes", "limit")
    tagged = cbor.decode(raw, tags=(TAG_ENVELOPE,))
    if not isinstance(tagged, cbor.Tag):
        raise FormatError("not a SUIT envelope: tag 107 is missing", "suit-shape")
    optional = (16, 20, 23) if unsafe_draft else (suit_profile.TEXT, RECEIPT)
    members = check.fields(tagged.value, "envelope", (AUTHENTICATION, MANIFEST), optional)
    wrapper = cbor.decode(check.blob(members[AUTHENTICATION], "authentication wrapper", MAX_ENVELOPE))
    parts = check.array(wrapper, "authentication wrapper", 1, 1 + MAX_SIGNATURES)
    blobs = [check.blob(part, "authentication block", 256) for part in parts]
    envelope = Envelope(blobs[0], blobs[1:], unsafe_draft)
    envelope.manifest = check.blob(members[MANIFEST], "manifest", MAX_ENVELOPE)
    for label, value in members.items():
        if isinstance(label, int) and label not in (AUTHENTICATION, MANIFEST):
            envelope.members[label] = check.blob(value, f"envelope member {label}", MAX_ENVELOPE)
    envelope.receipt = envelope.members.pop(RECEIPT, None)
    if manifest_digest(envelope.manifest) != envelope.manifest_digest:
        raise VerifyError("manifest does not match the digest that was signed", "manifest-digest")
    return envelope


def open_envelope(
    raw: "bytes | memoryview",
    keys: "dict[bytes, bytes]",
    threshold: int,
    verify: "Verify",
    brief: bool = False,
) -> Manifest:
    """Return the manifest if at least ``threshold`` of ``keys`` {kid: x||y} signed it; the only way to get
    one.

    Blocks by keys outside ``keys`` do not count (a ROOT may have retired them); a wrong signature by a key of
    ``keys`` refuses the whole envelope. ``brief``: the text is held against its digest and not looked into.

    Raises:
        FormatError: malformed, or outside the profile.
        VerifyError: codes ``manifest-digest``, ``duplicate-signer``, ``signature``, ``threshold``,
        ``severed``.
    """
    # (1) shape, limits, manifest digest
    envelope = parse_envelope(raw)
    # (2) k distinct signers
    signed.check_signatures(envelope.each_signature(), envelope.signed, b"", keys, threshold, verify)
    # (3) only now look at what was signed
    return _read(envelope, raw, brief)


def unsafe_read_manifest(raw: bytes) -> Manifest:
    """Return what an envelope claims, **no signature checked**: to show it, or to decide whether to sign it.

    Raises:
        FormatError: malformed, or outside the profile.
        VerifyError: a digest inside does not match.
    """
    return _read(parse_envelope(raw), raw)


def _read(envelope: Envelope, raw: "bytes | memoryview", brief: bool = False) -> Manifest:
    content = suit_profile.parse_manifest(envelope.manifest, envelope.members)
    if content.uri != "payload/" + content.digest.hex():
        raise FormatError("manifest: uri is not payload/<digest of the image>", "suit-uri")
    if content.text is not None and not brief:
        suit_profile.parse_text(content.text)
    manifest = Manifest(content, envelope.manifest_digest, lambda: raw)
    manifest.receipt = envelope.receipt
    return manifest


def _signed_part(manifest: "bytes | memoryview") -> bytes:
    return cbor.encode([SHA256, manifest_digest(manifest)])
