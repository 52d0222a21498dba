"""Documents that people sign, several keys one document: ``[payload bstr, + bstr COSE_Sign1 (payload nil)]``
(SPEC 5). Whose keys count, and how many, says who checks it.
"""

from fota_wire import cbor, check, cose
from fota_wire.errors import FormatError, VerifyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fota_wire.seams import Sign, Verify

MAX_SIGNATURES = 8


class Form:
    """One kind of document: its ``name`` for people, the external_aad of its signatures, its size at most."""

    def __init__(self, name: str, aad: bytes, limit: int) -> None:
        self.name = name
        self.aad = aad
        self.limit = limit

    def parse(self, raw: "bytes | memoryview") -> "tuple[bytes | memoryview, list[bytes | memoryview]]":
        """Return payload and the encodings of signatures, all of which lie in ``raw``; **none is checked**.

        Raises:
            FormatError: malformed, or longer than ``limit``.
        """
        if len(raw) > self.limit:
            raise FormatError(f"{self.name} of {len(raw)} bytes is longer than {self.limit}", "limit")
        parts = check.array(cbor.decode(memoryview(raw)), self.name, 1, 1 + MAX_SIGNATURES)
        payload = check.blob(parts[0], self.name, self.limit)
        blocks = [check.blob(part, self.name, 256) for part in parts[1:]]
        for _ in each(blocks):
            pass  # all of them can be read
        return payload, blocks

    def require(
        self, raw: "bytes | memoryview", keys: "dict[bytes, bytes]", threshold: int, verify: "Verify"
    ) -> "bytes | memoryview":
        """Return the payload if ``threshold`` distinct ones of ``keys`` {kid: x||y} signed it, and none of
        them wrongly.

        Raises:
            FormatError: malformed. VerifyError: ``duplicate-signer``, ``signature``, ``threshold``.
        """
        payload, blocks = self.parse(raw)
        check_signatures(each(blocks), payload, self.aad, keys, threshold, verify)
        return payload

    def add_signature(self, raw: bytes, kid: bytes, sign: "Sign") -> bytes:
        """Return the document ``raw`` with one more signature.

        Raises:
            VerifyError: this key has signed already; code ``duplicate-signer``. FormatError: no device takes
                so many signatures, or bytes; code ``limit``.
        """
        payload, blocks = self.parse(raw)
        if kid in self.signers_of(raw):
            raise VerifyError(f"key {kid.hex()} has signed this {self.name} already", "duplicate-signer")
        signed = cbor.encode([payload] + blocks + [cose.sign1(payload, kid, sign, self.aad, True)])
        self.parse(signed)
        return signed

    def merge(self, first: bytes, second: bytes) -> bytes:
        """Return the document ``first`` with the signatures of ``second`` too: of people who signed apart.

        Raises:
            FormatError: malformed. VerifyError: two different documents (``different``), one key signed
                differently in both (``duplicate-signer``), or too many (``limit``, as of too many bytes).
        """
        payload, blocks = self.parse(first)
        other, more = self.parse(second)
        if payload != other:
            raise VerifyError(f"these are two different {self.name} documents", "different")
        merged = cbor.encode([payload] + merge_blocks(blocks, more, MAX_SIGNATURES))
        self.parse(merged)
        return merged

    def signers_of(self, raw: bytes) -> "list[bytes]":
        """Return the kids of the signature blocks, unverified."""
        return [signature.kid or b"" for signature in each(self.parse(raw)[1])]


def each(blocks: "Sequence[bytes | memoryview]") -> "Iterator[cose.Sign1]":
    """Yield signatures one after the other: a small device has no room for all at once."""
    for block in blocks:
        yield cose.parse_sign1(block, True)


def check_signatures(
    signatures: "Iterable[cose.Sign1]",
    payload: "bytes | memoryview",
    aad: bytes,
    keys: "dict[bytes, bytes]",
    threshold: int,
    verify: "Verify",
) -> None:
    """Return if ``threshold`` distinct keys of ``keys`` signed ``payload``, and none of them wrongly.

    Raises:
        VerifyError: codes ``duplicate-signer``, ``signature``, ``threshold``.
    """
    if threshold < 1:
        raise ValueError("a threshold is at least 1")
    seen: list[bytes | None] = []
    good = 0
    for signature in signatures:
        if signature.kid in seen:
            raise VerifyError(f"key {(signature.kid or b'').hex()} signed twice", "duplicate-signer")
        seen.append(signature.kid)
        if signature.kid in keys:
            signature.check(keys[signature.kid], aad, payload, verify)
            good += 1
    if good < threshold:
        raise VerifyError(f"{good} of {threshold} necessary signatures", "threshold")


def merge_blocks(
    one: "Sequence[bytes | memoryview]", two: "Sequence[bytes | memoryview]", limit: int
) -> "list[bytes | memoryview]":
    """Return the signature blocks of both, those of ``one`` first, each key's once.

    Raises:
        VerifyError: one key signed differently in both (``duplicate-signer``), or too many (``limit``).
    """
    blocks = list(one)
    known = {cose.parse_sign1(block, True).kid: block for block in one}
    for block in two:
        kid = cose.parse_sign1(block, True).kid
        if known.get(kid, block) != block:
            raise VerifyError(
                f"key {(kid or b'').hex()} signed differently in both: one of them is wrong",
                "duplicate-signer",
            )
        if kid not in known:
            known[kid] = block
            blocks.append(block)
    if len(blocks) > limit:
        raise VerifyError(f"{len(blocks)} signatures together, of {limit} at most", "limit")
    return blocks
