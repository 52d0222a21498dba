"""Cases of digests and symmetric keys: nonces, MAC, GenDig, counters, SHA, KDF, AES, self-test."""

import ctypes
import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.cmac import CMAC
from vdev_cal import EXECUTION, KEYS, MISCOMPARE, OK, buffer, sha, xor

AES_KEY, TEXT = KEYS[5][:16], bytes(range(200, 248))
CONTEXT = 512


def mac_of(lab, slot, second, mode):
    head = bytes([8, mode, slot, 0])
    return sha(KEYS[slot], second, head, bytes(11), lab.sn[8:9], bytes(4), lab.sn[:2], bytes(2))


def nonces_are_what_the_host_computes(lab):
    seen, num_in = set(), bytes(range(20))
    for name, args in (
        ("atcab_nonce_base", (0, 0, num_in)),
        ("atcab_nonce_base", (1, 0, num_in)),
        ("atcab_nonce_rand", (num_in,)),
        ("atcab_challenge_seed_update", (num_in,)),
    ):
        drawn = lab.lib.out(name, *args, size=32)
        mode = args[0] if name.endswith("base") else 0
        temp = sha(drawn, num_in, bytes([0x16, mode, 0]))
        assert lab.lib.out("atcab_mac", 1, 4, None, size=32) == mac_of(lab, 4, temp, 1)
        seen.add(drawn)
    assert len(seen) == 4
    calculated = lab.lib.out("atcab_nonce_base", 0, 0x8000, num_in, size=32)
    assert lab.lib.out("atcab_mac", 1, 4, None, size=32) == mac_of(lab, 4, calculated, 1)
    assert lab.lib("atcab_challenge", num_in + bytes(12)) == OK
    assert lab.lib.out("atcab_mac", 5, 4, None, size=32) == mac_of(lab, 4, num_in + bytes(12), 5)


def mac_follows_the_formula_in_every_mode(lab):
    challenge, sn = bytes(range(32)), lab.sn
    assert lab.lib.out("atcab_mac", 0, 4, challenge, size=32) == mac_of(lab, 4, challenge, 0)
    full = sha(KEYS[4], challenge, bytes([8, 0x40, 4, 0]), bytes(11), sn[8:9], sn[4:8], sn[:2], sn[2:4])
    assert lab.lib.out("atcab_mac", 0x40, 4, challenge, size=32) == full
    otp = bytes(range(11))
    with_otp = sha(KEYS[4], challenge, bytes([8, 0x10, 4, 0]), otp, sn[8:9], bytes(4), sn[:2], bytes(2))
    assert lab.lib.out("atcab_mac", 0x10, 4, challenge, size=32) == with_otp
    for slot in (0, 6):
        assert lab.lib("atcab_mac", 0, slot, challenge, buffer(32)) == EXECUTION
    lab.temp_key()
    assert lab.lib("atcab_mac", 5, 4, None, buffer(32)) == EXECUTION, "TempKey of the other source"


def check_mac_tells_right_from_wrong_and_opens_what_it_guards(lab):
    challenge = bytes(range(32))
    assert lab.lib("atcab_mac", 0, 10, challenge, buffer(32)) == EXECUTION, "not authorised"
    response, other = lab.check_mac(4, challenge)
    assert lab.lib("atcab_checkmac", 0, 4, challenge, response, other) == OK
    assert lab.lib("atcab_checkmac", 0, 4, challenge, bytes(32), other) == MISCOMPARE
    assert lab.lib("atcab_checkmac", 0, 0, challenge, response, other) == EXECUTION
    assert lab.lib("atcab_mac", 0, 10, challenge, buffer(32)) == EXECUTION, "a replayable proof is none"
    assert lab.prove() == OK
    assert lab.lib.out("atcab_mac", 0, 10, challenge, size=32) == mac_of(lab, 10, challenge, 0)
    assert lab.lib("atcab_mac", 0, 10, challenge, buffer(32)) == EXECUTION, "one use for one proof"
    assert lab.prove() == OK
    assert lab.lib("atcab_checkmac", 0, 4, challenge, bytes(32), other) == MISCOMPARE
    assert lab.lib("atcab_mac", 0, 10, challenge, buffer(32)) == EXECUTION, (
        "a wrong proof ends the one before"
    )
    assert lab.prove(13) == OK
    assert lab.lib("atcab_mac", 0, 10, challenge, buffer(32)) == EXECUTION, "proof of another key"


def gen_dig_of_every_zone_reaches_the_mac(lab):
    sn, nvm, shared = lab.sn, lab.nvm, bytes(range(50, 82))
    tail = sn[8:9] + sn[:2]
    count = b"\0" + lab.lib.number("atcab_counter_read", 1).to_bytes(4, "little") + bytes(20)
    rules = b"\0" + nvm.config[36:38] + nvm.config[112:114] + b"\x01" + bytes(19)
    config, head = nvm.read_config()[32:64], bytes.fromhex("15020a0b")
    expected = [
        (0, 1, None, lambda t: sha(config, b"\x15\0\1\0", tail, bytes(25), t)),
        (1, 0, None, lambda t: sha(nvm.otp[:32], b"\x15\1\0\0", tail, bytes(25), t)),
        (2, 4, None, lambda t: sha(KEYS[4], b"\x15\2\4\0", tail, bytes(25), t)),
        (3, 4, shared, lambda t: sha(shared, b"\x15\3\4\0", tail, bytes(25), t)),
        (3, 0x8004, shared, lambda t: sha(t, b"\x15\3\4\0", tail, bytes(25), shared)),
        (4, 1, None, lambda t: sha(bytes(32), b"\x15\4\1\0", tail, count, t)),
        (5, 8, None, lambda t: sha(bytes(32), b"\x15\5\x08\0", tail, rules, t)),
    ]
    for zone, key, data, formula in expected:
        temp = formula(lab.temp_key())
        assert lab.lib("atcab_gendig", zone, key, data, len(data or b"")) == OK
        assert lab.lib.out("atcab_mac", 1, 4, None, size=32) == mac_of(lab, 4, temp, 1), (zone, key)
    lab.temp_key()
    assert lab.lib("atcab_gendig", 2, 6, head, 4) == OK
    assert lab.lib("atcab_mac", 1, 4, None, buffer(32)) == EXECUTION, "NoMac sticks to TempKey"
    assert lab.lib("atcab_gendig", 2, 4, None, 0) == EXECUTION, "no TempKey"
    lab.temp_key()
    assert lab.lib("atcab_gendig", 2, 0, None, 0) == EXECUTION, "a private key is no digest"


def counters_count_and_a_limited_key_counts_with_them(lab):
    assert lab.lib.number("atcab_counter", 0, 1) == 33
    assert lab.lib.number("atcab_counter_increment", 1) == 34 == lab.nvm.counters[1]
    assert lab.lib.number("atcab_counter", 1, 1) == 35
    assert lab.lib.number("atcab_counter_read", 1) == 35
    assert lab.lib("atcab_counter_read", 2, ctypes.byref(ctypes.c_uint32())) != OK
    before = lab.lib.number("atcab_counter_read", 0)
    assert lab.lib.out("atcab_mac", 0, 13, bytes(32), size=32) == mac_of(lab, 13, bytes(32), 0)
    assert lab.lib.number("atcab_counter_read", 0) == before + 1


def hashes_are_sha256(lab):
    message = bytes(range(256)) * 2
    assert lab.lib.out("atcab_sha", 500, message, size=32) == hashlib.sha256(message[:500]).digest()
    assert lab.lib.out("atcab_hw_sha2_256", message, 130, size=32) == hashlib.sha256(message[:130]).digest()
    context = buffer(CONTEXT)
    assert lab.lib("atcab_hw_sha2_256_init", context) == OK
    for at in (0, 100):
        assert lab.lib("atcab_hw_sha2_256_update", context, message[at : at + 100], 100) == OK
    assert lab.lib.out("atcab_hw_sha2_256_finish", context, size=32) == sha(message[:200])


def hash_in_parts_can_leave_and_come_back(lab):
    block, size = bytes(range(64)), ctypes.c_uint16(99)
    assert lab.lib("atcab_sha_update", block) == EXECUTION, "nothing was started"
    assert lab.lib("atcab_sha_start") == OK
    assert lab.lib("atcab_sha_update", block) == OK
    context = buffer(99)
    assert lab.lib("atcab_sha_read_context", context, ctypes.byref(size)) == OK
    digest = buffer(32)
    assert lab.lib("atcab_sha_end", digest, 3, b"abc") == OK
    assert digest.raw == sha(block, b"abc")
    assert lab.lib("atcab_sha", 5, b"other", digest) == OK
    assert lab.lib("atcab_sha_write_context", context.raw[: size.value], size.value) == OK
    assert lab.lib("atcab_sha_end", digest, 3, b"xyz") == OK
    assert digest.raw == sha(block, b"xyz")
    assert lab.lib("atcab_sha_write_context", context.raw[:35], 35) != OK
    out_size = ctypes.c_uint16(32)
    assert lab.lib("atcab_sha_base", 0, 0, None, None, None) == OK
    assert lab.lib("atcab_sha_base", 1, 20, b"y" * 20, None, None) == OK
    assert lab.lib("atcab_sha_base", 0xC2, 1, b"z", digest, ctypes.byref(out_size)) == OK
    assert digest.raw == sha(b"y" * 20, b"z")


def hmac_uses_the_key_of_a_slot(lab):
    message = bytes(range(150))
    expected = hmac.digest(KEYS[4], message, "sha256")
    digest = buffer(32)
    assert lab.lib("atcab_sha_hmac", message, 150, 4, digest, 0xC0) == OK
    assert digest.raw == expected
    context = buffer(CONTEXT)
    assert lab.lib("atcab_sha_hmac_init", context, 4) == OK
    for at in (0, 75):
        assert lab.lib("atcab_sha_hmac_update", context, message[at : at + 75], 75) == OK
    assert lab.lib("atcab_sha_hmac_finish", context, digest, 0xC0) == OK
    assert digest.raw == expected
    assert lab.lib("atcab_sha_hmac_init", context, 4) == OK
    size = ctypes.c_uint16(99)
    assert lab.lib("atcab_sha_read_context", buffer(99), ctypes.byref(size)) == EXECUTION
    for slot in (0, 6):
        assert lab.lib("atcab_sha_hmac", message, 150, slot, digest, 0xC0) == EXECUTION


def keys_are_derived_by_prf_hkdf_and_aes(lab):
    # The first and the last value are those that the library's own test suite expects of silicon.
    row = bytes(range(16))
    key, out, nonce = row * 2, buffer(64), buffer(32)
    assert lab.lib("atcab_nonce", key) == OK
    assert lab.lib("atcab_kdf", 0x10, 0, 0x101 | 16 << 24, row, out, None) == OK
    prf = bytes.fromhex(
        "1ebcbe62005ab948fdffe1c402aaba354ec676050c9bc1aae1ff5b1509a4a04a"
        "44254664c2a480f5b77ea2d1020c7ba4b3640c4ac793324c26d6fddfdb1f011a"
    )
    assert out.raw == prf
    assert lab.lib("atcab_kdf", 0x14, 0, 0x101 | 16 << 24, row, out, nonce) == OK
    stream = sha(KEYS[6], nonce.raw[:16]) + sha(KEYS[6], nonce.raw[16:])
    assert out.raw != prf
    assert xor(out.raw, stream) == prf
    assert lab.lib("atcab_kdf", 0x30, 0, 0, row, out, None) == OK
    assert out.raw[:32] == bytes.fromhex("0a940bb5416ef045f1c39458c653ea5a") + bytes(16)
    assert lab.lib("atcab_kdf", 0x50, 0, 2 | 16 << 24, row, out, None) == OK
    assert out.raw[:32] == hmac.digest(key, row, "sha256")
    assert lab.lib("atcab_kdf", 0x52, 4, 2 | 16 << 24, row, out, None) == OK
    assert out.raw[:32] == hmac.digest(KEYS[4], row, "sha256")
    assert lab.lib("atcab_kdf", 0x50, 0, 3 | 16 << 24, row, out, None) == EXECUTION, "special IV is missing"
    assert lab.lib("atcab_nonce", key) == OK
    special = row[:9] + b"iv" + row[11:]
    assert lab.lib("atcab_kdf", 0x50, 0, 3 | 16 << 24, special, out, None) == OK
    assert out.raw[:32] == hmac.digest(key, special, "sha256")
    assert lab.lib("atcab_kdf", 0x12, 0, 0x101 | 16 << 24, row, out, None) == EXECUTION, "private key"


def aes_blocks_are_those_of_openssl(lab):
    ecb = Cipher(algorithms.AES(AES_KEY), modes.ECB()).encryptor()
    block = TEXT[:16]
    sealed = ecb.update(block)
    assert lab.lib.out("atcab_aes", 0, 5, block, size=16) == sealed
    assert lab.lib.out("atcab_aes_encrypt", 5, 0, block, size=16) == sealed
    assert lab.lib.out("atcab_aes_decrypt", 5, 0, sealed, size=16) == block
    upper = Cipher(algorithms.AES(KEYS[5][16:]), modes.ECB()).encryptor().update(block)
    assert lab.lib.out("atcab_aes_encrypt", 5, 1, block, size=16) == upper
    assert lab.lib("atcab_aes_encrypt", 4, 0, block, buffer(16)) == EXECUTION, "no AES key"
    assert lab.lib("atcab_aes_encrypt", 0xFFFF, 0, block, buffer(16)) == EXECUTION, "no TempKey"


def aes_in_cbc_ctr_and_cmac_is_that_of_openssl(lab):
    iv = bytes(range(16))
    sealed = Cipher(algorithms.AES(AES_KEY), modes.CBC(iv)).encryptor().update(TEXT)
    context = buffer(CONTEXT)
    assert lab.lib("atcab_aes_cbc_init", context, 5, 0, iv) == OK
    cut = range(0, 48, 16)
    got = [lab.lib.out("atcab_aes_cbc_encrypt_block", context, TEXT[i : i + 16], size=16) for i in cut]
    assert b"".join(got) == sealed
    assert lab.lib("atcab_aes_cbc_init", context, 5, 0, iv) == OK
    got = [lab.lib.out("atcab_aes_cbc_decrypt_block", context, sealed[i : i + 16], size=16) for i in cut]
    assert b"".join(got) == TEXT
    stream = Cipher(algorithms.AES(AES_KEY), modes.CTR(iv)).encryptor().update(TEXT)
    assert lab.lib("atcab_aes_ctr_init", context, 5, 0, 4, iv) == OK
    got = [lab.lib.out("atcab_aes_ctr_encrypt_block", context, TEXT[i : i + 16], size=16) for i in cut]
    assert b"".join(got) == stream
    mac = CMAC(algorithms.AES(AES_KEY))
    mac.update(TEXT[:40])
    assert lab.lib("atcab_aes_cmac_init", context, 5, 0) == OK
    assert lab.lib("atcab_aes_cmac_update", context, TEXT[:40], 40) == OK
    got = buffer(16)
    assert lab.lib("atcab_aes_cmac_finish", context, got, 16) == OK
    assert got.raw == mac.finalize()


def aes_in_gcm_is_that_of_openssl(lab):
    iv, aad = bytes(range(12)), b"header"
    sealed = AESGCM(AES_KEY).encrypt(iv, TEXT, aad)
    context, got, tag = buffer(CONTEXT), buffer(48), buffer(16)
    assert lab.lib("atcab_aes_gcm_init", context, 5, 0, iv, 12) == OK
    assert lab.lib("atcab_aes_gcm_aad_update", context, aad, 6) == OK
    assert lab.lib("atcab_aes_gcm_encrypt_update", context, TEXT, 48, got) == OK
    assert lab.lib("atcab_aes_gcm_encrypt_finish", context, tag, 16) == OK
    assert got.raw + tag.raw == sealed
    for right in (True, False):
        assert lab.lib("atcab_aes_gcm_init", context, 5, 0, iv, 12) == OK
        assert lab.lib("atcab_aes_gcm_aad_update", context, aad, 6) == OK
        assert lab.lib("atcab_aes_gcm_decrypt_update", context, sealed[:48], 48, got) == OK
        assert got.raw == TEXT
        mac = sealed[48:] if right else bytes(16)
        assert lab.lib.flag("atcab_aes_gcm_decrypt_finish", context, mac, 16) == (OK, right)
    zero, one = bytes(16), b"\x80" + bytes(15)
    assert lab.lib.out("atcab_aes_gfm", TEXT[:16], one, size=16) == TEXT[:16], "one of the field"
    assert lab.lib.out("atcab_aes_gfm", TEXT[:16], zero, size=16) == zero


def state_and_validity_are_told_and_self_tests_pass_or_fail(lab):
    told = buffer(4)
    assert lab.prove(13) == OK
    assert lab.lib("atcab_nonce", bytes(32)) == OK
    assert lab.lib("atcab_info_base", 2, 0, told) == OK
    assert told.raw == bytes([0x10, 0x80 | 0x04 | 13 << 3, 0, 0]), "TempKey valid, from input; 13 is proven"
    assert lab.lib("atcab_info_base", 1, 0, told) == OK
    assert told.raw == b"\x01\0\0\0"
    for mode in (0x01, 0x04, 0x08, 0x10, 0x20, 0x3B):
        assert lab.lib.out("atcab_selftest", mode, 0, size=1) == b"\0"
    lab.machine.element.broken = 0x10
    assert lab.lib.out("atcab_selftest", 0x3B, 0, size=1) == b"\x10"
    assert lab.lib("atcab_wakeup") != OK, "a chip with a failed self-test does not say 11"
    lab.machine.element.broken = 0
    lab.machine.element.post_failure = False
    assert lab.lib.out("atcab_selftest", 0x3B, 0, size=1) == b"\0"
    assert lab.lib.out("atcab_random", size=32) != bytes(32)


CASES = [
    (
        ("atcab_nonce_base", "atcab_nonce_rand", "atcab_challenge_seed_update", "atcab_challenge"),
        nonces_are_what_the_host_computes,
    ),
    (("atcab_mac",), mac_follows_the_formula_in_every_mode),
    (("atcab_checkmac",), check_mac_tells_right_from_wrong_and_opens_what_it_guards),
    (("atcab_gendig",), gen_dig_of_every_zone_reaches_the_mac),
    (
        ("atcab_counter", "atcab_counter_increment", "atcab_counter_read"),
        counters_count_and_a_limited_key_counts_with_them,
    ),
    (
        (
            *("atcab_sha", "atcab_hw_sha2_256", "atcab_hw_sha2_256_init", "atcab_hw_sha2_256_update"),
            "atcab_hw_sha2_256_finish",
        ),
        hashes_are_sha256,
    ),
    (
        (
            *("atcab_sha_start", "atcab_sha_update", "atcab_sha_end", "atcab_sha_base"),
            *("atcab_sha_read_context", "atcab_sha_write_context"),
        ),
        hash_in_parts_can_leave_and_come_back,
    ),
    (
        ("atcab_sha_hmac", "atcab_sha_hmac_init", "atcab_sha_hmac_update", "atcab_sha_hmac_finish"),
        hmac_uses_the_key_of_a_slot,
    ),
    (("atcab_kdf",), keys_are_derived_by_prf_hkdf_and_aes),
    (("atcab_aes", "atcab_aes_encrypt", "atcab_aes_decrypt"), aes_blocks_are_those_of_openssl),
    (
        (
            *("atcab_aes_cbc_init", "atcab_aes_cbc_encrypt_block", "atcab_aes_cbc_decrypt_block"),
            *("atcab_aes_ctr_init", "atcab_aes_ctr_encrypt_block"),
            *("atcab_aes_cmac_init", "atcab_aes_cmac_update", "atcab_aes_cmac_finish"),
        ),
        aes_in_cbc_ctr_and_cmac_is_that_of_openssl,
    ),
    (
        (
            *("atcab_aes_gcm_init", "atcab_aes_gcm_aad_update", "atcab_aes_gcm_encrypt_update"),
            *("atcab_aes_gcm_encrypt_finish", "atcab_aes_gcm_decrypt_update", "atcab_aes_gcm_decrypt_finish"),
            "atcab_aes_gfm",
        ),
        aes_in_gcm_is_that_of_openssl,
    ),
    (
        ("atcab_info_base", "atcab_selftest", "atcab_wakeup"),
        state_and_validity_are_told_and_self_tests_pass_or_fail,
    ),
]
