"""The rules of a slot's key, of SecureBoot and of output protection, by raw packets."""

import hashlib
import hmac
import sys
from pathlib import Path

import pytest

from fota_vdev.atecc608.memory import COUNTER_MAX
from fota_vdev.atecc608.p256 import public_of
from fota_vdev.atecc608.sha256 import Sha256
from fota_wire.host_crypto import signer, verify

sys.path.insert(0, str(Path(__file__).parent))

from vdev_cal_bench import (
    DIGEST,
    EXECUTION,
    KEY,
    OK,
    PARSE,
    WRONG,
    XY,
    Bench,
    layout,
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
