"""The engine by table: every attack on a check-in, and the state that each event leaves behind."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fota_agent.engine import actions, telemetry
from fota_agent.engine.engine import LOSING, STARVED
from fota_agent.engine.exchange import NONCE_LIFE_MS
from fota_agent.engine.state import LOST, MAX_EVENTS, State
from fota_agent.engine.state import decode as decode_state
from fota_agent.engine.trial import TRIAL_MS
from fota_wire import cbor, journal, layout, status
from fota_wire import root as roots
from fota_wire.checkin import LEAST_ANSWER, MAX_RESPONSE
from fota_wire.chips import stm32l476
from fota_wire.errors import NO_MEMORY, DeviceError, TransportError, VerifyError

NONCE = bytes(range(100, 116))
OTHER = bytes(16)


def ask(engine, now=0, nonce=NONCE):
    """Bring an idle engine to a check-in; return the CHECKIN action."""
    action = engine.start(now)
    while action.kind == actions.HEALTH:
        action = engine.health(now, True)
    assert action.kind == actions.NONCE
    return engine.nonce(now, nonce)


def assert_refused(engine, action, word):
    assert action.kind == actions.IDLE
    assert action.until > 0
    assert engine.wanted is None
    assert not engine.settled
    assert engine.state.pending is None
    assert engine.state.writing is None
    assert engine.state.installed is None
    code, detail = engine.state.events[-1]
    assert code == "refused"
    assert word in detail


def refused(world, response, word, *, now=10, **engine_args):
    engine = world.engine(**engine_args)
    ask(engine)
    action = engine.response(now, response)
    assert_refused(engine, action, word)
    return engine


def test_update_walks_from_checkin_to_reboot(world):
    engine = world.engine()
    request = ask(engine).request
    assert (request.nonce, request.root_version, request.manifest_digest) == (NONCE, 1, None)
    steps = [engine.response(10, world.answer(NONCE, world.v2))]
    assert (steps[-1].kind, steps[-1].size) == (actions.COMPARE_RUNNING, len(world.v2.image))
    steps.append(engine.hashed(11, world.v1.digest))
    assert steps[-1].kind == actions.COMPARE_INACTIVE
    steps.append(engine.hashed(12, bytes(32)))
    assert steps[-1].kind == actions.ASK_DOWNLOAD
    steps.append(engine.allowed(12, True))
    assert steps[-1].kind == actions.ERASE
    assert engine.state.urgent
    steps.append(engine.erased(13))
    assert (steps[-1].kind, steps[-1].offset) == (actions.FETCH, 0)
    assert engine.state.writing == (world.v2.manifest_digest, layout.SLOT_B)
    steps.append(engine.fetched(14))
    assert steps[-1].kind == actions.COMPARE_WRITTEN
    steps.append(engine.hashed(15, world.v2.digest))
    assert steps[-1].kind == actions.INSPECT
    steps.append(engine.inspected(16, 2, world.identity().class_id))
    assert steps[-1].kind == actions.ASK_INSTALL
    assert engine.state.pending is None
    steps.append(engine.allowed(17, True))
    assert steps[-1].kind == actions.REQUEST
    assert engine.state.dirty
    assert engine.state.pending == (world.v2.manifest_digest, layout.SLOT_B, 7)
    assert engine.state.installed == world.v2.manifest_digest
    assert engine.state.writing is None
    assert engine.requested(18).kind == actions.REBOOT
    assert engine.state.events == []


ATTACKS = {
    "replayed-assignment": lambda w: (w.answer(OTHER, w.v2), "another nonce"),
    "wrong-device": lambda w: (w.answer(NONCE, w.v2, device_id=bytes(9)), "for device"),
    "assignment-by-a-stranger": lambda w: (w.answer(NONCE, w.v2, key=w.stranger), "does not know"),
    "assignment-by-a-release-key": lambda w: (w.answer(NONCE, w.v2, key=w.release[0]), "does not know"),
    "one-signature-of-two-missing": lambda w: (
        w.answer(NONCE, w.release_of((1, 2, 0), 3, 3, signers=w.release[:1])),
        "1 of 2",
    ),
    "wrong-release-key": lambda w: (
        w.answer(NONCE, w.release_of((1, 2, 0), 3, 3, signers=[w.release[0], w.stranger])),
        "1 of 2",
    ),
    "release-signed-by-the-assign-key": lambda w: (
        w.answer(NONCE, w.release_of((1, 2, 0), 3, 3, signers=[w.release[0], w.assign])),
        "1 of 2",
    ),
    "mix-and-match-manifest": lambda w: (w.answer(NONCE, w.v2, envelope=w.v1.envelope), "not the one"),
    "mix-and-match-sequence": lambda w: (w.answer(NONCE, w.v2, sequence=9), "not the one"),
    "manifest-withheld": lambda w: (w.answer(NONCE, w.v2, envelope=None), "withholds"),
    "wrong-vendor": lambda w: (
        w.answer(NONCE, w.release_of((1, 2, 0), 3, 3, vendor=bytes(16))),
        "another vendor",
    ),
    "wrong-class": lambda w: (
        w.answer(NONCE, w.release_of((1, 2, 0), 3, 3, device_class=bytes(16))),
        "another vendor",
    ),
    "endless-data-size": lambda w: (
        w.answer(NONCE, w.release_of((1, 2, 0), 3, 3, size_claim=stm32l476.SLOT_SIZE + 1)),
        "does not fit",
    ),
    "root-step-missing": lambda w: (w.answer(NONCE, w.v2, root_version=2), "refers to ROOT 2"),
    "root-skips-a-version": lambda w: (w.answer(NONCE, w.v2, roots=[w.root(3)]), "does not follow"),
    "root-by-one-key-of-two": lambda w: (
        w.answer(NONCE, w.v2, roots=[w.root(2, signers=w.root_keys[:1])]),
        "1 of 2",
    ),
    "root-by-new-keys-only": lambda w: (
        w.answer(NONCE, w.v2, roots=[w.root(2, signers=w.release[:2], root_keys=w.release)]),
        "0 of 2",
    ),
    "not-cbor": lambda w: (b"\xff", ""),
    "empty": lambda w: (b"", ""),
    "trailing-byte": lambda w: (w.answer(NONCE, w.v2) + b"\x00", ""),
    "too-long": lambda w: (w.answer(NONCE, w.v2) + bytes(40_000), "longer"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_on_the_checkin_is_refused_and_leaves_nothing(world, attack):
    response, word = ATTACKS[attack](world)
    engine = refused(world, response, word)
    assert engine.state.roots == []
    assert engine.root.version == 1


def test_size_of_the_whole_slot_fits_and_one_byte_more_does_not(world):
    for extra, fits in ((-1, True), (0, True), (1, False)):
        release = world.release_of((1, 2, 0), 3, 3, size_claim=stm32l476.SLOT_SIZE + extra)
        engine = world.engine()
        ask(engine)
        action = engine.response(10, world.answer(NONCE, release))
        assert (action.kind == actions.COMPARE_RUNNING) is fits


def test_nonce_outlives_a_handshake_and_the_longest_answer_at_256_bytes_per_second(world):
    engine = world.engine()
    ask(engine)
    arrived_ms = (6 * 1024 + MAX_RESPONSE) * 1000 // 256
    assert engine.response(arrived_ms, world.answer(NONCE, world.v2)).kind == actions.COMPARE_RUNNING


def test_answer_counts_once_and_not_after_its_nonce_expired(world):
    response = world.answer(NONCE, world.v2)
    for late, good in ((NONCE_LIFE_MS - 1, True), (NONCE_LIFE_MS, True), (NONCE_LIFE_MS + 1, False)):
        engine = world.engine()
        ask(engine)
        assert (engine.response(late, response).kind == actions.COMPARE_RUNNING) is good
        with pytest.raises(RuntimeError):
            engine.response(late, response)


def test_answer_to_the_previous_nonce_is_refused(world):
    engine = world.engine()
    ask(engine)
    first = world.answer(NONCE, world.v2)
    waiting = engine.failed(5, TransportError("cut"))
    engine.timer(waiting.until)
    engine.nonce(waiting.until, OTHER)
    assert_refused(engine, engine.response(waiting.until, first), "another nonce")


def test_rollback_below_root_minimum_is_refused(world):
    state = State()
    state.roots = [world.root(2, min_sequence=2)]
    response = world.answer(NONCE, world.v1, root_version=2)
    engine = refused(world, response, "below ROOT's 2", state=state)
    assert engine.root.version == 2


@pytest.mark.parametrize(("minimum", "accepted"), [(1, True), (2, True), (3, False)])
def test_sequence_against_root_minimum(world, minimum, accepted):
    engine = world.engine()
    ask(engine)
    answer = world.answer(NONCE, world.v2, roots=[world.root(2, min_sequence=minimum)], root_version=2)
    action = engine.response(10, answer)
    assert (action.kind == actions.COMPARE_RUNNING) is accepted
    assert engine.root.version == 2


def test_revoked_manifest_is_refused_although_its_root_step_is_kept(world):
    step = world.root(2, revoked=(world.v2.manifest_digest,))
    engine = refused(world, world.answer(NONCE, world.v2, roots=[step], root_version=2), "revoked")
    assert engine.state.new_roots == [step]
    assert engine.state.dirty


@pytest.mark.parametrize(("place", "size"), [(0, 1), (2, 3), (100, 256)])
def test_order_that_shares_its_signature_is_as_good(world, place, size):
    engine = world.engine()
    assert ask(engine).request.shares
    order = world.shared_order(place, size, NONCE, world.v2)
    assert engine.response(10, world.answer(NONCE, world.v2, order=order)).kind == actions.COMPARE_RUNNING


@pytest.mark.parametrize(("nonce", "place", "word"), [(OTHER, 1, "replayed"), (NONCE, 0, "signature")])
def test_shared_signature_makes_no_other_order_good(world, nonce, place, word):
    parts = cbor.decode(world.shared_order(1, 3, nonce, world.v2))
    parts[1] = place
    refused(world, world.answer(NONCE, world.v2, order=cbor.encode(parts)), word)


def test_freeze_by_an_assignment_of_an_older_root_is_refused(world):
    state = State()
    state.roots = [world.root(2)]
    engine = refused(world, world.answer(NONCE, None, root_version=1), "old ROOT 1", state=state)
    assert engine.root.version == 2


def test_new_assign_key_counts_once_its_root_step_is_taken(world):
    step = world.root(2, assign=world.stranger)
    answer = world.answer(NONCE, world.v2, roots=[step], root_version=2, key=world.stranger)
    engine = world.engine()
    ask(engine)
    assert engine.response(10, answer).kind == actions.COMPARE_RUNNING
    old = world.answer(NONCE, world.v2, roots=[step], root_version=2, key=world.assign)
    refused(world, old, "does not know")


def test_device_that_takes_short_answers_asks_again_before_it_refuses_an_unknown_assign_key(world):
    step = world.root(2)
    engine = world.engine(longest_answer=LEAST_ANSWER)
    ask(engine)
    answer = world.answer(NONCE, world.v2, roots=[step], root_version=2, key=world.stranger)
    assert engine.response(10, answer).until == 10  # more steps may follow
    engine.timer(10)
    engine.nonce(10, OTHER)
    again = world.answer(OTHER, world.v2, root_version=2, key=world.stranger)
    assert_refused(engine, engine.response(11, again), "does not know")


def test_manifest_that_found_no_room_beside_a_root_step_is_asked_for_at_once(world):
    engine = world.engine()
    ask(engine)
    answer = world.answer(NONCE, world.v2, envelope=None, roots=[world.root(2)], root_version=2)
    action = engine.response(10, answer)
    assert (action.kind, action.until, engine.state.events) == (actions.IDLE, 10, [])
    engine.timer(10)
    assert engine.nonce(10, OTHER).request.root_version == 2
    assert engine.response(11, world.answer(OTHER, world.v2, root_version=2)).kind == actions.COMPARE_RUNNING


def test_root_steps_that_the_store_has_no_room_for_count_until_the_reset(world):
    engine = world.engine(store_size=2 * len(world.root(2)) + 100)
    ask(engine)
    steps = [world.root(version) for version in range(2, 6)]
    engine.response(10, world.answer(NONCE, world.v2, roots=steps, root_version=5))
    assert engine.root.version == 5
    assert engine.state.new_roots == steps[:2]
    assert world.engine(decode_state(b"".join(engine.state.parts(100_000)))).root.version == 3


def test_root_that_no_memory_was_left_to_read_is_taken_later_and_the_stored_ones_hold(world, monkeypatch):
    engine = world.engine()
    ask(engine)
    engine.response(10, world.answer(NONCE, world.v2, roots=[world.root(2)], root_version=2))
    engine.state.rest_in(memoryview(b"".join(engine.state.parts(100_000))))  # it was saved
    read, third = roots.unsafe_read_root, world.root(3)

    def no_memory(raw, known):
        monkeypatch.setattr(roots, "unsafe_read_root", read)
        raise MemoryError

    monkeypatch.setattr(roots, "unsafe_read_root", no_memory)
    with pytest.raises(MemoryError):
        engine.trust.step_roots([third])
    assert engine.root.version == 2
    engine.trust.step_roots([third])
    assert engine.root.version == 3


def test_manifest_lies_in_the_answer_until_it_is_saved_and_its_text_is_read_from_where_it_lies(world):
    engine = world.engine()
    ask(engine)
    buffer = bytearray(world.answer(NONCE, world.v2))
    assert engine.response(10, memoryview(buffer)).kind == actions.COMPARE_RUNNING
    assert engine.state.lent, "no copy of it: a small device has no room for one"
    engine.state.rest_in(memoryview(b"".join(engine.state.parts(100_000))))
    buffer[:] = bytes(len(buffer))
    assert not engine.state.lent
    assert engine.trust.held is not None
    assert bytes(engine.state.envelope) == world.v2.envelope
    assert engine.wanted.text["version"] == "1.1.0"


def test_manifest_that_the_store_has_no_room_for_is_not_held_and_its_update_goes_on(world):
    engine = world.engine()
    ask(engine)
    engine.response(10, memoryview(world.answer(NONCE, world.v2)))
    engine.state.rest_in(memoryview(b"".join(engine.state.parts(300))))
    assert engine.trust.held is None, "so the server sends it again"
    assert engine.wanted.text is None
    assert engine.hashed(11, bytes(32)).kind == actions.COMPARE_INACTIVE


def test_text_is_believed_only_where_it_is_the_one_that_was_signed(world):
    engine = world.engine()
    ask(engine)
    engine.response(10, memoryview(world.answer(NONCE, world.v2)))
    wanted, good = engine.wanted, engine.state.envelope
    engine.state.envelope = world.v1.envelope
    assert wanted.text is None, "another manifest's"
    place = bytes(good).index(b"1.1.0")
    engine.state.envelope = bytes(good[:place]) + b"9" + bytes(good[place + 1 :])
    with pytest.raises(VerifyError, match="member 23 is not the one that was signed"):
        wanted.text  # noqa: B018


def test_want_of_memory_again_and_again_ends_in_a_fresh_start(world):
    engine = world.engine()
    starving = DeviceError("MemoryError: 480 bytes", NO_MEMORY)
    for number in range(1, STARVED):
        ask(engine)
        assert engine.failed(number, starving).kind == actions.IDLE
        ask(engine)
        assert engine.failed(number, TransportError("cannot reach the other server")).kind == actions.IDLE
    ask(engine)
    assert engine.failed(99, starving).kind == actions.REBOOT
    assert engine.phase == actions.REBOOT


def carried_out(world, engine, action, now):
    """Return what follows an action for which there was memory; the server has 1.1.0 for the device."""
    wanted = world.v2
    follow = {
        actions.IDLE: lambda: engine.timer(max(now, action.until)),
        actions.NONCE: lambda: engine.nonce(now, NONCE),
        actions.CHECKIN: lambda: engine.response(now, world.answer(NONCE, wanted, report_status="accepted")),
        actions.COMPARE_RUNNING: lambda: engine.hashed(now, world.v1.digest),
        actions.COMPARE_INACTIVE: lambda: engine.hashed(now, bytes(32)),
        actions.ASK_DOWNLOAD: lambda: engine.allowed(now, True),
        actions.ERASE: lambda: engine.erased(now),
        actions.RESUME: lambda: engine.resumed(now, 0),
        actions.FETCH: lambda: engine.fetched(now),
        actions.COMPARE_WRITTEN: lambda: engine.hashed(now, wanted.digest),
        actions.INSPECT: lambda: engine.inspected(now, 2, world.identity().class_id),
        actions.ASK_INSTALL: lambda: engine.allowed(now, True),
        actions.REQUEST: lambda: engine.requested(now),
    }
    return follow[action.kind]()


class Talker:
    """A device whose application publishes all that it may before each step, and whose store is full.

    ``lacks(action, state)`` tells whether there is no memory for a step. ``published``, ``told``: how many
    events and values there were, and how many of them a good check-in has carried.
    """

    def __init__(self, world, lacks) -> None:
        self.world, self.lacks = world, lacks
        self.state = State()
        for number in range(MAX_EVENTS):
            self.state.add_event("failed", f"event {number}")
        for number in range(telemetry.MAX_VALUES):
            telemetry.add(self.state, ("t", 0, str(number)))
        self.failures = 0

    def boot(self):
        """Run until it resets; return the engine."""
        engine = self.world.engine(self.state)
        now, action = 0, engine.start(0)
        while action.kind != actions.REBOOT:
            for number in range(telemetry.MAX_VALUES):
                engine.queue(("t", now, str(number)))
            now = max(now, action.until)
            if self.lacks(action, engine.state):
                self.failures += 1
                action = engine.failed(now, DeviceError("MemoryError: 480 bytes", NO_MEMORY))
            else:
                action = carried_out(self.world, engine, action, now)
        self.state = decode_state(b"".join(engine.state.parts(100_000)))
        return engine


STEPS = (
    actions.NONCE, actions.CHECKIN, actions.COMPARE_RUNNING, actions.COMPARE_INACTIVE, actions.ASK_DOWNLOAD,
    actions.ERASE, actions.FETCH, actions.COMPARE_WRITTEN, actions.INSPECT, actions.ASK_INSTALL,
    actions.REQUEST,
)  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_what_waits_keeps_no_update_away_where_one_step_has_no_memory_beside_it(world, step):
    talker = Talker(world, lambda action, state: action.kind == step and state.telemetry)
    engine = talker.boot()
    assert engine.state.pending is not None  # the update is under way
    assert talker.failures == LOSING
    (lost,) = [detail for code, detail in talker.state.events if code == LOST]
    assert int(lost.split()[0]) >= telemetry.MAX_VALUES


def test_what_waits_keeps_no_update_away_where_a_heap_is_in_pieces_once_it_was_there(world):
    spoiled = []
    talker = Talker(world, lambda _, state: spoiled or (state.telemetry and not spoiled.append(1)))
    assert talker.boot().state.pending is None
    assert talker.failures == STARVED
    spoiled.clear()
    assert talker.boot().state.pending is not None
    assert talker.failures == STARVED


def test_once_short_of_memory_a_device_tells_nothing_that_waits_and_then_more_and_more_of_it(world):
    talker = Talker(world, lambda _, state: False)
    engine = world.engine(talker.state)
    told = []
    for number in range(7):
        engine.state.nonce = bytes(16)
        engine.timer(10**6 * number)
        action = engine.nonce(10**6 * number, NONCE)
        told.append((len(action.request.telemetry), len(action.claims.events)))
        if number < LOSING - 2:
            engine.failed(10**6 * number, DeviceError("MemoryError", NO_MEMORY))
        else:
            engine.response(10**6 * number, world.answer(NONCE, None, report_status="accepted"))
    assert told == [(16, 16), (0, 0), (0, 0), (1, 1), (3, 3), (7, 7), (13, 5)]
    assert engine.state.telemetry == engine.state.events == []


def test_how_a_trial_ended_is_not_lost_and_what_was_is_told_once_with_its_number(world):
    talker = Talker(world, lambda _, state: True)
    talker.state.events[3] = ("reverted", "AP1 self-test")
    for _ in range(2):
        talker.boot()
    kinds = [code for code, _ in talker.state.events]
    assert kinds == ["reverted", LOST, "failed"]
    engine = world.engine(talker.state)
    engine.queue(("t", 0, "1"))
    assert engine.state.telemetry == []
    told = get_over(world, engine)
    assert [code for code, _ in told] == kinds
    waited = MAX_EVENTS - 1 + telemetry.MAX_VALUES
    published = 2 * STARVED * 2 * telemetry.MAX_VALUES
    assert waited < int(told[1][1].split()[0]) <= waited + published
    assert engine.state.events == [(LOST, "1 events and values, for want of memory")]
    engine.queue(("t", 0, "2"))
    assert engine.state.telemetry == [("t", 0, "2")]


def get_over(world, engine):
    """Have check-ins with a report succeed until nothing is left to say; return the events that they told."""
    told = []
    for _ in range(8):
        engine.state.nonce = bytes(16)
        engine.timer(10**6)
        told += engine.nonce(10**6, NONCE).claims.events
        engine.response(10**6, world.answer(NONCE, None, report_status="accepted"))
        if engine.settled:
            return told
    raise AssertionError("it does not settle")


def test_what_is_published_while_an_update_waits_for_consent_is_kept_but_over_no_fresh_start(world):
    engine = world.engine()
    starving = DeviceError("MemoryError: 480 bytes", NO_MEMORY)
    for _ in range(LOSING):
        ask(engine)
        engine.failed(1, starving)
    engine.queue(("t", 0, "1"))
    assert engine.state.telemetry == []
    ask(engine)
    engine.response(10, world.answer(NONCE, world.v2))
    engine.hashed(11, world.v1.digest)
    assert engine.hashed(12, bytes(32)).kind == actions.ASK_DOWNLOAD
    engine.allowed(12, False)
    engine.queue(("t", 0, "2"))
    assert engine.state.telemetry == [("t", 0, "2")]
    for _ in range(STARVED - LOSING):
        action = engine.failed(13, starving)
    assert action.kind == actions.REBOOT
    assert engine.state.telemetry == []
    assert (LOST, "5 events and values, for want of memory") in engine.state.events  # 3 are of the failures


def test_want_of_memory_that_is_got_over_counts_no_more(world):
    engine = world.engine()
    starving = DeviceError("MemoryError: 480 bytes", NO_MEMORY)
    for _ in range(3 * STARVED):
        ask(engine)
        assert engine.failed(1, starving).kind == actions.IDLE
        get_over(world, engine)


def test_check_in_without_a_report_does_not_count_as_got_over_want_of_memory(world):
    """After a failure there is no nonce of the server for a report; and without one it offers nothing."""
    engine = world.engine()
    starving = DeviceError("MemoryError: 480 bytes", NO_MEMORY)
    for number in range(1, STARVED + 1):
        engine.queue(("t", 0, "1"))
        engine.state.nonce = bytes(16)
        ask(engine)
        action = engine.failed(1, starving)
        assert (action.kind == actions.REBOOT) == (number == STARVED)
        if number >= LOSING:
            assert engine.state.telemetry == []
        ask(engine)
        engine.response(2, world.answer(NONCE, None))


def test_device_far_behind_asks_again_at_once_until_it_has_all_root_steps(world):
    steps = [world.root(version) for version in range(2, 6)]
    engine = world.engine()
    ask(engine)
    action = engine.response(10, world.answer(NONCE, world.v2, roots=steps, root_version=7))
    assert (action.kind, action.until) == (actions.IDLE, 10)
    assert engine.state.events == []
    engine.timer(10)
    assert engine.nonce(10, OTHER).request.root_version == 5
    more = [world.root(6), world.root(7)]
    action = engine.response(11, world.answer(OTHER, world.v2, roots=more, root_version=7))
    assert action.kind == actions.COMPARE_RUNNING
    assert engine.root.version == 7


def test_release_keys_rotated_by_root_make_the_held_manifest_useless(world):
    state = State()
    state.envelope = world.v2.envelope
    engine = world.engine(state)
    assert ask(engine).request.manifest_digest == world.v2.manifest_digest
    step = world.root(2, release=[world.stranger, world.assign])
    answer = world.answer(NONCE, world.v2, envelope=None, roots=[step], root_version=2)
    waiting = engine.response(10, answer)
    assert_refused(engine, waiting, "0 of 2")
    engine.timer(waiting.until)
    assert engine.nonce(waiting.until, OTHER).request.manifest_digest is None


def test_held_manifest_need_not_travel_again(world):
    state = State()
    state.envelope = world.v2.envelope
    engine = world.engine(state)
    ask(engine)
    assert engine.response(10, world.answer(NONCE, world.v2, envelope=None)).kind == actions.COMPARE_RUNNING


def test_running_image_that_is_the_wanted_one_is_left_alone(world):
    engine = world.engine()
    ask(engine)
    engine.response(10, world.answer(NONCE, world.v1))
    action = engine.hashed(11, world.v1.digest)
    assert action.kind == actions.IDLE
    assert engine.state.pending is None
    engine.timer(action.until)
    engine.nonce(action.until, OTHER)
    action = engine.response(action.until + 1, world.answer(OTHER, world.v1))
    assert action.kind == actions.IDLE  # this time without hashing the slot


def test_rollback_to_the_other_slot_needs_no_flash_write(world):
    engine = world.engine(boot=world.boot(running=layout.SLOT_B, confirmed=layout.SLOT_B, sec_cnt=2))
    ask(engine)
    engine.response(10, world.answer(NONCE, world.v1))
    engine.hashed(11, world.v2.digest)
    assert engine.hashed(12, world.v1.digest).kind == actions.INSPECT
    assert engine.inspected(13, 1, world.identity().class_id).kind == actions.ASK_INSTALL
    assert engine.allowed(14, True).kind == actions.REQUEST
    assert engine.state.pending[1] == layout.SLOT_A
    assert engine.state.installed == world.v1.manifest_digest


@pytest.mark.parametrize(
    ("floor", "sec_cnt", "code"),
    [(5, 4, "PO1"), (5, 5, None), (5, 260, None), (5, 261, "PO2"), (0, 1, None)],
)
def test_security_counter_against_floor_and_step(world, floor, sec_cnt, code):
    engine = world.engine(boot=world.boot(floor=floor))
    ask(engine)
    engine.response(10, world.answer(NONCE, world.v2))
    engine.hashed(11, bytes(32))
    engine.hashed(12, world.v2.digest)
    action = engine.inspected(13, sec_cnt, world.identity().class_id)
    if code is None:
        assert action.kind == actions.ASK_INSTALL
        return
    assert action.kind == actions.IDLE
    assert engine.state.events[-1][1].startswith(code)
    assert engine.state.failed == (world.v2.manifest_digest, 7)
    assert engine.state.pending is None


def test_image_below_root_minimum_counter_is_refused(world):
    engine = world.engine()
    ask(engine)
    step = world.root(2, min_secver=3)
    engine.response(10, world.answer(NONCE, world.v2, roots=[step], root_version=2))
    engine.hashed(11, bytes(32))
    engine.hashed(12, world.v2.digest)
    assert engine.inspected(13, 2, world.identity().class_id).kind == actions.IDLE
    assert engine.state.events[-1][1].startswith("PO1 rollback")


def test_image_of_another_class_is_refused(world):
    engine = world.engine()
    ask(engine)
    engine.response(10, world.answer(NONCE, world.v2))
    engine.hashed(11, bytes(32))
    engine.hashed(12, world.v2.digest)
    assert engine.inspected(13, 2, bytes(16)).kind == actions.IDLE
    assert engine.state.events[-1][1].startswith("IM7")


def test_download_with_a_wrong_digest_is_forgotten(world):
    engine = world.engine()
    ask(engine)
    engine.response(10, world.answer(NONCE, world.v2))
    engine.hashed(11, bytes(32))
    engine.hashed(12, bytes(32))
    engine.allowed(12, True)
    engine.erased(13)
    engine.fetched(14)
    engine.state.urgent = False  # what was due is saved
    action = engine.hashed(15, bytes(32))
    assert action.kind == actions.IDLE
    assert engine.state.writing is None
    assert engine.state.urgent, "a reset now would go on behind bytes that are wrong"
    assert engine.state.installed is None
    assert engine.state.events == [("refused", "the download is not the image of the manifest")]


def test_cut_download_goes_on_where_it_stopped_while_the_answer_is_valid(world):
    engine = world.engine()
    ask(engine)
    engine.response(10, world.answer(NONCE, world.v2, valid_for=100))
    engine.hashed(11, bytes(32))
    engine.hashed(12, bytes(32))
    engine.allowed(12, True)
    engine.erased(13)
    waiting = engine.failed(14, TransportError("cut"), offset=4096)
    assert waiting.kind == actions.IDLE
    again = engine.timer(waiting.until)
    assert (again.kind, again.offset) == (actions.FETCH, 4096)
    engine.failed(50, TransportError("cut"), offset=6144)
    assert engine.timer(100_010).kind == actions.NONCE  # expired: the server may want something else by now
    assert engine.state.writing == (world.v2.manifest_digest, layout.SLOT_B)


def test_download_goes_on_after_a_reset(world):
    state = State()
    state.writing = (world.v2.manifest_digest, layout.SLOT_B)
    engine = world.engine(state)
    ask(engine)
    engine.response(10, world.answer(NONCE, world.v2))
    engine.hashed(11, bytes(32))
    engine.hashed(12, bytes(32))
    assert engine.allowed(12, True).kind == actions.RESUME
    action = engine.resumed(13, 8192)
    assert (action.kind, action.offset) == (actions.FETCH, 8192)


def test_partial_write_of_another_release_is_never_resumed(world):
    state = State()
    state.writing = (world.v1.manifest_digest, layout.SLOT_B)
    engine = world.engine(state)
    ask(engine)
    engine.response(10, world.answer(NONCE, world.v2))
    engine.hashed(11, bytes(32))
    engine.hashed(12, bytes(32))
    assert engine.allowed(12, True).kind == actions.ERASE
    assert engine.state.writing is None
    assert engine.state.dirty


def written(world, now=0, **answer):
    """Return an engine that asks whether it may install the image that lies in the other slot."""
    engine = world.engine()
    ask(engine, now)
    engine.response(now, world.answer(NONCE, world.v2, **answer))
    engine.hashed(now, bytes(32))
    engine.hashed(now, world.v2.digest)
    assert engine.inspected(now, 2, world.identity().class_id).kind == actions.ASK_INSTALL
    return engine


def test_application_that_is_busy_is_asked_again_and_a_stale_answer_is_renewed(world):
    engine = written(world, valid_for=100, interval=3600)
    waiting = engine.allowed(14, False)
    assert waiting.kind == actions.IDLE
    assert engine.deferred
    assert engine.state.pending is None
    assert engine.timer(waiting.until).kind == actions.ASK_INSTALL
    waiting = engine.allowed(100_011, True)
    assert waiting.kind == actions.IDLE
    assert waiting.until > 100_011
    assert engine.state.pending is None
    assert engine.timer(waiting.until).kind == actions.NONCE


def test_deferred_update_checks_in_on_time_and_hashes_no_slot_again(world):
    engine = written(world, interval=30)
    waiting = engine.allowed(10, False)
    assert waiting.until == 30_000
    assert engine.timer(waiting.until).kind == actions.NONCE
    engine.nonce(30_000, OTHER)
    assert engine.response(30_001, world.answer(OTHER, world.v2)).kind == actions.ASK_INSTALL
    assert engine.failures == 0
    assert engine.state.events == []


def test_download_that_is_not_welcome_waits_without_a_write_or_a_second_hash(world):
    engine = world.engine()
    ask(engine)
    engine.response(10, world.answer(NONCE, world.v2, interval=30))
    engine.hashed(11, bytes(32))
    assert engine.hashed(12, bytes(32)).kind == actions.ASK_DOWNLOAD
    waiting = engine.allowed(13, False)
    assert engine.state.writing is None
    engine.timer(waiting.until)
    engine.nonce(waiting.until, OTHER)
    assert engine.response(waiting.until, world.answer(OTHER, world.v2)).kind == actions.ASK_DOWNLOAD
    assert engine.allowed(waiting.until, True).kind == actions.ERASE


def trial(world, **changes):
    state = State()
    state.pending = (world.v2.manifest_digest, layout.SLOT_B, 7)
    fields = {
        "running": layout.SLOT_B,
        "candidate": layout.SLOT_B,
        "state": journal.TRIAL,
        "trial": True,
        "version": (1, 1, 0, 0),
        "sec_cnt": 2,
        **changes,
    }
    return world.engine(state, world.boot(**fields))


def test_trial_confirms_after_health_and_the_first_good_checkin(world):
    engine = trial(world)
    assert engine.start(0).kind == actions.HEALTH
    poll = engine.health(0, None)
    assert poll.kind == actions.IDLE
    assert engine.timer(poll.until).kind == actions.HEALTH
    assert engine.health(1, True).kind == actions.NONCE
    engine.nonce(2, NONCE)
    assert engine.response(3, world.answer(NONCE, world.v2)).kind == actions.CONFIRM
    assert engine.trial
    action = engine.confirmed(4)
    assert not engine.trial
    assert engine.state.pending is None
    assert (action.kind, action.until) == (actions.IDLE, 4)


def test_trial_does_not_confirm_on_a_forged_answer(world):
    engine = trial(world)
    ask(engine)
    assert engine.response(10, world.answer(NONCE, world.v2, key=world.stranger)).kind == actions.IDLE
    assert engine.trial
    assert engine.state.pending is not None


@pytest.mark.parametrize(("verdict", "now", "reason"), [(False, 0, status.AP1), (None, 60_000, status.AP2)])
def test_trial_that_is_not_healthy_is_rejected(world, verdict, now, reason):
    engine = trial(world)
    engine.start(0)
    action = engine.health(now, verdict)
    assert (action.kind, action.reason) == (actions.REJECT, reason)
    assert engine.rejected(now).kind == actions.REBOOT
    assert engine.state.pending is not None  # the next boot tells the server why


def test_trial_without_any_network_is_given_up(world):
    engine = trial(world)
    ask(engine)
    now = 0
    while now < 2 * TRIAL_MS:
        waiting = engine.failed(now, TransportError("no route"))
        assert waiting.until - now <= 30_000
        now = waiting.until
        action = engine.timer(now)
        if action.kind == actions.REJECT:
            break
        engine.health(now, True)
        engine.nonce(now, NONCE)
    assert (action.kind, action.reason) == (actions.REJECT, status.AP3)
    assert now >= TRIAL_MS


def test_trial_that_only_lacked_the_network_may_come_again(world):
    engine = trial(
        world,
        running=layout.SLOT_A,
        trial=False,
        candidate=layout.SLOT_B,
        state=journal.REVERTED,
        reason=status.AP3,
    )
    ask(engine)
    assert engine.state.failed is None
    assert engine.state.events == [("reverted", "AP3 no-check-in")]


@pytest.mark.parametrize(("state", "code"), [(journal.REVERTED, "reverted"), (journal.REJECTED, "rejected")])
def test_trial_that_did_not_work_out_is_reported_with_its_reason_and_not_tried_again(world, state, code):
    engine = trial(
        world, running=layout.SLOT_A, trial=False, candidate=layout.SLOT_B, state=state, reason=status.AP1
    )
    ask(engine)
    assert engine.state.events == [(code, "AP1 self-test")]
    assert engine.state.pending is None
    assert engine.state.failed == (world.v2.manifest_digest, 7)
    assert engine.response(10, world.answer(NONCE, world.v2)).kind == actions.IDLE
    assert engine.wanted is None
    again = world.engine(engine.state)
    ask(again)
    action = again.response(10, world.answer(NONCE, world.v2, campaign=8))
    assert action.kind == actions.COMPARE_RUNNING  # an operator has started it anew


def test_request_that_a_power_cut_lost_is_made_again(world):
    engine = trial(world, running=layout.SLOT_A, trial=False, candidate=layout.SLOT_NONE, state=journal.NONE)
    ask(engine)
    assert engine.state.events == []
    assert engine.state.pending is None
    assert engine.response(10, world.answer(NONCE, world.v2)).kind == actions.COMPARE_RUNNING


def test_report_goes_out_with_the_server_nonce_once_and_drops_accepted_events(world):
    engine = world.engine()
    engine.state.add_event("failed", "x")
    assert ask(engine).claims is None
    waiting = engine.response(10, world.answer(NONCE, None))
    assert waiting.until == 10  # the server lacks a report: at once
    engine.timer(10)
    claims = engine.nonce(10, OTHER).claims
    assert claims.nonce == bytes(16)
    assert claims.events == [("failed", "x")]
    assert engine.state.nonce is None
    engine.state.add_event("failed", "y")
    engine.response(11, world.answer(OTHER, None, report_status="accepted"))
    assert engine.state.events == [("failed", "y")]
    assert not engine.settled
    engine.timer(11)
    engine.nonce(11, NONCE)
    waiting = engine.response(12, world.answer(NONCE, None, report_status="accepted", interval=60))
    assert engine.settled
    assert waiting.until == 12 + 60_000


def test_refused_report_keeps_its_events_and_does_not_hammer_the_server(world):
    engine = world.engine()
    engine.state.add_event("failed", "x")
    ask(engine)
    now = 10
    for _ in range(10):
        waiting = engine.response(now, world.answer(NONCE, None, report_status="refused: nonce"))
        if waiting.until > now:
            break
        engine.timer(now)
        engine.nonce(now, NONCE)
    assert waiting.until == now + 60_000
    assert engine.state.events == [("failed", "x")]


def test_failures_back_off_with_growing_jitter_and_respect_retry_after(world):
    engine = world.engine()
    ask(engine)
    waits = []
    now = 0
    for _ in range(14):
        waiting = engine.failed(now, TransportError("down"))
        waits.append(waiting.until - now)
        now = waiting.until
        engine.timer(now)
        engine.nonce(now, NONCE)
    assert waits[:4] == [2000, 4000, 8000, 16000]  # half of the limit, by this world's random
    assert waits[-1] == 1_800_000
    assert engine.failed(now, TransportError("busy"), retry_after_s=7200).until == now + 7_200_000
    assert [event[0] for event in engine.state.events] == ["failed"]


def test_broken_element_is_reported_and_nothing_is_written(world):
    engine = world.engine()
    engine.start(0)
    engine.failed(0, DeviceError("crypto element: no answer on the bus", status.CE1))
    assert engine.state.events == [("failed", "CE1 element-absent: crypto element: no answer on the bus")]
    assert engine.phase == actions.IDLE


def test_genesis_root_that_does_not_verify_stops_the_agent(world):
    with pytest.raises(DeviceError, match="genesis ROOT"):
        world.engine(genesis_root=world.root(1, signers=world.release[:2]))


def test_stored_root_that_signed_itself_is_not_believed(world):
    """Whoever writes the store once must not become the root of trust."""
    state = State()
    state.roots = [world.root(2), world.root(50, root_keys=world.release, signers=world.release[:2])]
    engine = world.engine(state)
    assert engine.root.version == 2
    assert len(state.roots) == 1


def test_store_that_is_full_leaves_out_the_newest_root_steps(world):
    state = State()
    state.roots = [world.root(version) for version in range(2, 12)]
    copy = decode_state(b"".join(state.parts(6000)))
    assert 0 < len(copy.roots) < 10
    assert copy.roots == state.roots[: len(copy.roots)]


def test_stored_root_that_does_not_verify_falls_back_to_genesis(world):
    state = State()
    state.roots = [world.root(2, signers=world.release[:2])]
    assert world.engine(state).root.version == 1


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_byte_of_a_response_installs_nothing_else(world, data):
    """Whatever is flipped, the engine ends up refusing, or with exactly the manifest that was signed."""
    response = world.answer(NONCE, world.v2, roots=[world.root(2)], root_version=2)
    at = data.draw(st.integers(0, len(response) - 1))
    bit = data.draw(st.integers(1, 255))
    forged = response[:at] + bytes([response[at] ^ bit]) + response[at + 1 :]
    engine = world.engine()
    ask(engine)
    action = engine.response(10, forged)
    if action.kind == actions.COMPARE_RUNNING:
        # what was flipped is the interval, the server's nonce or the report status: TLS protects those
        assert engine.wanted.manifest_digest == world.v2.manifest_digest
        assert engine.wanted.digest == world.v2.digest
        assert engine.root.version == 2
    else:
        assert_refused(engine, action, "")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), part=st.sampled_from(["order", "envelope", "root"]))
def test_any_flipped_byte_of_a_signed_part_is_refused(world, data, part):
    order = world.order(NONCE, world.v2, root_version=2)
    parts = {"order": order, "envelope": world.v2.envelope, "root": world.root(2)}
    raw = bytearray(parts[part])
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    parts[part] = bytes(raw)
    response = world.answer(
        NONCE, world.v2, order=parts["order"], envelope=parts["envelope"], roots=[parts["root"]]
    )
    refused(world, response, "")


def test_state_survives_its_encoding(world):
    state = State()
    state.roots, state.envelope, state.installed = [world.genesis], world.v2.envelope, bytes(32)
    state.writing, state.pending = (bytes(32), 0x5A), (bytes(32), 0xA5, 9)
    state.failed, state.nonce = (b"\x01" * 32, 3), bytes(16)
    state.add_event("failed", "ä" * 100)
    copy = decode_state(b"".join(state.parts(6000)))
    for name in ("roots", "envelope", "installed", "writing", "pending", "failed", "nonce", "events"):
        assert getattr(copy, name) == getattr(state, name)
    assert len(copy.events[0][1].encode()) <= 64
    assert decode_state(b"".join(state.parts(600 + len(world.genesis)))).envelope is None


def test_event_queue_keeps_the_newest_sixteen_and_no_repeats():
    state = State()
    for number in range(20):
        state.add_event("failed", str(number))
        state.add_event("failed", str(number))
    assert [detail for _, detail in state.events] == [str(number) for number in range(4, 20)]
