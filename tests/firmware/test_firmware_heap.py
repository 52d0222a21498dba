"""A whole update on this machine's MicroPython in a heap of 64 KiB: the chip's agent and drivers, frozen,
with real TLS, the real server, the modelled element, and the real bootloader at both ends."""

import pytest
import unix_agent

HEAP, TOO_SMALL = 64 * 1024, 40 * 1024


@pytest.fixture(scope="module")
def agent(chip, tmp_path_factory):
    if unix_agent.why_not():
        pytest.skip(unix_agent.why_not())
    chip.release_chip("1.1.0", 2)
    chip.fota("device", "admit", chip.device_id)
    chip.fota("rollout", "start", "1.1.0", "--device", chip.device_id)
    return unix_agent.UnixAgent(chip, tmp_path_factory.mktemp("unix"))


def test_heap_that_is_too_small_ends_without_an_update(agent):
    done, said = agent.update(TOO_SMALL)
    assert not done
    assert any(unix_agent.NO_MEMORY in line for line in said), said
    assert not any(line.startswith("phase request") for line in said)


def test_whole_update_fits_a_heap_of_64_kib_and_its_image_boots(agent):
    done, said = agent.update(HEAP)
    assert done, said[-5:]
    phases = [line.split()[1] for line in said if line.startswith("phase ")]
    for phase in ("nonce", "checkin", "erase", "fetch", "compare-written", "inspect", "request", "reboot"):
        assert phase in phases
    booted = agent.boot("agent 1.1.0: slot B runs 1.1.0, trial")
    assert "fota-boot: slot B 1.1.0 trial" in booted
