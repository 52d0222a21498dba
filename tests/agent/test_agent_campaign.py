"""Whom a release may reach is decided by people, where ROOT says so: the attacker here has the server and the
ASSIGN key, and says whatever time it likes.
"""

import pytest
from test_agent_engine import NONCE, ask

from fota_agent.engine import actions
from fota_agent.engine.state import State
from fota_wire import campaign, checkin
from fota_wire import root as roots

from .conftest import Key

TIME = 1_795_000_000  # of the ASSIGNMENTs of `World.order`
ALL = campaign.WHOLE


@pytest.fixture
def keys(world):
    """Three CAMPAIGN keys, of which two sign, and ROOT 1 that says so."""

    return [Key() for _ in range(3)]


@pytest.fixture
def genesis(world, keys):
    return root_with(world, keys)


def root_with(world, keys, version=1, threshold=2):
    roles = {
        roots.ROOT: (2, [key.xy for key in world.root_keys]),
        roots.RELEASE: (2, [key.xy for key in world.release]),
        roots.ASSIGN: (1, [world.assign.xy]),
        roots.CAMPAIGN: (threshold, [key.xy for key in keys]),
    }
    raw = roots.build_root(version, roles)
    for key in world.root_keys[:2]:
        raw = roots.FORM.add_signature(raw, key.kid, key.sign)
    return raw


def document(world, signers, *waves, release=None):
    raw = campaign.build_campaign((release or world.v2).manifest_digest, list(waves) or [(0, TIME, ALL, "")])
    for key in signers:
        raw = campaign.FORM.add_signature(raw, key.kid, key.sign)
    return raw


def answer(world, raw, release=None, steps=(), **changes):
    parsed = checkin.parse_response(world.answer(NONCE, release or world.v2, roots=steps, **changes))
    parsed.campaign = raw
    return checkin.encode_response(parsed)


def walk(world, engine, raw, *, inactive=bytes(32), **changes):
    """Give the engine an answer, and let it look into its slots: 1.0.0 runs."""
    ask(engine)
    action = engine.response(10, answer(world, raw, **changes))
    if action.kind == actions.COMPARE_RUNNING:
        action = engine.hashed(11, world.v1.digest)
    if action.kind == actions.COMPARE_INACTIVE:
        action = engine.hashed(12, inactive)
    return action


def test_device_in_scope_goes_on_to_download_and_tells_its_group(world, keys, genesis):
    engine = world.engine(genesis_root=genesis, group="canary")
    assert ask(engine).request.group == "canary"
    engine = world.engine(genesis_root=genesis, group="canary")
    raw = document(world, keys[:2], (TIME, TIME, ALL, "canary"))
    assert walk(world, engine, raw).kind == actions.ASK_DOWNLOAD
    assert engine.state.events == []


def test_without_the_role_nobody_asks_for_a_document_nor_looks_at_one(world):
    assert walk(world, world.engine(), None).kind == actions.ASK_DOWNLOAD
    assert walk(world, world.engine(), b"anything").kind == actions.ASK_DOWNLOAD


LIES = {
    "none": (lambda w, k: None, "no CAMPAIGN came"),
    "garbage": (lambda w, k: b"\xff", ""),
    "of-another-manifest": (lambda w, k: document(w, k[:2], release=w.v1), "another manifest"),
    "signed-by-nobody": (lambda w, k: document(w, []), "0 of 2"),
    "one-key-of-two": (lambda w, k: document(w, k[:1]), "1 of 2"),
    "by-the-assign-key": (lambda w, k: document(w, [k[0], w.assign]), "1 of 2"),
    "by-release-keys": (lambda w, k: document(w, w.release[:2]), "0 of 2"),
    "by-root-keys": (lambda w, k: document(w, w.root_keys[:2]), "0 of 2"),
    "over": (lambda w, k: document(w, k[:2], (0, TIME - 1, ALL, "")), "no wave of this device is open"),
    "not-yet": (lambda w, k: document(w, k[:2], (TIME + 1, TIME * 2, ALL, "")), "no wave of this device"),
    "of-a-group": (lambda w, k: document(w, k[:2], (0, TIME, ALL, "canary")), "in no wave"),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("there", [False, True], ids=["to-download", "downloaded"])
def test_server_that_lies_achieves_nothing_and_is_told_of(world, keys, genesis, lie, there):
    make, word = LIES[lie]
    engine = world.engine(genesis_root=genesis)
    action = walk(world, engine, make(world, keys), inactive=world.v2.digest if there else bytes(32))
    if action.kind == actions.INSPECT:
        action = engine.inspected(13, 2, world.identity().class_id)
    assert action.kind == actions.IDLE
    state = engine.state
    assert (state.pending, state.writing, state.installed) == (None, None, None)
    assert state.events[-1][0] == "refused"
    assert word in state.events[-1][1]
    assert engine.timer(action.until).kind == actions.NONCE  # and it goes on


@pytest.mark.parametrize("inside", [True, False])
def test_share_ends_at_the_devices_own_place(world, keys, genesis, inside):
    place = campaign.place_of(world.v2.manifest_digest, world.identity().device_id)
    raw = document(world, keys[:2], (0, TIME, place + inside, ""))
    action = walk(world, world.engine(genesis_root=genesis), raw)
    assert action.kind == (actions.ASK_DOWNLOAD if inside else actions.IDLE)


def test_what_runs_already_is_not_refused_once_its_wave_is_over(world, keys, genesis):
    engine = world.engine(genesis_root=genesis)
    ask(engine)
    engine.response(10, answer(world, document(world, keys[:2], (0, 1, ALL, ""))))
    assert engine.hashed(11, world.v2.digest).kind == actions.IDLE
    assert engine.state.events == []
    assert engine.error is None


def test_nothing_is_begun_after_the_wave_has_ended(world, keys, genesis):
    for late, kind in ((5_000 + 11, actions.ASK_DOWNLOAD), (6_000 + 10, actions.IDLE)):
        engine = world.engine(genesis_root=genesis)
        ask(engine)
        engine.response(10, answer(world, document(world, keys[:2], (0, TIME + 5, ALL, ""))))
        engine.hashed(late, world.v1.digest)
        assert engine.hashed(late, bytes(32)).kind == kind


def test_rollback_needs_a_document_too(world, keys, genesis):
    engine = world.engine(genesis_root=genesis)
    ask(engine)
    engine.response(10, answer(world, document(world, keys[:2]), release=world.v1))
    engine.hashed(11, world.v2.digest)
    assert engine.hashed(12, world.v1.digest).kind == actions.INSPECT
    assert_refused_at_last(engine, "another manifest")
    engine = world.engine(genesis_root=genesis)
    ask(engine)
    engine.response(10, answer(world, document(world, keys[:2], release=world.v1), release=world.v1))
    engine.hashed(11, world.v2.digest)
    engine.hashed(12, world.v1.digest)
    assert engine.inspected(13, 1, world.identity().class_id).kind == actions.ASK_INSTALL


def assert_refused_at_last(engine, word):
    assert engine.inspected(13, 1, engine.identity.class_id).kind == actions.IDLE
    assert word in engine.state.events[-1][1]


def test_hand_on_the_spot_needs_no_document(world, keys, genesis):
    engine = world.engine(genesis_root=genesis)
    engine.start(0)
    engine.offer(1, [], world.v2.envelope)
    engine.hashed(2, world.v1.digest)
    assert engine.hashed(3, bytes(32)).kind == actions.ASK_DOWNLOAD


def test_time_said_before_is_not_taken_back(world, keys, genesis):
    """Who owns the ASSIGN key replays a document that was over by what the device has heard itself."""
    raw = document(world, keys[:2], (0, TIME, ALL, ""))
    engine = world.engine(genesis_root=genesis)
    ask(engine)
    engine.response(10, world.answer(NONCE, None, time=TIME + 60), TIME + 3600)
    engine.timer(70_000)
    engine.nonce(70_000, NONCE)
    engine.response(70_010, answer(world, raw, time=TIME), TIME + 3600)
    engine.hashed(70_011, world.v1.digest)
    engine.hashed(70_012, bytes(32))
    assert engine.state.events[-1] == ("refused", "CAMPAIGN: no wave of this device is open")


def test_time_that_was_kept_over_a_reset_counts(world, keys, genesis):
    state = State()
    state.time = TIME + 86_400
    engine = world.engine(state, genesis_root=genesis)
    assert walk(world, engine, document(world, keys[:2], (0, TIME, ALL, ""))).kind == actions.IDLE
    assert "no wave of this device is open" in engine.state.events[-1][1]


def told(world, engine, raw, now, time, valid_until):
    """Have an ASSIGNMENT of ``time`` say v2 over a certificate that ends at ``valid_until``; what follows."""
    if engine.phase != actions.NONCE:
        engine.timer(now)
    engine.nonce(now, NONCE)
    action = engine.response(now, answer(world, raw, time=time), valid_until)
    if action.kind == actions.COMPARE_RUNNING:
        action = engine.hashed(now, world.v1.digest)
    return engine.hashed(now, bytes(32)) if action.kind == actions.COMPARE_INACTIVE else action


@pytest.mark.parametrize("kept", [True, False], ids=["within-the-certificates-life", "beyond-it"])
def test_who_has_the_assign_key_opens_a_later_wave_at_once_no_wider_one_and_ends_those_before_it(
    world, keys, genesis, kept
):
    """What is not held, said in DESIGN 8: the beginning of a wave. And what it costs the liar."""
    first, later = (TIME, TIME + 99, ALL, ""), (TIME + 10**6, TIME + 10**7, ALL, "")
    both, wider = document(world, keys[:2], first, later), (TIME + 10**6, TIME + 10**7, ALL, "canary")
    ahead, end = later[0] + 5, later[0] + (3600 if kept else -3600)
    for raw, kind in (
        (document(world, keys[:2], first, wider), actions.IDLE),
        (both, actions.ASK_DOWNLOAD),
    ):
        engine = world.engine(genesis_root=genesis)
        engine.start(0)
        assert told(world, engine, raw, 0, ahead, end).kind == kind
    engine.allowed(1, False)
    kind = actions.IDLE if kept else actions.ASK_DOWNLOAD
    honest = document(world, keys[:2], first)
    assert told(world, engine, honest, 10**6, TIME + 9, end).kind == kind
    after = world.engine(engine.state, genesis_root=genesis)
    after.start(0)
    assert told(world, after, honest, 0, TIME + 9, end).kind == kind


def test_root_step_that_brings_the_role_holds_from_the_same_answer_on(world, keys):
    two = root_with(world, keys, 2)
    engine = world.engine()
    ask(engine)
    action = engine.response(10, answer(world, None, steps=[two], root_version=2))
    assert (action.kind, action.until) == (actions.IDLE, 10)  # no room for it beside the step: asks again
    assert engine.state.events == []
    engine.timer(action.until)
    engine.nonce(20, NONCE)
    engine.response(30, answer(world, None, root_version=2))
    engine.hashed(31, world.v1.digest)
    engine.hashed(32, bytes(32))
    assert engine.state.events[-1] == ("refused", "no CAMPAIGN came with the ASSIGNMENT")


def test_key_that_root_has_replaced_counts_no_more(world, keys, genesis):

    engine = world.engine(genesis_root=genesis)
    two = root_with(world, [keys[0], Key(), Key()], 2)
    action = walk(world, engine, document(world, keys[:2]), steps=[two], root_version=2)
    assert action.kind == actions.IDLE
    assert "1 of 2" in engine.state.events[-1][1]
