"""What the library cannot reach: TempKey after each consumer, and which error of the element comes first."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from vdev_cal_bench import (
    ECC,
    EXECUTION,
    HEALTH,
    OK,
    PARSE,
    SIGNATURE,
    XY,
    make_bench,
    root_key,
    sha,
    xor,
)


@pytest.fixture(scope="module")
def root():
    return root_key()


@pytest.fixture
def bench():
    return make_bench


CONSUMERS = {
    "mac": (0x08, 1, 4, b"", 32),
    "checkmac": (0x28, 1, 4, bytes(77), 1),
    "sign-external": (0x41, 0x80, 0, b"", 64),
    "verify-stored": (0x45, 0, 15, SIGNATURE, 1),
    "verify-external": (0x45, 2, 4, SIGNATURE + XY, 1),
    "secureboot-encrypted": (0x80, 0x86, 0, bytes(32), 1),
    "hmac-of-temp-key": (0x47, 4, 0xFFFF, b"", 1),
    "gendig-refused": (0x15, 2, 0, b"", 1),
    "genkey-digest-refused": (0x40, 0x10, 0, bytes(3), 1),
    "write-encrypted-refused": (0x12, 0xC2, 9 << 3, bytes(64), 1),
    "read-encrypted-refused": (0x02, 0x82, 9 << 3, b"", 1),
    "ecdh-by-no-private-key": (0x43, 0x0D, 0, XY, 1),
    "parse-error": (0x24, 9, 9, b"", 1),
}


@pytest.mark.parametrize("what", CONSUMERS)
def test_consumer_and_error_leave_no_temp_key(bench, what):
    b = bench()
    *command, length = CONSUMERS[what]
    b.nonce()
    assert len(b(*command)) == length
    assert b.valid == (False, False)
    assert b(0x08, 1, 4) == EXECUTION


def test_leftovers_stay_if_the_assumption_says_so(bench):
    b = bench({"clear_after_use": False})
    b.nonce()
    assert b(0x08, 1, 4) == b(0x08, 1, 4) != EXECUTION


@pytest.mark.parametrize(
    "command",
    [
        (0x41, 0xA0, 0),
        (0x45, 0x20, 15, SIGNATURE),
        (0x45, 0xA0, 15, SIGNATURE),
        (0x45, 0x22, 4, SIGNATURE + XY),
    ],
)
def test_message_digest_serves_once_and_temp_key_is_not_touched(bench, command):
    b = bench()
    b.nonce()
    b(0x16, 0x63, 0, bytes(64))
    first = b(*command)
    assert b.valid[1] is False
    assert b(*command) == EXECUTION
    assert first != EXECUTION


@pytest.mark.parametrize("command", [(0x1B, 0), (0x30, 0), (0x24, 0), (0x02, 0x80), (0x40, 0, 0)])
def test_command_that_uses_no_temp_key_leaves_it(bench, command):
    b = bench()
    b.nonce()
    b(*command)
    assert b.valid[0]


def test_encrypted_read_and_write_use_temp_key_up(bench):
    b = bench()
    temp = b.gen_dig(4)
    plain = bytes(range(32))
    mac = sha(temp, bytes([0x12, 0xC2, 9 << 3, 0]), b"\xee\x01\x23", bytes(25), plain)
    assert b(0x12, 0xC2, 9 << 3, xor(plain, temp) + mac) == OK
    assert b.valid[0] is False
    temp = b.gen_dig(4)
    assert xor(b(0x02, 0x82, 9 << 3), temp) == plain
    assert b(0x02, 0x82, 9 << 3) == EXECUTION


@pytest.mark.parametrize("zone", [0, 1, 4, 5])
def test_digest_of_public_data_is_no_key_for_an_encrypted_slot(bench, zone):
    b = bench(at_38=b"\xc0\x40")  # slot 9 under the key of slot 0
    b.nonce()
    assert b(0x15, zone, 0) == OK
    assert b(0x02, 0x82, 9 << 3) == EXECUTION


def test_temp_key_from_the_host_opens_no_encrypted_slot(bench):
    b = bench()
    b(0x16, 3, 0, bytes(32))
    assert b(0x15, 2, 4) == OK
    assert b(0x02, 0x82, 9 << 3) == EXECUTION


def test_ephemeral_private_key_feeds_nothing_but_ecdh(bench):
    for command in ((0x08, 1, 4), (0x08, 5, 4), (0x15, 2, 4), (0x41, 0x80, 0), (0x51, 0, 0xFFFF, bytes(16)),
                    (0x56, 0x10, 0, bytes.fromhex("02000001") + b"x"), (0x47, 4, 0xFFFF)):  # fmt: skip
        b = bench()
        assert len(b(0x40, 4, 0xFFFF)) == 64
        assert b(*command) == EXECUTION


# -- which error comes first ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "status"),
    [
        pytest.param((0x08, 0x88, 0), PARSE, id="bad-mode-before-missing-temp-key"),
        pytest.param((0x41, 0xA2, 15), PARSE, id="bad-mode-before-wrong-slot"),
        pytest.param((0x45, 0x20, 0, bytes(63)), PARSE, id="short-signature-before-wrong-slot"),
        pytest.param((0x45, 0x83, 14, bytes(83)), PARSE, id="no-mac-with-validate"),
        pytest.param((0x45, 0x20, 15, bytes(64)), EXECUTION, id="missing-digest-before-bad-signature"),
        pytest.param((0x28, 0, 4, bytes(76)), PARSE, id="short-checkmac-before-miscompare"),
        pytest.param((0x28, 8, 4, bytes(77)), PARSE, id="bad-checkmac-mode"),
        pytest.param((0x43, 0x0C, 0, XY[:63] + b"\x00"), ECC, id="no-point-of-the-curve"),
        pytest.param((0x43, 0x0C, 4, XY[:63] + b"\x00"), EXECUTION, id="wrong-slot-before-no-point"),
        pytest.param((0x80, 0x05, 1, bytes(96)), PARSE, id="secureboot-parameter"),
        pytest.param((0x80, 0x04, 0, bytes(96)), PARSE, id="secureboot-mode"),
        pytest.param((0x80, 0x85, 0, bytes(96)), EXECUTION, id="secureboot-without-nonce"),
        pytest.param((0x15, 6, 0), PARSE, id="gendig-zone"),
        pytest.param((0x15, 3, 0, bytes(31)), PARSE, id="gendig-short-data"),
        pytest.param((0x20, 3, 0), PARSE, id="updateextra-mode"),
        pytest.param((0x77, 0, 0), PARSE, id="no-self-test-named"),
        pytest.param((0x30, 3, 0), EXECUTION, id="no-gpio"),
        pytest.param((0x30, 4, 4), PARSE, id="latch-parameter"),
        pytest.param((0x47, 1, 3, b"abc"), EXECUTION, id="sha-not-started"),
        pytest.param((0x51, 2, 5, bytes(16)), PARSE, id="aes-operation"),
        pytest.param((0x51, 0x80, 5, bytes(16)), EXECUTION, id="aes-key-beyond-the-slot"),
        pytest.param((0x56, 0x60, 0, bytes(4)), PARSE, id="kdf-algorithm"),
        pytest.param((0x1C, 0, 4), PARSE, id="derivekey-not-modelled"),
    ],
)
def test_first_error_wins_and_nothing_changes(bench, command, status):
    b = bench()
    before = b.chip.nvm.state()
    assert b(*command) == status
    assert b.chip.nvm.state() == before


def test_damaged_packet_is_told_before_everything_and_leaves_temp_key(bench):
    b = bench()
    b.nonce()
    b.machine.i2c.writeto(0x60, b"\x03" + bytes.fromhex("079999990000ff"))
    assert b.machine.i2c.readfrom(0x60, 4)[1] == 0xFF
    assert b.valid[0]


def test_status_of_what_is_not_modelled_can_be_chosen(bench):
    assert bench({"not_modelled_status": 0x0F})(0x1C, 0, 4) == EXECUTION


def test_failed_self_test_blocks_all_but_info_read_and_itself(bench):
    b = bench()
    b.chip.broken = 0x04
    assert b.host.exchange(0x77, 0x3F, 0) == b"\x04"
    assert b.host.exchange(0x1B, 0, 0) == HEALTH
    assert len(b.host.exchange(0x30, 0, 0)) == len(b.host.exchange(0x02, 0, 0)) == 4
    assert b.host.exchange(0x77, 0x20, 0) == b"\x00"
    assert b.host.exchange(0x1B, 0, 0) == HEALTH, "another test has passed"
    b.chip.broken = 0
    assert b.host.exchange(0x77, 0x04, 0) == b"\x00"
    assert len(b.host.exchange(0x1B, 0, 0)) == 32


def test_power_on_self_test_runs_if_chip_options_say_so(bench):
    for options, fails in ((b"\x07\x60", True), (b"\x06\x60", False)):
        b = bench(at_90=options)
        b.chip.broken = 1
        b.machine.power_off()
        b.machine.power_on()
        assert b.chip.post_failure is fails
