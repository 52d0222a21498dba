"""A release that nobody else can see is not taken, where ROOT says so: the attacker here has the server, the
ASSIGN key and the RELEASE keys, and all that the log has published; not the LOG key.
"""

import pytest
from test_agent_engine import NONCE, ask

from fota_agent.engine import actions
from fota_wire import checkin, host_tlog, merkle, receipt, suit
from fota_wire import root as roots
from fota_wire.errors import FotaError

from .conftest import CLASS, Key


@pytest.fixture
def log(world):
    """The log's key."""
    return Key()


@pytest.fixture
def genesis(world, log):
    return root_with(world, log)


def root_with(world, *keys, version=1, threshold=1):
    roles = {
        roots.ROOT: (2, [key.xy for key in world.root_keys]),
        roots.RELEASE: (2, [key.xy for key in world.release]),
        roots.ASSIGN: (1, [world.assign.xy]),
    }
    if keys:
        roles[roots.LOG] = (threshold, [key.xy for key in keys])
    raw = roots.build_root(version, roles)
    for key in world.root_keys[:2]:
        raw = roots.FORM.add_signature(raw, key.kid, key.sign)
    return raw


def leaf(release):
    entry = host_tlog.Entry(release.manifest_digest, CLASS, "1.1.0", release.sequence, 1_800_000_000)
    return entry.encode()


def proof(key, release, before=3, after=2):
    """Return the RECEIPT of a release in a log that has others before and after it."""
    leaves = [b"other %d" % at for at in range(before + 1 + after)]
    leaves[before] = leaf(release)
    top, paths = merkle.grow(leaves)
    signature = receipt.sign_tree(len(leaves), top, key.kid, key.sign)
    return receipt.build_receipt(leaves[before], before, len(leaves), paths[before], signature)


def logged(release, raw):
    return release.envelope if raw is None else suit.with_receipt(release.envelope, raw)


def walk(world, engine, envelope, *, inactive=bytes(32), **changes):
    """Give the engine an answer, and let it look into its slots: 1.0.0 runs."""
    ask(engine)
    action = engine.response(10, world.answer(NONCE, world.v2, envelope=envelope, **changes))
    if action.kind == actions.COMPARE_RUNNING:
        action = engine.hashed(11, world.v1.digest)
    if action.kind == actions.COMPARE_INACTIVE:
        action = engine.hashed(12, inactive)
    return action


def test_release_of_the_log_is_taken_and_its_proof_is_kept_with_it(world, log, genesis):
    engine = world.engine(genesis_root=genesis)
    assert ask(engine).request.receipts is True
    engine = world.engine(genesis_root=genesis)
    envelope = logged(world.v2, proof(log, world.v2))
    assert walk(world, engine, envelope).kind == actions.ASK_DOWNLOAD
    assert engine.state.events == []
    later = world.engine(engine.state, genesis_root=genesis)
    assert later.trust.held == world.v2.manifest_digest
    assert walk(world, later, None).kind == actions.ASK_DOWNLOAD


def test_without_the_role_nobody_asks_for_a_proof_nor_looks_at_one(world):
    assert walk(world, world.engine(), world.v2.envelope).kind == actions.ASK_DOWNLOAD
    assert walk(world, world.engine(), logged(world.v2, b"anything")).kind == actions.ASK_DOWNLOAD


LIES = {
    "none": (lambda w, k: None, "no RECEIPT"),
    "empty": (lambda w, k: b"", ""),
    "garbage": (lambda w, k: b"\xff", ""),
    "of-another-release": (lambda w, k: proof(k, w.v1), "another release"),
    "of-another-logs-key": (lambda w, k: proof(Key(), w.v2), "0 of 1"),
    "by-the-assign-key": (lambda w, k: proof(w.assign, w.v2), "0 of 1"),
    "by-a-release-key": (lambda w, k: proof(w.release[0], w.v2), "0 of 1"),
    "a-true-tree-without-it": (lambda w, k: moved(w, k), "is wrong"),
    "an-empty-tree": (lambda w, k: changed(proof(k, w.v2), 2, 0), "no such path"),
    "a-longer-path": (lambda w, k: changed(proof(k, w.v2), 3, bytes(32), more=True), "no such path"),
    "a-broken-signature": (lambda w, k: proof(k, w.v2)[:-1] + b"\0", "is wrong"),
}


def changed(raw, at, value, more=False):
    parts = receipt.cbor.decode(raw)
    parts[at] = parts[at] + value if more else value
    return receipt.cbor.encode(parts)


def moved(world, key):
    """Return the proof of another leaf of a tree that the log has signed, with a secret release for it."""
    return changed(proof(key, world.v1), 0, leaf(world.v2))


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("there", [False, True], ids=["to-download", "downloaded"])
def test_release_that_is_not_in_the_log_is_refused_and_told_of(world, log, genesis, lie, there):
    make, word = LIES[lie]
    engine = world.engine(genesis_root=genesis)
    inactive = world.v2.digest if there else bytes(32)
    action = walk(world, engine, logged(world.v2, make(world, log)), inactive=inactive)
    assert action.kind == actions.IDLE
    state = engine.state
    assert (state.pending, state.writing, state.installed) == (None, None, None)
    assert state.events[-1][0] == "refused"
    assert word in state.events[-1][1]
    assert engine.trust.held is None  # so that the server sends it anew, with its proof
    assert engine.timer(action.until).kind == actions.NONCE  # and it goes on


def test_as_many_keys_as_root_says_have_to_sign(world, log):
    other = Key()
    two = root_with(world, log, other, threshold=2)
    one = proof(log, world.v2)
    both = receipt.cbor.encode([*receipt.cbor.decode(one), receipt.cbor.decode(proof(other, world.v2))[4]])
    assert walk(world, world.engine(genesis_root=two), logged(world.v2, one)).kind == actions.IDLE
    assert walk(world, world.engine(genesis_root=two), logged(world.v2, both)).kind == actions.ASK_DOWNLOAD


def test_hand_on_the_spot_needs_a_proof_too(world, log, genesis):
    engine = world.engine(genesis_root=genesis)
    engine.start(0)
    with pytest.raises(FotaError, match="no RECEIPT"):
        engine.offer(1, [], world.v2.envelope)
    engine.offer(1, [], logged(world.v2, proof(log, world.v2)))
    engine.hashed(2, world.v1.digest)
    assert engine.hashed(3, bytes(32)).kind == actions.ASK_DOWNLOAD


def test_root_step_that_brings_the_role_has_the_manifest_at_hand_sent_anew_with_its_proof(world, log):
    engine = world.engine()
    assert walk(world, engine, world.v2.envelope).kind == actions.ASK_DOWNLOAD
    engine = world.engine(engine.state)
    assert ask(engine).request.manifest_digest == world.v2.manifest_digest
    step = root_with(world, log, version=2)
    raw = checkin.parse_response(world.answer(NONCE, world.v2, envelope=None, roots=[step], root_version=2))
    action = engine.response(10, checkin.encode_response(raw, manifest_held=True))
    assert (action.kind, action.until, engine.state.events) == (actions.IDLE, 10, [])
    engine.timer(action.until)
    assert engine.nonce(20, NONCE).request.manifest_digest is None
    engine.response(
        30, world.answer(NONCE, world.v2, envelope=logged(world.v2, proof(log, world.v2)), root_version=2)
    )
    engine.hashed(31, world.v1.digest)
    assert engine.hashed(32, bytes(32)).kind == actions.ASK_DOWNLOAD
    assert engine.state.events == []


def test_key_that_root_has_replaced_counts_no_more_and_a_root_may_ask_for_none(world, log, genesis):
    envelope = logged(world.v2, proof(log, world.v2))
    engine = world.engine(genesis_root=genesis)
    two = root_with(world, Key(), version=2)
    assert walk(world, engine, envelope, roots=[two], root_version=2).kind == actions.IDLE
    assert "0 of 1" in engine.state.events[-1][1]
    engine = world.engine(genesis_root=genesis)
    none = root_with(world, version=2)
    assert walk(world, engine, world.v2.envelope, roots=[none], root_version=2).kind == actions.ASK_DOWNLOAD
