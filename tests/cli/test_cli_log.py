"""Whatever a server answers as its log: what it did not sign is refused, in words."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fota_cli import log_look
from fota_wire import host_note, host_tlog, host_tree
from fota_wire.errors import InputError, VerifyError
from fota_wire.host_note import LOG, Checkpoint, Signer
from fota_wire.host_tlog import Entry
from fota_wire.host_tree import leaf_hash

SIGNER = Signer("log.example/l", LOG, bytes(range(32)))
ENTRIES = [Entry(bytes([n]) * 32, bytes(16), f"1.0.{n}", n, n).encode() for n in range(3)]
HASHES = [leaf_hash(raw) for raw in ENTRIES]
ROOT = host_tree.root_of(host_tree.nodes_over(HASHES), 3)
TRUE = {
    "log/checkpoint": host_note.sign_checkpoint(Checkpoint(SIGNER.name, 3, ROOT), SIGNER),
    "log/tile/entries/000.p/3": host_tlog.pack(ENTRIES),
    "log/tile/0/000.p/3": b"".join(HASHES),
}
LISTED = [
    {"manifest_digest": f"{n:02x}" * 32, "class_id": "00" * 16, "version": f"1.0.{n}", "sequence": n}
    | {"published_at": n}
    for n in range(3)
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


class Answers:
    """A server that answers what it is told to."""

    def __init__(self, **changed: bytes) -> None:
        self.answers = TRUE | changed

    def fetch(self, path: str) -> bytes:
        if path not in self.answers:
            raise InputError("there is nothing here", "not-found")
        return self.answers[path]


def look(**changed: bytes) -> list[Entry]:
    client: Any = Answers(**changed)
    log = log_look.Log(client, SIGNER.public)
    log.by_tiles()
    return log_look.require_listed(log.leaves(), LISTED)


def test_what_was_signed_is_what_is_shown() -> None:
    assert [entry.version for entry in look()] == ["1.0.0", "1.0.1", "1.0.2"]


@given(st.sampled_from(sorted(TRUE)), st.binary(max_size=400))
def test_any_other_bytes_are_refused(path: str, answer: bytes) -> None:
    with pytest.raises(VerifyError):
        look(**{path: answer})


@given(st.sampled_from(sorted(TRUE)), st.integers(0, 400), st.integers(1, 255))
def test_any_byte_that_was_changed_is_refused(path: str, at: int, bits: int) -> None:
    changed = bytearray(TRUE[path])
    changed[at % len(changed)] ^= bits
    with pytest.raises(VerifyError):
        look(**{path: bytes(changed)})


@given(st.integers(0, 2), st.sampled_from(sorted(LISTED[0])), JSON)
def test_any_other_word_of_the_list_is_refused(at: int, field: str, word: Any) -> None:
    item: dict[str, Any] = LISTED[at] | {field: word}
    if type(word) is type(LISTED[at][field]) and word == LISTED[at][field]:
        return
    with pytest.raises(VerifyError):
        log_look.require_listed(ENTRIES, [*LISTED[:at], item, *LISTED[at + 1 :]])


@pytest.mark.parametrize("listed", [[], LISTED[:2], LISTED[1:], [*LISTED, LISTED[0]], [{}]])
def test_list_of_fewer_or_more_is_refused(listed: list[dict[str, Any]]) -> None:
    with pytest.raises(VerifyError):
        log_look.require_listed(ENTRIES, listed)
