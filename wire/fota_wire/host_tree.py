"""A hash tree that grows (RFC 9162, 2.1; not for devices): its roots, and the proofs between them.

A tree is asked for its whole subtrees, whoever keeps them: `Nodes` gives the hash over the leaves
``[index << level, (index + 1) << level)``. Proofs are hashes of 32 bytes, joined. The way from one leaf to
the root is `merkle.climb`.
"""

import hashlib
from collections.abc import Callable, Sequence

from fota_wire import merkle
from fota_wire.errors import FormatError
from fota_wire.merkle import HASH_SIZE

EMPTY = hashlib.sha256().digest()
"""The root of a tree without leaves."""

Nodes = Callable[[int, int], bytes]
"""By level and index; level 0 is the leaves' hashes."""


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf."""
    return merkle.hash_of(b"\0", leaf)


def join(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node above two others."""
    return merkle.hash_of(b"\1", left, right)


def nodes_over(leaves: Sequence[bytes]) -> Nodes:
    """Return the nodes over leaves of these hashes."""
    rows = [leaves]

    def node(level: int, index: int) -> bytes:
        while len(rows) <= level:
            below = rows[-1]
            rows.append([join(below[at], below[at + 1]) for at in range(0, len(below) - 1, 2)])
        return rows[level][index]

    return node


def root_of(nodes: Nodes, size: int) -> bytes:
    """Return the root over the first ``size`` leaves."""
    return over(nodes, 0, size) if size else EMPTY


def over(nodes: Nodes, start: int, end: int) -> bytes:
    """Return the hash over the leaves ``[start, end)``, one or more: MTH(D[start:end])."""
    size = end - start
    if size & (size - 1) == 0 and start % size == 0:
        level = size.bit_length() - 1
        return nodes(level, start >> level)
    middle = start + _left(size)
    return join(over(nodes, start, middle), over(nodes, middle, end))


def _left(size: int) -> int:
    """Return the largest power of 2 below ``size``: as many leaves are left of the middle."""
    return 1 << (size - 1).bit_length() - 1


def inclusion(nodes: Nodes, index: int, size: int) -> bytes:
    """Return the path of leaf ``index`` in the tree of the first ``size``, as `merkle.climb` takes it."""
    start, end, path = 0, size, b""
    while end - start > 1:
        middle = start + _left(end - start)
        if index < middle:
            path, end = over(nodes, middle, end) + path, middle
        else:
            path, start = over(nodes, start, middle) + path, middle
    return path


def consistency(nodes: Nodes, old: int, size: int) -> bytes:
    """Return the proof that the first ``old`` leaves, 1 or more, begin the tree of ``size`` (2.1.4.1)."""
    start, end, proof = 0, size, b""
    while old != end:
        middle = start + _left(end - start)
        if old <= middle:
            proof, end = over(nodes, middle, end) + proof, middle
        else:
            proof, start = over(nodes, start, middle) + proof, middle
    return over(nodes, start, end) + proof if start else proof


def require_consistent(old: int, old_root: bytes, size: int, root: bytes, proof: bytes) -> None:
    """Return if ``proof`` shows that the tree of ``old`` leaves begins that of ``size`` (2.1.4.2).

    Raises:
        FormatError: it does not; code ``consistency``.
    """
    if not (0 <= old <= size and _begins(old, old_root, size, root, proof)):
        raise FormatError(f"hash tree: {old} leaf(s) do not begin the tree of {size}", "consistency")


def _begins(old: int, old_root: bytes, size: int, root: bytes, proof: bytes) -> bool:
    if old == size or old == 0:
        return not proof and (old_root == root if old else old_root == EMPTY and (size > 0 or root == EMPTY))
    if old & (old - 1) == 0:  # its root is a node of the new tree, and goes without saying
        proof = old_root + proof
    if not proof or len(proof) % HASH_SIZE:
        return False
    at, last = old - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    hashes = [proof[pos : pos + HASH_SIZE] for pos in range(0, len(proof), HASH_SIZE)]
    first = second = hashes[0]
    for beside in hashes[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            first, second = join(beside, first), join(beside, second)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            second = join(second, beside)
        at, last = at >> 1, last >> 1
    return last == 0 and first == old_root and second == root
