"""RECEIPT: its verdicts are in tests/vectors/receipt.json; here is what holds for any tree and any bytes."""

from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from fota_wire import checkin, cose, host_crypto, host_tree, receipt, suit
from fota_wire import root as roots
from fota_wire.errors import FotaError
from fota_wire.host_tlog import Entry

DIGEST = bytes(range(32))
KEYS = [ec.derive_private_key(number, ec.SECP256R1()) for number in range(1, 5)]
XY = [host_crypto.public_xy(key) for key in KEYS]


def root_of(threshold=1):
    roles = {roots.ROOT: (1, XY[:1]), roots.RELEASE: (1, XY[1:2]), roots.ASSIGN: (1, XY[2:3])}
    raw = roots.build_root(1, {**roles, roots.LOG: (threshold, XY[3:])} if threshold else roles)
    return roots.unsafe_read_root(raw)


def proof(place, size):
    """Return the RECEIPT by the log's own tree (`host_tree`), which is not what devices climb."""
    leaves = [b"other %d" % at for at in range(size)]
    leaves[place] = Entry(DIGEST, bytes(16), "1.0.0", 1, 2).encode()
    nodes = host_tree.nodes_over([host_tree.leaf_hash(leaf) for leaf in leaves])
    top, path = host_tree.root_of(nodes, size), host_tree.inclusion(nodes, place, size)
    signature = receipt.sign_tree(size, top, cose.kid_of(XY[3]), host_crypto.signer(KEYS[3]))
    return receipt.build_receipt(leaves[place], place, size, path, signature), top


def taken(raw, root=None):
    receipt.require_logged(raw, DIGEST, root or root_of(), host_crypto.verify)


@given(st.integers(1, 70).flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size))))
def test_leaf_of_any_tree_is_proved_to_devices_by_the_logs_own_path(where):
    raw, top = proof(*where)
    taken(raw)
    assert receipt.tree_of(raw) == (where[1], top)


RAW = proof(5, 11)[0]


@pytest.mark.parametrize("bit", range(8))
def test_no_bit_of_it_can_be_changed(bit):
    for at in range(len(RAW)):
        with pytest.raises(FotaError):
            taken(RAW[:at] + bytes([RAW[at] ^ 1 << bit]) + RAW[at + 1 :])


@given(st.binary(max_size=200), st.integers(0, len(RAW)), st.integers(0, len(RAW)))
def test_any_bytes_are_refused_and_nothing_else(noise, begin, end):
    for raw in (noise, RAW[:begin] + noise + RAW[end:]):
        if raw != RAW:
            with pytest.raises(FotaError):
                taken(raw)
        with suppress(FotaError):
            receipt.signers_of(raw)


def test_root_without_the_role_asks_for_none_and_looks_at_none():
    for raw in (None, b"", b"\xff", RAW):
        taken(raw, root_of(0))
    with pytest.raises(FotaError, match="no RECEIPT"):
        taken(None)


@given(st.binary(max_size=300), st.booleans())
def test_envelope_is_what_it_was_once_its_proof_is_taken_away(raw, text):
    said = suit.build_text("v", "m", "1.0.0") if text else None
    manifest = suit.build_manifest(1, bytes(16), bytes(16), DIGEST, 1, said)
    envelope = suit.build_envelope(manifest, [], said)
    proved = suit.with_receipt(envelope, raw)
    assert suit.parse_envelope(proved).receipt == raw
    assert suit.unsafe_read_manifest(proved).manifest_digest == suit.manifest_digest(manifest)
    assert suit.without_receipt(proved) == suit.without_receipt(envelope) == envelope


@pytest.mark.parametrize("takes", [False, True])
def test_check_in_says_whether_its_device_takes_them_where_servers_of_before_do_not_look(takes):
    request = checkin.Request(bytes(16), 1, None)
    request.receipts = takes
    assert checkin.parse_request(checkin.encode_request(request)).receipts is takes
    assert checkin.RECEIPTS >= checkin.FIRST_EXTENSION
