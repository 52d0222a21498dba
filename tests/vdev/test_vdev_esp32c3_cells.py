"""The ESP32-C3's I2C master before the element, its SHA engine, console and random numbers."""

import hashlib
import struct
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import vdev_esp32c3 as c3

from fota_vdev.atecc608.crc import crc16
from fota_vdev.machine import Machine
from fota_wire.errors import DeviceError

I2C, SHA, GPIO = 0x6001_3000, 0x6003_B000, 0x6000_4000
CTR, DATA, RAW, CLEAR, COMD = I2C + 4, I2C + 0x1C, I2C + 0x20, I2C + 0x24, I2C + 0x58
START, UPGATE, FSM_RST, MASTER = 1 << 5, 1 << 11, 1 << 10, 1 << 4
COMPLETE, NACK, END_DETECT = 1 << 7, 1 << 10, 1 << 3
RESTART, WRITE, STOP, READ, END = (op << 11 for op in (6, 1, 2, 3, 4))
CHECK = 1 << 8
SPIN = bytes.fromhex("73005010f5bf0000")


@pytest.fixture
def chip() -> Machine:
    made = c3.machine(c3.stage((c3.ENTRY, SPIN)))
    made.power_on()
    made.mem32[0x600C_0010] = made.mem32[0x600C_0010] | 1 << 7
    for signal, pin in ((53, 6), (54, 5)):
        made.mem32[GPIO + 0x554 + 4 * pin] = signal
        made.mem32[GPIO + 0x154 + 4 * signal] = pin | 1 << 6
        made.mem32[GPIO + 0x74 + 4 * pin] = 1 << 2
    bit_rate(made, 100_000)
    return made


def bit_rate(m: Machine, hz: int) -> None:
    half = 40_000_000 // hz // 2
    m.mem32[I2C] = half - 1
    m.mem32[I2C + 0x38] = half - half // 4 | half // 4 << 9
    m.mem32[I2C + 0x54] = 1 << 21
    m.mem32[CTR] = MASTER | 3 | UPGATE


def go(m: Machine, sent: bytes, *commands: int) -> int:
    """Run a list; return the flags at its end."""
    m.mem32[CLEAR] = 0xFFFF
    for byte in sent:
        m.mem32[DATA] = byte
    for n, command in enumerate(commands):
        m.mem32[COMD + 4 * n] = command
    m.mem32[CTR] = MASTER | 3 | START
    for _ in range(4):
        flags = m.mem32[RAW]
        if flags & (COMPLETE | NACK | END_DETECT):
            return flags
    raise AssertionError("the list never ends")


def take(m: Machine, n: int) -> bytes:
    return bytes(m.mem32[DATA] for _ in range(n))


def wake(m: Machine) -> None:
    go(m, b"\0", RESTART, WRITE | 1, STOP)
    m.sleep_us(1500)


def test_wake_command_and_answer_of_the_element_over_the_list_and_its_fifos(chip):
    wake(chip)
    assert go(chip, b"\xc1", RESTART, WRITE | CHECK | 1, READ | 4, STOP) & COMPLETE
    assert take(chip, 4) == b"\x04\x11\x33\x43"
    body = bytes([7, 0x30, 0, 0, 0])
    message = b"\xc0\x03" + body + crc16(body)
    assert go(chip, message, RESTART, WRITE | CHECK | len(message), STOP) & COMPLETE
    chip.sleep_us(3000)
    assert go(chip, b"\xc1", RESTART, WRITE | CHECK | 1, READ | 3, END) & END_DETECT
    first = take(chip, 3)
    assert go(chip, b"", READ | 3, READ | 1, STOP) & COMPLETE
    answer = first + take(chip, 4)
    assert answer[0] == 7
    assert crc16(answer[:5]) == answer[5:]


def test_nobody_acknowledges_is_nack_and_the_bus_stays_taken_until_stop_or_reset(chip):
    flags = go(chip, b"\xa0", RESTART, WRITE | CHECK | 1, STOP)
    assert flags & NACK
    assert not flags & COMPLETE
    assert chip.mem32[I2C + 8] & 1 << 4
    chip.mem32[CTR] = MASTER | 3 | FSM_RST
    assert not chip.mem32[I2C + 8] & 1 << 4


def test_without_ack_check_the_list_runs_on(chip):
    assert go(chip, b"\xa0", RESTART, WRITE | 1, STOP) & (COMPLETE | NACK) == COMPLETE


def test_a_list_takes_its_bit_times_and_polling_sees_not_yet_once(chip):
    start = chip.time_us
    chip.mem32[DATA] = 0
    for n, command in enumerate((RESTART, WRITE | 1, STOP)):
        chip.mem32[COMD + 4 * n] = command
    chip.mem32[CTR] = MASTER | 3 | START
    assert not chip.mem32[RAW] & COMPLETE
    assert chip.mem32[RAW] & COMPLETE
    assert 105 <= chip.time_us - start <= 115  # 11 bits at 100 kHz


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda m: m.mem32.__setitem__(GPIO + 0x554 + 20, 0), "open-drain"),
        (lambda m: m.mem32.__setitem__(I2C + 0x54, 0), "SCLK_ACTIVE"),
        (lambda m: m.mem32.__setitem__(CTR, 3 | UPGATE), "slave"),
    ],
)
def test_master_that_is_not_set_up_says_what_is_missing(chip, spoil, what):
    spoil(chip)
    with pytest.raises(DeviceError, match=what):
        go(chip, b"\0", RESTART, WRITE | 1, STOP)


def test_adversary_on_the_wire_sees_and_changes_whole_messages(chip):
    class Wire:
        def __init__(self):
            self.seen = []

        def on_write(self, address, data):
            self.seen.append((address, data))
            return data

        def on_read(self, address, data):
            return bytes(len(data))

    chip.i2c_tamper = wire = Wire()
    wake(chip)
    assert go(chip, b"\xc1", RESTART, WRITE | CHECK | 1, READ | 4, STOP) & COMPLETE
    assert take(chip, 4) == bytes(4)
    go(chip, b"\xc0\x02", RESTART, WRITE | CHECK | 2, STOP)
    assert wire.seen == [(0x60, b"\x02")]


@pytest.mark.parametrize("begin", ["start", "state"])
def test_sha_engine_hashes_as_hashlib_and_its_state_can_be_given(chip, begin):
    data = hashlib.shake_128(b"data").digest(64 * 3)
    padded = data + b"\x80" + bytes(55) + struct.pack(">Q", 8 * len(data))
    chip.mem32[0x600C_0014] = 4
    chip.mem32[SHA] = 2
    if begin == "state":
        start = (
            0x6A09E667,
            0xBB67AE85,
            0x3C6EF372,
            0xA54FF53A,
            0x510E527F,
            0x9B05688C,
            0x1F83D9AB,
            0x5BE0CD19,
        )
        for n, word in enumerate(start):
            chip.mem32[SHA + 0x40 + 4 * n] = int.from_bytes(struct.pack(">I", word), "little")
    for at in range(0, len(padded), 64):
        for n, word in enumerate(struct.unpack("<16I", padded[at : at + 64])):
            chip.mem32[SHA + 0x80 + 4 * n] = word
        chip.mem32[SHA + (0x10 if at == 0 and begin == "start" else 0x14)] = 1
        while chip.mem32[SHA + 0x18]:
            pass
    out = b"".join(struct.pack("<I", chip.mem32[SHA + 0x40 + 4 * n]) for n in range(8))
    assert out == hashlib.sha256(data).digest()


def test_unclocked_engine_reads_zero(chip):
    chip.mem32[0x600C_0014] = 0
    chip.mem32[SHA] = 2
    assert chip.mem32[SHA] == 0


def test_console_prints_at_115200_only(chip):
    before = len(chip.uart)
    chip.mem32[0x6000_0000] = ord("!")
    assert chip.uart[before:] == b"!"
    chip.mem32[0x6000_0014] = 3000
    with pytest.raises(DeviceError, match="13333 baud"):
        chip.mem32[0x6000_0000] = ord("!")
    chip.uart_input(b"ab")
    assert chip.mem32[0x6000_001C] & 0x3FF == 2
    assert (chip.mem32[0x6000_0000], chip.mem32[0x6000_0000]) == (97, 98)
    assert chip.mem32[0x6004_3004] & 2


def test_random_numbers_without_their_source_are_reported(chip):
    first = chip.mem32[0x6002_60B0]
    assert any("not random" in text for text in chip.warnings)
    chip.warnings.clear()
    chip.mem32[0x6000_811C] = 3 << 30
    assert chip.mem32[0x6002_60B0] != first
    assert chip.warnings == []


def test_burning_efuses_ends_the_run(chip):
    with pytest.raises(DeviceError, match="eFuses"):
        chip.mem32[0x6000_89D4] = 2
