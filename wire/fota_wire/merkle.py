"""Hash trees (RFC 9162, 2.1): one signature over the root stands for every leaf."""

import hashlib

from fota_wire import cbor, check
from fota_wire.errors import FormatError

HASH_SIZE = 32


def grow(leaves: "list[bytes]") -> "tuple[bytes, list[bytes]]":
    """Return the root over one leaf or more, and for each leaf its path: the hashes beside it, from its own
    to the root's, joined.
    """
    if len(leaves) == 1:
        return hash_of(b"\0", leaves[0]), [b""]
    left = 1 << (len(leaves) - 1).bit_length() - 1  # the largest power of 2 below their number
    root, paths = grow(leaves[:left])
    other, others = grow(leaves[left:])
    return hash_of(b"\1", root, other), [path + other for path in paths] + [path + root for path in others]


def climb(leaf: bytes, index: int, size: int, path: "bytes | memoryview") -> bytes:
    """Return the root of the tree with ``size`` leaves whose leaf ``index`` this is, by its ``path``: it says
    so if that root is the one that was signed (2.1.3.2).

    Raises:
        FormatError: there is no such path in a tree of this size; code ``path``.
    """
    at, last, value, pos = index, size - 1, hash_of(b"\0", leaf), 0
    while last > 0:
        if at & 1 or at < last:  # else it has nobody beside it, and goes up as it is
            beside = path[pos : pos + HASH_SIZE]
            value = hash_of(b"\1", beside, value) if at & 1 else hash_of(b"\1", value, beside)
            pos += HASH_SIZE
        at, last = at >> 1, last >> 1
    if index >= size or pos != len(path):
        raise FormatError("hash tree: no such path", "path")
    return value


def hash_of(head: bytes, one: "bytes | memoryview", other: "bytes | memoryview" = b"") -> bytes:
    """Return the hash of a leaf, behind a head of 0, or of a node's two, behind a 1 (2.1.1)."""
    return hashlib.sha256(head + one + other).digest()


def unsafe_open(
    raw: "bytes | memoryview", what: str, limit: int, signatures: int
) -> "tuple[bytes, bytes, list[bytes]]":
    """Return leaf, encoded ``[size, root]`` of its tree, and the COSE_Sign1 over that; **none is checked**.

    ``raw``: ``[leaf bstr, place uint, size uint, path bstr, + bstr COSE_Sign1 (payload nil)]``, of so many
    ``signatures`` and a size up to ``limit``. ``what`` it is for people.

    Raises:
        FormatError: malformed, or there is no such path.
    """
    parts = check.array(cbor.decode(raw), what, 5, 4 + signatures)
    place, size = [check.uint(part, what, limit) for part in parts[1:3]]
    strings = [check.bstr(part, what) for part in parts[:1] + parts[3:]]
    return strings[0], cbor.encode([size, climb(strings[0], place, size, strings[1])]), strings[2:]
