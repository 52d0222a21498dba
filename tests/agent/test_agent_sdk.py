"""The SDK on the virtual device's flash: publishing, loops, schedules, local updates, wear."""

import asyncio
import contextlib
import functools
import http.server
import threading
import time

import pytest
from lifeline import HANG_S, until

from fota_agent import Hooks
from fota_agent.agent import Agent
from fota_agent.aio import serve
from fota_agent.engine import haste, telemetry
from fota_agent.engine.state import State
from fota_agent.runner.runner import SAVE_MS
from fota_agent.schedule import Schedule, parse_window
from fota_agent.transport.mirror import Mirrored
from fota_wire import host_crypto, journal, layout, root, status
from fota_wire.chips import stm32l476
from fota_wire.errors import FotaError, InputError, TransportError, VerifyError

HOUR_MS = 3_600_000
SHORT_S = 1
"""What an agent that cannot send is given."""


def offline(device):
    def refuse(*_args):
        raise TransportError("no route")

    device.network.request, online = refuse, device.network.request
    return online


def rest(device, agent, ms):
    """Let the application live on for so long, stepping when the agent asks for it."""
    end = device.now + ms
    while device.now < end and not agent.rebooting:
        device.now += max(1, min(agent.step(), end - device.now))


def test_published_value_goes_with_the_next_check_in_and_leaves_the_queue(device, told):
    agent = device.agent()
    agent.publish("climate", {"t": 21.5})
    device.run(agent)
    assert told == [("climate", 0, '{"t": 21.5}')]
    assert agent.engine.state.telemetry == []
    agent.publish("climate", {"t": 22})
    rest(device, agent, 120_000)
    topic, at, text = told[-1]
    assert (topic, text) == ("climate", '{"t": 22}')
    assert at == 1_795_000_000, "the device has the time from the server by now"
    before = len(device.network.requests)
    agent.publish("door", "open", urgent=True)
    rest(device, agent, 50)
    assert told[-1][0] == "door"
    assert len(device.network.requests) == before + 1


@pytest.mark.parametrize(
    ("topic", "value", "word"),
    [
        ("", 1, "topic"),
        ("a b", 1, "topic"),
        ("t" * 33, 1, "topic"),
        ("t", {1, 2}, "JSON"),
        ("t", "v" * 255, "256"),
    ],
)
def test_value_that_the_server_would_refuse_never_gets_into_the_queue(device, topic, value, word):
    with pytest.raises(InputError, match=word):
        device.agent().publish(topic, value)


def test_queue_survives_resets_and_weeks_without_network_and_stays_bounded(device, told):
    online = offline(device)
    agent = device.agent()
    for number in range(100):
        agent.publish("n", number)
        rest(device, agent, 12 * HOUR_MS)  # fifty days
        if number == 50:
            device.boot(device.world.v1)  # power cut: what was saved half an hour ago comes back
            agent = device.agent()
            assert [text for _, _, text in agent.engine.state.telemetry][-1] == "50"
    assert len(agent.engine.state.telemetry) == telemetry.MAX_VALUES
    device.network.request = online
    device.run(agent)
    rest(device, agent, 1010)
    assert [text for _, _, text in told] == [str(n) for n in range(76, 100)]
    assert agent.engine.settled


def test_weeks_without_network_cost_a_bounded_number_of_tries_and_flash_writes(device):
    tries = []

    def refuse(*_args):
        tries.append(device.now)
        raise TransportError("no route")

    device.network.request = refuse
    agent = device.agent()
    rest(device, agent, 30 * 24 * HOUR_MS)
    per_day = len(tries) / 30
    assert 24 <= per_day <= 60, "an hour at most between two, jitter half of it in this world"
    assert [code for code, _ in agent.engine.state.events] == ["failed"]
    assert device.machine.flash.operations < 200


def test_store_is_written_at_once_only_where_the_next_action_depends_on_it(device, world):
    agent = device.agent()
    operations = device.machine.flash.operations
    agent.publish("t", 1)
    device.run(agent)
    rest(device, agent, SAVE_MS - 200_000)
    assert device.machine.flash.operations == operations
    agent.publish("t", 2)
    offline(device)
    rest(device, agent, 300_000)
    assert device.machine.flash.operations > operations


def test_stolen_assign_key_wears_neither_store_nor_slots(device, world):
    """It has released versions installed in turn, without end, and the server is the attacker's too."""
    versions = [world.release_of((1, 2, number), 3 + number, 2, size=3000) for number in range(3)]
    device.network.releases += versions
    slot, running = layout.SLOT_A, world.v1
    end = device.now + 24 * HOUR_MS
    installs = 0
    while device.now < end and installs < 2 * haste.BURST:
        device.network.campaign += 1
        device.network.wanted = versions[installs % 3]
        agent = device.agent()
        rest(device, agent, end - device.now)
        if agent.rebooting:  # stand in for the bootloader: the trial is confirmed at once
            installs += 1
            running = device.network.wanted
            slot = layout.other_slot(slot)
            device.machine.flash.write_phys(2, 0, b"\xff" * 4096)
            device.machine.flash.write_phys(2, 0, journal.pack(journal.Record(1, slot, 0xC3, journal.NONE)))
            device.boot(running, slot)
            device.now += 5_000
    erasures = [op for op in device.machine.flash.log if op.kind == "erase"]
    per_page = max([sum(op.offset == page and op.bank == bank for op in erasures)
                    for bank, page in {(op.bank, op.offset) for op in erasures}])  # fmt: skip
    assert haste.BURST // 2 <= installs <= haste.BURST + 12
    assert per_page <= 3 * (haste.BURST + 12)
    assert ("deferred", "too many installations in short order") in [
        event for report in device.network.reports for event in report.events
    ]


@pytest.mark.parametrize(
    ("acts", "hours", "good"), [(31, 0, True), (32, 0, False), (32, 3.9, False), (32, 4, True)]
)
def test_haste_allows_so_many_acts_and_then_one_in_four_hours(acts, hours, good):
    state = State()
    limit = haste.Haste(state)
    limit.start(1000)
    for _ in range(acts):
        limit.count()
    assert limit.allows(1000 + int(hours * HOUR_MS)) is good


def test_calm_days_give_the_acts_back():
    state = State()
    limit = haste.Haste(state)
    limit.start(0)
    for _ in range(haste.BURST):
        limit.count()
    assert limit.allows(10 * 24 * HOUR_MS)
    assert state.haste == 0


# Loops


def end(agent):
    """End the agent's thread."""
    agent._runner.rebooting = True
    agent.check_in()


class Live:
    """Real time for the device: its clock is the host's."""

    def __init__(self, device):
        self.board = device.board()
        self.board.ticks_ms = lambda: time.monotonic_ns() // 1_000_000
        self.agent = Agent(self.board, device.network, device.hooks)


def test_start_steps_from_a_thread_and_publish_works_from_another(device, told):
    agent = Live(device).agent
    agent.start()
    agent.start()
    assert [thread.name for thread in threading.enumerate()].count("fota-agent") == 1
    agent.publish("climate", 1)
    assert agent.sync(HANG_S)
    assert [(topic, text) for topic, _, text in told] == [("climate", "1")]
    end(agent)


def test_script_syncs_and_runs_for_a_while(device, told):
    agent = Live(device).agent
    agent.publish("climate", 1)
    assert agent.sync(HANG_S)
    assert told
    started = time.monotonic()
    agent.run(1)
    assert time.monotonic() - started > 0.9


def test_sync_without_network_ends_in_time_and_says_so(device):
    offline(device)
    assert not Live(device).agent.sync(SHORT_S)


def test_asyncio_program_goes_on_while_the_agent_waits_for_a_slow_network(device, told):
    agent = Live(device).agent
    agent.publish("climate", 1)
    request, beats, waited = device.network.request, [], []

    def slow(*args):
        """Answer once the program has gone on for a while: never, if it waits for us."""
        assert threading.current_thread() is not threading.main_thread()
        first = len(beats)
        until(lambda: told or len(beats) > first + 10)
        waited.append(first)
        return request(*args)

    device.network.request = slow

    async def application():
        task = asyncio.create_task(serve(agent))
        while not told:
            beats.append(len(waited))
            await asyncio.sleep(0.01)
        end(agent)
        await task

    asyncio.run(application())
    assert waited


def test_idle_agent_sleeps_until_it_is_wanted(device, told):
    """Nothing polls: a pause lasts as long as the step before it said, or until a value or a question."""
    agent = Live(device).agent
    runner, pauses = agent._runner, []
    rest_for = runner.rest_for

    def noted(wait_ms):
        began = time.monotonic()
        rest_for(wait_ms)
        pauses.append((agent.engine.phase, wait_ms, (time.monotonic() - began) * 1000))

    runner.rest_for = noted
    agent.start()
    assert agent.sync(HANG_S)
    for _ in range(3):  # each is one question, and one pause that it ends
        told.clear()
        agent.publish("door", "open", urgent=True)
        until(lambda: told and agent.engine.phase == "idle")
        time.sleep(1.2)  # an urgent value is heard once a second
    end(agent)
    asleep = [(wait_ms, lasted) for phase, wait_ms, lasted in pauses if phase == "idle" and wait_ms > 0]
    cut_short = [pause for pause in asleep if pause[1] < pause[0] - 1]
    assert 0 < len(asleep) <= 12, "four questions; a look five times a second is eighteen pauses and more"
    assert len(cut_short) <= 10, "each of five calls wakes it, twice at most; it was five times a second"


def test_cancelled_asyncio_program_ends_at_once_however_long_the_network_takes(device):
    """A connection that nobody answers takes 15 s to fail; Ctrl-C does not wait for that."""
    agent = Live(device).agent
    inside, leave = threading.Event(), threading.Event()

    def stuck(*_args):
        inside.set()
        leave.wait(HANG_S)
        raise TransportError("timed out")

    device.network.request = stuck

    async def application():
        task = asyncio.create_task(serve(agent))
        await asyncio.to_thread(inside.wait, HANG_S)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(application())
    assert not leave.is_set()
    assert inside.is_set()
    leave.set()
    end(agent)


def test_download_comes_page_by_page_so_that_the_application_gets_its_turn(device, world):
    device.network.wanted = world.v2
    agent = device.agent()
    turns = 0
    while not agent.rebooting:
        device.now += agent.step()
        turns += agent.engine.phase == "fetch"
    pages = -(-len(world.v2.image) // stm32l476.PAGE_SIZE)
    assert turns >= pages


def test_time_that_the_application_takes_between_pages_is_no_slow_retrieval(device, world):
    device.network.wanted = world.v2
    device.network.order["valid_for"] = 100_000
    agent = device.agent()
    while not agent.rebooting and device.now < 10 * HOUR_MS:
        device.now += agent.step() + (60_000 if agent.engine.phase == "fetch" else 0)
    assert agent.rebooting
    assert not any("slow" in line for line in device.hooks.lines)


# When updates are welcome


class Quiet(Hooks):
    def __init__(self):
        self.heard = []

    def available(self, manifest):
        self.heard.append(manifest.text["version"])


def scheduled(device, schedule, hooks=None):
    device.network.wanted = device.world.v2
    agent = Agent(device.board(), device.network, hooks or device.hooks, schedule=schedule)
    rest(device, agent, 2 * HOUR_MS)
    return agent


def test_mode_off_checks_in_and_reports_and_writes_nothing(device):
    agent = scheduled(device, Schedule("off"))
    assert not agent.rebooting
    assert agent.engine.deferred
    assert device.network.reports
    assert device.machine.flash.log == [] or all(
        op.offset < stm32l476.SLOT_OFFSET for op in device.machine.flash.log
    )
    assert not any("payload" in path for _, path, _ in device.network.requests)


def test_mode_notify_tells_once_and_waits_for_consent(device):
    hooks, schedule = Quiet(), Schedule("notify")
    agent = scheduled(device, schedule, hooks)
    assert hooks.heard == ["1.1.0"]
    assert not agent.rebooting
    schedule.approve(bytes(32))
    rest(device, agent, HOUR_MS)
    assert not agent.rebooting, "consent to something else"
    schedule.approve(device.world.v2.manifest_digest)
    rest(device, agent, HOUR_MS)
    assert agent.rebooting
    assert hooks.heard == ["1.1.0"]


@pytest.mark.parametrize(("ahead_s", "installed"), [(-10, True), (4 * 3600, False)])
def test_mode_defer_downloads_now_and_installs_later(device, ahead_s, installed):
    now_s = 1_795_000_000  # what this world's server says
    agent = scheduled(device, Schedule("defer", until=now_s + ahead_s))
    assert agent.rebooting is installed
    assert device.slot(2, len(device.world.v2.image)) == device.world.v2.image


SECOND = 1_795_000_000 % 86_400


@pytest.mark.parametrize(
    ("window", "installed"),
    [
        ((SECOND - 60, SECOND + 60), True),
        ((SECOND - 120, SECOND - 60), False),
        ((SECOND + 600, SECOND), False),
        ((SECOND - 60, SECOND - 120), True),
        ((SECOND + 60, SECOND - 600), False),
    ],
)
def test_window_of_the_day_decides_over_the_reset(device, window, installed):
    schedule = Schedule(windows=[window])
    manifest = type("M", (), {"manifest_digest": b""})
    assert schedule.may_download(manifest)
    assert schedule.may_install(manifest, 1_795_000_000) is installed
    assert not schedule.may_install(manifest, None), "time not known: outside"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("02:00-04:30", (7200, 16200)), ("22:15-06:00", (80100, 21600)), ("0:0-24:00", (0, 86_400))],
)
def test_window_is_read(text, seconds):
    assert parse_window(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "02:00", "2-4", "25:00-26:00", "02:60-03:00", "a:00-b:00", "١٢:00-13:00"]
)
def test_window_that_is_none_is_refused(text):
    with pytest.raises(InputError):
        parse_window(text)


def test_schedule_refuses_what_it_cannot_mean():
    for wrong in (
        {"mode": "sometimes"},
        {"windows": [(5, 5)]},
        {"windows": [(0, 86_401)]},
        {"windows": [(86_400, 5)]},
    ):
        with pytest.raises(InputError):
            Schedule(**wrong)


# Updates that no server sends


def card(tmp_path, release, roots=()):
    (tmp_path / "payload").mkdir(exist_ok=True)
    (tmp_path / "manifest.suit").write_bytes(release.envelope)
    (tmp_path / "payload" / release.digest.hex()).write_bytes(release.image)
    for raw in roots:
        (tmp_path / f"root-{root.unsafe_read_root(raw).version}.cbor").write_bytes(raw)
    return str(tmp_path)


def install(device, path):
    offline(device)
    agent = device.agent()
    rest(device, agent, 10_000)
    while agent.engine.phase != "idle":
        device.now += max(1, agent.step())
    agent.install_from(path)
    rest(device, agent, 60_000)
    return agent


def test_card_updates_a_device_without_network_and_its_trial_needs_none(device, world, tmp_path):
    agent = install(device, card(tmp_path, world.v2, [world.root(2)]))
    assert agent.rebooting
    assert device.slot(2, len(world.v2.image)) == world.v2.image
    record = device.journal()
    assert (record.candidate, record.state) == (layout.SLOT_B, journal.STAGED)
    trial = journal.Record(record.sequence + 1, layout.SLOT_A, layout.SLOT_B, journal.TRIAL, 2)
    device.machine.flash.write_phys(2, 16, journal.pack(trial))
    device.boot(world.v2, layout.SLOT_B, trial=True, candidate=layout.SLOT_B, state=journal.TRIAL)
    agent = device.agent()
    assert agent.engine.root.version == 2
    rest(device, agent, 10_000)
    assert not agent.engine.trial
    assert device.journal().confirmed == layout.SLOT_B
    with pytest.raises(VerifyError, match="not above 2"):
        agent.install_from(card(tmp_path, world.v1))


CARDS = {
    "one-signature": (lambda w: w.release_of((1, 2, 0), 3, 3, signers=w.release[:1]), "1 of 2"),
    "stranger": (lambda w: w.release_of((1, 2, 0), 3, 3, signers=[w.release[0], w.stranger]), "1 of 2"),
    "other-class": (lambda w: w.release_of((1, 2, 0), 3, 3, device_class=bytes(16)), "class"),
}


@pytest.mark.parametrize("kind", CARDS)
def test_card_that_the_server_could_not_have_sent_either_is_refused(device, world, tmp_path, kind):
    make, word = CARDS[kind]
    offline(device)
    agent = device.agent()
    with pytest.raises(VerifyError, match=word):
        agent.install_from(card(tmp_path, make(world)))
    assert device.machine.flash.log == []


def test_card_with_a_damaged_image_is_never_asked_for(device, world, tmp_path):
    path = card(tmp_path, world.v2)
    image = bytearray(world.v2.image)
    image[5000] ^= 1
    (tmp_path / "payload" / world.v2.digest.hex()).write_bytes(image)
    agent = install(device, path)
    assert not agent.rebooting
    assert device.journal().state == journal.NONE
    assert ("refused", "the download is not the image of the manifest") in agent.engine.state.events


def test_card_without_its_files_is_told(device, tmp_path):
    with pytest.raises(TransportError, match=r"manifest.suit: cannot be read"):
        device.agent().install_from(str(tmp_path))


def test_card_is_not_taken_in_a_trial(device, world, tmp_path):
    device.boot(world.v1, trial=True, candidate=layout.SLOT_A, state=journal.TRIAL)
    with pytest.raises(VerifyError, match="under way"):
        device.agent().install_from(card(tmp_path, world.v2))


class Mirror:
    def __init__(self, network, image):
        self.network, self.image, self.asked = network, image, []

    def request(self, method, path, headers, body=b""):
        self.asked.append((method, path))
        if self.image is None:
            raise TransportError("no route")
        return 200, {}, Reader(self.image)

    def close(self):
        pass


class Reader:
    def __init__(self, data):
        self.length, self._data = len(data), data

    def readinto(self, buf):
        count = min(len(buf), len(self._data))
        buf[:count], self._data = self._data[:count], self._data[count:]
        return count

    def close(self):
        pass


@pytest.mark.parametrize("content", ["right", "wrong", "short", "none"])
def test_mirror_nearby_is_asked_first_for_payloads_and_never_believed(device, world, content):
    image = world.v2.image
    wrong = image[:9000] + bytes([image[9000] ^ 1]) + image[9001:]
    mirror = Mirror(
        device.network, {"right": image, "wrong": wrong, "short": image[:-1], "none": None}[content]
    )
    device.network.wanted = world.v2
    agent = Agent(device.board(), Mirrored(device.network, mirror), device.hooks)
    rest(device, agent, HOUR_MS)
    assert agent.rebooting
    assert device.slot(2, len(image)) == image
    assert mirror.asked == [("GET", "/v1/payload/" + world.v2.digest.hex())]
    assert (device.network.payload_bytes >= len(image)) is (content != "right")


@pytest.fixture
def lan(tmp_path):
    """A plain web server of this machine's loopback, as a cache on a LAN would be; its URL and its folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_args):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/fota", tmp_path / "fota/v1/payload"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("state", ["holds-it", "lacks-it", "gone"])
def test_mirror_over_real_sockets(device, world, lan, state):
    url, folder = lan
    folder.mkdir(parents=True)
    if state == "holds-it":
        (folder / world.v2.digest.hex()).write_bytes(world.v2.image)
    if state == "gone":
        url = "http://127.0.0.1:1/fota"
    device.network.wanted = world.v2
    agent = Agent(device.board(), device.network, device.hooks, mirror=url)
    rest(device, agent, HOUR_MS)
    assert agent.rebooting
    assert device.slot(2, len(world.v2.image)) == world.v2.image
    assert (device.network.payload_bytes < len(world.v2.image)) is (state == "holds-it")


@pytest.mark.parametrize("url", ["https://cache", "ftp://x", "http://", "http://x:99999", "cache"])
def test_mirror_with_an_unusable_url_is_refused(device, url):
    with pytest.raises(TransportError):
        Agent(device.board(), device.network, device.hooks, mirror=url)


# The time


def test_time_comes_from_the_server_and_runs_on_with_the_device(device):
    agent = device.agent()
    assert agent.time() is None
    device.run(agent)
    known = agent.time()
    device.now += 90_000
    assert agent.time() == known + 90


@pytest.mark.parametrize(
    ("valid_until", "kept"), [(0, 0), (1_794_999_999, 0), (1_795_000_000, 1_795_000_000)]
)
def test_time_is_kept_over_a_reset_only_within_the_life_of_the_certificate_it_came_over(
    device, valid_until, kept
):
    """Or one stolen ASSIGN key could make all later servers look expired."""
    device.network.valid_until = valid_until
    agent = device.run()
    assert agent.engine.state.time == kept
    agent.close()
    assert device.agent().engine.state.time == kept


def test_flash_that_is_worn_out_is_reported_and_never_hammered(device, world):
    device.network.wanted = world.v2
    board = device.board()

    def worn(_offset, _data):
        raise FotaError("flash at 0x08084000: program failed", 0)

    board.inactive.program = worn
    erases = []
    board.inactive.erase = erases.append
    agent = Agent(board, device.network, device.hooks)
    rest(device, agent, 24 * HOUR_MS)
    assert not agent.rebooting
    assert device.journal().state == journal.NONE
    payloads = [path for _, path, _ in device.network.requests if "payload" in path]
    assert len(payloads) < 100
    assert any("program failed" in line for line in device.hooks.lines)


def test_store_that_is_worn_out_costs_memory_over_resets_and_no_update(device, world):
    device.network.wanted = world.v2
    board = device.board()

    def worn(_data):
        raise FotaError("flash is worn", 0)

    board.save_store = worn
    agent = Agent(board, device.network, device.hooks)
    rest(device, agent, HOUR_MS)
    assert agent.rebooting
    assert "agent store not written: flash is worn" in device.hooks.lines


def test_end_of_the_process_after_any_step_is_made_good_by_the_next_life(device, world):
    """The agent is gone between two steps, its memory with it; what it saved is all that the next one has."""
    device.network.wanted = world.v2
    start = device.machine.snapshot()
    for steps in range(1, 100):
        device.machine.restore(start)
        device.network.report_nonce = None
        agent = device.agent()
        for _ in range(steps):
            device.now += agent.step()
        if agent.rebooting:
            break
        agent = device.run(device.agent())
        assert agent.rebooting
        assert device.slot(2, len(world.v2.image)) == world.v2.image
        record = device.journal()
        assert (record.candidate, record.state) == (layout.SLOT_B, journal.STAGED)
    assert 20 < steps < 99


def test_board_with_a_network_and_a_verifier_of_its_own_brings_them_along(device, world):
    board, asked = device.board(), []
    board.transport = lambda url: asked.append(url) or device.network
    board.verify = lambda *args: asked.append("verify") or host_crypto.verify(*args)
    device.network.wanted = world.v2
    device.run(Agent(board, hooks=device.hooks))
    assert asked[0] is None
    assert "verify" in asked
    assert device.network.requests


def test_download_that_a_cut_ended_is_known_to_the_next_life(device, world):
    device.network.wanted = world.v2
    agent = device.agent()
    while agent.engine.phase != "fetch":
        device.now += agent.step()
    for _ in range(4):  # the request, and three pages
        agent.step()
    device.run(device.agent())
    assert f"resuming at {2 * stm32l476.PAGE_SIZE} of {len(world.v2.image)} bytes" in device.hooks.lines
    assert device.network.payload_bytes < len(world.v2.image) + 2 * stm32l476.PAGE_SIZE


class Buggy(Hooks):
    """An application whose hooks fail: ``where`` names the one that does."""

    def __init__(self, where):
        self.lines = []
        setattr(self, where, self.fail)

    def fail(self, *_args):
        raise ZeroDivisionError("a mistake")

    def log(self, line):
        self.lines.append(line)


@pytest.mark.parametrize("where", ["may_download", "may_install"])
def test_mistake_in_a_hook_is_told_and_tried_again_later_and_ends_no_agent(device, world, where):
    device.network.wanted = world.v2
    hooks = Buggy(where)
    agent = Agent(device.board(), device.network, hooks)
    rest(device, agent, HOUR_MS)
    assert "ZeroDivisionError: a mistake" in hooks.lines
    assert ("failed", "ZeroDivisionError: a mistake") in agent.engine.state.events
    assert len([line for line in hooks.lines if "mistake" in line]) <= 12
    assert not agent.rebooting
    setattr(hooks, where, lambda *_args: True)
    rest(device, agent, 2 * HOUR_MS)
    assert agent.rebooting
    assert device.slot(2, len(world.v2.image)) == world.v2.image


def test_health_check_that_fails_ends_the_trial(device, world):
    trial = journal.Record(5, layout.SLOT_A, layout.SLOT_B, journal.TRIAL, 2)
    device.machine.flash.write_phys(2, 0, journal.pack(trial))
    device.boot(world.v2, layout.SLOT_B, trial=True, candidate=layout.SLOT_B, state=journal.TRIAL)
    agent = Agent(device.board(), device.network, Buggy("health_check"))
    rest(device, agent, 120_000)
    assert agent.rebooting
    assert device.journal().reason == status.AP2


def test_urgent_value_goes_out_even_while_an_update_waits_for_consent(device, told):
    agent = scheduled(device, Schedule("off"))
    agent.publish("alarm", True, urgent=True)
    rest(device, agent, 50)
    assert told[-1][0] == "alarm"
