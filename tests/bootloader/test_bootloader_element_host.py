"""The driver of the crypto element, the same source as on the chip, on the host with the undefined-behaviour
sanitizer: against the model, over a wire that is good, and over wires that are not, by seeds.
"""

import contextlib
import ctypes
import random
import shutil
import subprocess
from types import SimpleNamespace

import pytest
from bootloader_make import BUILD, ROOT
from emulated_factory import provision_element

from fota_vdev.atecc608 import Atecc608
from fota_vdev.machine import Machine
from fota_wire import status
from fota_wire.cose import key_hash
from fota_wire.host_crypto import public_xy, signer
from fota_wire.settings import Settings, pack

from .conftest import CLASS_ID

IO_KEY, MAC_KEY = bytes(range(32)), bytes(range(64, 96))
DIGEST = bytes(range(100, 132))
LONGEST_US = 4_000_000  # of virtual time, for any one call
UNFED_US = 330_000  # of virtual time, between two feeds of the watchdog within a call
SEEDS = range(12)


class Claim(ctypes.Structure):
    _fields_ = (("root", ctypes.c_uint32), ("digest", ctypes.c_uint8 * 32), ("rs", ctypes.c_char_p))


class Port(ctypes.Structure):
    _fields_ = (
        ("write", ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32)),
        ("read", ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32)),
        ("wake", ctypes.CFUNCTYPE(None)),
        ("wait_us", ctypes.CFUNCTYPE(None, ctypes.c_uint32)),
        ("random", ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)),
        ("feed", ctypes.CFUNCTYPE(None)),
        ("time_us", ctypes.CFUNCTYPE(ctypes.c_uint32)),
    )


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("element") / "libelement.so"
    source = ROOT / "bootloader"
    files = [source / name for name in ("crypto_element/atecc608.c", "latch/latch.c", "core/hardened.c",
                                        "core/hash.c", "core/sha256.c", "core/sha256_block.c")]  # fmt: skip
    flags = ["-std=c11", "-O1", "-g", "-fPIC", "-shared", "-fsanitize=undefined", "-fno-sanitize-recover=all"]
    flags.append("-fno-sanitize=nonnull-attribute")  # the chip's own memcpy takes NULL where there is nothing
    folders = [f"-I{source / name}" for name in ("core", "crypto_element")]
    command = ["cc", *flags, *folders, *files, ROOT / "tests/bootloader/element_host.c", "-o", out]
    BUILD.mkdir(exist_ok=True)
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return out


@pytest.fixture
def library(built, tmp_path):
    """The driver as it is after a reset: a copy of its own, which no other test has used."""
    return ctypes.CDLL(str(shutil.copy(built, tmp_path)))


class Wire:
    """The port: a bus to the model. ``fault(data, write) -> data or None (not acknowledged)``."""

    def __init__(self, library, machine) -> None:
        self.library, self.machine = library, machine
        self.fault = lambda data, write: data
        self.dice = random.Random(1)
        self.fed_us = machine.time_us
        self.unfed_us = 0  # the longest time between two feeds
        port = Port.in_dll(library, "element_host")
        self._keep = {name: kind(getattr(self, f"_{name}")) for name, kind in Port._fields_}
        for name, function in self._keep.items():
            setattr(port, name, function)

    def _write(self, address, data, length):
        message = self.fault(ctypes.string_at(data, length), True)
        if message is None:
            return status.CE1
        try:
            self.machine.i2c.writeto(address, message)
        except OSError:
            return status.CE1
        return status.OK

    def _read(self, address, data, length):
        try:
            message = self.fault(self.machine.i2c.readfrom(address, length), False)
        except OSError:
            message = None
        if message is None:
            return status.CE1
        ctypes.memmove(data, message[:length].ljust(length, b"\xff"), length)
        return status.OK

    def _wake(self):
        with contextlib.suppress(OSError):
            self.machine.i2c.writeto(0, b"")

    def _wait_us(self, us):
        self.machine.sleep_us(us)
        self.unfed_us = max(self.unfed_us, self.machine.time_us - self.fed_us)

    def _time_us(self):
        return self.machine.time_us & 0xFFFFFFFF

    def _feed(self):
        self.fed_us = self.machine.time_us

    def _random(self, out):
        ctypes.memmove(out, self.dice.randbytes(32), 32)
        return status.OK


@pytest.fixture(scope="session")
def paired(keys):
    """A machine with a provisioned element, and its settings page."""
    machine = Machine(element=Atecc608(seed=6), seed=6)
    machine.power_on()
    roots = {"root_a_xy": public_xy(keys.root_a), "root_b_xy": public_xy(keys.root_b)}
    provision_element(machine, io_key=IO_KEY, mac_key=MAC_KEY, **roots)
    page = pack(
        Settings(
            class_id=CLASS_ID,
            serial=machine.element.serial,
            io_key=IO_KEY,
            mac_key=MAC_KEY,
            root_a=key_hash(roots["root_a_xy"]),
            root_b=key_hash(roots["root_b_xy"]),
        )
    )
    return SimpleNamespace(machine=machine, page=page, fresh=machine.snapshot())


@pytest.fixture
def driver(library, paired, keys):
    """The driver's functions, by name; each call has to end in bounded virtual time."""
    machine = paired.machine
    machine.restore(paired.fresh)
    machine.element.post_failure = False
    wire = Wire(library, machine)
    ctypes.memmove(
        ctypes.addressof((ctypes.c_uint8 * 256).in_dll(library, "fota_port_settings")), paired.page, 256
    )

    def timed(function, *arguments):
        start = wire.fed_us = machine.time_us
        result = function(*arguments) & 0xFFFFFFFF
        assert machine.time_us - start < LONGEST_US
        assert wire.unfed_us < UNFED_US
        return result

    def counter(index):
        value = ctypes.c_uint32()
        return timed(library.fota_element_counter, index, ctypes.byref(value)), value.value

    def verify(root=0, digest=DIGEST, signature=None):
        rs = signature or signer(keys.root_a)(DIGEST)
        claim = Claim(root, (ctypes.c_uint8 * 32)(*digest), None)
        held = ctypes.create_string_buffer(rs, 64)
        claim.rs = ctypes.cast(held, ctypes.c_char_p)
        evidence = (ctypes.c_uint8 * 64)()
        return timed(library.fota_element_verify, ctypes.byref(claim), evidence)

    def increment(index):
        return timed(library.fota_element_increment, index)

    return SimpleNamespace(
        wire=wire, machine=machine, counter=counter, verify=verify, increment=increment,
        open=lambda: timed(library.fota_element_open), close=library.fota_element_close,
        release=library.fota_release,
    )  # fmt: skip


def test_session_on_a_good_wire(driver, keys):
    assert driver.open() == status.OK
    assert driver.counter(0) == (status.OK, 0)
    assert driver.increment(0) == driver.increment(1) == status.OK
    assert driver.counter(0) == driver.counter(1) == (status.OK, 1)
    assert driver.verify() == status.OK
    assert driver.verify(root=1) == status.IM10
    assert driver.verify(root=1, signature=signer(keys.root_b)(DIGEST)) == status.OK
    assert driver.verify(digest=bytes(32)) == status.IM10
    driver.close()
    assert driver.machine.element.status == "asleep"


def test_chip_that_sleeps_or_was_put_to_sleep_by_its_watchdog_is_told(driver):
    assert driver.verify() == status.CE3, "nobody woke it"
    assert driver.open() == status.OK
    driver.machine.sleep_us(1_400_000)
    assert driver.counter(0)[0] == status.CE3
    assert driver.open() == status.OK
    assert driver.counter(0) == (status.OK, 0)


@pytest.mark.parametrize("sent", range(1, 8))
def test_reset_of_the_host_in_the_middle_of_a_command_is_got_over(driver, sent):
    assert driver.open() == status.OK
    driver.machine.i2c.writeto(0x60, b"\x03\x07\x24\x00\x00\x00\x0c\xfd"[:sent])
    assert driver.open() == status.OK
    assert driver.counter(0) == (status.OK, 0)


def test_reset_of_the_host_while_the_chip_works_is_got_over_at_the_latest_when_it_is_done(driver):
    assert driver.open() == status.OK
    driver.machine.i2c.writeto(0x60, b"\x03\x07\x40\x04\x02\x00" + _crc(b"\x07\x40\x04\x02\x00"))
    first = driver.open()
    driver.machine.sleep_us(200_000)
    assert first == status.OK or driver.open() == status.OK
    assert driver.counter(0) == (status.OK, 0)


def _crc(packet):
    from fota_vdev.atecc608.crc import crc16

    return crc16(packet)


def test_failed_self_test_absence_and_endless_work_have_names_of_their_own(driver):
    driver.wire.fault = lambda data, write: None
    assert driver.open() == status.CE1
    driver.wire.fault = lambda data, write: data
    driver.machine.element.post_failure = True
    assert driver.open() == status.CE6
    driver.machine.element.post_failure = False
    assert driver.open() == status.OK
    driver.wire.fault = lambda data, write: data if write else None
    assert driver.verify() == status.CE3


def test_chip_that_answered_once_and_then_no_more_is_not_called_absent(driver):
    """It may be busy for ever: on the wire that looks like an empty socket, but for what came before."""
    assert driver.open() == status.OK
    driver.wire.fault = lambda data, write: None
    assert driver.verify() == status.CE3
    assert driver.open() == status.CE3
    assert driver.increment(0) == status.CE3


def test_good_answers_with_another_mac_or_a_plain_ok_are_forged(driver):
    assert driver.open() == status.OK
    ok = b"\x04\x00\x03\x40"
    driver.wire.fault = lambda data, write: ok if not write and len(data) == 35 else data
    assert driver.verify() == status.CE4
    driver.wire.fault = lambda data, write: _other_mac(data) if not write and len(data) == 35 else data
    assert driver.verify() == status.CE4
    assert driver.counter(0)[0] == status.CE4


def _other_mac(answer):
    changed = answer[:1] + bytes([answer[1] ^ 1]) + answer[2:-2]
    return changed + _crc(changed)


class Faults:
    """One kind of noise, decided message by message."""

    def __init__(self, seed) -> None:
        self.dice = random.Random(seed)
        self.kind = ("flip", "cut", "nak", "repeat", "noise", "status")[seed % 6]
        self.odds = self.dice.choice([0.05, 0.2, 0.6])

    def __call__(self, data, write):
        dice = self.dice
        if dice.random() > self.odds or not data:
            return data
        at = dice.randrange(len(data))
        return {
            "flip": lambda: data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :],
            "cut": lambda: data[:at],
            "nak": lambda: None,
            "repeat": lambda: data[:at] + data[max(at - 1, 0) : at] + data[at:],
            "noise": lambda: dice.randbytes(len(data)),
            "status": lambda: data if write else b"\x04" + (s := dice.randbytes(1)) + _crc(b"\x04" + s),
        }[self.kind]()


@pytest.mark.parametrize("seed", SEEDS)
def test_no_noise_on_the_wire_makes_a_wrong_answer_right(driver, seed, keys):
    """400 calls a seed: whatever the wire does, a good status stands for what is true; time is bounded."""
    wire, good = driver.wire, signer(keys.root_a)(DIGEST)
    faults, seen = Faults(seed), set()
    for _ in range(100):
        wire.fault = faults
        opened = driver.open()
        seen.add(opened)
        if opened == status.OK:
            answer, value = driver.counter(0)
            seen.add(answer)
            assert answer != status.OK or value == driver.machine.element.counters[0]
            assert driver.verify(digest=bytes(32), signature=good) != status.OK
            seen.add(driver.verify(signature=good))
        driver.close()
        wire.fault = lambda data, write: data
        driver.machine.sleep_us(300_000)
    assert driver.open() == status.OK, "the noise is over"
    assert driver.verify(signature=good) == status.OK
    assert len(seen) > 1, "the noise did something"


def test_latch_option_is_quiet_on_a_chip_without_the_latch(driver):
    driver.release()
    assert driver.open() == status.OK
    assert driver.counter(0) == (status.OK, 0)
