"""A gateway with bad luck: its disk is full, or its new program cannot even be started."""

import ctypes
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from gateway_world import FOTA, booted, wake_ups
from lifeline import HANG_S, until

from fota_agent.boards.linux import launcher, storage
from fota_agent.boards.linux.gateway import Gateway
from fota_cli import gateway_session
from fota_signer.identity import DeviceClass
from fota_signer.images import sign_payload
from fota_wire import bootreport, journal, settings, status
from fota_wire.errors import DeviceError, StorageError
from fota_wire.host_crypto import public_xy
from fota_wire.layout import SLOT_A as A
from fota_wire.layout import SLOT_B as B

VENDOR, CLASS = bytes(range(16)), bytes(range(16, 32))
PROGRAM = b"#!/bin/sh\necho $0 >> %s\nexec sleep 1000000\n"


@pytest.fixture(scope="module")
def key():
    return ec.generate_private_key(ec.SECP256R1())


FIVE_LINES = """#!{python}
from fota_agent import board, Agent
agent = Agent(board.detect())
agent.publish("climate", {{"t": 21.5}})
print("works, {version}:", agent.sync(1e6), flush=True)
"""


def signed(key, payload, counter=5):
    made = DeviceClass(class_id=CLASS, vendor_id=VENDOR)
    return sign_payload(
        payload, key=key, version=(1, 0, 0, 0), sec_cnt=counter, device_class=made, program=True
    )


def make(folder, key):
    (folder / "gateway.toml").write_text(
        f'device_id = "{"f0" * 9}"\n[image]\nkeys = ["{public_xy(key).hex()}"]\n[element]\nkind = "-"\n'
    )
    trust = settings.TrustStore(
        genesis_root=b"-", server_ca=b"-", device_cert=b"-", server_url="https://localhost",
        vendor_id=VENDOR, class_id=CLASS,
    )  # fmt: skip
    (folder / "trust.cbor").write_bytes(settings.pack_trust_store(trust))
    return Gateway(folder)


def request(gateway):
    """Have slot B tried at the next boot."""
    book = storage.JournalFile(gateway.folder / "journal")
    state = book.state()
    book.append(journal.request(state, A, B), state)


@pytest.mark.parametrize("payload", [b"#!/no/such/interpreter\n", b"\x7fELF" + bytes(200)])
def test_program_that_cannot_be_started_is_rejected_and_the_confirmed_one_runs_on(tmp_path, key, payload):
    gateway = make(tmp_path, key)
    lives = tmp_path / "lives"
    gateway.slots[A].write_bytes(signed(key, PROGRAM % bytes(lives)))
    gateway.slots[B].write_bytes(signed(key, payload))
    with launcher.Launcher(gateway, [], lambda line: None) as run:
        run.boot()
        request(gateway)
    process = subprocess.Popen([*FOTA, "gateway", "launch", tmp_path], stderr=subprocess.PIPE, text=True)
    try:
        until(lives.exists, "the confirmed program")
    finally:
        process.terminate()
        said = process.communicate(timeout=HANG_S)[1]
    state = storage.JournalFile(gateway.folder / "journal").state()
    assert (state.confirmed, state.state, state.reason) == (A, journal.REVERTED, status.AP1)
    assert said.count("cannot be started") == 1
    assert process.returncode == 0


@pytest.mark.parametrize("wants", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
def test_machine_that_has_no_room_for_a_moment_is_no_verdict_on_a_trial(tmp_path, key, monkeypatch, wants):
    gateway, said, left = make(tmp_path, key), [], [wants, wants]

    def popen(*words, **options):
        if left:
            raise OSError(left.pop(), "no room")
        return start(*words, **options)

    for slot in (A, B):
        gateway.slots[slot].write_bytes(signed(key, b"#!/bin/sh\nexit 7\n"))
    start = subprocess.Popen
    monkeypatch.setattr(launcher.subprocess, "Popen", popen)
    monkeypatch.setattr(launcher, "MOMENT_S", 0.01)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, launcher.WATCHED)
    try:
        with launcher.Launcher(gateway, [], said.append) as run:
            run.boot()
            request(gateway)
            assert run._run_once(run.boot(), mask) == (7, False)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    state = storage.JournalFile(gateway.folder / "journal").state()
    assert (state.in_trial(B), state.reason) == (True, 0)
    assert [line for line in said if "no room" in line] == [
        "launch: the program cannot be started for now: no room"
    ]


@pytest.mark.parametrize("how", [signal.SIGTERM, "time"])
def test_machine_without_room_for_long_ends_when_told_or_the_trial_does(tmp_path, key, monkeypatch, how):
    gateway = make(tmp_path, key)
    for slot in (A, B):
        gateway.slots[slot].write_bytes(signed(key, b"#!/bin/sh\nexit 7\n"))

    def popen(*_words, **_options):
        if how != "time":
            signal.pthread_kill(threading.get_ident(), how)  # where it is blocked: workers have other threads
        raise BlockingIOError(errno.EAGAIN, "no room")

    monkeypatch.setattr(launcher.subprocess, "Popen", popen)
    monkeypatch.setattr(launcher, "MOMENT_S", 0.01)
    if how == "time":
        monkeypatch.setattr(gateway, "trial_s", 0.05)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, launcher.WATCHED)
    try:
        with launcher.Launcher(gateway, [], lambda line: None) as run:
            run.boot()
            request(gateway)
            assert run._run_once(run.boot(), mask)[0] == launcher.NOT_STARTED
            assert run._stopping is (how != "time")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    state = storage.JournalFile(gateway.folder / "journal").state()
    assert state.reason == (status.AP1 if how == "time" else 0)


@pytest.fixture
def disk(tmp_path):
    """A file system of 256 KiB; skipped where this machine lets nobody mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, b"size=256k") != 0:
        pytest.skip(f"no mount here: {errno.errorcode.get(ctypes.get_errno(), 'not root')}")
    yield folder
    libc.umount2(bytes(folder), 2)


def fill(folder):
    with (folder / "log").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


@pytest.mark.parametrize("counter", [5, 6])
def test_full_disk_keeps_no_gateway_from_running_its_program(disk, key, counter):
    """``counter``: 6, the floor is to be raised with this boot, and cannot be."""
    gateway = make(disk, key)
    gateway.slots[A].write_bytes(signed(key, b"#!/bin/true\n"))
    said = []
    with launcher.Launcher(gateway, [], said.append) as run:
        run.boot()
    gateway.slots[A].write_bytes(signed(key, b"#!/bin/true\n", counter))
    fill(disk)
    with launcher.Launcher(gateway, [], said.append) as run:
        boot = run.boot()
        report = bootreport.unpack(gateway.report_path.read_bytes())
        assert (boot.slot, report.running, report.floor) == (A, A, 5)
        assert launcher.running_launcher(gateway) == os.getpid()
        if counter == 6:
            assert any("floor" in line for line in said)
            (disk / "log").unlink()
            run.boot()
            assert storage.read_floor(disk / "floor") == 6


MS_RDONLY, MS_REMOUNT = 1, 32


def remount(folder, flags):
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mount(b"tmpfs", bytes(folder), b"tmpfs", MS_REMOUNT | flags, None) == 0


@pytest.mark.parametrize("known", [True, False], ids=["ran-before", "first-boot"])
def test_read_only_disk_keeps_no_gateway_from_running_its_confirmed_program(disk, key, tmp_path, known):
    """What a kernel makes of a file system with errors."""
    gateway, lives = make(disk, key), tmp_path / "lives"
    gateway.slots[A].write_bytes(signed(key, PROGRAM % bytes(lives)))
    gateway.slots[B].write_bytes(signed(key, b"#!/bin/true\n"))
    if known:
        with launcher.Launcher(gateway, [], lambda line: None) as run:
            run.boot()
            request(gateway)
            report = gateway.report_path.read_bytes()
        gateway.report_path.write_bytes(report)  # of an earlier boot: a power cut took nothing away
    remount(disk, MS_RDONLY)
    command = [*FOTA, "gateway", "launch", disk]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        until(lives.exists, "the confirmed program")
        assert process.poll() is None
        assert gateway.boot_report() is None, "what lies there is of another boot"
        second = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=HANG_S, check=False)
        assert second.returncode == 5
        assert "a launcher is running already" in second.stderr
    finally:
        process.terminate()
        said = process.communicate(timeout=HANG_S)[1]
    assert process.returncode == 0, said
    assert "Read-only file system" in said
    assert "Traceback" not in said
    assert said.count("launch: slot A") == 1
    remount(disk, 0)
    with launcher.Launcher(gateway, [], lambda line: None) as run:
        assert run.boot().trial is known, "the candidate was passed over, not forgotten"


@pytest.mark.parametrize("fault", ["read-only", "read-only-from-the-first", "no-journal"])
def test_program_that_holds_the_agent_runs_on_a_bad_disk_and_the_server_hears_of_it(world, disk, fault):
    """The five lines of the README, as they stand there."""
    version = {"read-only": "31.0.0", "read-only-from-the-first": "31.0.1", "no-journal": "31.0.2"}[fault]
    path = world.gateway(f"bad-{fault}", world.program(version, name=fault, template=FIVE_LINES))
    shutil.copytree(path, disk / "gateway", symlinks=True)
    path = disk / "gateway"
    if fault != "read-only-from-the-first":
        process = world.spawn("gateway", "launch", path)
        until(lambda: booted(path), "a first boot", process)
        process.terminate()
        assert process.wait(HANG_S) == 0
    if fault == "no-journal":
        (path / "journal").unlink()
        (path / "journal").mkdir()
    else:
        remount(disk, MS_RDONLY)
    environment = {**world.environment, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [*FOTA, "gateway", "launch", path],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        end = ("works, ", "Traceback ")
        said = next(line for line in process.stdout if line.startswith(end))
    finally:
        process.terminate()
        process.communicate(timeout=HANG_S)
    assert said == f"works, {version}: True\n"
    assert process.returncode == 0
    assert version in world.fota("device", "show", Gateway(path).device_id.hex(), "--json")


# One write per line: print() writes the line and its end by themselves, and the agent's thread speaks, too.
GOES_ON = """#!{python}
from fota_agent import board, Agent, Hooks
def say(line):
    print(line + "\\n", end="", flush=True)
class Say(Hooks):
    def log(self, line):
        say(line)
agent = Agent(board.detect(), hooks=Say())
agent.start()
say("begins")
agent.publish("climate", {{"t": 21.5}})
say("works, {version}: " + str(agent.sync(1e6)))
"""


def test_program_that_holds_the_agent_goes_on_without_its_token_until_that_is_there(world, hsm, tmp_path):
    path = world.gateway("late-token", world.program("31.1.0", name="late-token", template=GOES_ON))
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tokens}\nlog.level = ERROR\n")
    process = subprocess.Popen(
        [*FOTA, "gateway", "launch", path],
        env={
            **world.environment,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "SOFTHSM2_CONF": str(tmp_path / "softhsm2.conf"),
        },
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if "no token fota" in line:
                shutil.copytree(hsm.pin_file.parent / "tokens", tokens, dirs_exist_ok=True)
            if line.startswith(("works, ", "Traceback ")):
                break
    finally:
        process.terminate()
        process.communicate(timeout=HANG_S)
    assert said[-1] == "works, 31.1.0: True\n", said
    assert said.count("begins\n") == 1, "it was not started anew"
    assert sum("no token fota" in line for line in said) == 1
    assert "31.1.0" in world.fota("device", "show", Gateway(path).device_id.hex(), "--json")


def test_report_that_could_not_be_written_comes_when_the_disk_is_back(disk, key, monkeypatch):
    gateway = make(disk, key)
    gateway.slots[A].write_bytes(signed(key, b"#!/bin/sh\nexec sleep 1000000\n"))
    monkeypatch.setattr(launcher, "LOOK_S", 0.05)
    said, reports = [], []
    remount(disk, MS_RDONLY)
    with launcher.Launcher(gateway, [], said.append) as run:
        boot = run.boot()
        assert gateway.boot_report() is None
        wait = run._wait

        def wait_and_mend(seconds):
            if not reports:
                remount(disk, 0)
            reports.append(gateway.boot_report())
            if reports[-1] is not None:
                return signal.SIGTERM
            return wait(seconds)

        run._wait = wait_and_mend
        run._run_once(boot, signal.pthread_sigmask(signal.SIG_BLOCK, launcher.WATCHED))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, launcher.WATCHED)
    assert reports[-1].running == A


def test_program_that_needs_longer_to_stop_is_given_it_and_no_more(tmp_path, key):
    gateway = make(tmp_path, key)
    done = tmp_path / "done"
    slow = b"#!/bin/sh\ntrap 'sleep %d; echo > %s; exit 0' TERM\necho > %s\nsleep 100 & wait; wait\n"
    for stop_s, needs_s, finished in ((1, 100_000, False), (HANG_S, 2, True)):
        up = tmp_path / f"up{stop_s}"
        gateway.slots[A].write_bytes(signed(key, slow % (needs_s, bytes(done), bytes(up))))
        process = subprocess.Popen(
            [*FOTA, "gateway", "launch", "--stop-timeout", str(stop_s), tmp_path],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        until(up.exists, "the program")
        process.terminate()
        said = process.communicate(timeout=HANG_S)[1]
        assert done.exists() is finished, said
        assert ("has not stopped in 1 s, and is killed" in said) is not finished


def test_idle_launcher_does_not_wake_up(tmp_path, key):
    """By the kernel's own account: voluntary context switches of the launcher while its program sleeps."""
    gateway = make(tmp_path, key)
    lives = tmp_path / "lives"
    gateway.slots[A].write_bytes(signed(key, PROGRAM % bytes(lives)))
    process = subprocess.Popen([*FOTA, "gateway", "launch", tmp_path], stderr=subprocess.DEVNULL)
    try:
        until(lives.exists, "the program")
        woken = []
        while not woken or woken[-1] > 1:  # the first looks may still see it boot
            assert len(woken) < 5, woken
            before = wake_ups(process.pid)
            time.sleep(3)
            woken.append(wake_ups(process.pid) - before)
    finally:
        process.terminate()
        assert process.wait(HANG_S) == 0


@pytest.mark.parametrize("reserve", [None, 64 << 10])
def test_download_leaves_the_program_its_part_of_the_disk(disk, key, reserve):
    slot = storage.FileSlot(disk / "slot", 1 << 20, 4096, reserve=reserve)

    def fill_slot():
        for page in range(0, 1 << 20, 4096):
            slot.erase(page)

    with pytest.raises(DeviceError, match="KiB that are the program's") as caught:
        fill_slot()
    assert caught.value.code == status.FL2
    free = os.statvfs(disk)
    left = free.f_bavail * free.f_frsize
    assert (reserve or 256 * 1024 // 20) <= left < (reserve or 256 * 1024 // 20) + 16384
    slot.program(0, bytearray(4096))  # what is allocated can still be written
    (disk / "log").write_bytes(bytes(left - 4096))
    slot.erase(0)


def test_report_of_a_boot_ends_with_it(tmp_path, key):
    gateway = make(tmp_path, key)
    gateway.slots[A].write_bytes(signed(key, b"#!/bin/true\n"))
    with launcher.Launcher(gateway, [], lambda line: None) as run:
        run.boot()
        assert gateway.boot_report() is not None
    assert gateway.boot_report() is None


def test_lock_that_is_a_link_is_no_agents(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "key").write_text("a key that is as long as a process number\n")
    lock = tmp_path / "run" / "agent.lock"
    lock.symlink_to(tmp_path / "key")
    with pytest.raises(StorageError, match="a link, where a lock belongs: remove it"):
        storage.claim(lock)
    lock.unlink()
    storage.claim(lock)
    assert (tmp_path / "key").read_text().startswith("a key that is as long")


def test_lock_that_is_a_link_keeps_no_launcher_from_its_program_and_is_not_written_into(tmp_path, key):
    gateway = make(tmp_path, key)
    gateway.slots[A].write_bytes(signed(key, b"#!/bin/true\n"))
    gateway.run.mkdir(exist_ok=True)
    for lead in (tmp_path / "key", tmp_path / "not-there"):
        (tmp_path / "key").write_text("a key that is as long as a process number\n")
        gateway.lock_path.unlink(missing_ok=True)
        gateway.lock_path.symlink_to(lead)
        said = []
        with launcher.Launcher(gateway, [], said.append) as run:
            with pytest.raises(StorageError, match="a launcher is running already"):
                launcher.Launcher(gateway, [], said.append)
            run.boot()
            assert gateway.boot_report() is not None
            assert launcher.running_launcher(gateway) is None
        assert "a link, where a lock belongs: remove it" in said[0]
        assert (tmp_path / "key").read_text().startswith("a key that is as long")
        assert not (tmp_path / "not-there").exists()


def test_what_a_cut_left_of_a_store_is_taken_away(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / ".store.00aa.tmp").touch()
    (tmp_path / ".floor.00aa.tmp").touch()
    storage.claim(tmp_path / "run" / "agent.lock")
    assert {path.name for path in tmp_path.iterdir()} == {"run", ".floor.00aa.tmp"}, (
        "the store is the agent's"
    )


@pytest.fixture
def session(tmp_path, key, monkeypatch):
    """An agent that waits for the first boot of its gateway; seconds of its clock cost nothing."""
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda _s: now.__setitem__(0, now[0] + 1))
    monkeypatch.setattr(gateway_session, "time", clock)
    make(tmp_path, key)
    made = gateway_session.GatewaySession(tmp_path, None, lambda _line: None)
    made.clock = clock
    return made


def test_agent_waits_for_a_launcher_that_is_at_work_however_slowly(session, monkeypatch):
    monkeypatch.setattr(gateway_session, "work_of", lambda _pid: f"{session.clock.monotonic() // 20}")
    monkeypatch.setattr(session, "_report", lambda: b"booted" if session.clock.monotonic() > 4000 else None)
    assert session._await_boot() == b"booted"


def test_agent_gives_up_waiting_where_nobody_is_at_work(session):
    with pytest.raises(DeviceError, match="nothing is booted"):
        session.boot()
    assert session.clock.monotonic() == gateway_session.BOOT_S + 1


def test_work_of_a_launcher_shows_while_it_works(session):
    busy = subprocess.Popen(["sh", "-c", "while :; do :; done"])
    try:
        before = gateway_session.work_of(busy.pid)
        until(lambda: gateway_session.work_of(busy.pid) != before, "an account", busy)
    finally:
        busy.kill()
        busy.wait()
    assert gateway_session.work_of(busy.pid) == gateway_session.work_of(None) == ""
