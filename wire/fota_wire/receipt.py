"""RECEIPT (SPEC 5.9): that a release is in the release log, by the word of the keys that ROOT names for it.
It lies in the envelope of the manifest, and devices ask for it where ROOT names a role LOG.
"""

from fota_wire import cbor, check, cose, merkle
from fota_wire import root as roots
from fota_wire.errors import VerifyError
from fota_wire.signed import MAX_SIGNATURES, check_signatures, each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_wire.seams import Sign, Verify

AAD = b"fota/log/1"
LEAF = b"\xa6\x01\x01\x02\x58\x20"
"""How a leaf begins (SPEC 8.1): six fields, format 1, and a manifest digest, which is next."""


def build_receipt(leaf: bytes, place: int, size: int, path: bytes, signature: bytes) -> bytes:
    """Return the RECEIPT of leaf ``place`` in the tree of ``size``, with one signature of `sign_tree`."""
    return cbor.encode([leaf, place, size, path, signature])


def sign_tree(size: int, root: bytes, kid: bytes, sign: "Sign") -> bytes:
    """Return the signature, for RECEIPTs, under the tree of ``size`` leaves with this root."""
    return cose.sign1(cbor.encode([size, root]), kid, sign, AAD, True)


def require_logged(
    raw: "bytes | memoryview | None", manifest_digest: bytes, root: "roots.Root", verify: "Verify"
) -> None:
    """Return if ``raw`` is a RECEIPT of this manifest by as many LOG keys of ``root`` as that wants, or it
    wants none.

    Raises:
        FormatError: malformed, or no path of the tree that it names.
        VerifyError: ``log-missing`` (None), ``log-release`` (of another one), ``duplicate-signer``,
            ``signature``, ``threshold``.
    """
    threshold = root.threshold(roots.LOG)
    if not threshold:
        return
    if raw is None:
        raise VerifyError("no RECEIPT", "log-missing")
    leaf, tree, blocks = merkle.unsafe_open(raw, "RECEIPT", check.UINT_MAX, MAX_SIGNATURES)
    if leaf[: len(LEAF) + 32] != LEAF + manifest_digest:
        raise VerifyError("RECEIPT is of another release", "log-release")
    check_signatures(each(blocks), tree, AAD, root.role_keys(roots.LOG), threshold, verify)


def tree_of(raw: "bytes | memoryview") -> "tuple[int, bytes]":
    """Return size and root of the tree that a RECEIPT shows, unverified. FormatError: malformed."""
    tree = cbor.decode(merkle.unsafe_open(raw, "RECEIPT", check.UINT_MAX, MAX_SIGNATURES)[1])
    size, root = check.array(tree, "tree", 2, 2)
    return check.uint(size, "size"), check.bstr(root, "root", 32)


def signers_of(raw: "bytes | memoryview") -> "list[bytes | None]":
    """Return the kids of a RECEIPT's signatures, unverified. FormatError: malformed."""
    return [
        signature.kid
        for signature in each(merkle.unsafe_open(raw, "RECEIPT", check.UINT_MAX, MAX_SIGNATURES)[2])
    ]
