"""Bad input, ESP32-C3: one table of images with one thing wrong, held against all who look at them.

The chip's parser on the host, and the chip itself, where the other slot boots; then what lies beside images.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import pytest
from esp32c3_world import OTADATA, A, B, Device
from esp_refused import GOOD, REFUSED, image_of
from espressif_forms import NEW, VALID, ota_record
from test_ports_esp32c3_image import Chip, parse

from fota_wire import journal, status


@pytest.fixture
def chip(espressif_core: ctypes.CDLL) -> Chip:
    """As the model's eFuses say: revision 0.4."""
    chip = Chip.in_dll(espressif_core, "fota_chip")
    chip.revision, chip.block, chip.no_upper = 4, 0, 0
    return chip


@pytest.mark.parametrize("name", REFUSED)
def test_chips_parser_says_what_the_signers_says(espressif_core: ctypes.CDLL, chip: Chip, name: str) -> None:
    verdict, _ = parse(espressif_core, image_of(name))
    assert verdict == (status.short_of(REFUSED[name][1]) if REFUSED[name][1] else "ok")


# --- on the chip: refused by its own name, and the other slot boots ---

NONE = 0xC3
ON_CHIP = (
    "17-segments", "chip-esp32", "chip-esp32-s3", "revision-that-there-is-not", "no-descriptor",
    "iram-over-the-loader", "dram-over-iram-by-its-alias", "irom-leaves-its-window", "ram-that-wraps",
    "no-block", "block-of-another-key",
)  # fmt: skip
NOT_ESPRESSIFS = {
    "an-stm32s": (lambda: b"\x3d\xb8\xf3\x96" + GOOD[4:], "IM1"),
    "damaged": (lambda: GOOD[:0x9000] + bytes([GOOD[0x9000] ^ 1]) + GOOD[0x9001:], "IM6"),
    "cut-short": (lambda: GOOD[:-4096], "IM8"),
    "zeros": (lambda: bytes(8192), "IM1"),
}


@pytest.fixture(scope="module")
def confirmed(c3_factory: Any) -> Any:
    """1.0.0 was confirmed in slot A, the power is off: a snapshot."""
    machine = c3_factory.machine
    machine.restore(c3_factory.fresh)
    device = Device(machine)
    device.boot()
    machine.power_off()
    return machine.snapshot()


@pytest.fixture
def tried(c3: Any, confirmed: Any) -> Callable[[bytes], tuple[str, int]]:
    """tried(image) -> the status with which slot B was refused, and the slot that runs."""

    def run(image: bytes) -> tuple[str, int]:
        c3.machine.restore(confirmed)
        c3.install("B", image)
        c3.append(journal.request(c3.state(), A, B))
        running = c3.boot().running
        return c3.refused("B"), running

    return run


@pytest.mark.parametrize("name", ON_CHIP)
def test_image_is_refused_by_name_and_the_other_slot_boots(c3: Any, tried: Any, name: str) -> None:
    code = REFUSED[name][1]
    assert tried(image_of(name)) == (status.short_of(code), A)
    state = c3.state()
    assert (state.confirmed, state.state, state.reason) == (A, journal.REJECTED, code)


@pytest.mark.parametrize("name", NOT_ESPRESSIFS)
def test_what_is_no_image_of_this_chip_is_refused_and_the_other_slot_boots(tried: Any, name: str) -> None:
    make, word = NOT_ESPRESSIFS[name]
    assert tried(make()) == (word, A)


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(ota_record(2, NEW, damaged=True), id="crc"),
        pytest.param(ota_record(2, NEW)[:20] + bytes(12), id="torn"),
        pytest.param(b"\xa5" * 32, id="noise"),
    ],
)
def test_damaged_ota_data_ask_for_nothing(c3: Any, confirmed: Any, record: bytes) -> None:
    c3.machine.restore(confirmed)
    c3.set_ota(0, 1, VALID)
    c3.install("B", GOOD)
    c3.write(OTADATA + 4096, record.ljust(4096, b"\xff"))
    assert c3.boot().running == A
    assert (c3.state().confirmed, c3.state().candidate, c3.refused("B")) == (A, NONE, "")
    assert c3.ota()[0] == (1, VALID)
