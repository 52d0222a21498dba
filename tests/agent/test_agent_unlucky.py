"""Mistakes, torn things and ill will around the agent: hooks that raise, cards made to hang it, signals."""

import os
import signal
import subprocess
import sys

import pytest
from lifeline import HANG_S
from test_agent_sdk import HOUR_MS, Buggy, card, rest
from test_agent_tls import Element, Pki, Server, get, transport

from fota_agent.agent import Agent
from fota_agent.engine import actions
from fota_agent.engine.state import State, decode
from fota_agent.transport.folder import Folder
from fota_agent.transport.http import split_url
from fota_wire import journal, layout, status
from fota_wire.errors import DeviceError, TransportError
from fota_wire.files import write_atomic


def trial(device, world):
    """Boot the device into a trial of v2."""
    record = journal.Record(5, layout.SLOT_A, layout.SLOT_B, journal.TRIAL, 2)
    device.machine.flash.write_phys(2, 0, journal.pack(record))
    device.boot(world.v2, layout.SLOT_B, trial=True, candidate=layout.SLOT_B, state=journal.TRIAL)


# -- hooks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["available", "progress", "before_reboot"])
def test_mistake_in_a_hook_that_only_hears_is_told_once_and_stops_no_update(device, world, where):
    device.network.wanted = world.v2
    hooks = Buggy(where)
    agent = Agent(device.board(), device.network, hooks)
    rest(device, agent, HOUR_MS)
    assert agent.rebooting
    assert hooks.lines.count(f"{where}: ZeroDivisionError: a mistake") == 1


def test_mistake_in_the_log_hook_ends_no_agent(device, world):
    device.network.wanted = world.v2
    device.network.refuse_checkin = (503, {})
    agent = Agent(device.board(), device.network, Buggy("log"))
    rest(device, agent, 60_000)
    device.network.refuse_checkin = None
    rest(device, agent, HOUR_MS)
    assert agent.rebooting


def test_image_that_failed_its_trial_goes_whatever_before_reboot_does(device, world):
    trial(device, world)
    hooks = Buggy("before_reboot")
    hooks.health_check = lambda: False
    agent = Agent(device.board(), device.network, hooks)
    rest(device, agent, 60_000)
    assert agent.rebooting
    assert device.journal().reason == status.AP1


def test_server_that_asks_for_a_day_of_patience_keeps_no_trial_alive(device, world):
    trial(device, world)
    device.network.refuse_checkin = (503, {"retry-after": "86400"})
    agent = device.agent()
    while not agent.rebooting and device.now < 48 * HOUR_MS:
        device.now += agent.step()
    assert device.now <= HOUR_MS
    assert device.journal().reason == status.AP3


# -- what was kept -------------------------------------------------------------------------------------------


def test_store_that_could_not_be_written_once_is_written_later(device, world):
    board = device.board()
    saved, save = [], board.save_store
    refusing = [True]

    def full(data):
        if refusing:
            raise DeviceError("no room")
        saved.append(data)
        save(data)

    board.save_store = full
    agent = Agent(board, device.network, device.hooks)
    agent.engine.state.add_event("local", "kept")
    rest(device, agent, 3 * HOUR_MS)
    assert device.hooks.lines.count("agent store not written: no room") == 1
    refusing.clear()
    rest(device, agent, HOUR_MS)
    assert saved


def test_trial_is_asked_for_only_once_what_it_needs_is_saved(device, world):
    """The save before the reset failed for want of memory: the next boot would not know what it tries."""
    device.network.wanted = world.v2
    board = device.board()
    save, saved, failing = board.save_store, [], [MemoryError() for _ in range(4)]  # two in one step

    def short_of_memory(parts):
        if failing and agent.engine.phase == actions.REQUEST:
            raise failing.pop()
        saved.append((agent.engine.phase, device.journal().state))
        return save(parts)

    board.save_store = short_of_memory
    agent = Agent(board, device.network, device.hooks)
    agent.engine.state.must_save()
    while not agent.rebooting:
        if agent.engine.phase == actions.REQUEST:
            agent.engine.state.must_save()
        device.now += agent.step()
        assert device.now < 3 * HOUR_MS
        assert not failing or device.journal().state != journal.STAGED
    assert not failing
    assert (actions.REQUEST, journal.NONE) in saved
    assert device.journal().state == journal.STAGED


def test_one_worn_page_or_a_full_disk_hammers_neither_the_pages_before_it_nor_the_network(device, world):
    """Each try gets as far as that page: what it wrote before is no progress."""
    device.network.wanted = world.v2
    board = device.board()
    slot = board.inactive
    program, erase, worn, erased = slot.program, slot.erase, 3 * slot.page_size, []

    def program_but_one(offset, data):
        if offset == worn:
            raise DeviceError("program failed", status.FL1)
        program(offset, data)

    def count(offset):
        erased.append(offset)
        erase(offset)

    slot.program, slot.erase = program_but_one, count
    agent = Agent(board, device.network, device.hooks)
    rest(device, agent, 24 * HOUR_MS)
    assert ("failed", "FL1 flash-program: program failed") in agent.engine.state.events
    assert len(erased) < 150
    assert len(device.network.requests) < 300
    slot.program = program  # somebody has made room
    rest(device, agent, 4 * HOUR_MS)
    assert agent.rebooting
    assert device.slot(2, len(world.v2.image)) == world.v2.image


def test_name_that_is_no_text_can_be_reported():
    state = State()
    state.add_event("failed", "/media/st\udcffck/manifest.suit: cannot be read")
    assert decode(b"".join(state.parts(8192))).events == [
        ("failed", r"'/media/st\udcffck/manifest.suit: cannot be read'")
    ]


# -- a crafted card ------------------------------------------------------------------------------------------


READ = (
    "import sys; from fota_agent.transport import folder as f; print(len(f.Folder(sys.argv[1]).envelope()))"
)


@pytest.mark.parametrize("kind", ["endless", "fifo", "folder"])
def test_card_that_is_made_to_hang_or_fill_the_agent_is_refused(world, tmp_path, kind):
    path = card(tmp_path, world.v2)
    name = tmp_path / "manifest.suit"
    name.unlink()
    if kind == "endless":
        name.symlink_to("/dev/zero")
    elif kind == "fifo":
        os.mkfifo(name)
    else:
        name.mkdir()
    limited = f"ulimit -v 2000000; exec {sys.executable} -c '{READ}' {path}"
    done = subprocess.run(["sh", "-c", limited], capture_output=True, text=True, timeout=HANG_S, check=False)
    assert "TransportError" in done.stderr.splitlines()[-1]
    assert "manifest.suit: not a regular file" in done.stderr


def test_payload_on_a_card_that_never_opens_is_refused(world, tmp_path):
    path = card(tmp_path, world.v2)
    name = tmp_path / "payload" / world.v2.digest.hex()
    name.unlink()
    os.mkfifo(name)
    with pytest.raises(TransportError, match="not a regular file"):
        Folder(path).request("GET", f"/v1/payload/{name.name}", {})


def test_card_that_is_asked_for_a_part_gives_that_part(world, tmp_path):
    """A card whose reading breaks is asked for less at once, like any link."""
    path, size = card(tmp_path, world.v2), len(world.v2.image)
    status, headers, reader = Folder(path).request(
        "GET", f"/v1/payload/{world.v2.digest.hex()}", {"Range": "bytes=256-511"}
    )
    part = bytearray(300)
    assert reader.readinto(memoryview(part)[: reader.length]) == 256
    assert (status, headers) == (206, {"content-range": f"bytes 256-511/{size}"})
    assert part[:256] == world.v2.image[256:512]


# -- signals and words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", ["²", "", "0x10"])
def test_port_that_is_no_number_is_refused(port):
    if port == "":
        assert split_url("https://host:")[1] == 443
        return
    with pytest.raises(TransportError, match="not a usable URL"):
        split_url(f"https://host:{port}")


@pytest.fixture
def told_to_end():
    """SIGTERM ends the process, as ``fota agent run`` has it."""

    def end(*_):
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, end)
    yield lambda: os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_order_to_end_while_the_element_signs_is_not_lost(tmp_path, told_to_end):
    """Python delivers a signal within the callback that OpenSSL signs by; no exception may leave that."""
    pki = Pki(tmp_path)
    server = Server(pki)
    element = Element(pki.device_key)
    sign = element.sign_digest

    def interrupted(digest):
        told_to_end()
        return sign(digest)

    element.sign_digest = interrupted
    try:
        with pytest.raises(SystemExit):
            get(transport(pki, server.port, element))
    finally:
        server.close()


def test_order_to_end_while_a_file_is_replaced_leaves_no_other_file(tmp_path, told_to_end, monkeypatch):
    def sync(_fd):
        told_to_end()

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(SystemExit):
        write_atomic(tmp_path / "store", b"new")
    assert list(tmp_path.iterdir()) == []
