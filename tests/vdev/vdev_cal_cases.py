"""The table: which functions of CryptoAuthLib run on the chip model, and what each of them has to give.

Cases run in this order on one chip, which starts blank. What the chip answers is checked with hashlib and
`cryptography`, and with what the model holds inside, never with the library.
"""

import ctypes

import vdev_cal_keys
import vdev_cal_secrets
from vdev_cal import CONFIG, DATA, EXECUTION, KEYS, MISCOMPARE, OK, OTP, buffer, lab_config

from fota_vdev.atecc608 import p256
from fota_vdev.atecc608.crc import crc16
from fota_wire.host_crypto import public_xy

OTP_BLOCK = bytes(range(32))


def blank_chip_tells_who_it_is(lab):
    assert lab.lib.out("atcab_info", size=4) == bytes.fromhex("00006003")
    assert lab.lib.out("atcab_read_serial_number", size=9) == lab.sn
    assert lab.lib.out("atcab_random", size=32) == b"\xff\xff\x00\x00" * 8
    assert lab.lib.flag("atcab_is_locked", CONFIG) == (OK, False)
    assert lab.lib("atcab_genkey", 0, buffer(64)) == EXECUTION


def configuration_is_written_compared_and_read_back(lab):
    config = lab_config(lab.nvm.read_config())
    assert lab.lib("atcab_write_config_zone", config) == OK
    assert lab.lib.out("atcab_read_config_zone", size=128) == config == lab.nvm.read_config()
    assert lab.lib.flag("atcab_cmp_config_zone", config) == (OK, True)
    other = config[:30] + b"\x55" + config[31:]
    assert lab.lib.flag("atcab_cmp_config_zone", other) == (OK, False)


def counter_is_preset_before_the_lock(lab):
    assert lab.lib("atcab_write_config_counter", 1, 33) == OK
    assert lab.nvm.read_config()[60:68] == bytes.fromhex("7fff000000010000")


def extra_byte_is_updated_once_it_is_zero(lab):
    assert lab.lib("atcab_updateextra", 0, 0x42) == OK
    assert lab.nvm.config[84] == 0x42
    assert lab.lib("atcab_updateextra", 2, 1) == EXECUTION


def configuration_is_locked_with_the_right_checksum_only(lab):
    config = lab.nvm.read_config()
    right = int.from_bytes(crc16(config), "little")
    assert lab.lib("atcab_lock_config_zone_crc", right ^ 1) == EXECUTION
    assert not lab.nvm.config_locked
    assert lab.lib("atcab_lock_config_zone_crc", right) == OK
    assert lab.nvm.config[87] == 0
    assert lab.lib.flag("atcab_is_config_locked") == (OK, True)
    assert lab.lib("atcab_lock_config_zone") == EXECUTION
    assert lab.lib("atcab_write_zone", CONFIG, 0, 1, 0, bytes(32), 32) == EXECUTION
    assert lab.lib("atcab_updateextra", 0, 0x43) == EXECUTION
    assert lab.nvm.read_config()[:86] == config[:86]


def private_keys_are_made_inside(lab):
    for slot in (0, 1, 2, 12):
        lab.public[slot] = lab.lib.out("atcab_genkey", slot, size=64)
        assert lab.public[slot] == p256.public_of(lab.nvm.private_key(slot))
    assert lab.lib("atcab_genkey", 8, buffer(64)) == EXECUTION


def secrets_and_public_keys_are_written_before_the_data_lock(lab):
    for slot, key in KEYS.items():
        assert lab.lib("atcab_write_zone", DATA, slot, 0, 0, key, 32) == OK
        assert lab.nvm.slots[slot][:32] == key
        assert lab.lib("atcab_read_zone", DATA, slot, 0, 0, buffer(32), 32) == EXECUTION
    for slot, key in ((11, lab.parent), (15, lab.root)):
        assert lab.lib("atcab_write_pubkey", slot, public_xy(key)) == OK
        assert lab.nvm.public_key(slot) == public_xy(key)
    assert lab.lib("atcab_write_zone", OTP, 0, 0, 0, OTP_BLOCK, 32) == OK
    assert lab.lib("atcab_write_zone", DATA, 0, 0, 0, bytes(32), 32) == EXECUTION


def data_zone_is_locked_with_the_right_checksum_only(lab):
    content = b"".join(bytes(slot) for slot in lab.nvm.slots) + bytes(lab.nvm.otp)
    assert lab.lib("atcab_lock_data_zone_crc", int.from_bytes(crc16(content), "little") ^ 1) == EXECUTION
    assert lab.lib.flag("atcab_is_data_locked") == (OK, False)
    assert lab.lib("atcab_lock_data_zone") == OK
    assert lab.lib.flag("atcab_is_data_locked") == (OK, True)
    assert lab.nvm.config[86] == 0
    assert lab.lib("atcab_write_zone", OTP, 0, 0, 0, bytes(32), 32) == EXECUTION
    assert bytes(lab.nvm.otp[:32]) == OTP_BLOCK


def slot_lock_is_for_ever_and_only_for_lockable_slots(lab):
    assert lab.lib.flag("atcab_is_slot_locked", 6) == (OK, False)
    assert lab.lib("atcab_lock_data_slot", 6) == OK
    assert lab.lib.flag("atcab_is_slot_locked", 6) == (OK, True)
    assert lab.nvm.config[88:90] == b"\xbf\xff"
    assert lab.lib("atcab_write_zone", DATA, 6, 0, 0, bytes(32), 32) == EXECUTION
    assert lab.lib("atcab_lock_data_slot", 7) == EXECUTION
    assert lab.lib("atcab_lock", 2 | 6 << 2, 0) == EXECUTION
    assert lab.lib("atcab_lock", 0x82 | 5 << 2, 0) == OK
    assert lab.nvm.slot_locked(5)
    assert bytes(lab.nvm.slots[6][:32]) == KEYS[6]


def clear_slot_is_written_and_read_in_every_size(lab):
    block, tail = bytes(range(64, 96)), b"tail"
    assert lab.lib("atcab_write_zone", DATA, 8, 1, 0, block, 32) == OK
    assert lab.lib("atcab_write_zone", DATA, 8, 2, 3, tail, 4) == OK
    got = buffer(32)
    assert lab.lib("atcab_read_zone", DATA, 8, 1, 0, got, 32) == OK
    assert got.raw == block
    assert lab.lib("atcab_write_bytes_zone", DATA, 8, 96, bytes(range(48)), 48) == OK
    long = buffer(48)
    assert lab.lib("atcab_read_bytes_zone", DATA, 8, 96, long, 48) == OK
    assert long.raw == bytes(range(48)) == bytes(lab.nvm.slots[8][96:144])
    assert lab.nvm.slots[8][76:80] == tail
    assert lab.lib("atcab_write", 0x82, 8 << 3 | 4 << 8, b"\xa5" * 32, None) == OK
    assert lab.nvm.slots[8][128:160] == b"\xa5" * 32
    otp = buffer(32)
    assert lab.lib("atcab_read_zone", OTP, 0, 0, 0, otp, 32) == OK
    assert otp.raw == OTP_BLOCK


def signature_and_public_key_are_read_from_their_slots(lab):
    assert lab.lib("atcab_write_bytes_zone", DATA, 8, 0, bytes(range(64)), 64) == OK
    assert lab.lib.out("atcab_read_sig", 8, size=64) == bytes(range(64))
    assert lab.lib.out("atcab_read_pubkey", 15, size=64) == public_xy(lab.root)


def size_and_kind_of_a_slot_are_told(lab):
    size = ctypes.c_size_t(0)
    for slot, length in ((0, 36), (8, 416), (9, 72)):
        assert lab.lib("atcab_get_zone_size", DATA, slot, ctypes.byref(size)) == OK
        assert size.value == length == len(lab.nvm.slots[slot])
    assert lab.lib.flag("atcab_is_private", 0) == (OK, True)
    assert lab.lib.flag("atcab_is_private", 4) == (OK, False)


def encrypted_slot_takes_and_gives_only_ciphertext_under_its_key(lab):
    plain, num_in = bytes(range(100, 132)), bytes(range(20))
    assert lab.lib("atcab_write_enc", 9, 0, plain, KEYS[4], 4, num_in) == OK
    assert bytes(lab.nvm.slots[9][:32]) == plain
    got = buffer(32)
    assert lab.lib("atcab_read_enc", 9, 0, got, KEYS[4], 4, num_in) == OK
    assert got.raw == plain
    assert lab.lib("atcab_read_enc", 9, 0, got, KEYS[10], 4, num_in) == OK
    assert got.raw != plain, "another key gives rubbish"
    assert lab.lib("atcab_write_enc", 9, 0, bytes(32), KEYS[10], 4, num_in) == MISCOMPARE
    assert lab.lib("atcab_write_enc", 9, 0, bytes(32), KEYS[13], 13, num_in) == EXECUTION
    assert lab.lib("atcab_read_zone", DATA, 9, 0, 0, got, 32) == EXECUTION
    assert lab.lib("atcab_write_zone", DATA, 9, 0, 0, bytes(32), 32) == EXECUTION
    assert bytes(lab.nvm.slots[9][:32]) == plain


CASES = [
    (
        ("atcab_info", "atcab_read_serial_number", "atcab_random", "atcab_is_locked"),
        blank_chip_tells_who_it_is,
    ),
    (
        ("atcab_write_config_zone", "atcab_read_config_zone", "atcab_cmp_config_zone"),
        configuration_is_written_compared_and_read_back,
    ),
    (("atcab_write_config_counter",), counter_is_preset_before_the_lock),
    (("atcab_updateextra",), extra_byte_is_updated_once_it_is_zero),
    (
        ("atcab_lock_config_zone_crc", "atcab_lock_config_zone", "atcab_is_config_locked"),
        configuration_is_locked_with_the_right_checksum_only,
    ),
    (("atcab_genkey",), private_keys_are_made_inside),
    (("atcab_write_zone", "atcab_write_pubkey"), secrets_and_public_keys_are_written_before_the_data_lock),
    (
        ("atcab_lock_data_zone_crc", "atcab_lock_data_zone", "atcab_is_data_locked"),
        data_zone_is_locked_with_the_right_checksum_only,
    ),
    (
        ("atcab_lock_data_slot", "atcab_is_slot_locked", "atcab_lock"),
        slot_lock_is_for_ever_and_only_for_lockable_slots,
    ),
    (
        ("atcab_read_zone", "atcab_write_bytes_zone", "atcab_read_bytes_zone", "atcab_write"),
        clear_slot_is_written_and_read_in_every_size,
    ),
    (("atcab_read_sig", "atcab_read_pubkey"), signature_and_public_key_are_read_from_their_slots),
    (("atcab_get_zone_size", "atcab_is_private"), size_and_kind_of_a_slot_are_told),
    (("atcab_write_enc", "atcab_read_enc"), encrypted_slot_takes_and_gives_only_ciphertext_under_its_key),
    *vdev_cal_keys.CASES,
    *vdev_cal_secrets.CASES,
]
