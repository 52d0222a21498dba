"""A gateway with bad luck: its disk is full, or its new program cannot even be started."""

import ctypes
import errno
import os
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from gateway_world import FOTA, wait_for

from fota_agent.linux import launcher, storage
from fota_agent.linux.gateway import Gateway
from fota_signer.identity import DeviceClass
from fota_signer.images import sign_payload
from fota_wire import bootreport, journal, settings, status
from fota_wire.host_crypto import public_xy
from fota_wire.layout import SLOT_A as A
from fota_wire.layout import SLOT_B as B

VENDOR, CLASS = bytes(range(16)), bytes(range(16, 32))
PROGRAM = b"#!/bin/sh\necho $0 >> %s\nexec sleep 60\n"


@pytest.fixture(scope="module")
def key():
    return ec.generate_private_key(ec.SECP256R1())


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
        wait_for(lives.exists, "the confirmed program")
    finally:
        process.terminate()
        said = process.communicate(timeout=20)[1]
    state = storage.JournalFile(gateway.folder / "journal").state()
    assert (state.confirmed, state.state, state.reason) == (A, journal.REVERTED, status.AP1)
    assert said.count("cannot be started") == 1
    assert process.returncode == 0


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


def test_report_of_a_boot_ends_with_it(tmp_path, key):
    gateway = make(tmp_path, key)
    gateway.slots[A].write_bytes(signed(key, b"#!/bin/true\n"))
    with launcher.Launcher(gateway, [], lambda line: None) as run:
        run.boot()
        assert gateway.boot_report() is not None
    assert gateway.boot_report() is None


def test_what_a_cut_left_of_a_store_is_taken_away(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / ".store.00aa.tmp").touch()
    (tmp_path / ".floor.00aa.tmp").touch()
    storage.claim(tmp_path / "run" / "agent.lock")
    assert {path.name for path in tmp_path.iterdir()} == {"run", ".floor.00aa.tmp"}, (
        "the store is the agent's"
    )
