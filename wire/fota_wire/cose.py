"""COSE_Sign1 (RFC 9052) with ESP256 (RFC 9864) and key ids: the only signature format of messages (SPEC 5).

Keys are 64 bytes ``x||y``, signatures 64 bytes ``r||s``, both big endian. The seams to whatever does the
curve arithmetic (host library, crypto element):

* ``sign(digest: 32 bytes) -> signature``
* ``verify(public_xy, digest: 32 bytes, signature) -> bool``
"""

import binascii
import hashlib

from fota_wire import cbor, check
from fota_wire.errors import FormatError, VerifyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_wire.seams import Sign, Verify

TAG_SIGN1 = 18
ESP256 = -9
ES256 = -7
KID_SIZE = 8

_SPKI_P256 = binascii.unhexlify(b"3059301306072a8648ce3d020106082a8648ce3d03010703420004")


def spki(public_xy: bytes) -> bytes:
    """Return the 91-byte DER SubjectPublicKeyInfo of a P-256 key."""
    if len(public_xy) != 64:
        raise ValueError("a public key is 64 bytes x||y")
    return _SPKI_P256 + public_xy


def key_hash(public_xy: bytes) -> bytes:
    """Return the KEYHASH: 32 bytes, SHA-256 of the SubjectPublicKeyInfo."""
    return hashlib.sha256(spki(public_xy)).digest()


def kid_of(public_xy: bytes) -> bytes:
    """Return the key id: the first 8 bytes of the KEYHASH."""
    return key_hash(public_xy)[:KID_SIZE]


class Sign1:
    """A parsed and **unverified** COSE_Sign1.

    ``kid`` 8 bytes (None only in the draft's examples), ``payload`` bytes or None when detached,
    ``signature`` 64 bytes.
    """

    def __init__(self, protected: bytes, kid: bytes | None, payload: bytes | None, signature: bytes) -> None:
        self.protected = protected
        self.kid = kid
        self.payload = payload
        self.signature = signature

    def tbs(self, aad: bytes, payload: "bytes | memoryview") -> bytes:
        """Return the 32-byte digest that was signed, for this external_aad and payload."""
        return _digest(self.protected, aad, payload)

    def check(self, public_xy: bytes, aad: bytes, payload: "bytes | memoryview", verify: "Verify") -> None:
        """Return if the signature is by ``public_xy`` over ``payload``.

        Raises:
            VerifyError: it is not; code ``signature``.
        """
        if verify(public_xy, self.tbs(aad, payload), self.signature) is not True:
            raise VerifyError(f"signature of key {(self.kid or b'').hex()} is wrong", "signature")


def sign1(
    payload: "bytes | memoryview", kid: bytes, sign: "Sign", aad: bytes = b"", detached: bool = False
) -> bytes:
    """Return an encoded, tagged COSE_Sign1; with ``detached`` the payload is nil."""
    protected = cbor.encode({1: ESP256, 4: kid})
    signature = sign(_digest(protected, aad, payload))
    if len(signature) != 64:
        raise ValueError("a signature is 64 bytes r||s")
    return cbor.encode(cbor.Tag(TAG_SIGN1, [protected, {}, None if detached else payload, signature]))


def parse_sign1(raw: "bytes | memoryview", detached: bool = False, unsafe_draft: bool = False) -> Sign1:
    """Return the parts of a COSE_Sign1; nothing is verified yet.

    ``unsafe_draft`` is for the SUIT draft's own examples, in tests: ES256 instead of ESP256, key id optional
    and of any length.

    Raises:
        FormatError: not exactly tag 18 [protected {1: -9, 4: kid}, {}, payload, r||s] (``cose-...``).
    """
    tagged = cbor.decode(raw, tags=(TAG_SIGN1,))
    if not isinstance(tagged, cbor.Tag):
        raise FormatError("COSE: not a tagged COSE_Sign1", "cose-shape")
    parts = check.array(tagged.value, "COSE_Sign1", 4, 4)
    protected = check.bstr(parts[0], "COSE protected header", None, 64)
    if parts[1] != {}:
        raise FormatError("COSE: the unprotected header must be empty", "cose-unprotected")
    payload = parts[2]
    if detached != (payload is None):
        raise FormatError("COSE: payload must be " + ("nil" if detached else "embedded"), "cose-payload")
    if payload is not None:
        payload = check.bstr(payload, "COSE payload")
    kid = _kid(protected, unsafe_draft)
    return Sign1(protected, kid, payload, _signature(parts[3]))


def _kid(protected: bytes, unsafe_draft: bool) -> bytes | None:
    header = cbor.decode(protected)
    if not isinstance(header, dict):
        raise FormatError("COSE: protected header is not a map", "cose-shape")
    for label in header:
        if label not in (1, 4):
            raise FormatError(f"COSE: unknown protected header {label}", "cose-header")
    if header.get(1) != ESP256 and not (unsafe_draft and header.get(1) == ES256):
        raise FormatError("COSE: algorithm is not ESP256 in the protected header", "cose-algorithm")
    if unsafe_draft and 4 not in header:
        return None
    if 4 not in header:
        raise FormatError("COSE: no key id in the protected header", "cose-kid")
    return check.bstr(header[4], "COSE key id", None if unsafe_draft else KID_SIZE)


def _signature(value: object) -> bytes:
    if not isinstance(value, (bytes, memoryview)) or len(value) != 64:
        raise FormatError("COSE: signature is not 64 bytes", "cose-signature")
    value = bytes(value)
    if not any(value[:32]) or not any(value[32:]):
        raise FormatError("COSE: signature is zero", "cose-signature")
    return value


def _digest(protected: bytes, aad: bytes, payload: "bytes | memoryview") -> bytes:
    signed = cbor.encode(["Signature1", protected, aad, b""])
    return cbor.hash_bstr(payload, signed[:-1])  # in place of the empty one
