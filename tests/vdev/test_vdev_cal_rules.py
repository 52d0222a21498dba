"""Rules of the element that no library reaches: raw packets on a chip whose memory the test lays out itself.

TempKey and its fellows after each consumer, which error comes first, the rules of a slot's key, watchdog,
power cuts in each command that writes.
"""

import hashlib
import hmac

import pytest

from fota_vdev.atecc608 import Assumptions, Atecc608
from fota_vdev.atecc608.crc import crc16
from fota_vdev.atecc608.memory import COUNTER_MAX, SLOT_SIZES, Nvm, decode_counter, factory_config
from fota_vdev.atecc608.p256 import public_of
from fota_vdev.atecc608.sha256 import Sha256
from fota_vdev.bus import PowerCutError
from fota_vdev.host import ChipHost
from fota_vdev.machine import Machine
from fota_wire.host_crypto import signer, verify

SERIAL = bytes.fromhex("0123aabbccddee00ee")
# slot: (SlotConfig, KeyConfig), as in the configuration zone
RULES = {
    0: ("8720", "3300"),  # private: signs, ECDH, GenKey
    1: ("8720", "7300"),  # private: ReqRandom
    2: ("8f20", "3300"),  # private: ECDH into slot 3
    3: ("0f0f", "3c00"),  # where it goes
    4: ("8f0f", "3c00"),  # MAC key
    5: ("8f0f", "3800"),  # AES key
    6: ("9f0f", "3c00"),  # IO key, NoMac
    7: ("8f8f", "1c00"),  # SecureBoot digest
    8: ("0f0f", "3c00"),  # free
    9: ("c444", "3c00"),  # encrypted under slot 4
    10: ("8f0f", "bc04"),  # MAC key, ReqAuth by slot 4
    11: ("0f0f", "3000"),  # parent of slot 14
    12: ("8720", "3310"),  # private: PersistDisable
    13: ("af0f", "3c00"),  # MAC key, LimitedUse
    14: ("0b1f", "3200"),  # public, PubInfo
    15: ("0f0f", "3000"),  # SecureBoot key
}
KEY = {slot: hashlib.sha256(b"%d" % slot).digest() for slot in range(16)}
DIGEST = KEY[0]
SECURE_BOOT, CHIP_OPTIONS = 70, 90
OK, WRONG, PARSE, ECC, HEALTH, EXECUTION = (bytes([n]) for n in (0, 1, 3, 5, 7, 15))


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def root():
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.derive_private_key(int.from_bytes(KEY[15], "big"), ec.SECP256R1())


def layout(**config):
    """Return a locked chip's memory; ``config`` gives bytes at offsets, as ``at_70=b".."``."""
    zone = bytearray(factory_config(SERIAL, bytes.fromhex("00006003")))
    slots = [bytearray(KEY[n].ljust(size, b"\0")[:size]) for n, size in enumerate(SLOT_SIZES)]
    for n, (slot_config, key_config) in RULES.items():
        zone[20 + 2 * n : 22 + 2 * n] = bytes.fromhex(slot_config)
        zone[96 + 2 * n : 98 + 2 * n] = bytes.fromhex(key_config)
        if int(key_config[1], 16) & 1:
            slots[n][:36] = bytes(4) + KEY[n]
        elif n in (11, 14, 15):
            xy = public_of(KEY[n])
            slots[n][:] = bytes([0xA0 if n == 14 else 0, 0, 0, 0]) + xy[:32] + bytes(4) + xy[32:]
    zone[SECURE_BOOT : SECURE_BOOT + 2], zone[CHIP_OPTIONS : CHIP_OPTIONS + 2] = b"\x03\xf7", b"\x06\x60"
    zone[86:90] = b"\x00\x00\xff\xff"
    for where, value in config.items():
        at = int(where.removeprefix("at_"))
        zone[at : at + len(value)] = value
    return Nvm(zone, slots=slots)


class Bench:
    """An awake chip; run("SHA", ...) gives the payload of its answer."""

    def __init__(self, nvm, **assumptions):
        self.machine = Machine(
            element=Atecc608(seed=3, nvm=nvm, assumptions=Assumptions(**assumptions)), seed=3
        )
        self.machine.power_on()
        self.chip = self.machine.element
        self.host = ChipHost(self.machine.i2c, self.machine.sleep_us)
        self.host.wake()

    def __call__(self, opcode, p1, p2=0, data=b""):
        answer = self.host.exchange(opcode, p1, p2, data)
        self.host.idle()
        self.host.wake()
        return answer

    def again(self):
        """Lose power, and come back."""
        if self.machine.powered:
            self.machine.power_off()
        self.machine.power_on()
        self.host.wake()

    def nonce(self):
        """Load a random TempKey and return it."""
        return sha(self(0x16, 0, 0, bytes(20)), bytes(20), b"\x16\0\0")

    def gen_dig(self, slot, no_mac=b""):
        """Mix a slot's key into a random TempKey; return it."""
        temp = self.nonce()
        assert self(0x15, 2, slot, no_mac) == OK
        return sha(KEY[slot], no_mac or bytes([0x15, 2, slot, 0]), b"\xee\x01\x23", bytes(25), temp)

    def prove(self, slot=4):
        """Prove a key by CheckMac over a random nonce."""
        temp, other = self.nonce(), bytes([8, 1, slot, 0]) + bytes(9)
        response = sha(KEY[slot], temp, other[:4], bytes(11), b"\xee", bytes(4), b"\x01\x23", bytes(2))
        return self(0x28, 1, slot, bytes(32) + response + other)

    @property
    def valid(self):
        """(TempKey, message digest buffer) hold something."""
        sram = self.chip._executor.sram
        return bool(sram.temp_key.value), bool(sram.message)


@pytest.fixture
def bench():
    return lambda assumptions=None, **config: Bench(layout(**config), **(assumptions or {}))


# -- what is left of TempKey and the message digest buffer ---------------------------------------------------

SIGNATURE = bytes(31) + b"\x01" + bytes(31) + b"\x01"
XY = public_of(KEY[9])
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


# -- the rules of a slot's key -------------------------------------------------------------------------------


def test_required_authorisation_is_needed_once_per_use_and_lost_in_sleep(bench):
    b = bench()
    mac = (0x08, 0, 10, bytes(32))
    assert b(*mac) == EXECUTION
    assert b.prove() == OK
    assert len(b(*mac)) == 32
    assert b(*mac) == EXECUTION
    assert b.prove(13) == OK
    assert b(*mac) == EXECUTION, "another key"
    assert b.prove() == OK
    b.host.sleep()
    b.host.wake()
    assert b(*mac) == EXECUTION
    free = bench({"authorisation_serves_once": False})
    assert free.prove() == OK
    assert len(free(*mac)) == len(free(*mac)) == 32


def test_signature_over_a_random_nonce_proves_a_public_key(bench, root):
    b = bench(at_116=b"\xbc\x0f")  # slot 10: ReqAuth by slot 15
    signature = signer(root)(b.nonce())
    assert b(0x45, 0, 15, signature) == OK
    assert len(b(0x08, 0, 10, bytes(32))) == 32
    b(0x16, 0x43, 0, DIGEST)
    assert b(0x45, 0x20, 15, signer(root)(DIGEST)) == OK
    assert b(0x08, 0, 10, bytes(32)) == EXECUTION, "that message was the host's"


def test_persist_disable_needs_the_latch_that_secure_boot_sets_and_sleep_keeps(bench, root):
    b = bench(at_70=b"\x0b\xf7")
    sign = (0x41, 0xA0, 12)

    def load_and_sign():
        b(0x16, 0x43, 0, DIGEST)
        return b(*sign)

    assert load_and_sign() == EXECUTION
    assert b(0x80, 5, 0, KEY[1] + signer(root)(DIGEST)) == WRONG
    assert load_and_sign() == EXECUTION, "a bad signature opens nothing"
    assert b(0x80, 5, 0, DIGEST + signer(root)(DIGEST)) == OK
    b.host.sleep()
    b.machine.sleep_us(2_000_000)
    b.host.wake()
    assert len(load_and_sign()) == 64
    b.again()
    assert load_and_sign() == EXECUTION
    assert len(b(0x40, 4, 12)) == 64, "GenKey does not need it"


def test_latch_is_not_set_without_persist_enable_nor_by_anybody(bench, root):
    b = bench()
    assert b(0x80, 5, 0, DIGEST + signer(root)(DIGEST)) == OK
    assert b(0x30, 4, 0) == bytes(4)
    assert b.prove() == OK
    assert b(0x30, 4, 3) == EXECUTION, "VolatileKeyPermission is off"
    assert bench({"latch_needs_permission": False})(0x30, 4, 3) == b"\x01\0\0\0"


def test_prohibit_blocks_secure_boot_until_power_is_lost(bench, root):
    b = bench()
    good = DIGEST + signer(root)(DIGEST)
    assert b(0x80, 0x45, 0, good) == OK
    b.host.sleep()
    b.host.wake()
    assert b(0x80, 5, 0, good) == EXECUTION
    b.again()
    assert b(0x80, 5, 0, good) == OK


@pytest.mark.parametrize(
    ("mode", "full", "store", "copy"),
    [(0, EXECUTION, EXECUTION, EXECUTION), (1, OK, EXECUTION, EXECUTION), (3, OK, WRONG, OK)],
)
def test_secure_boot_does_what_its_configuration_allows(bench, root, mode, full, store, copy):
    b = bench(at_70=bytes([mode, 0xF7]))
    good = DIGEST + signer(root)(DIGEST)
    for command, data, answer in ((5, good, full), (6, KEY[1], store), (7, good, copy)):
        assert b(0x80, command, 0, data) == answer
    assert (bytes(b.chip.nvm.slots[7][:32]) == DIGEST) is (copy == OK)


def test_secure_boot_can_store_the_signature_instead(bench, root):
    b = bench(at_70=b"\x02\xf8")
    signature = signer(root)(DIGEST)
    assert b(0x80, 7, 0, DIGEST + signature) == OK
    assert bytes(b.chip.nvm.slots[8][:64]) == signature
    assert (b(0x80, 6, 0, DIGEST), b(0x80, 6, 0, KEY[1])) == (OK, WRONG)
    temp = b.nonce()
    hashed = sha(KEY[6], temp)
    assert b(0x80, 0x86, 0, xor(DIGEST, hashed)) == sha(hashed, DIGEST, signature, b"\x80\x86\0\0")


def test_secure_boot_with_random_nonce_refuses_one_of_the_host(bench):
    b = bench(at_70=b"\x13\xf7")
    b(0x16, 3, 0, bytes(32))
    assert b(0x80, 0x86, 0, bytes(32)) == EXECUTION
    b.nonce()
    assert b(0x80, 0x86, 0, bytes(32)) == WRONG


def test_without_io_protection_there_are_no_macs_and_no_encrypted_output(bench, root):
    b = bench(at_90=b"\x04\x60")
    b(0x16, 0x63, 0, DIGEST + bytes(32))
    assert b(0x45, 0xA0, 15, signer(root)(DIGEST)) == EXECUTION
    b.nonce()
    assert b(0x80, 0x86, 0, bytes(32)) == EXECUTION
    assert b(0x43, 0x0E, 0, XY) == EXECUTION


@pytest.mark.parametrize(
    ("protection", "clear", "encrypted", "temp_key", "slot"),
    [(0, 32, 64, 1, 1), (1, 1, 64, 1, 1), (2, 1, 1, 1, 1), (3, 1, 1, 1, 1)],
)
def test_output_protection_closes_the_easier_ways(bench, protection, clear, encrypted, temp_key, slot):
    options = bytes([0x06, 0x60 | protection | protection << 2])
    b = bench(at_90=options)
    ways = [(0x43, mode, source, XY) for mode, source in ((0x0C, 0), (0x0E, 0), (0x08, 0), (0x04, 2))]
    answers = [b(*way) for way in ways]
    assert [len(a) for a in answers] == [clear, encrypted, temp_key, slot]
    assert [a == EXECUTION for a in answers] == [protection > n for n in range(4)]
    for target, kind in ((0x10, 0), (0x14, 1), (0x00, 2), (0x08, 3)):
        b(0x16, 3, 0, bytes(32))
        refused = b(0x56, 0x40 | target, 0x0800, bytes.fromhex("02000001") + b"x") == EXECUTION
        assert refused is (protection > kind)


def test_ecdh_into_a_slot_needs_an_open_neighbour(bench):
    b = bench()
    assert b(0x43, 0, 2, XY) == OK
    secret = bytes(b.chip.nvm.slots[3][:32])
    assert secret != KEY[3]
    assert b(0x17, 0x82 | 3 << 2) == OK
    assert b(0x43, 0, 2, XY) == EXECUTION
    assert b(0x43, 0x04, 0, XY) == EXECUTION, "the neighbour is a private key"
    assert bytes(b.chip.nvm.slots[3][:32]) == secret


def test_limited_use_stops_at_the_number_of_the_count_match_slot(bench):
    nvm = layout(at_18=b"\x81")
    nvm.slots[8][:8] = (32).to_bytes(4, "little") * 2
    nvm.counters[0] = 30
    b = Bench(nvm)
    mac = (0x08, 0, 13, bytes(32))
    assert [len(b(*mac)) for _ in range(3)] == [32, 32, 1]
    assert b.chip.counters == (32, 0)
    assert b(0x24, 1, 0) == EXECUTION
    assert b(0x24, 1, 1) == b"\x01\0\0\0"


def test_refused_use_is_not_counted_and_maximum_stops_the_key(bench):
    b = bench()
    assert b(0x08, 1, 13) == EXECUTION
    assert b.chip.counters[0] == 0
    b.chip._nvm.counters[0] = COUNTER_MAX
    assert b(0x08, 0, 13, bytes(32)) == EXECUTION


def test_req_random_bars_every_other_source(bench):
    b = bench()
    b(0x16, 0x43, 0, DIGEST)
    assert b(0x41, 0xA0, 1) == EXECUTION
    b(0x16, 3, 0, DIGEST)
    assert b(0x41, 0x80, 1) == EXECUTION
    assert b(0x43, 0x0C, 1, XY) == EXECUTION
    b.nonce()
    assert len(b(0x41, 0x80, 1)) == 64


def test_verify_mac_over_temp_key_takes_its_nonce_from_the_message_digest_buffer(bench, root):
    b = bench()
    signature, nonce = signer(root)(DIGEST), bytes(range(32))
    b(0x16, 0x43, 0, nonce)
    b(0x16, 3, 0, DIGEST)
    assert b(0x45, 0x80, 15, signature) == sha(KEY[6], DIGEST, nonce, signature, b"\x45\x80\x0f\0")
    assert b.valid == (False, False)


@pytest.mark.parametrize(("uses_only", "answer"), [(True, 4), (False, 1)])
def test_read_of_a_guarded_slot_asks_for_permission_only_if_assumed(bench, uses_only, answer):
    b = bench({"permission_is_for_uses_only": uses_only}, at_112=b"\xbc\x04")  # slot 8: ReqAuth by slot 4
    assert len(b(0x02, 2, 8 << 3)) == answer
    assert (b(0x12, 2, 8 << 3, b"word") == OK) is uses_only
    assert b.prove() == OK
    assert len(b(0x02, 2, 8 << 3)) == 4


def test_gen_dig_of_a_no_mac_key_hashes_the_words_of_the_host(bench):
    b = bench()
    b.nonce()
    assert b(0x15, 2, 6) == PARSE, "the words are missing"
    temp = b.gen_dig(6, no_mac=b"head")
    assert verify(public_of(KEY[0]), temp, b(0x41, 0x80, 0))


@pytest.mark.parametrize(
    ("digest_of", "assumed", "answer"), [(14, True, OK), (11, True, EXECUTION), (11, False, OK)]
)
def test_validation_wants_the_digest_of_the_very_slot(bench, digest_of, assumed, answer):
    from cryptography.hazmat.primitives.asymmetric import ec

    parent = ec.derive_private_key(int.from_bytes(KEY[11], "big"), ec.SECP256R1())
    b = bench({"validation_digest_is_of_the_slot": assumed})
    b(0x16, 3, 0, bytes(32))
    assert b(0x40, 0x10, digest_of, bytes(3)) == OK
    temp = sha(bytes(32), b"\x40\0\0\0", b"\xee\x01\x23", bytes(25), public_of(KEY[digest_of]))
    message = sha(temp, b"\x41", bytes(10), b"\xee", bytes(4), b"\x01\x23", bytes(5))
    assert b(0x45, 3, 14, signer(parent)(message) + bytes(19)) == answer
    assert b.chip.nvm.is_validated(14) is (answer == OK)


def test_certificate_with_another_key_validates_nothing(bench):
    from cryptography.hazmat.primitives.asymmetric import ec

    parent = ec.derive_private_key(int.from_bytes(KEY[11], "big"), ec.SECP256R1())
    b = bench()
    b(0x47, 0)
    assert b(0x47, 3, 15) == OK
    assert b(0x45, 1, 14, signer(parent)(b(0x47, 2))) == EXECUTION
    assert not b.chip.nvm.is_validated(14)


def test_locked_slots_are_neither_validated_nor_written_by_secure_boot(bench, root):
    from cryptography.hazmat.primitives.asymmetric import ec

    parent = ec.derive_private_key(int.from_bytes(KEY[11], "big"), ec.SECP256R1())
    b = bench(at_88=b"\x7f\xbf")  # slots 7 and 14 are locked
    before = b.chip.nvm.state()
    b(0x47, 0)
    b(0x47, 3, 14)
    assert b(0x45, 1, 14, signer(parent)(b(0x47, 2))) == EXECUTION
    good = DIGEST + signer(root)(DIGEST)
    assert (b(0x80, 7, 0, good), b(0x80, 5, 0, good)) == (EXECUTION, OK)
    assert b.chip.nvm.state() == before


def test_secure_boot_of_both_stores_nothing_even_where_there_is_room(bench, root):
    b = bench(at_70=b"\x01\xf8")
    good = DIGEST + signer(root)(DIGEST)
    before = b.chip.nvm.state()
    assert [b(0x80, mode, 0, good[: 32 if mode == 6 else 96]) for mode in (7, 6, 5)] == [
        EXECUTION,
        EXECUTION,
        OK,
    ]
    assert b.chip.nvm.state() == before


@pytest.mark.parametrize(
    ("config", "command"),
    [
        pytest.param({"at_20": b"\x83\x20"}, (0x43, 0x0C, 0, XY), id="slot-without-ecdh"),
        pytest.param({"at_13": b"\x00"}, (0x51, 0, 5, bytes(16)), id="aes-off"),
        pytest.param({"at_13": b"\x00"}, (0x56, 0x32, 4, bytes(20)), id="kdf-aes-while-aes-is-off"),
        pytest.param({"at_90": b"\x02\x60"}, (0x56, 0x32, 4, bytes(20)), id="kdf-aes-off"),
        pytest.param({"at_96": b"\xb3\x04"}, (0x40, 0, 0), id="genkey-of-a-key-that-wants-authorisation"),
    ],
)
def test_what_configuration_closes_is_refused_and_open_otherwise(bench, config, command):
    assert bench(**config)(*command) == EXECUTION
    assert len(bench()(*command)) >= 16


def test_internal_signature_of_a_bare_nonce_is_refused(bench):
    b = bench()
    b.nonce()
    assert b(0x41, 0x00, 0) == EXECUTION


@pytest.mark.parametrize("nothing", [True, False])
def test_command_refused_at_its_end_has_written_nothing_unless_assumed(bench, nothing):
    b = bench({"refused_command_writes_nothing": nothing})
    assert b(0x40, 0x0C, 0) == EXECUTION, "a digest without TempKey"
    assert (b.chip.nvm.private_key(0) == KEY[0]) is nothing


def test_certificate_digest_validates_the_key_inside_it(bench):
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.derive_private_key(int.from_bytes(KEY[11], "big"), ec.SECP256R1())
    for form, good in ((0x00, True), (0x21, True), (0x12, False), (0x31, False)):
        b = bench(at_92=bytes([form]))
        before, after = bytes(range(64)), b"end"
        b(0x47, 0)
        b(0x47, 1, 64, before)
        assert b(0x47, 3, 14) == OK
        digest = b(0x47, 2, 3, after)
        assert digest == sha(before, public_of(KEY[14]), after)
        assert b(0x45, 1, 14, signer(key)(digest)) == (OK if good else EXECUTION)
        assert b.chip.nvm.slots[14][0] >> 4 == (5 if good else 0xA)
    b = bench()
    b(0x16, 3, 0, digest)
    assert b(0x45, 1, 14, signer(key)(digest)) == EXECUTION, "a digest of the host says nothing of the key"


def test_hash_of_the_model_is_sha256_at_every_length_and_its_context_is_strict():
    for n in range(0, 200, 7):
        data = bytes(range(n))
        part = Sha256()
        part.update(data[: n // 2])
        rest = Sha256.from_context(part.context())
        rest.update(data[n // 2 :])
        assert rest.digest() == hashlib.sha256(data).digest()
    with pytest.raises(ValueError, match="wrong length"):
        Sha256.from_context(part.context() + b"x")


def test_hmac_context_leaves_only_if_assumed(bench):
    for leaves, length in ((False, 1), (True, 36)):
        b = bench({"hmac_context_leaves": leaves})
        assert b(0x47, 4, 4) == OK
        assert len(b(0x47, 6)) == length
    b = bench()
    b(0x47, 4, 4)
    assert b(0x47, 2 | 0xC0, 3, b"abc") == hmac.digest(KEY[4], b"abc", "sha256")


# -- watchdog ------------------------------------------------------------------------------------------------


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
