"""Microchip's CryptoAuthLib on the chip model: the functions that ran, and what each case of them claims."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from lifeline import HANG_S

HERE = Path(__file__).parent
if importlib.util.find_spec("cryptoauthlib") is None:
    pytest.skip("no cryptoauthlib wheel: pip install 'fota[test]'", allow_module_level=True)

FUNCTIONS = [
    "atcab_info",
    "atcab_info_base",
    "atcab_info_get_latch",
    "atcab_info_set_latch",
    "atcab_selftest",
    "atcab_wakeup",
    "atcab_sleep",
    "atcab_random",
    "atcab_nonce",
    "atcab_nonce_base",
    "atcab_nonce_load",
    "atcab_nonce_rand",
    "atcab_challenge",
    "atcab_challenge_seed_update",
    "atcab_counter",
    "atcab_counter_increment",
    "atcab_counter_read",
    "atcab_updateextra",
    "atcab_read_serial_number",
    "atcab_read_config_zone",
    "atcab_cmp_config_zone",
    "atcab_read_zone",
    "atcab_read_bytes_zone",
    "atcab_read_sig",
    "atcab_read_pubkey",
    "atcab_read_enc",
    "atcab_get_zone_size",
    "atcab_is_private",
    "atcab_write",
    "atcab_write_zone",
    "atcab_write_bytes_zone",
    "atcab_write_config_zone",
    "atcab_write_config_counter",
    "atcab_write_pubkey",
    "atcab_write_enc",
    "atcab_lock",
    "atcab_lock_config_zone",
    "atcab_lock_config_zone_crc",
    "atcab_lock_data_zone",
    "atcab_lock_data_zone_crc",
    "atcab_lock_data_slot",
    "atcab_is_locked",
    "atcab_is_config_locked",
    "atcab_is_data_locked",
    "atcab_is_slot_locked",
    "atcab_genkey",
    "atcab_genkey_base",
    "atcab_get_pubkey",
    "atcab_sign",
    "atcab_sign_base",
    "atcab_sign_internal",
    "atcab_verify",
    "atcab_verify_stored",
    "atcab_verify_stored_mac",
    "atcab_verify_stored_with_tempkey",
    "atcab_verify_extern",
    "atcab_verify_extern_mac",
    "atcab_verify_validate",
    "atcab_verify_invalidate",
    "atcab_secureboot",
    "atcab_secureboot_mac",
    "atcab_ecdh",
    "atcab_ecdh_base",
    "atcab_ecdh_enc",
    "atcab_ecdh_ioenc",
    "atcab_ecdh_tempkey",
    "atcab_ecdh_tempkey_ioenc",
    "atcab_gendig",
    "atcab_mac",
    "atcab_checkmac",
    "atcab_kdf",
    "atcab_sha",
    "atcab_sha_base",
    "atcab_sha_start",
    "atcab_sha_update",
    "atcab_sha_end",
    "atcab_sha_read_context",
    "atcab_sha_write_context",
    "atcab_hw_sha2_256",
    "atcab_hw_sha2_256_init",
    "atcab_hw_sha2_256_update",
    "atcab_hw_sha2_256_finish",
    "atcab_sha_hmac",
    "atcab_sha_hmac_init",
    "atcab_sha_hmac_update",
    "atcab_sha_hmac_finish",
    "atcab_aes",
    "atcab_aes_encrypt",
    "atcab_aes_decrypt",
    "atcab_aes_gfm",
    "atcab_aes_cbc_init",
    "atcab_aes_cbc_encrypt_block",
    "atcab_aes_cbc_decrypt_block",
    "atcab_aes_ctr_init",
    "atcab_aes_ctr_encrypt_block",
    "atcab_aes_cmac_init",
    "atcab_aes_cmac_update",
    "atcab_aes_cmac_finish",
    "atcab_aes_gcm_init",
    "atcab_aes_gcm_aad_update",
    "atcab_aes_gcm_encrypt_update",
    "atcab_aes_gcm_encrypt_finish",
    "atcab_aes_gcm_decrypt_update",
    "atcab_aes_gcm_decrypt_finish",
]

CLAIMS = [
    "blank_chip_tells_who_it_is",
    "configuration_is_written_compared_and_read_back",
    "counter_is_preset_before_the_lock",
    "extra_byte_is_updated_once_it_is_zero",
    "configuration_is_locked_with_the_right_checksum_only",
    "private_keys_are_made_inside",
    "secrets_and_public_keys_are_written_before_the_data_lock",
    "data_zone_is_locked_with_the_right_checksum_only",
    "slot_lock_is_for_ever_and_only_for_lockable_slots",
    "clear_slot_is_written_and_read_in_every_size",
    "signature_and_public_key_are_read_from_their_slots",
    "size_and_kind_of_a_slot_are_told",
    "encrypted_slot_takes_and_gives_only_ciphertext_under_its_key",
    "public_keys_are_computed_again",
    "signatures_verify_with_openssl",
    "key_that_wants_a_random_nonce_signs_nothing_else",
    "internal_signature_covers_key_and_configuration",
    "stored_and_external_keys_tell_good_from_evil",
    "verify_mac_is_the_published_hash_and_survives_a_forger",
    "public_key_serves_from_validation_to_invalidation",
    "secure_boot_stores_a_verified_digest_and_knows_it_again",
    "secure_boot_with_mac_is_not_fooled",
    "latch_opens_a_key_until_power_is_lost",
    "shared_secrets_are_those_of_the_other_side",
    "ephemeral_key_makes_a_secret_once_and_is_nothing_else",
    "nonces_are_what_the_host_computes",
    "mac_follows_the_formula_in_every_mode",
    "check_mac_tells_right_from_wrong_and_opens_what_it_guards",
    "gen_dig_of_every_zone_reaches_the_mac",
    "counters_count_and_a_limited_key_counts_with_them",
    "hashes_are_sha256",
    "hash_in_parts_can_leave_and_come_back",
    "hmac_uses_the_key_of_a_slot",
    "keys_are_derived_by_prf_hkdf_and_aes",
    "aes_blocks_are_those_of_openssl",
    "aes_in_cbc_ctr_and_cmac_is_that_of_openssl",
    "aes_in_gcm_is_that_of_openssl",
    "state_and_validity_are_told_and_self_tests_pass_or_fail",
]


@pytest.fixture(scope="module")
def outcome():
    done = subprocess.run(
        [sys.executable, str(HERE / "vdev_cal.py")], capture_output=True, text=True, timeout=HANG_S
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_at_least_sixty_functions_ran_and_each_belongs_to_a_case_that_checks_its_data(outcome):
    declared = {name for case in outcome["cases"] for name in case["functions"]}
    assert declared == set(FUNCTIONS)
    assert len(declared) == len(FUNCTIONS) >= 60
    assert all(outcome["calls"][name] > 0 for name in FUNCTIONS)
    assert [case["claim"] for case in outcome["cases"]] == CLAIMS
    assert outcome["unmodelled"] == []


@pytest.mark.parametrize("claim", CLAIMS)
def test_library_on_the_model(outcome, claim):
    case = next(case for case in outcome["cases"] if case["claim"] == claim)
    assert not case["error"], case["error"]
    assert not case["missing"], f"declared, but never called: {case['missing']}"
