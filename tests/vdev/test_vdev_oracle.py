"""Microchip's CryptoAuthLib drives the chip model; each scenario has its own process."""

import importlib.util
import json
import subprocess
import sys

import pytest
from lifeline import HANG_S

if importlib.util.find_spec("cryptoauthlib") is None:
    pytest.skip("no cryptoauthlib wheel: pip install 'fota[test]'", allow_module_level=True)

OK, EXECUTION_ERROR = 0, -12


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    from pathlib import Path

    script = Path(__file__).with_name("vdev_oracle.py")

    def run(scenario):
        done = subprocess.run(
            [sys.executable, str(script), scenario], capture_output=True, text=True, timeout=HANG_S
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return {scenario: run(scenario) for scenario in ("locked", "blank", "esp32c3")}


def test_info_serial_and_configuration_are_read_as_they_are(results):
    r = results["locked"]
    assert r["info"] == [OK, "00006003"]
    assert r["serial"] == [OK, r["machine_serial"]]
    assert r["config"] == [OK, r["model_config"]]
    assert r["locked_config"] == [OK, True]
    assert r["locked_data"] == [OK, True]
    assert r["unmodelled"] == []


def test_random_and_nonce_work(results):
    assert results["locked"]["random"][0] == OK
    assert results["locked"]["random"][1] != "ffff0000" * 8
    assert results["locked"]["nonce"] == [OK]


def test_counter_reads_and_increments(results):
    r = results["locked"]
    assert (r["counter"], r["increment"], r["counter_after"]) == ([OK, 0], [OK, 1], [OK, 1])


@pytest.mark.parametrize("what", ["verify", "verify_mac", "verify_extern"])
def test_verify_tells_good_from_evil(results, what):
    assert results["locked"][f"{what}_good"] == [OK, True]
    assert results["locked"][f"{what}_evil"] == [OK, False]


def test_verify_mac_with_another_io_key_is_not_believed(results):
    assert results["locked"]["verify_mac_wrong_io_key"] == [OK, False]


def test_forged_success_fools_plain_verify_and_not_the_mac(results):
    assert results["locked"]["forged_plain"] == [OK, True]
    assert results["locked"]["forged_mac"] == [OK, False]


def test_signature_of_the_element_verifies_and_its_public_key_is_ours(results):
    r = results["locked"]
    assert r["sign"] == [OK]
    assert r["sign_verifies"] == [OK, True]
    assert r["public_key"] == [OK, r["host_public_key"]]
    assert r["genkey_free_slot"] == [OK]
    assert r["read_root"] == [OK, r["root"]]


def test_digest_of_the_element_is_sha256(results):
    import hashlib

    assert results["locked"]["sha"] == [OK, hashlib.sha256(bytes(130)).hexdigest()]


@pytest.mark.parametrize(
    "what",
    [
        *("verify_private_slot", "verify_data_slot", "sign_internal_only_slot", "sign_public_slot"),
        *("genkey_locked_slot", "write_locked_config", "write_locked_root", "read_secret_slot"),
    ],
)
def test_locked_chip_refuses_with_an_execution_error(results, what):
    assert results["locked"][what][0] == EXECUTION_ERROR


def test_free_slot_is_written_and_read_back(results):
    assert results["locked"]["write_free_slot"] == [OK]
    assert results["locked"]["read_free_slot"] == [OK, bytes(range(32)).hex()]


def test_blank_chip_is_open_gives_no_random_and_makes_no_keys(results):
    r = results["blank"]
    assert r["locked_config"] == [OK, False]
    assert r["random"] == [OK, "ffff0000" * 8]
    assert r["genkey_unlocked"] == [EXECUTION_ERROR]
    assert r["write_serial"] == [EXECUTION_ERROR]


def test_library_says_the_same_through_the_i2c_controller_of_the_esp32c3(results):
    """Its FIFOs of 32 bytes, END and STOP, acknowledge checks: nothing of it is seen by the library."""
    wire, controller = results["locked"], results["esp32c3"]
    # a new key each time; the forger wants an answer in one piece, and a list reads its last byte apart
    keys = wire.keys() - {"root", "read_root", "forged_plain"}
    assert {key: controller[key] for key in keys} == {key: wire[key] for key in keys}
    assert controller["read_root"] == [OK, controller["root"]]
    assert len(keys) > 35
