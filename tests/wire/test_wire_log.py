"""The release log's tree, tiles, checkpoints: by the field's numbers, Go's readers, a plain reference."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hash_trees import LEAVES, ROOTS
from hypothesis import given
from hypothesis import strategies as st
from lifeline import HANG_S

from fota_wire import host_note, host_tlog, host_tree, merkle
from fota_wire.errors import FormatError, InputError, VerifyError
from fota_wire.host_note import LOG, WITNESS, Checkpoint, PublicKey
from fota_wire.host_tlog import Entry, Tile

SIZES = range(301)
ENTRIES = [Entry(bytes([n % 256]) * 32, bytes(16), f"1.0.{n}", n, 1_800_000_000 + n) for n in SIZES][:-1]
RAW = [entry.encode() for entry in ENTRIES]
HASHES = [host_tree.leaf_hash(raw) for raw in RAW]
NODES = host_tree.nodes_over(HASHES)
GO_SOURCE = Path("/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog")


def plain(leaves: list[bytes]) -> bytes:
    """MTH, word for word as RFC 9162, 2.1.1 has it."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + plain(leaves[:k]) + plain(leaves[k:])).digest()


def plain_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH, word for word as 2.1.3.1 has it."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*plain_path(m, leaves[:k]), plain(leaves[k:])]
    return [*plain_path(m - k, leaves[k:]), plain(leaves[:k])]


def plain_proof(m: int, leaves: list[bytes], known: bool = True) -> list[bytes]:
    """SUBPROOF, word for word as 2.1.4.1 has it."""
    if m == len(leaves):
        return [] if known else [plain(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return [*plain_proof(m, leaves[:k], known), plain(leaves[k:])]
    return [*plain_proof(m - k, leaves[k:], False), plain(leaves[:k])]


def split(proof: bytes) -> list[bytes]:
    return [proof[at : at + 32] for at in range(0, len(proof), 32)]


# Trees


def test_roots_and_proofs_are_those_of_the_field() -> None:
    nodes = host_tree.nodes_over([host_tree.leaf_hash(bytes.fromhex(leaf)) for leaf in LEAVES])
    assert [host_tree.root_of(nodes, size).hex() for size in range(1, 9)] == ROOTS
    # Of Certificate Transparency's own test data: leaf 5 of 8, and what leads from 6 to 8 leaves.
    assert [one.hex() for one in split(host_tree.inclusion(nodes, 5, 8))] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    proof = host_tree.consistency(nodes, 6, 8)
    assert [one.hex() for one in split(proof)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    host_tree.require_consistent(6, bytes.fromhex(ROOTS[5]), 8, bytes.fromhex(ROOTS[7]), proof)


@pytest.mark.parametrize("size", SIZES)
def test_root_paths_and_proofs_of_every_size_are_those_of_the_words_of_the_rfc(size: int) -> None:
    root = host_tree.root_of(NODES, size)
    assert root == plain(RAW[:size])
    for at in {0, size // 3, size // 2, size - 1} & set(range(size)):
        path = host_tree.inclusion(NODES, at, size)
        assert split(path) == plain_path(at, RAW[:size])
        assert merkle.climb(RAW[at], at, size, path) == root
    for old in {1, size // 3, size // 2, size - 1, size} & set(range(1, size + 1)):
        assert split(host_tree.consistency(NODES, old, size)) == plain_proof(old, RAW[:size])


@pytest.mark.parametrize("size", SIZES)
def test_every_earlier_tree_begins_every_later_one_by_its_proof_and_by_no_other(size: int) -> None:
    root = host_tree.root_of(NODES, size)
    host_tree.require_consistent(0, host_tree.EMPTY, size, root, b"")
    for old in range(1, size + 1):
        old_root, proof = host_tree.root_of(NODES, old), host_tree.consistency(NODES, old, size)
        host_tree.require_consistent(old, old_root, size, root, proof)
        if old not in {1, size // 3, size // 2, size - 1, size}:
            continue
        wrong = [
            (old, bytes(32), size, root, proof),
            (old, old_root, size, bytes(32), proof),
            (old, old_root, size, root, proof + bytes(32)),
            (old, old_root, size, root, proof[1:] if proof else bytes(1)),
            (old - 1, old_root, size, root, proof),
            (size + 1, old_root, size, root, proof),
        ]
        if proof:
            wrong.append((old, old_root, size, root, proof[:-32]))
            wrong.append((old, old_root, size, root, bytes([proof[0] ^ 1]) + proof[1:]))
        for case in wrong:
            with pytest.raises(FormatError, match="do not begin"):
                host_tree.require_consistent(*case)


@given(st.integers(-1, 40), st.integers(-1, 40), st.binary(max_size=200), st.binary(min_size=32, max_size=32))
def test_no_bytes_are_a_proof_that_was_not_made(old: int, size: int, proof: bytes, other: bytes) -> None:
    root, old_root = host_tree.root_of(NODES, max(size, 0)), host_tree.root_of(NODES, max(old, 0))
    for first in (other, old_root):
        made = 0 <= old <= size and first == old_root
        if made and proof == (host_tree.consistency(NODES, old, size) if old else b""):
            continue
        with pytest.raises(FormatError):
            host_tree.require_consistent(old, first, size, root, proof)


# Tiles


def tile_bytes(tile: Tile, size: int) -> bytes:
    if tile.level is None:
        return host_tlog.pack(RAW[tile.start : tile.start + tile.width])
    assert tile.start + tile.width <= size >> 8 * tile.level
    return b"".join(NODES(8 * tile.level, tile.start + at) for at in range(tile.width))


@pytest.mark.parametrize("size", [*range(1, 20), 255, 256, 257, 300])
def test_tiles_give_the_entries_and_every_proof_of_their_tree(size: int) -> None:
    def fetch(tile: Tile) -> bytes:
        return tile_bytes(tile, size)

    assert list(host_tlog.entries_of(fetch, size)) == RAW[:size]
    nodes = host_tlog.nodes_of(fetch, size)
    assert host_tree.root_of(nodes, size) == host_tree.root_of(NODES, size)
    for old in range(1, size + 1):
        assert host_tree.consistency(nodes, old, size) == host_tree.consistency(NODES, old, size)


@pytest.mark.parametrize(
    ("level", "index", "width", "path"),
    [
        (0, 0, 256, "tile/0/000"),
        (0, 273, 112, "tile/0/273.p/112"),
        (2, 0, 1, "tile/2/000.p/1"),
        (1, 1234067, 256, "tile/1/x001/x234/067"),
        (None, 1000, 5, "tile/entries/x001/000.p/5"),
    ],
)
def test_paths_of_tiles_are_those_of_c2sp(level: int | None, index: int, width: int, path: str) -> None:
    tile = Tile(level, index, width)
    assert tile.path == path
    assert host_tlog.read_tile(*path.removeprefix("tile/").split("/", 1)) == tile


@pytest.mark.parametrize(
    "path",
    ["0/0", "0/0000", "00/000", "64/000", "-1/000", "0/x000/000", "0/x001/x000", "0/000.p/0", "0/000.p/256",
     "0/000.p/999", "0/000.p/01", "0/000.p/", "0/1000", "data/000", "0/../000", "\u0661/000",
     "0/\u0661\u0661\u0661"],
)  # fmt: skip
def test_a_tile_has_one_name_alone(path: str) -> None:
    with pytest.raises(FormatError):
        host_tlog.read_tile(*path.split("/", 1))


@given(st.sampled_from(["entries", *map(str, range(66))]), st.text("0123456789x/.p", max_size=24))
def test_no_text_is_a_tile_by_two_names(level: str, rest: str) -> None:
    try:
        tile = host_tlog.read_tile(level, rest)
    except FormatError:
        return
    assert tile.path == f"tile/{level}/{rest}"


@given(st.binary(max_size=300), st.integers(0, 4))
def test_no_bytes_are_a_tile_of_entries_in_two_ways(data: bytes, count: int) -> None:
    try:
        found = host_tlog.unpack(data, count)
    except FormatError:
        return
    assert len(found) == count
    assert host_tlog.pack(found) == data


@given(st.binary(max_size=120) | st.sampled_from(RAW).flatmap(lambda raw: st.just(raw[:-1])))
def test_no_bytes_are_an_entry_in_two_ways(data: bytes) -> None:
    try:
        entry = host_tlog.read_entry(data)
    except FormatError:
        return
    assert entry.encode() == data


@given(st.integers(0, len(RAW[7]) - 1), st.integers(1, 255))
def test_an_entry_with_one_byte_changed_is_another_or_none(at: int, bits: int) -> None:
    assert host_tlog.read_entry(RAW[7]) == ENTRIES[7]
    changed = bytearray(RAW[7])
    changed[at] ^= bits
    with suppress(FormatError):
        assert host_tlog.read_entry(bytes(changed)) != ENTRIES[7]


# Notes


LOG_KEY = host_note.Signer("fota.example/log", LOG, bytes(range(32)))
WITNESS_KEY = host_note.Signer("witness.example/w1", WITNESS, bytes(range(1, 33)))
HEAD = Checkpoint("fota.example/log", 300, host_tree.root_of(NODES, 300))


def test_example_of_c2sp_holds_by_its_key() -> None:
    key = host_note.read_public_key(
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", LOG
    )
    text = (
        "This is an example message.\n\n"
        "\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlT"
        "gK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
    )
    note = host_note.read_note(text.encode())
    assert note.text == "This is an example message.\n"
    assert note.of(key) is not None
    with pytest.raises(VerifyError, match=r"example\.com/foo does not hold"):
        host_note.read_note(text.replace("an example", "no example").encode()).of(key)


def test_checkpoint_of_c2sp_is_read() -> None:
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    found = host_note.read_checkpoint(text)
    assert (found.origin, found.size) == ("example.com/behind-the-sofa", 20852163)
    assert found.to_text() == text


def test_checkpoint_is_signed_by_the_log_and_cosigned_with_the_time_by_a_witness() -> None:
    signed = host_note.sign_checkpoint(HEAD, LOG_KEY)
    both = host_note.cosign(signed, WITNESS_KEY, 1_800_000_000)
    found, note = host_note.open_checkpoint(both, LOG_KEY.public)
    assert found == HEAD
    stranger = PublicKey("witness.example/w2", WITNESS, WITNESS_KEY.public.raw)
    assert host_note.witnesses_of(note, [WITNESS_KEY.public, stranger]) == {
        "witness.example/w1": 1_800_000_000
    }
    raw = {name: value for name, _, value in note.signatures}["witness.example/w1"]
    message = f"cosignature/v1\ntime 1800000000\n{HEAD.to_text()}"
    as_log = PublicKey(
        "x", LOG, WITNESS_KEY.public.raw
    )  # the words of tlog-cosignature, by a plain signature
    assert as_log.holds(message, raw[8:])


@pytest.mark.parametrize("kind", [LOG, WITNESS])
def test_keys_come_back_from_what_is_printed_and_kept_and_never_show_their_secret(kind: int) -> None:
    signer = host_note.new_signer("a.example/b", kind)
    assert host_note.read_public_key(str(signer.public) + "\n", kind) == signer.public
    assert host_note.read_signer(signer.to_text(), kind, "file") == signer
    shown = base64.b64encode(signer.secret).decode()
    assert shown not in repr(signer) + str(signer.public)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a+b+c",
        "fota.example/log+00000000+AQ==",
        "PRIVATE+KEY+x",
        "a b+530d903a+AekyeRrm56hApGFkyQR4ZCbV",
    ],
)
def test_what_is_no_key_is_told_and_not_shown(text: str) -> None:
    with pytest.raises(InputError):
        host_note.read_public_key(text, LOG)
    with pytest.raises(InputError, match=r"^where: no key of a log or witness$"):
        host_note.read_signer(text.encode(), LOG, "where")


def test_a_key_of_the_other_kind_is_told() -> None:
    with pytest.raises(InputError, match="none of a witness"):
        host_note.read_public_key(str(LOG_KEY.public), WITNESS)


def test_checkpoint_of_another_log_or_key_is_refused() -> None:
    other = host_note.new_signer(LOG_KEY.name, LOG)
    with pytest.raises(VerifyError, match=r"not signed by fota\.example/log"):
        host_note.open_checkpoint(host_note.sign_checkpoint(HEAD, other), LOG_KEY.public)
    elsewhere = host_note.sign_checkpoint(Checkpoint("else.example", 1, bytes(32)), LOG_KEY)
    with pytest.raises(VerifyError, match=r"of the log else\.example"):
        host_note.open_checkpoint(elsewhere, LOG_KEY.public)


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_checkpoint_with_one_byte_changed_is_refused(at: int, bits: int) -> None:
    signed = bytearray(host_note.sign_checkpoint(HEAD, LOG_KEY))
    signed[at % len(signed)] ^= bits
    with pytest.raises((FormatError, VerifyError)):
        host_note.open_checkpoint(bytes(signed), LOG_KEY.public)


@given(
    st.binary(max_size=400)
    | st.text(max_size=200).map(lambda text: (text + "\n\n\u2014 a AAAAAAA=\n").encode())
)
def test_no_bytes_are_a_signed_checkpoint(data: bytes) -> None:
    with pytest.raises((FormatError, VerifyError)):
        host_note.open_checkpoint(data, LOG_KEY.public)


@given(st.text(max_size=120))
def test_no_text_is_a_checkpoint_in_two_ways(text: str) -> None:
    try:
        found = host_note.read_checkpoint(text)
    except FormatError:
        return
    assert found.to_text() == text


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def b64s(proof: bytes) -> list[str]:
    return [b64(one) for one in split(proof)]


def test_gos_readers_of_logs_take_proofs_notes_and_tiles(tmp_path: Path) -> None:
    go = shutil.which("go")
    if go is None or not GO_SOURCE.is_dir():
        pytest.skip("no Go with golang.org/x/mod: make oracles")
    inclusion = [[b64s(host_tree.inclusion(NODES, at, size)) for at in range(size)] for size in SIZES]
    proofs = [[b64s(host_tree.consistency(NODES, old, size)) for old in range(1, size + 1)] for size in SIZES]
    signed = host_note.sign_checkpoint(HEAD, LOG_KEY)
    tiles = [Tile(0, 0, 256), Tile(0, 1, 44), Tile(1, 0, 1)]
    made = {
        "entries": list(map(b64, RAW)),
        "roots": [b64(host_tree.root_of(NODES, size)) for size in SIZES],
        "inclusion": inclusion,
        "proofs": proofs,
        "key": str(LOG_KEY.public),
        "notes": [b64(signed), b64(host_note.cosign(signed, WITNESS_KEY, 5))],
        "tiles": {tile.path.replace("tile", "tile/8", 1): b64(tile_bytes(tile, 300)) for tile in tiles},
    }
    done = subprocess.run(
        [go, "run", str(Path(__file__).with_name("log_judge.go"))],
        input=json.dumps(made),
        timeout=HANG_S,
        text=True,
        capture_output=True,
        cwd=tmp_path,
        check=False,
        env=os.environ
        | {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(tmp_path / "cache")},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"looked at {2 * sum(SIZES) + 1 + 2 + 300}\n"
