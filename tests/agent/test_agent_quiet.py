"""A check-in with nothing new to say carries no report (SPEC 5.5), and nothing is lost by that."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_agent_engine import NONCE, ask

from fota_agent.engine import actions
from fota_agent.engine.exchange import REPORT_LIFE_MS
from fota_agent.engine.state import State
from fota_agent.engine.state import decode as decode_state
from fota_wire.errors import TransportError

FIRST, SECOND = bytes(15) + b"\1", bytes(15) + b"\2"


def call(world, engine, now, *, release=None, **answer):
    """Check in at ``now``; return what the report said, or None, and what follows the answer."""
    engine.timer(now)
    claims = engine.nonce(now, NONCE).claims
    if claims is not None:
        answer = {"report_status": "accepted", **answer}
    return claims, engine.response(now, world.answer(NONCE, release, **answer))


def at_rest(world):
    """Return an engine whose server has had a report, at 10 ms, and asked for the next with FIRST."""
    engine = world.engine()
    ask(engine)
    engine.response(0, world.answer(NONCE, None))
    assert call(world, engine, 10, next_nonce=FIRST)[0] is not None
    assert engine.settled
    return engine


def lost(_world, engine):
    engine.timer(20)
    engine.nonce(20, NONCE)
    engine.failed(21, TransportError("no answer"))


def forged(world, engine):
    call(world, engine, 20, key=world.stranger, next_nonce=FIRST)


def given_an_update(world, engine):
    assert call(world, engine, 20, release=world.v2, next_nonce=FIRST)[1].kind == actions.COMPARE_RUNNING
    engine.failed(21, TransportError("the line is gone"))


def held_back(world, engine):
    call(world, engine, 20, release=world.v2, next_nonce=FIRST)
    engine.hashed(21, world.v1.digest)
    engine.hashed(22, bytes(32))
    engine.allowed(23, False)


NEWS = {
    "an-event": lambda w, e: e.state.add_event("failed", "x"),
    "a-newer-root": lambda w, e: e.trust.step_roots([w.root(2)]),
    "another-image-in-the-slot": lambda w, e: setattr(e.state, "installed", bytes(32)),
    "an-answer-that-was-lost": lost,
    "an-answer-that-was-refused": forged,
    "an-update-that-failed": given_an_update,
    "an-update-that-waits-for-consent": held_back,
}


@pytest.mark.parametrize("news", NEWS)
def test_check_in_with_news_carries_a_report_and_one_without_does_not(world, news):
    engine = at_rest(world)
    assert call(world, engine, 15, next_nonce=FIRST)[0] is None
    assert engine.settled
    NEWS[news](world, engine)
    claims, _ = call(world, engine, 10**6)
    assert claims.nonce == FIRST, "the one that no report was made with is as good as ever"


def test_report_that_was_accepted_is_good_for_a_day_of_uptime_and_this_boot(world):
    engine = at_rest(world)
    assert call(world, engine, 10 + REPORT_LIFE_MS - 1, next_nonce=FIRST)[0] is None
    assert call(world, engine, 10 + REPORT_LIFE_MS, next_nonce=FIRST)[0] is not None
    assert call(world, engine, 20 + REPORT_LIFE_MS, next_nonce=FIRST)[0] is None
    after = world.engine(state=engine.state)
    assert ask(after).claims is not None


def test_another_nonce_asks_for_a_report_which_comes_at_once_and_once(world):
    engine = at_rest(world)
    claims, following = call(world, engine, 20, next_nonce=SECOND)
    assert (claims, following.until, engine.settled) == (None, 20, False)
    claims, following = call(world, engine, 20, next_nonce=FIRST)
    assert (claims.nonce, engine.settled) == (SECOND, True)
    assert following.until == 20 + 60_000
    assert call(world, engine, 10**6, next_nonce=FIRST)[0] is None


def test_report_that_was_refused_is_made_again_though_it_says_what_was_accepted_once(world):
    engine = at_rest(world)
    now = 10 + REPORT_LIFE_MS
    assert call(world, engine, now, report_status="refused: nonce", next_nonce=SECOND)[0] is not None
    assert not engine.settled
    assert call(world, engine, now)[0].nonce == SECOND


def test_published_value_goes_without_a_report_and_leaves_the_queue(world):
    engine = at_rest(world)
    engine.queue(("t", 0, "21.5"))
    engine.timer(20)
    asked = engine.nonce(20, NONCE)
    assert (asked.claims, asked.request.telemetry) == (None, [("t", 0, "21.5")])
    engine.response(21, world.answer(NONCE, None, next_nonce=FIRST))
    assert engine.state.telemetry == []


class Server:
    """Knows what reports told it; ``nonce`` stays until a report was made with it."""

    def __init__(self) -> None:
        self.drawn, self.content, self.events = 0, None, set()
        self.nonce = self.draw()

    def draw(self):
        self.drawn += 1
        return self.drawn.to_bytes(16, "big")

    def hear(self, claims):
        if claims is None:
            return "none"
        good = claims.nonce == self.nonce
        self.nonce = self.draw()
        if not good:
            return "refused: REPORT answers another nonce"
        self.content = claims.content()
        self.events |= set(claims.events)
        return "accepted"


LIFE = st.lists(
    st.sampled_from(["call", "call", "unheard", "answer lost", "event", "restart", "restore", "ask", "day"]),
    max_size=30,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LIFE)
def test_whoever_has_nothing_left_to_say_has_told_the_server_all_of_it(world, life):
    """Whatever is lost on the way, and whatever the server forgets or is restored to: a device that is at
    rest after a check-in has said what is true of it to the server, as it is now, and none of its events is
    missing.
    """
    server, engine, now, happened = Server(), world.engine(), 0, 0
    old = (server.nonce, server.content)
    engine.start(now)
    for what in [*life, "call", "call", "call", "call", "call"]:
        now += 60_000
        if what == "event":
            happened += 1
            engine.state.add_event("failed", f"no. {happened}")
        elif what == "day":
            now += REPORT_LIFE_MS
        elif what == "ask":
            server.nonce = server.draw()
        elif what == "restore":
            (server.nonce, server.content), old = old, (server.nonce, server.content)
        elif what == "restart":
            engine = world.engine(state=restored(engine.state))
            engine.start(now)
        else:
            now = max(now, engine._not_before)
            if engine.phase == actions.IDLE:
                engine.timer(now)
            claims = engine.nonce(now, NONCE).claims
            status = "none" if what == "unheard" else server.hear(claims)
            if what == "call":
                answer = world.answer(NONCE, None, report_status=status, next_nonce=server.nonce)
                engine.response(now, answer)
            else:
                engine.failed(now, TransportError("no answer"))
        if what == "call" and engine.settled:
            assert server.content == (1, False, None)
            assert {f"no. {one + 1}" for one in range(happened)} <= {text for _, text in server.events}
    assert engine.settled


def restored(state: State) -> State:
    return decode_state(b"".join(bytes(part) for part in state.parts(4096)))
