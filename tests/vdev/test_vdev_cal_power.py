"""The element's watchdog, busy times, and power cuts in every command that writes."""

import sys
from pathlib import Path

import pytest

from fota_vdev.atecc608 import Assumptions
from fota_vdev.atecc608.crc import crc16
from fota_vdev.atecc608.memory import decode_counter
from fota_vdev.atecc608.p256 import public_of
from fota_vdev.parts.bus import PowerCutError
from fota_wire.host_crypto import signer

sys.path.insert(0, str(Path(__file__).parent))

from vdev_cal_bench import (
    DIGEST,
    EXECUTION,
    OK,
    XY,
    Bench,
    layout,
    make_bench,
    root_key,
)


@pytest.fixture(scope="module")
def root():
    return root_key()


@pytest.fixture
def bench():
    return make_bench


@pytest.mark.parametrize(("chip_mode", "alive_ms"), [(0x00, 1200), (0x04, 12_500)])
def test_watchdog_between_commands_loses_sram_and_nothing_else(bench, chip_mode, alive_ms):
    for extra, survives in ((0, True), (800, False)):
        b = bench(at_19=bytes([chip_mode]))
        b.again()
        b.host.exchange(0x16, 0, 0, bytes(20))
        b.host.exchange(0x24, 1, 0)
        b.machine.sleep_us((alive_ms + extra) * 1000)
        assert (b.chip.status == "awake") is survives
        if not survives:
            with pytest.raises(OSError, match="acknowledges"):
                b.machine.i2c.readfrom(0x60, 1)
            b.host.wake()
        assert b.valid[0] is survives
        assert b.chip.counters == (1, 0)


@pytest.mark.parametrize(("chip_mode", "maximum_ms"), [(0x00, 75), (0x28, 172), (0x68, 531)])
def test_clock_divider_stretches_the_busy_time_and_the_chip_naks_until_then(bench, chip_mode, maximum_ms):
    b = bench({"execution": 1.0}, at_19=bytes([chip_mode]))
    body = bytes([71, 0x43, 0x0C, 0, 0]) + XY
    b.machine.i2c.writeto(0x60, b"\x03" + body + crc16(body))
    b.machine.sleep_us((maximum_ms - 1) * 1000)
    with pytest.raises(OSError, match="acknowledges"):
        b.machine.i2c.readfrom(0x60, 1)
    b.machine.sleep_us(1000)
    assert b.machine.i2c.readfrom(0x60, 1) == b"\x23"


@pytest.mark.parametrize(("chip_mode", "answers"), [(0x68, False), (0x6C, True)])
def test_command_that_outlasts_the_watchdog_never_answers(bench, chip_mode, answers):
    b = bench({"execution": 1.0}, at_19=bytes([chip_mode]))
    b.again()
    body = bytes.fromhex("07773b0000")
    b.machine.i2c.writeto(0x60, b"\x03" + body + crc16(body))
    b.machine.sleep_us(2_400_000)
    assert (b.chip.status == "awake") is answers


@pytest.mark.parametrize("survives", [True, False])
def test_write_under_way_when_the_watchdog_expires_is_completed_if_assumed(bench, survives):
    b = bench({"execution": 1.0, "write_survives_watchdog": survives})
    b.again()
    b.machine.sleep_us(1_270_000)
    body = bytes([39, 0x12, 0x82, 8 << 3, 0]) + bytes(range(32))
    b.machine.i2c.writeto(0x60, b"\x03" + body + crc16(body))
    b.machine.sleep_us(100_000)
    assert b.chip.status == "asleep"
    assert (bytes(b.chip.nvm.slots[8][:32]) == bytes(range(32))) is survives


def test_idle_stops_the_watchdog_and_keeps_temp_key(bench):
    b = bench()
    b.host.exchange(0x16, 0, 0, bytes(20))
    b.host.idle()
    b.machine.sleep_us(60_000_000)
    b.host.wake()
    assert b.valid[0]


# -- power cut in every command that writes ------------------------------------------------------------------


def unlocked():
    nvm = layout()
    nvm.config[86:88] = b"\x55\x55"
    return nvm


def half_locked():
    nvm = layout()
    nvm.config[86] = 0x55
    return nvm


WRITERS = {
    "write-config": (unlocked, (0x12, 0x80, 1 << 3, bytes(range(32)))),
    "lock-config": (unlocked, (0x17, 0x80, 0)),
    "update-extra": (unlocked, (0x20, 0, 0x77)),
    "write-otp": (half_locked, (0x12, 0x81, 0, bytes(32))),
    "lock-data": (half_locked, (0x17, 0x81, 0)),
    "lock-slot": (layout, (0x17, 0x82 | 8 << 2, 0)),
    "write-slot": (layout, (0x12, 0x82, 8 << 3, bytes(range(32)))),
    "write-word": (layout, (0x12, 0x02, 8 << 3, b"word")),
    "genkey": (layout, (0x40, 4, 0)),
    "counter": (layout, (0x24, 1, 0)),
    "limited-use": (layout, (0x08, 0, 13, bytes(32))),
    "ecdh-to-slot": (layout, (0x43, 0, 2, XY)),
    "secureboot-copy": (layout, None),
}


@pytest.mark.parametrize("what", WRITERS)
def test_power_cut_in_a_writing_command_leaves_old_or_new(what, root):
    make, command = WRITERS[what]
    command = command or (0x80, 7, 0, DIGEST + signer(root)(DIGEST))
    whole = Bench(make())
    old = whole.chip.nvm.state()
    whole(*command)
    new = whole.chip.nvm.state()
    more = new | {"counters": [n + (n != o) for n, o in zip(new["counters"], old["counters"], strict=True)]}
    assert old != new
    seen = []
    for seed in range(12):
        b = Bench(make())
        b.machine.cut_power_at(element_command=1, torn=seed)
        with pytest.raises(PowerCutError):
            b(*command)
        left = b.chip.nvm.state()
        if what == "genkey" and left != old:
            assert public_of(b.chip.nvm.private_key(0))
            left = new
        assert left in (old, new, more)
        seen.append(left)
        b.again()
        assert len(b(0x30, 0)) == 4
    assert old in seen
    assert any(left != old for left in seen)


def test_power_cut_may_mix_words_if_assumed():
    kinds = set()
    for seed in range(20):
        b = Bench(layout(), cut_write_mixes_words=True)
        b.machine.cut_power_at(element_command=1, torn=seed)
        with pytest.raises(PowerCutError):
            b(0x12, 0x82, 8 << 3, bytes(range(32)))
        kinds.add(bytes(b.chip.nvm.slots[8][:32]))
    assert len(kinds) > 2


def test_counter_bytes_are_written_word_by_word_and_checked_at_the_lock():
    b = Bench(unlocked())
    for offset, word in ((60, "7fff0000"), (64, "00010000")):
        assert b(0x12, 0, offset // 32 << 3 | offset % 32 // 4, bytes.fromhex(word)) == OK
    assert b(0x17, 0x80) == OK
    assert b.chip.counters == (0, 33)
    b = Bench(unlocked())
    assert b(0x12, 0, 60 // 32 << 3 | 60 % 32 // 4, b"\x12\x34\x56\x78") == OK
    assert b(0x17, 0x80) == EXECUTION
    assert decode_counter(b.chip.nvm.read_config()[60:68]) is None
    assert not b.chip.nvm.config_locked


def test_snapshot_goes_back_over_latches_and_self_tests(bench):
    b = bench({"latch_needs_permission": False})
    clean = b.machine.snapshot()
    assert b(0x30, 4, 3) == b"\x01\0\0\0"
    b.chip.broken = 1
    b.nonce()
    b.machine.restore(clean)
    assert b(0x30, 4, 0) == bytes(4)
    assert b.chip.broken == 0
    assert b.valid == (False, False)


def test_every_assumption_is_explained_and_can_be_turned_over():
    explained = dict(Assumptions.explain())
    assert len(explained) == len(Assumptions.__dataclass_fields__) >= 30
    assert all(len(why) > 15 for why in explained.values())
