"""What a boot says to the element: bytes and times beside those computed from the chip's documents."""

import pytest

from fota_vdev.atecc608.assumptions import Assumptions
from fota_vdev.wires.bus_log import listening, load_log
from fota_vdev.wires.trace import read_log

# Bytes on the bus, address bytes included, and the library's longest time in ms at clock divider M0.
NONCE_64, VERIFY_MAC = (73 + 5, 20), (73 + 36, 105)
NONCE, GENDIG, MAC, COUNTER = (29 + 36, 20), (9 + 5, 25), (9 + 36, 55), (9 + 8, 25)
COUNTER_READ = (NONCE, GENDIG, MAC, COUNTER)
WAKE, SLEEP = (6, 1.5), (2, 0)
MS_PER_BYTE = 0.0225  # 400 kHz
VERIFY_SESSION_BYTES, VERIFY_SESSION_MS = 197, 131  # wake, Nonce, Verify(Stored) with MAC, sleep


@pytest.fixture
def boot_log(device, tmp_path):
    """Boot a device from the factory, its element as slow as allowed; return what it said."""
    element = device.machine.element
    usual, element.assumptions = element.assumptions, Assumptions(execution=1.0)
    try:
        with listening(device.machine, tmp_path / "log"):
            device.boot()
    finally:
        element.assumptions = usual
    return read_log(load_log(tmp_path / "log")[0])


def sessions(entries):
    """Split at every wake that the chip answered."""
    out = []
    for entry in entries:
        if entry.name == "wake" and entry.result == "awake":
            out.append([])
        if out and entry.name != "--":
            out[-1].append(entry)
    return out


def test_exchange_of_a_boot_is_within_5_percent_of_the_bytes_and_times_that_were_computed(boot_log):
    first = sessions(boot_log)[0]
    names = [entry.name for entry in first if entry.is_command]
    assert names == ["Nonce", "GenDig", "MAC", "Counter"] * 2 + ["Nonce", "Verify"]
    expected = (WAKE, *COUNTER_READ, *COUNTER_READ, NONCE_64, VERIFY_MAC, SLEEP)
    size, limit = sum(n for n, _ in expected), sum(ms for _, ms in expected)
    assert size == pytest.approx(VERIFY_SESSION_BYTES + 2 * sum(n for n, _ in COUNTER_READ), rel=0.05)
    session = first[: [entry.name for entry in first].index("sleep") + 1]
    assert sum(entry.bus_bytes for entry in session) == pytest.approx(size, rel=0.05)
    took_ms = (session[-1].at_us - session[0].at_us) / 1000
    assert took_ms == pytest.approx(limit + size * MS_PER_BYTE, rel=0.05)


def test_verification_alone_is_within_5_percent_of_197_bytes_and_131_ms(boot_log):
    first = sessions(boot_log)[0]
    wake, (nonce, verify) = first[0], [entry for entry in first if entry.is_command][-2:]
    sleep = next(entry for entry in first if entry.name == "sleep")
    size = sum(entry.bus_bytes for entry in (wake, nonce, verify, sleep))
    assert size == pytest.approx(VERIFY_SESSION_BYTES, rel=0.05)
    took_ms = sum(entry.took_us or 0 for entry in (wake, nonce, verify)) / 1000 + size * MS_PER_BYTE
    assert took_ms == pytest.approx(VERIFY_SESSION_MS, rel=0.05)


def test_no_secret_is_on_the_bus_in_a_boot(device, tmp_path):
    from fota_wire.settings import unpack

    settings = unpack(device.flash.read_phys(1, 0x3800, 256))
    with listening(device.machine, tmp_path / "log", secrets=True):
        device.boot()
    raw = (tmp_path / "log").read_text().replace(" ", "")
    assert settings.io_key.hex() not in raw
    assert settings.mac_key.hex() not in raw
    assert not any(None in message.data for message in load_log(tmp_path / "log")[0])
