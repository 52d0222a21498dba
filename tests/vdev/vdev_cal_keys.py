"""Cases of private and public keys: GenKey, Sign, Verify, SecureBoot, ECDH."""

from cryptography.hazmat.primitives.asymmetric import ec
from vdev_cal import EXECUTION, KEYS, MISCOMPARE, OK, buffer, sha, xor
from vdev_oracle import Forger

from fota_wire.host_crypto import public_xy, signer, verify

DIGEST, EVIL = sha(b"image"), sha(b"another image")


def shared(private, public):
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(public[:32], "big"), int.from_bytes(public[32:], "big"), ec.SECP256R1()
    )
    return private.exchange(ec.ECDH(), numbers.public_key())


def public_keys_are_computed_again(lab):
    for slot in (0, 1, 2):
        assert lab.lib.out("atcab_get_pubkey", slot, size=64) == lab.public[slot]
    got = buffer(64)
    assert lab.lib("atcab_genkey_base", 0, 0, None, got) == OK
    assert got.raw == lab.public[0]
    assert lab.lib("atcab_get_pubkey", 15, got) == EXECUTION
    assert lab.lib("atcab_get_pubkey", 12, got) == OK, "GenKey needs no latch"
    assert got.raw == lab.public[12]


def signatures_verify_with_openssl(lab):
    assert verify(lab.public[0], DIGEST, lab.lib.out("atcab_sign", 0, DIGEST, size=64))
    assert lab.lib("atcab_nonce_load", 0x40, DIGEST, 32) == OK
    assert verify(lab.public[0], DIGEST, lab.lib.out("atcab_sign_base", 0xA0, 0, size=64))
    assert lab.lib("atcab_nonce", DIGEST) == OK
    assert verify(lab.public[0], DIGEST, lab.lib.out("atcab_sign_base", 0x80, 0, size=64))
    assert lab.lib("atcab_sign_base", 0x80, 0, buffer(64)) == EXECUTION, "TempKey serves once"
    for slot in (15, 8, 12):
        assert lab.lib("atcab_sign", slot, DIGEST, buffer(64)) == EXECUTION


def key_that_wants_a_random_nonce_signs_nothing_else(lab):
    assert lab.lib("atcab_sign", 1, DIGEST, buffer(64)) == EXECUTION
    assert lab.lib("atcab_nonce", DIGEST) == OK
    assert lab.lib("atcab_sign_base", 0x80, 1, buffer(64)) == EXECUTION
    nonce = lab.temp_key()
    assert verify(lab.public[1], nonce, lab.lib.out("atcab_sign_base", 0x80, 1, size=64))


def internal_signature_covers_key_and_configuration(lab):
    for full in (0, 1):
        temp = lab.temp_key()
        assert lab.lib("atcab_genkey_base", 0x08, 0, None, None) == OK
        sn, mode = lab.sn, 0x40 if full else 0
        digest = sha(temp, bytes([0x40, 8, 0, 0]), sn[8:9], sn[:2], bytes(25), lab.public[0])
        signature = lab.lib.out("atcab_sign_internal", 1, 0, full, size=64)
        middle, low = (sn[4:8], sn[2:4]) if full else (bytes(4), bytes(2))
        rules = bytes.fromhex("87203300")
        flags = bytes([0x40, 0, 0])  # GenKey data of slot 0, random source
        body = bytes([0x41, mode, 1, 0]) + rules + flags + sn[8:9] + middle + sn[:2] + low + b"\x01\0\0"
        assert len(digest + body) == 55
        assert verify(lab.public[1], sha(digest, body), signature)
    assert lab.lib("atcab_sign_internal", 0, 0, 0, buffer(64)) == EXECUTION, "no digest in TempKey"


def stored_and_external_keys_tell_good_from_evil(lab):
    good, xy = signer(lab.root)(DIGEST), public_xy(lab.root)
    io, nonce = KEYS[6], bytes(range(32))
    for digest, verdict in ((DIGEST, True), (EVIL, False)):
        assert lab.lib.flag("atcab_verify_stored", digest, good, 15) == (OK, verdict)
        assert lab.lib.flag("atcab_verify_extern", digest, good, xy) == (OK, verdict)
        assert lab.lib.flag("atcab_verify_stored_mac", digest, good, 15, nonce, io) == (OK, verdict)
        assert lab.lib.flag("atcab_verify_extern_mac", digest, good, xy, nonce, io) == (OK, verdict)
        assert lab.lib("atcab_nonce", digest) == OK
        assert lab.lib.flag("atcab_verify_stored_with_tempkey", good, 15) == (OK, verdict)
    assert lab.lib.flag("atcab_verify_stored_mac", DIGEST, good, 15, nonce, bytes(32)) == (OK, False)
    assert lab.lib.flag("atcab_verify_stored", DIGEST, good, 11) == (OK, False)
    for slot in (0, 8, 14):
        assert lab.lib.flag("atcab_verify_stored", DIGEST, good, slot) == (EXECUTION, False)
    no_point = xy[:63] + bytes([xy[63] ^ 1])
    assert lab.lib.flag("atcab_verify_extern", DIGEST, good, no_point)[0] not in (OK, EXECUTION)


def verify_mac_is_the_published_hash_and_survives_a_forger(lab):
    good, evil, nonce = signer(lab.root)(DIGEST), signer(lab.peer)(DIGEST), bytes(range(32))
    assert lab.lib("atcab_nonce_load", 0x40, DIGEST + nonce, 64) == OK
    mac = lab.lib.out("atcab_verify", 0xA0, 15, good, None, None, size=32)
    assert mac == sha(KEYS[6], DIGEST, nonce, good, b"\x45\xa0\x0f\x00")
    lab.machine.i2c_tamper = Forger()
    try:
        assert lab.lib.flag("atcab_verify_stored", DIGEST, evil, 15) == (OK, True), "fooled"
        assert lab.lib.flag("atcab_verify_stored_mac", DIGEST, evil, 15, nonce, KEYS[6]) == (OK, False)
        assert lab.lib.flag("atcab_verify_extern_mac", DIGEST, evil, public_xy(lab.root), nonce, KEYS[6]) == (
            OK,
            False,
        )
    finally:
        lab.machine.i2c_tamper = None


def validation_data(lab, public, invalidate):
    """Return what the parent signs so that the chip may trust slot 14, and OtherData for Verify."""
    sn = lab.sn
    temp = sha(bytes(32), b"\x40\0\0\0", sn[8:9], sn[:2], bytes(25), public)
    other = bytes(7) + bytes([0x10 | 0x40 | 14, 0, 0]) + bytes(6) + b"\x01" + bytes([invalidate, 0])
    return sha(temp, b"\x41", other[:10], sn[8:9], other[10:14], sn[:2], other[14:]), other


def validate(lab, name, signature, other):
    assert lab.lib("atcab_nonce", bytes(32)) == OK
    assert lab.lib("atcab_genkey_base", 0x10, 14, bytes(3), None) == OK
    return lab.lib.flag(name, 14, signature, other)


def public_key_serves_from_validation_to_invalidation(lab):
    public, sign = public_xy(lab.peer), signer(lab.parent)
    good = signer(lab.peer)(DIGEST)
    assert lab.lib("atcab_write_pubkey", 14, public) == OK
    assert lab.nvm.slots[14][0] >> 4 == 0xA
    assert lab.lib.flag("atcab_verify_stored", DIGEST, good, 14) == (EXECUTION, False)
    message, other = validation_data(lab, public, invalidate=0)
    assert validate(lab, "atcab_verify_validate", signer(lab.root)(message), other) == (OK, False)
    assert lab.nvm.slots[14][0] >> 4 == 0xA
    assert lab.lib.flag("atcab_verify_validate", 14, sign(message), other) == (EXECUTION, False), "no TempKey"
    assert validate(lab, "atcab_verify_validate", sign(message), other) == (OK, True)
    assert lab.nvm.slots[14][0] >> 4 == 0x5
    assert lab.lib.flag("atcab_verify_stored", DIGEST, good, 14) == (OK, True)
    assert lab.lib("atcab_write_pubkey", 14, public_xy(lab.root)) == EXECUTION, "valid keys are not written"
    assert validate(lab, "atcab_verify_invalidate", sign(message), other) == (EXECUTION, False), (
        "for validate"
    )
    message, other = validation_data(lab, public, invalidate=1)
    assert validate(lab, "atcab_verify_invalidate", sign(message), other) == (OK, True)
    assert lab.nvm.slots[14][0] >> 4 == 0xA
    assert lab.lib.flag("atcab_verify_stored", DIGEST, good, 14) == (EXECUTION, False)


def secure_boot_stores_a_verified_digest_and_knows_it_again(lab):
    good = signer(lab.root)(DIGEST)
    assert lab.lib("atcab_secureboot", 6, 0, DIGEST, None, None) == MISCOMPARE
    assert lab.lib("atcab_secureboot", 7, 0, EVIL, good, None) == MISCOMPARE
    assert lab.lib("atcab_secureboot", 5, 0, DIGEST, good, None) == OK
    assert bytes(lab.nvm.slots[7][:32]) == b"\xff" * 32, "Full stores nothing"
    assert lab.lib("atcab_secureboot", 7, 0, DIGEST, good, None) == OK
    assert bytes(lab.nvm.slots[7][:32]) == DIGEST
    assert lab.lib("atcab_secureboot", 6, 0, DIGEST, None, None) == OK
    assert lab.lib("atcab_secureboot", 6, 0, EVIL, None, None) == MISCOMPARE
    temp = lab.temp_key()
    hashed = sha(KEYS[6], temp)
    mac = lab.lib.out("atcab_secureboot", 0x85, 0, xor(DIGEST, hashed), good, size=32)
    assert mac == sha(hashed, DIGEST, good, b"\x80\x85\0\0")


def secure_boot_with_mac_is_not_fooled(lab):
    good, evil, num_in = signer(lab.root)(DIGEST), signer(lab.peer)(EVIL), bytes(range(20))
    io = KEYS[6]
    assert lab.lib.flag("atcab_secureboot_mac", 7, DIGEST, good, num_in, io) == (OK, True)
    assert lab.lib.flag("atcab_secureboot_mac", 6, DIGEST, None, num_in, io) == (OK, True)
    assert lab.lib.flag("atcab_secureboot_mac", 6, EVIL, None, num_in, io) == (OK, False)
    assert lab.lib.flag("atcab_secureboot_mac", 6, DIGEST, None, num_in, bytes(32)) == (OK, False)
    lab.machine.i2c_tamper = Forger()
    try:
        assert lab.lib("atcab_secureboot", 5, 0, EVIL, evil, None) == OK, "fooled"
        assert lab.lib.flag("atcab_secureboot_mac", 5, EVIL, evil, num_in, io) == (OK, False)
        assert lab.lib.flag("atcab_secureboot_mac", 6, EVIL, None, num_in, io) == (OK, False)
    finally:
        lab.machine.i2c_tamper = None
    assert bytes(lab.nvm.slots[7][:32]) == DIGEST


def latch_opens_a_key_until_power_is_lost(lab):
    assert lab.lib.flag("atcab_info_get_latch") == (OK, True), "set by SecureBoot"
    assert lab.lib("atcab_wakeup") == OK
    assert lab.lib("atcab_sleep") == OK
    assert lab.machine.element.status == "asleep"
    assert lab.lib.flag("atcab_info_get_latch") == (OK, True)
    assert verify(lab.public[12], DIGEST, lab.lib.out("atcab_sign", 12, DIGEST, size=64))
    lab.machine.power_off()
    lab.machine.power_on()
    assert lab.lib.flag("atcab_info_get_latch") == (OK, False)
    assert lab.lib("atcab_sign", 12, DIGEST, buffer(64)) == EXECUTION
    assert lab.lib("atcab_info_set_latch", 1) == EXECUTION, "nothing was proven"
    assert lab.prove() == OK
    assert lab.lib("atcab_info_set_latch", 1) == OK
    assert lab.lib.flag("atcab_info_get_latch") == (OK, True)
    assert lab.lib("atcab_sign", 12, DIGEST, buffer(64)) == OK
    assert lab.lib("atcab_info_set_latch", 0) == OK
    assert lab.lib("atcab_sign", 12, DIGEST, buffer(64)) == EXECUTION


def shared_secrets_are_those_of_the_other_side(lab):
    peer, xy, io = lab.peer, public_xy(lab.peer), KEYS[6]
    secret = {slot: shared(peer, lab.public[slot]) for slot in (0, 2)}
    assert lab.lib.out("atcab_ecdh", 0, xy, size=32) == secret[0]
    got, nonce = buffer(32), buffer(32)
    assert lab.lib("atcab_ecdh_base", 0x0E, 0, xy, got, nonce) == OK
    assert got.raw != secret[0]
    assert xor(got.raw, sha(io, nonce.raw[:16])) == secret[0]
    assert lab.lib("atcab_ecdh_ioenc", 0, xy, got, io) == OK
    assert got.raw == secret[0]
    assert lab.lib("atcab_ecdh_enc", 2, xy, got, KEYS[4], 4, bytes(20)) == OK
    assert got.raw == secret[2] == bytes(lab.nvm.slots[3][:32])
    assert lab.lib("atcab_ecdh", 15, xy, got) == EXECUTION
    assert lab.lib("atcab_ecdh", 0, xy[:63] + bytes([xy[63] ^ 1]), got) not in (OK, EXECUTION)


def ephemeral_key_makes_a_secret_once_and_is_nothing_else(lab):
    xy, io = public_xy(lab.peer), KEYS[6]
    for name, more in (("atcab_ecdh_tempkey", ()), ("atcab_ecdh_tempkey_ioenc", (io,))):
        public, got = lab.lib.out("atcab_genkey", 0xFFFF, size=64), buffer(32)
        assert lab.lib(name, xy, got, *more) == OK
        assert got.raw == shared(lab.peer, public)
        assert lab.lib(name, xy, got, *more) == EXECUTION, "used up"
    lab.lib.out("atcab_genkey", 0xFFFF, size=64)
    assert lab.lib("atcab_mac", 5, 4, None, buffer(32)) == EXECUTION, "a private key never feeds a MAC"


CASES = [
    (("atcab_get_pubkey", "atcab_genkey_base"), public_keys_are_computed_again),
    (("atcab_sign", "atcab_sign_base", "atcab_nonce", "atcab_nonce_load"), signatures_verify_with_openssl),
    (("atcab_nonce_rand",), key_that_wants_a_random_nonce_signs_nothing_else),
    (("atcab_sign_internal",), internal_signature_covers_key_and_configuration),
    (
        (
            *("atcab_verify_stored", "atcab_verify_extern", "atcab_verify_stored_mac"),
            *("atcab_verify_extern_mac", "atcab_verify_stored_with_tempkey"),
        ),
        stored_and_external_keys_tell_good_from_evil,
    ),
    (("atcab_verify",), verify_mac_is_the_published_hash_and_survives_a_forger),
    (("atcab_verify_validate", "atcab_verify_invalidate"), public_key_serves_from_validation_to_invalidation),
    (("atcab_secureboot",), secure_boot_stores_a_verified_digest_and_knows_it_again),
    (("atcab_secureboot_mac",), secure_boot_with_mac_is_not_fooled),
    (("atcab_info_get_latch", "atcab_info_set_latch", "atcab_sleep"), latch_opens_a_key_until_power_is_lost),
    (
        ("atcab_ecdh", "atcab_ecdh_base", "atcab_ecdh_ioenc", "atcab_ecdh_enc"),
        shared_secrets_are_those_of_the_other_side,
    ),
    (
        ("atcab_ecdh_tempkey", "atcab_ecdh_tempkey_ioenc"),
        ephemeral_key_makes_a_secret_once_and_is_nothing_else,
    ),
]
