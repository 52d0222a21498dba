"""The launcher's decisions beside those of the bootloader's C, and what it refuses to run."""

import ctypes
import errno
import itertools
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from core_structs import Record, next_step
from cryptography.hazmat.primitives.asymmetric import ec

from fota_agent.boards.linux import launcher, policy, storage
from fota_agent.boards.linux.gateway import Gateway
from fota_signer.identity import DeviceClass
from fota_signer.images import sign_payload
from fota_wire import journal, layout, settings, status
from fota_wire.chips import stm32l476
from fota_wire.errors import DeviceError, FotaError, InputError
from fota_wire.host_crypto import public_xy

REPO = Path(__file__).parents[2]
A, B, NONE = layout.SLOT_A, layout.SLOT_B, layout.SLOT_NONE
STATES = (journal.NONE, journal.STAGED, journal.TRIAL, journal.REJECTED, journal.REVERTED)
VERDICTS = (0, status.OK, status.IM6, status.PO1, status.FL3, status.CE1)
VENDOR, CLASS = bytes(16), bytes(range(16))


ACTIONS = {"verify": policy.VERIFY, "write": policy.WRITE, "boot": policy.BOOT, "halt": policy.HALT}


@pytest.fixture(scope="module")
def core():
    subprocess.run(["make", "-s", "-C", REPO / "bootloader", "host"], check=True, capture_output=True)
    return ctypes.CDLL(str(REPO / "build/bootloader/host/libfota_boot.so"))


def fields(record):
    return (record.confirmed, record.candidate, record.state, record.tries, record.reason)


def of_c(core, state, verdicts, writable):
    record = Record(state.sequence, *fields(state), 0)
    seen = (verdicts.get(A, 0), verdicts.get(B, 0))
    action, *carried = next_step(core, record, seen, writable=writable)
    return ACTIONS[action], *carried


def of_python(state, verdicts, writable):
    step = policy.next_step(state, verdicts, 3, writable)
    if step.action == policy.VERIFY:
        return step.action, step.slot
    if step.action == policy.WRITE:
        return step.action, *fields(step.record)
    if step.action == policy.BOOT:
        return step.action, step.slot, step.trial, fields(step.record) if step.record else None
    return step.action, step.status


def test_launcher_decides_as_the_bootloader_does_in_every_situation(core):
    count = 0
    for confirmed, candidate, state, tries, reason in itertools.product(
        (NONE, A, B), (NONE, A, B), STATES, (0, 1, 2), (0, status.AP1)
    ):
        for *seen, writable in itertools.product(VERDICTS, VERDICTS, (True, False)):
            record = journal.Record(7, confirmed, candidate, state, tries, reason)
            verdicts = {slot: code for slot, code in zip((A, B), seen, strict=True) if code}
            known = (record, verdicts, writable)
            assert of_python(*known) == of_c(core, *known), known
            count += 1
    assert count == 3 * 3 * 5 * 3 * 2 * 36 * 2


# What may run


@pytest.fixture(scope="module")
def keys():
    return [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]


def signed(key, counter=5, program=True, device_class=CLASS, payload=b"#!/bin/true\n"):
    if not program:
        payload = (0x20010000).to_bytes(4, "little") + (stm32l476.VECTOR_ADDRESS + 1).to_bytes(4, "little")
    made = DeviceClass(class_id=device_class, vendor_id=VENDOR)
    return sign_payload(
        payload, key=key, version=(1, 0, 0, 0), sec_cnt=counter, device_class=made, program=program
    )


@pytest.fixture
def gateway(tmp_path, keys):
    (tmp_path / "gateway.toml").write_text(
        f'device_id = "{"f0" * 9}"\n[image]\nkeys = ["{public_xy(keys[0]).hex()}"]\n[element]\nkind = "-"\n'
    )
    trust = settings.TrustStore(
        genesis_root=b"-", server_ca=b"-", device_cert=b"-", server_url="https://localhost",
        vendor_id=VENDOR, class_id=CLASS,
    )  # fmt: skip
    (tmp_path / "trust.cbor").write_bytes(settings.pack_trust_store(trust))
    return Gateway(tmp_path)


def refusal(gateway, data, floor=5):
    gateway.slots[A].write_bytes(data)
    with pytest.raises(FotaError) as caught:
        launcher.check_slot(gateway, A, floor)
    return caught.value.code


def test_slot_is_refused_with_the_bootloaders_code(gateway, keys):
    good = signed(keys[0])
    assert refusal(gateway, b"") == status.IM1
    assert refusal(gateway, signed(keys[1])) == status.IM8
    assert refusal(gateway, signed(keys[0], program=False)) == status.IM2
    assert refusal(gateway, signed(keys[0], device_class=bytes(16))) == status.IM7
    assert refusal(gateway, signed(keys[0], counter=4)) == status.PO1
    assert refusal(gateway, signed(keys[0], counter=261)) == status.PO2
    assert refusal(gateway, good[:600]) in (status.IM3, status.IM4)
    gateway.slots[A].write_bytes(signed(keys[0], counter=260))
    assert launcher.check_slot(gateway, A, 5)[0].sec_cnt == 260


def test_any_flipped_byte_of_a_program_keeps_it_from_running(gateway, keys):
    good = signed(keys[0])
    for at in [*range(0, 32, 3), *range(0x200, len(good), 5)]:
        data = bytearray(good)
        data[at] ^= 0x10
        assert refusal(gateway, bytes(data)) in status.STATUS


def test_program_runs_from_memory_that_nobody_can_change(gateway, keys):
    fd = launcher.sealed(b"#!/bin/sh\nexit 7\n", "x")
    try:
        assert subprocess.run([f"/proc/self/fd/{fd}"], pass_fds=(fd,), check=False).returncode == 7
        with pytest.raises(OSError, match="not permitted"):
            os.pwrite(fd, b"x", 0)
    finally:
        os.close(fd)


def test_boot_is_the_same_again_after_a_cut_before_the_program_ran(gateway, keys):
    gateway.slots[A].write_bytes(signed(keys[0]))
    gateway.slots[B].write_bytes(signed(keys[0], counter=6))
    said = []
    with launcher.Launcher(gateway, [], said.append) as run:
        assert (run.boot().slot, run.boot().trial) == (A, False)
        assert storage.read_floor(gateway.folder / "floor") == 5
        book = storage.JournalFile(gateway.folder / "journal")
        state = book.state()
        book.append(journal.request(state, A, B), state)
        for left in (2, 1, 0):
            boot = run.boot()
            assert (boot.slot, boot.trial, book.state().tries) == (B, True, left)
        assert not any("revert" in line for line in said)
        assert storage.read_floor(gateway.folder / "floor") == 5, "a trial raises nothing"
        assert run.boot().slot == A
        state = book.state()
        assert (state.state, state.reason) == (journal.REVERTED, status.PO4)
        assert said.count(f"launch: slot B is reverted: {status.label(status.PO4)}") == 1


def test_confirmation_is_said_once_though_the_agent_wrote_it(gateway, keys, monkeypatch):
    """At the launcher's next look, while the program runs on."""
    gateway.slots[B].write_bytes(signed(keys[0], counter=6))
    book = stale_trial(gateway, keys)
    said, looks = [], []

    def wait(_self, seconds):
        looks.append(seconds)
        if len(looks) == 2:
            book.append(journal.confirm(book.state(), B), book.state())
        return None if len(looks) < 4 else signal.SIGTERM

    monkeypatch.setattr(launcher.Launcher, "_wait", wait)
    monkeypatch.setattr(launcher.Launcher, "_spawn", lambda *_: subprocess.Popen(["sleep", "3"]))
    with launcher.Launcher(gateway, [], said.append, stop_s=1) as run:
        assert run.run() == 0
    assert said.count("launch: slot B is confirmed") == 1
    assert looks == [launcher.LOOK_S, launcher.LOOK_S, None, None], "no look more once it is decided"


def test_torn_journal_record_is_an_absent_one(gateway):
    book = storage.JournalFile(gateway.folder / "journal")
    for number in range(300):  # over both pages
        state = book.state()
        assert state.sequence == number
        book.append(journal.Record(number + 1, A, NONE, journal.NONE), state)
    raw = bytearray((gateway.folder / "journal").read_bytes())
    _, page, cell = journal.scan(bytes(raw[:2048]), bytes(raw[2048:]))
    raw[page * 2048 + (cell - 1) * 16 + 9] ^= 1
    (gateway.folder / "journal").write_bytes(raw)
    assert book.state().sequence == 299
    with pytest.raises(DeviceError, match="somebody else"):
        book.append(journal.Record(9, A, NONE, journal.NONE), journal.EMPTY)


GOOD = f'device_id = "{"00" * 9}"\nimage.keys = ["{"00" * 64}"]\nelement.kind = "-"\n'


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("", "missing or unusable"),
        ("device_id = 5", "missing or unusable"),
        ("x = [", "gateway.toml"),
        ('device_id = "00"\n[image]\nkeys=[]\n[element]', "18 hex digits"),
        (f'device_id = "{"00" * 9}"\n[image]\nkeys=["00"]\n[element]', "image.keys"),
        (f'device_id = "{"00" * 9}"\n[image]\ntries=16\nkeys=["{"00" * 64}"]\n[element]', "image.tries"),
        (f"{GOOD}slots = 5", "missing or unusable"),
        (f"{GOOD}health = 5", "missing or unusable"),
        (f'{GOOD}health.command = "curl x"', "list of words"),
        (f"{GOOD}health.command = []", "list of words"),
        (f"{GOOD}updates.mirror = 5", "updates.mirror is a text"),
        (f'{GOOD}updates.tls12 = "yes"', "updates.tls12 true or false"),
    ],
)
def test_settings_that_are_not_usable_are_one_clear_line(gateway, change, word):
    (gateway.folder / "gateway.toml").write_text(change)
    with pytest.raises(InputError, match=word):
        Gateway(gateway.folder)


@pytest.mark.parametrize("text", ["x", "", "-1", "99999999", "٣"])
def test_damaged_floor_stops_the_launcher(gateway, text):
    (gateway.folder / "floor").write_text(text)
    with pytest.raises(DeviceError, match="damaged"):
        storage.read_floor(gateway.folder / "floor")


def test_slot_file_programs_reads_back_and_knows_blank(tmp_path):
    slot = storage.FileSlot(tmp_path / "slot", 10_000, 4096)
    assert slot.is_blank(0)
    slot.program(4096, memoryview(b"x" * 4096))
    assert slot.read(4096, 4096) == b"x" * 4096
    assert not slot.is_blank(4096)
    assert slot.is_blank(0) is False, "a hole in a file reads as zeros: to be erased"
    slot.erase(4096)
    assert slot.is_blank(4096)
    slot.program(8192, memoryview(b"y" * 4096))
    with pytest.raises(DeviceError, match="outside"):
        slot.program(12_288, memoryview(b"y"))
    with pytest.raises(DeviceError) as caught:
        storage.FileSlot(tmp_path / "none" / "slot", 10_000, 4096).program(0, memoryview(b"y"))
    assert caught.value.code == status.FL1


@pytest.fixture
def block_device(tmp_path):
    """A loop device of 256 KiB."""
    if os.geteuid() != 0 or shutil.which("losetup") is None:
        pytest.skip("no block device: needs root and losetup")
    (tmp_path / "disk").write_bytes(bytes(256 << 10))
    command = ["losetup", "--find", "--show", str(tmp_path / "disk")]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no block device: {made.stderr.strip()}")
    yield Path(made.stdout.strip())
    subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)


def test_slot_may_be_a_block_device(gateway, keys, block_device):
    gateway.slots[B] = block_device
    data = signed(keys[0], payload=b"#!/bin/true\n" * 9000)
    slot = storage.FileSlot(block_device, 256 << 10, 65536)
    for at in range(0, len(data), 65536):
        slot.erase(at)
        page = data[at : at + 65536]
        slot.program(at, bytearray(page + b"\xff" * (65536 - len(page))))
    assert launcher.check_slot(gateway, B, 5)[1] == b"#!/bin/true\n" * 9000
    named = storage.FileSlot(block_device, 256 << 10, 65536, named=True)
    assert named.read(0, len(data)) == data
    assert block_device.is_block_device()
    with pytest.raises(DeviceError):
        slot.program(256 << 10, bytearray(65536))


@pytest.mark.parametrize("make_it", [os.mkdir, os.mkfifo])
def test_journal_that_is_none_keeps_no_gateway_from_its_program(gateway, keys, make_it):
    gateway.slots[A].write_bytes(signed(keys[0]))
    make_it(gateway.folder / "journal")
    said = []
    with launcher.Launcher(gateway, [], said.append) as run:
        assert run.boot().slot == A
    assert any("no update before that is mended" in line for line in said)


@pytest.mark.parametrize("make_it", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_beside_the_program_is_neither_waited_for_nor_read(gateway, keys, make_it):
    gateway.slots[A].write_bytes(signed(keys[0]))
    gateway.run.mkdir(exist_ok=True)
    for path in (gateway.report_path, gateway.folder / "store"):
        make_it(path)
    said = []
    with launcher.Launcher(gateway, [], said.append) as run:
        assert run.boot().slot == A
    assert any("no boot report" in line for line in said)
    assert gateway.boot_report() is None
    assert storage.read_store(gateway.folder / "store") is None
    (gateway.folder / "floor").unlink()  # that this boot raised
    make_it(gateway.folder / "floor")
    with pytest.raises(DeviceError, match="floor: cannot be read"):
        storage.read_floor(gateway.folder / "floor")


@pytest.mark.parametrize("text", ["9" * 5000, "", "-1", "1.0", "\u0661", "262144"])
def test_floor_that_is_no_number_is_named(tmp_path, text):
    (tmp_path / "floor").write_text(text)
    with pytest.raises(DeviceError, match=r"floor: (damaged: not a number|cannot be read)"):
        storage.read_floor(tmp_path / "floor")


@pytest.mark.parametrize("named", [True, False])
def test_link_to_a_block_device_that_is_missing_never_becomes_a_file(tmp_path, named):
    """As udev makes them, /dev/disk/by-label/NAME: the slot, or what gateway.toml calls it."""
    place = Path(f"/dev/shm/fota-test-{os.getpid()}")
    link = tmp_path / "slot"
    link.symlink_to(place)
    slot = storage.FileSlot(link, 10_000, 4096, named=named)
    acts = (lambda: slot.read(0, 16), lambda: slot.erase(0), lambda: slot.program(0, bytearray(4096)))
    for act in acts:
        with pytest.raises(DeviceError, match="is missing"):
            act()
    assert not place.exists()
    place.write_bytes(bytes(4096))
    try:
        for act in acts:
            with pytest.raises(DeviceError, match="a file where a block device has to be"):
                act()
        assert place.read_bytes() == bytes(4096)
    finally:
        place.unlink()


def test_block_device_that_is_missing_never_becomes_a_file(gateway, keys, tmp_path):
    """Nor is the file that an earlier release made there taken for the device."""
    place = Path(f"/dev/fota-test-{os.getpid()}")
    slot = storage.FileSlot(place, 10_000, 4096, named=True)
    for act in (lambda: slot.read(0, 16), lambda: slot.is_blank(0), lambda: slot.erase(0),
                lambda: slot.program(0, bytearray(4096))):  # fmt: skip
        with pytest.raises(DeviceError, match=r"is missing, and gateway\.toml names it"):
            act()
    assert not place.exists()
    if os.geteuid() == 0:
        place.write_bytes(bytes(4096))
        try:
            for act in (lambda: slot.read(0, 16), lambda: slot.program(0, bytearray(4096))):
                with pytest.raises(DeviceError, match="a file where a block device has to be"):
                    act()
            assert place.read_bytes() == bytes(4096)
        finally:
            place.unlink()


def test_block_device_that_goes_between_two_looks_does_not_become_a_file(tmp_path, monkeypatch):
    slot = storage.FileSlot(tmp_path / "card", 10_000, 4096, named=True)
    monkeypatch.setattr(slot, "_look", lambda _code: None)  # there a moment ago
    with pytest.raises(DeviceError, match="No such file"):
        slot.program(0, bytearray(4096))
    assert not slot.path.exists()


def test_gateway_on_a_disk_without_locks_has_no_launcher(gateway, monkeypatch):
    def no_locks(_fd, _operation):
        raise OSError(errno.ENOLCK, "No locks available")

    gateway.run.mkdir(exist_ok=True)
    gateway.lock_path.write_text("1")
    monkeypatch.setattr(launcher.fcntl, "flock", no_locks)
    assert launcher.running_launcher(gateway) is None


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo"])
def test_slot_that_settings_name_and_that_is_none_is_refused_and_the_other_one_runs(gateway, keys, kind):
    place = gateway.folder / "disk" / "slot"
    place.parent.mkdir()
    if kind == "folder":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    settings_path = gateway.folder / "gateway.toml"
    settings_path.write_text(settings_path.read_text() + f'[slots]\na = "{place}"\n')
    (gateway.folder / "slot-b").write_bytes(signed(keys[0]))
    said = []
    with launcher.Launcher(Gateway(gateway.folder), [], said.append) as run:
        assert run.boot().slot == B
    assert any("slot A is refused" in line for line in said)
    assert place.exists() is (kind != "missing")


def stale_trial(gateway, keys):
    """1.0.0 confirmed in A, and a request to try B."""
    gateway.slots[A].write_bytes(signed(keys[0]))
    gateway.slots[B].write_bytes(signed(keys[0], counter=6))
    with launcher.Launcher(gateway, [], lambda _line: None) as run:
        run.boot()
    book = storage.JournalFile(gateway.folder / "journal")
    state = book.state()
    book.append(journal.request(state, A, B), state)
    return book


def test_journal_that_cannot_be_written_passes_the_candidate_over(gateway, keys, monkeypatch):
    """SPEC 3: the confirmed program boots, and nothing more is written in that boot."""
    book = stale_trial(gateway, keys)
    before = (gateway.folder / "journal").read_bytes()
    said = []

    def worn(_fd, _offset, _data):
        raise OSError(5, "Input/output error")

    with launcher.Launcher(gateway, [], said.append) as run:
        with monkeypatch.context() as patch:
            patch.setattr(storage.JournalFile, "_write", staticmethod(worn))
            boot = run.boot()
        assert (boot.slot, boot.trial) == (A, False)
        assert (gateway.folder / "journal").read_bytes() == before
        assert any("no update before that is mended" in line for line in said)
        assert gateway.boot_report().running == A
        boot = run.boot()
        assert (boot.slot, boot.trial) == (B, True), "it is mended, and tried"
        assert book.state().state == journal.TRIAL


def test_journal_that_cannot_even_be_read_is_one_without_records(gateway, keys):
    gateway.slots[A].write_bytes(signed(keys[0]))
    (gateway.folder / "journal").mkdir()
    said = []
    with launcher.Launcher(gateway, [], said.append) as run:
        assert run.boot().slot == A
    assert any("boot journal" in line for line in said)
