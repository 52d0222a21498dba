"""The hash tree is that of RFC 9162, and a path leads to the root from its own place alone."""

import hashlib

import pytest
from hash_trees import LEAVES, ROOTS
from hypothesis import given
from hypothesis import strategies as st

from fota_wire import merkle
from fota_wire.errors import FormatError


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_the_field(size: int) -> None:
    root, paths = merkle.grow([bytes.fromhex(leaf) for leaf in LEAVES[:size]])
    assert root.hex() == ROOTS[size - 1]
    assert len(paths) == size


@pytest.mark.parametrize("size", [*range(1, 66), 127, 128, 129, 255, 256])
def test_every_leaf_climbs_to_the_root(size: int) -> None:
    leaves = [n.to_bytes(2, "big") for n in range(size)]
    root, paths = merkle.grow(leaves)
    assert {merkle.climb(leaf, n, size, paths[n]) for n, leaf in enumerate(leaves)} == {root}
    assert max(map(len, paths)) == merkle.HASH_SIZE * (size - 1).bit_length()


@given(st.integers(1, 40), st.data())
def test_no_other_leaf_place_or_path_reaches_the_root(size: int, data: st.DataObject) -> None:
    root, paths = merkle.grow([bytes([n]) for n in range(size)])
    at, place = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size + 3))
    leaf = data.draw(st.integers(0, size))
    cut = data.draw(st.integers(-70, 70))
    path = paths[at] + bytes(cut) if cut > 0 else paths[at][: max(0, len(paths[at]) + cut)]
    if (leaf, place, cut) == (at, at, 0):
        return
    assert climbed(leaf, place, size, path) != root or (leaf, path) == (place, paths[place])


def climbed(leaf: int, place: int, size: int, path: bytes) -> bytes | None:
    try:
        return merkle.climb(bytes([leaf]), place, size, path)
    except FormatError:
        return None


def test_a_node_is_no_leaf() -> None:
    """Else the two hashes of a node, taken for a leaf, would be signed as well."""
    root, paths = merkle.grow([b"a", b"b", b"c", b"d"])
    below = hashlib.sha256(b"\0a").digest() + hashlib.sha256(b"\0b").digest()
    assert merkle.climb(below, 0, 2, paths[0][32:]) != root
