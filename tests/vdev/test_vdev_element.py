"""The crypto element: transport, busy times, SRAM rules, locks, counters, and formulas computed apart."""

import hashlib

import pytest
from chip_host import ChipHost, ElementStatusError
from emulated_factory import provision_element

from fota_vdev.atecc608 import Assumptions, Atecc608
from fota_vdev.atecc608.crc import crc16, group
from fota_vdev.atecc608.memory import decode_counter, encode_counter
from fota_vdev.machine import Machine
from fota_vdev.parts.bus import PowerCutError
from fota_wire.errors import DeviceError
from fota_wire.host_crypto import public_xy, signer, verify

IO_KEY, MAC_KEY = bytes(range(32)), bytes(range(100, 132))
DIGEST = hashlib.sha256(b"image").digest()


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


@pytest.fixture(scope="module")
def root_key():
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def provisioned(root_key):
    m = Machine(element=Atecc608(seed=9))
    m.power_on()
    xy = public_xy(root_key)
    provision_element(m, io_key=IO_KEY, mac_key=MAC_KEY, root_a_xy=xy, root_b_xy=xy)
    return m, m.snapshot()


@pytest.fixture
def chip(provisioned):
    """(machine, host) with a provisioned element that sleeps."""
    m, fresh = provisioned
    m.restore(fresh)
    host = ChipHost(m.i2c, m.sleep_us)
    host.wake()
    host.sleep()
    return m, host


@pytest.mark.parametrize(
    ("packet", "crc"),
    [("0411", "3343"), ("0400", "0340"), ("0401", "00c3"), ("040f", "2342"), ("04ff", "0142"),
     ("0730000000", "035d"), ("071b000000", "24cd"), ("0715040000", "b00f"), ("0724010000", "0f77")],
)  # fmt: skip
def test_checksum_matches_published_packets(packet, crc):
    assert crc16(bytes.fromhex(packet)).hex() == crc


@pytest.mark.parametrize(
    ("value", "zone"),
    [(0, "ffffffff00000000"), (17, "00007fff00000000"), (33, "7fff000000010000")],
)
def test_counter_bytes_match_published_values_and_decode(value, zone):
    assert encode_counter(value).hex() == zone
    for v in (*range(200), 2_097_151):
        assert decode_counter(encode_counter(v)) == v
    assert decode_counter(b"\x12" * 8) is None


def test_sleeping_chip_does_not_acknowledge_and_wakes_by_a_long_pulse_only(chip):
    m, _ = chip
    with pytest.raises(OSError, match="acknowledges"):
        m.i2c.readfrom(0x60, 4)
    m.i2c.init(freq=400_000)
    with pytest.raises(OSError, match="acknowledges"):
        m.i2c.writeto(0, b"")
    m.sleep_us(1500)
    with pytest.raises(OSError, match="acknowledges"):
        m.i2c.readfrom(0x60, 4)
    m.i2c.init(freq=100_000)
    with pytest.raises(OSError, match="acknowledges"):
        m.i2c.writeto(0, b"")
    with pytest.raises(OSError, match="acknowledges"):
        m.i2c.readfrom(0x60, 4)  # before tWHI
    m.sleep_us(1500)
    assert m.i2c.readfrom(0x60, 4) == bytes.fromhex("04113343")


def test_busy_chip_does_not_acknowledge_until_its_time_is_over(chip):
    m, host = chip
    host.wake()
    start = m.time_us
    m.i2c.writeto(0x60, b"\x03" + bytes.fromhex("071b00000024cd"))
    polls = 0
    while True:
        try:
            m.i2c.readfrom(0x60, 35)
            break
        except OSError:
            polls += 1
            m.sleep_us(1000)
    assert 13_000 < m.time_us - start < 19_000
    assert polls > 8


def test_worst_case_switch_takes_the_maximum():
    m = Machine(element=Atecc608(assumptions=Assumptions(execution=1.0)))
    m.power_on()
    host = ChipHost(m.i2c, m.sleep_us)
    host.wake()
    m.i2c.writeto(0x60, b"\x03" + bytes.fromhex("071b00000024cd"))
    m.sleep_us(22_000)
    with pytest.raises(OSError, match="acknowledges"):
        m.i2c.readfrom(0x60, 35)


def test_damaged_command_is_answered_with_ff_and_half_a_command_with_silence(chip):
    m, host = chip
    host.wake()
    m.i2c.writeto(0x60, b"\x03" + bytes.fromhex("071b00000024ce"))
    assert m.i2c.readfrom(0x60, 4) == group(b"\xff")
    m.i2c.writeto(0x60, b"\x03" + bytes.fromhex("071b00"))
    with pytest.raises(OSError, match="acknowledges"):
        m.i2c.readfrom(0x60, 4)
    m.i2c.writeto(0x60, b"\x03" + bytes.fromhex("000024cd"))
    m.sleep_us(30_000)
    assert m.i2c.readfrom(0x60, 1) == b"\x23"


def test_response_can_be_read_again_after_word_address_zero(chip):
    m, host = chip
    host.wake()
    m.i2c.writeto(0x60, b"\x03" + bytes.fromhex("0730000000035d"))
    m.sleep_us(5000)
    first = m.i2c.readfrom(0x60, 7)
    assert m.i2c.readfrom(0x60, 2) == b"\xff\xff"
    m.i2c.writeto(0x60, b"\x00")
    assert m.i2c.readfrom(0x60, 7) == first == group(bytes.fromhex("00006003"))


def test_watchdog_puts_the_chip_to_sleep_and_loses_its_sram(chip):
    m, host = chip
    host.wake()
    host.exchange(0x16, 0x43, 0, DIGEST)
    m.sleep_us(1_300_000)
    assert m.element.status == "asleep"
    host.wake()
    assert host.exchange(0x41, 0xA0, 0) == b"\x0f"


@pytest.mark.parametrize(("between", "answer"), [("idle", 64), ("sleep", 1)])
def test_idle_keeps_and_sleep_loses_the_message_digest_buffer(chip, between, answer):
    _, host = chip
    host.wake()
    host.exchange(0x16, 0x43, 0, DIGEST)
    getattr(host, between)()
    host.wake()
    assert len(host.exchange(0x41, 0xA0, 0)) == answer


def test_consumed_digest_is_gone(chip):
    _, host = chip
    host.wake()
    host.exchange(0x16, 0x43, 0, DIGEST)
    assert len(host.exchange(0x41, 0xA0, 0)) == 64
    assert host.exchange(0x41, 0xA0, 0) == b"\x0f"


def test_refused_command_clears_temp_key(chip):
    _, host = chip
    host.wake()
    host.exchange(0x16, 0x00, 0, bytes(20))
    assert host.exchange(0x41, 0xA0, 9) == b"\x0f"
    assert host.exchange(0x15, 4, 0) == b"\x0f"


def test_signature_by_identity_slot_verifies_with_its_public_key(chip):
    _, host = chip
    assert verify(host.public_key(0), DIGEST, host.sign(0, DIGEST))


def test_verify_stored_with_mac_matches_the_formula_and_refuses_another_digest(chip, root_key):
    _, host = chip
    signature, nonce = signer(root_key)(DIGEST), bytes(range(32, 64))
    for slot in (14, 15):
        host.wake()
        host.exchange(0x16, 0x63, 0, DIGEST + nonce)
        mac = host.exchange(0x45, 0xA0, slot, signature)
        assert mac == sha(IO_KEY, DIGEST, nonce, signature, bytes([0x45, 0xA0, slot, 0]))
        host.exchange(0x16, 0x63, 0, bytes(32) + nonce)
        assert host.exchange(0x45, 0xA0, slot, signature) == b"\x01"
        host.idle()


@pytest.mark.parametrize("index", [0, 1])
def test_authenticated_counter_read_matches_the_formula(chip, index):
    m, host = chip
    for _ in range(3 + index):
        host.increment(index)
    value, sn, num_in = 3 + index, m.element.serial, bytes(range(20))
    host.wake()
    drawn = host.exchange(0x16, 0, 0, num_in)
    assert host.exchange(0x15, 4, index) == b"\x00"
    mac = host.exchange(0x08, 1, 4)
    t0 = sha(drawn, num_in, b"\x16\x00\x00")
    counter = b"\x00" + value.to_bytes(4, "little") + bytes(20)
    t1 = sha(bytes(32), bytes([0x15, 4, index, 0]), sn[8:9], sn[0:2], counter, t0)
    assert mac == sha(MAC_KEY, t1, bytes([0x08, 1, 4, 0]), bytes(11), sn[8:9], bytes(4), sn[0:2], bytes(2))
    assert host.exchange(0x08, 1, 4) == b"\x0f", "TempKey serves once"


@pytest.mark.parametrize(
    ("opcode", "p1", "p2", "data", "status"),
    [
        pytest.param(0x02, 0x82, 6 << 3, b"", 0x0F, id="io-key-cannot-be-read"),
        pytest.param(0x02, 0x82, 4 << 3, b"", 0x0F, id="mac-key-cannot-be-read"),
        pytest.param(0x02, 0x82, 0, b"", 0x0F, id="private-key-cannot-be-read"),
        pytest.param(0x12, 0x82, 15 << 3, bytes(32), 0x0F, id="root-cannot-be-written"),
        pytest.param(0x12, 0x82, 6 << 3, bytes(32), 0x0F, id="io-key-cannot-be-written"),
        pytest.param(0x12, 0x82, 7 << 3, bytes(32), 0x0F, id="digest-slot-never-written"),
        pytest.param(0x12, 0x00, 4, bytes(4), 0x0F, id="config-is-locked"),
        pytest.param(0x17, 0x80, 0, b"", 0x0F, id="config-locks-once"),
        pytest.param(0x40, 0x04, 0, b"", 0x0F, id="identity-key-cannot-be-replaced"),
        pytest.param(0x40, 0x04, 15, b"", 0x0F, id="genkey-in-a-public-slot"),
        pytest.param(0x24, 0x00, 2, b"", 0x03, id="no-third-counter"),
        pytest.param(0x24, 0x02, 0, b"", 0x03, id="no-decrement"),
        pytest.param(0x08, 0x01, 4, b"", 0x0F, id="mac-without-temp-key"),
        pytest.param(0x15, 0x04, 0, b"", 0x0F, id="gendig-without-nonce"),
        pytest.param(0x45, 0xA0, 15, bytes(64), 0x0F, id="verify-without-digest"),
        pytest.param(0x45, 0x20, 15, bytes(60), 0x03, id="verify-with-short-signature"),
        pytest.param(0x80, 0x05, 0, bytes(96), 0x01, id="secureboot-with-a-bad-signature"),
        pytest.param(0x46, 0x00, 2, bytes(68), 0x03, id="privwrite-not-modelled"),
        pytest.param(0x99, 0x00, 0, b"", 0x03, id="unknown-opcode"),
    ],
)
def test_provisioned_chip_refuses(chip, opcode, p1, p2, data, status):
    m, host = chip
    before = m.element.nvm.state()
    host.wake()
    assert host.exchange(opcode, p1, p2, data) == bytes([status])
    assert m.element.nvm.state() == before


def test_mac_key_with_no_mac_set_cannot_be_used_for_mac(chip):
    _, host = chip
    host.wake()
    host.exchange(0x16, 0, 0, bytes(20))
    assert host.exchange(0x08, 1, 6) == b"\x0f"


@pytest.mark.parametrize(("nonce", "mac", "length"), [(3, 1, 1), (3, 5, 32), (0, 5, 1), (0, 1, 32)])
def test_mac_refuses_a_temp_key_of_the_other_source(chip, nonce, mac, length):
    _, host = chip
    host.wake()
    host.exchange(0x16, nonce, 0, bytes(32 if nonce else 20))
    assert len(host.exchange(0x08, mac, 4)) == length


def test_free_slot_can_be_written_and_read(chip):
    _, host = chip
    host.write_slot(8, bytes(range(64)))
    assert host.command(0x02, 0x82, 8 << 3) == bytes(range(32))
    assert host.command(0x02, 0x82, 1 << 8 | 8 << 3) == bytes(range(32, 64))


def test_encrypted_write_needs_the_right_mac():
    m = Machine(element=Atecc608(seed=2))
    m.power_on()
    host = ChipHost(m.i2c, m.sleep_us)
    zone = bytearray(host.read_config())
    zone[20 + 2 * 9 : 22 + 2 * 9] = (0x4300).to_bytes(2, "little")  # slot 9: encrypted write by slot 3
    zone[20 + 2 * 3 : 22 + 2 * 3] = (0x8080).to_bytes(2, "little")
    for offset in (24, 36):
        host.write_config_word(offset, bytes(zone[offset : offset + 4]))
    host.lock_config(crc16(host.read_config()))
    key = bytes(range(32))
    host.write_slot(3, key)
    host.lock_data()
    sn, plain = m.element.serial, bytes(range(50, 82))
    for good in (False, True):
        host.wake()
        drawn = host.exchange(0x16, 0, 0, bytes(20))
        assert host.exchange(0x15, 2, 3) == b"\x00"
        t0 = sha(drawn, bytes(20), b"\x16\x00\x00")
        temp = sha(key, b"\x15\x02\x03\x00", sn[8:9], sn[0:2], bytes(25), t0)
        mac = sha(temp, bytes([0x12, 0xC2, 9 << 3, 0]), sn[8:9], sn[0:2], bytes(25), plain)
        body = bytes(a ^ b for a, b in zip(plain, temp, strict=True)) + (mac if good else bytes(32))
        assert host.exchange(0x12, 0xC2, 9 << 3, body) == (b"\x00" if good else b"\x01")
        host.idle()
    assert host.command(0x02, 0x82, 9 << 3) == plain
    with pytest.raises(ElementStatusError, match="refused by configuration"):
        host.write_slot(9, plain)


def test_blank_chip_refuses_keys_and_gives_no_random(machine):
    host = ChipHost(machine.i2c, machine.sleep_us)
    assert host.random() == b"\xff\xff\x00\x00" * 8
    with pytest.raises(ElementStatusError):
        host.generate_key(0)
    with pytest.raises(ElementStatusError):
        host.write_config_word(0, bytes(4))
    with pytest.raises(ElementStatusError):
        host.lock_config(b"\x00\x00")
    assert not machine.element.nvm.config_locked


def test_private_key_never_shows_in_any_answer(chip):
    m, host = chip
    secret = m.element.nvm.private_key(0)
    answers = [host.public_key(0), host.sign(0, DIGEST), host.read_config(), host.random()]
    assert all(secret not in a for a in answers)


def test_counter_stops_at_its_maximum(chip):
    m, host = chip
    m.element._nvm.counters[1] = 2_097_150
    assert host.increment(1) == 2_097_151
    with pytest.raises(ElementStatusError):
        host.increment(1)


def test_power_cut_in_an_increment_never_loses_a_count_and_may_add_one(chip, provisioned):
    m, _ = chip
    outcomes = set()
    for seed in range(30):
        m.restore(provisioned[1])
        host = ChipHost(m.i2c, m.sleep_us)
        host.increment(0)
        m.cut_power_at(element_command=1, torn=seed)
        with pytest.raises(PowerCutError):
            host.increment(0)
        assert not m.powered
        outcomes.add(m.element.counters[0])
    assert outcomes == {1, 2, 3}


def test_power_cut_before_a_command_changes_nothing(chip):
    m, host = chip
    m.cut_power_at(element_command=1)
    with pytest.raises(PowerCutError):
        host.increment(0)
    assert m.element.counters == (0, 0)


def test_absent_element_and_failed_self_test_are_named():
    m = Machine()
    m.power_on()
    with pytest.raises(DeviceError, match="no crypto element"):
        ChipHost(m.i2c, m.sleep_us).wake()
    m = Machine(element=Atecc608())
    m.element.post_failure = True
    m.power_on()
    with pytest.raises(DeviceError, match="040740c2"):
        ChipHost(m.i2c, m.sleep_us).wake()


# -- the I2C peripheral, register by register ----------------------------------------------------------------

I2C = 0x4000_5400
CR1, CR2, TIMINGR, ISR, ICR, RXDR, TXDR = (I2C + o for o in (0, 4, 0x10, 0x18, 0x1C, 0x24, 0x28))
START, AUTOEND, RD = 1 << 13, 1 << 25, 1 << 10
TXIS, RXNE, NACKF, STOPF = 2, 4, 1 << 4, 1 << 5


def bring_up(m, timing):
    m.mem32[0x4002_1000] = 0x63 | 1 << 8
    while not m.mem32[0x4002_1000] & 1 << 10:
        pass
    m.mem32[0x4002_1088] = 2 << 12
    m.mem32[0x4002_104C], m.mem32[0x4002_1058] = 3, 1 << 21
    m.mem32[0x4800_0400] = 0xFFFA_FFFF
    m.mem32[0x4800_0404] = 3 << 8
    m.mem32[0x4800_0424] = 0x44
    m.mem32[TIMINGR] = timing
    m.mem32[CR1] = 1


def poll(m, flags):
    for n in range(1, 50):
        isr = m.mem32[ISR]
        if isr & flags:
            return isr, n
    raise AssertionError(f"flags never came: {isr:x}")


def send(m, address, data):
    m.mem32[CR2] = address << 1 | len(data) << 16 | AUTOEND | START
    for byte in data:
        isr, _ = poll(m, TXIS | NACKF)
        if isr & NACKF:
            break
        m.mem32[TXDR] = byte
    isr, _ = poll(m, STOPF)
    m.mem32[ICR] = NACKF | STOPF
    return not isr & NACKF


def receive(m, address, n):
    m.mem32[CR2] = address << 1 | n << 16 | AUTOEND | START | RD
    out = bytearray()
    for _ in range(n):
        isr, _ = poll(m, RXNE | NACKF)
        if isr & NACKF:
            break
        out.append(m.mem32[RXDR])
    poll(m, STOPF)
    m.mem32[ICR] = NACKF | STOPF
    return bytes(out)


def test_register_level_session_wakes_and_asks_for_the_revision(chip):
    m, _ = chip
    bring_up(m, 0x30420F13)
    assert not send(m, 0, b"")
    m.sleep_us(1500)
    assert receive(m, 0x60, 4) == bytes.fromhex("04113343")
    start = m.time_us
    assert send(m, 0x60, b"\x03" + bytes.fromhex("0730000000035d"))
    assert 800 < m.time_us - start < 1000, "83 bits at 100 kHz"
    m.sleep_us(5000)
    assert receive(m, 0x60, 7) == group(bytes.fromhex("00006003"))


def test_wake_pulse_at_400_khz_is_too_short(chip):
    m, _ = chip
    bring_up(m, 0x10320309)
    send(m, 0, b"")
    m.sleep_us(1500)
    assert receive(m, 0x60, 4) == b""


def test_driver_that_does_not_wait_for_txis_loses_its_bytes(chip):
    m, host = chip
    host.wake()
    bring_up(m, 0x30420F13)
    m.mem32[CR2] = 0x60 << 1 | 1 << 16 | AUTOEND | START
    m.mem32[TXDR] = 0x02  # idle, if it got there
    _, polls = poll(m, TXIS)
    assert polls > 1
    assert m.element.status == "awake"


def test_polling_sees_not_yet_once_and_time_runs_on(chip):
    m, host = chip
    host.wake()
    bring_up(m, 0x30420F13)
    start = m.time_us
    m.mem32[CR2] = 0x60 << 1 | 1 << 16 | AUTOEND | START
    assert not m.mem32[ISR] & TXIS
    assert m.mem32[ISR] & TXIS
    assert m.time_us - start in range(90, 110)


def test_tamper_sees_and_changes_both_directions(chip):
    m, host = chip

    class Spy:
        seen = b""

        def on_write(self, address, data):
            self.seen += data
            return data

        def on_read(self, address, data):
            return b"\x04\x00\x03\x40" if len(data) == 4 else data

    m.i2c_tamper = Spy()
    with pytest.raises(DeviceError, match="woke up with 04000340"):
        host.wake()
    m.i2c_tamper = None
    assert Spy.seen == b""
