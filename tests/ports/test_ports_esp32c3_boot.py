"""The ESP32-C3's bootloader on the virtual chip: boot, trial, confirm, revert, floor, refusals."""

import hashlib
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from esp32c3_world import BANK, OTADATA, SLOTS, STORE, A, B
from espressif_forms import (
    ABORTED,
    INVALID,
    NEW,
    PENDING,
    UNDEFINED,
    VALID,
    Image,
    body,
    sector,
    signature_block,
    table,
)
from unicorn.riscv_const import UC_RISCV_REG_PC

from fota_wire import journal, status
from fota_wire.chips import esp32c3

ROOT = Path(__file__).resolve().parents[2]
AP1, OD1, PO4 = map(status.by_short, ("AP1", "OD1", "PO4"))
Signed = Callable[..., bytes]


def request(device: Any, slot: str = "B") -> None:
    running, wanted = (A, B) if slot == "B" else (B, A)
    device.append(journal.request(device.state(), running, wanted))


# --- boot ---


def test_first_boot_confirms_slot_a_and_raises_the_floor(c3: Any) -> None:
    report = c3.boot()
    assert (report.running, report.confirmed, report.trial) == (A, A, False)
    assert report.version == (1, 0, 0, 0)
    assert c3.floor == report.floor == 1
    assert c3.state().confirmed == A
    assert "app 1.0.0: slot A, confirmed" in c3.said
    assert c3.machine.warnings == c3.machine.faults == []


def test_application_finds_the_chip_as_espressif_s_loader_leaves_it(c3: Any) -> None:
    c3.boot()
    m = c3.machine.mem32
    mapped = [m[0x600C5000 + 4 * entry] for entry in range(128)]
    assert mapped[0] == mapped[127] == SLOTS["A"] >> 16  # the descriptor, where IDF 4 and IDF 5 look for it
    assert mapped[1] == (SLOTS["A"] >> 16) + 1  # code
    assert all(entry & 0x100 for entry in mapped[2:127])
    assert m[0x600C4004] & 3 == 0  # both buses open
    assert m[0x60008090] == 0xC007EE00  # our watchdog runs
    assert m[0x6001F048] & 1 << 14 == 0  # that of the timers does not
    assert m[0x600080AC] >> 31 == 1
    assert m[0x600080B8] == 0x00280028  # crystal
    assert m[0x600C0058] >> 10 & 3 == 1  # PLL
    assert m[0x6000811C] >> 30 == 0  # no noise source any more
    assert m[0x600C0010] >> 28 & 1 == 0


def test_only_the_loader_executes_until_the_jump(c3: Any) -> None:
    """The way for instructions into flash is shut while images are mapped for reading."""
    machine = c3.machine
    machine.power_on()
    machine.run(time_ms=60)
    assert machine.mem32[0x600C5000] == SLOTS["A"] >> 16
    assert machine.mem32[0x600C4004] & 1


@pytest.mark.parametrize("always", [True, False])
def test_watchdog_is_left_running_only_if_somebody_asked(c3: Any, always: bool) -> None:
    page = bytearray(c3.read(0x7000, 256))
    page[168] = always
    page[252:] = struct.pack("<I", zlib.crc32(page[:252]))
    c3.write(0x7000, bytes(page))
    c3.boot()
    assert c3.machine.mem32[0x60008090] == (0xC007EE00 if always else 0)


def test_element_that_is_absent_halts_and_the_watchdog_tries_again(c3: Any) -> None:
    bus = c3.machine.board.i2c_bus
    target, bus.target = bus.target, None
    try:
        c3.boot("halt: CE1")
        resets = len(c3.machine.resets)
        c3.boot("halt: CE1")
    finally:
        bus.target = target
    assert [cause for _, cause in c3.machine.resets[resets:]] == ["rtc watchdog"]
    assert "app" not in c3.said


def test_hang_of_the_application_ends_in_a_reset_that_the_report_names(c3: Any) -> None:
    c3.boot()
    c3.machine.cpu.uc.reg_write(UC_RISCV_REG_PC, 0x4038_0000)
    c3.machine.mem32[0x4038_0000] = 0xA001A001  # j .
    c3.machine.cpu.forget_code()
    report = c3.boot()
    assert c3.machine.resets[-1][1] == "rtc watchdog"
    assert report.reset_cause == 0x20


# --- updates asked for through the journal ---


def test_update_runs_on_trial_and_is_confirmed_by_the_client(c3: Any, c3_signed: Signed) -> None:
    c3.boot()
    c3.install("B", c3_signed("1.1.0", sec_cnt=2))
    c3.type("i", "install other slot: ok")
    c3.flash.log.clear()
    report = c3.restart("self-test passed")
    assert (report.running, report.trial, report.tries, c3.floor) == (B, True, 2, 1)
    assert c3.operations() == ["program"]  # one write, and nothing copied
    c3.type("c", "confirm: ok")
    c3.flash.log.clear()
    report = c3.restart()
    assert (report.running, report.confirmed, report.trial) == (B, B, False)
    assert c3.floor == 2
    assert c3.operations() == []
    assert c3.ota() == [(0xFFFFFFFF, 0xFFFFFFFF)] * 2


def test_trial_that_nobody_confirms_goes_back_after_its_tries(c3: Any, c3_signed: Signed) -> None:
    c3.boot()
    c3.install("B", c3_signed("1.1.0", sec_cnt=2))
    request(c3)
    assert [c3.restart().running for _ in range(4)] == [B, B, B, A]
    assert (c3.state().state, c3.state().reason) == (journal.REVERTED, PO4)
    assert c3.floor == 1


def test_application_that_fails_its_self_test_rejects_itself(c3: Any, c3_signed: Signed) -> None:
    c3.boot()
    c3.install("B", c3_signed("1.2.0", sec_cnt=2, fail=True))
    request(c3)
    report = c3.restart("app 1.0.0: journal: record")
    assert "app 1.2.0: self-test failed" in c3.said
    assert "slot B reverted: AP1" in c3.said
    assert report.running == A


def test_floor_keeps_an_older_image_out(c3: Any, c3_signed: Signed) -> None:
    c3.boot()
    c3.install("B", c3_signed("1.1.0", sec_cnt=3))
    request(c3)
    c3.restart("self-test passed")
    c3.type("c", "confirm: ok")
    assert c3.restart().floor == 3
    request(c3, "A")
    report = c3.restart()
    assert c3.refused("A") == "PO1"
    assert (report.running, c3.state().state) == (B, journal.REJECTED)


# --- updates asked for by OTA data ---


def test_update_by_ota_data_is_one_erase_and_two_writes_until_it_runs(c3: Any, c3_signed: Signed) -> None:
    """And one write in the boot that takes the confirmation, which the client's own would have spared."""
    c3.boot()
    c3.set_ota(0, 1, VALID)
    c3.install("B", c3_signed("1.1.0", sec_cnt=2))
    c3.set_ota(1, 2, NEW)
    c3.flash.log.clear()
    report = c3.restart("self-test passed")
    assert (report.running, report.trial, report.reason) == (B, True, OD1)
    assert c3.operations() == ["program", "erase", "program"]  # the journal first
    assert c3.ota() == [(1, VALID), (2, PENDING)]
    c3.mark(1)
    c3.flash.log.clear()
    report = c3.restart()
    assert (report.running, report.confirmed, report.trial) == (B, B, False)
    assert c3.operations() == ["program"]
    assert c3.state().confirmed == B
    c3.flash.log.clear()
    c3.restart()
    assert c3.operations() == []


def test_trial_by_ota_data_that_is_not_confirmed_is_aborted(c3: Any, c3_signed: Signed) -> None:
    c3.boot()
    c3.set_ota(0, 1, VALID)
    c3.install("B", c3_signed("1.1.0", sec_cnt=2))
    c3.set_ota(1, 2, UNDEFINED)
    assert [c3.restart().running for _ in range(4)] == [B, B, B, A]
    assert (c3.state().state, c3.state().reason) == (journal.REVERTED, PO4)
    assert c3.ota() == [(1, VALID), (2, ABORTED)]
    c3.flash.log.clear()
    assert c3.restart().running == A
    assert c3.operations() == []
    c3.set_ota(1, 2, NEW)  # asked for again: the same sector, the same number
    assert c3.restart().running == B


def test_mark_app_invalid_goes_back_at_the_next_reset(c3: Any, c3_signed: Signed) -> None:
    c3.boot()
    c3.set_ota(0, 1, VALID)
    c3.install("B", c3_signed("1.1.0", sec_cnt=2))
    c3.set_ota(1, 2, NEW)
    c3.restart()
    c3.mark(1, INVALID)
    assert c3.restart().running == A
    assert c3.state().reason == AP1


def test_image_that_is_refused_is_answered_so_in_the_ota_data(c3: Any, c3_signed: Signed, keys: Any) -> None:
    c3.boot()
    c3.set_ota(0, 1, VALID)
    c3.install("B", c3_signed("1.1.0", sec_cnt=2, key=keys.thief))
    c3.set_ota(1, 2, NEW)
    assert c3.restart().running == A
    assert c3.refused("B") == "IM8"
    assert c3.ota()[1] == (2, ABORTED)


def test_device_of_the_stock_bootloader_boots_what_it_ran(c3: Any, c3_signed: Signed) -> None:
    c3.install("B", c3_signed("1.1.0", sec_cnt=1))
    c3.set_ota(0, 1, VALID)
    c3.set_ota(1, 2, VALID)
    assert c3.boot().trial  # verified, and noted, before it counts
    report = c3.restart()
    assert (report.running, report.confirmed, report.trial) == (B, B, False)
    assert c3.ota() == [(1, VALID), (2, VALID)]


# --- refusals: the other slot boots (the forms' own in test_ports_esp32c3_refused.py) ---


@pytest.fixture
def bad(c3: Any, keys: Any) -> Callable[[bytes], Any]:
    """bad(image) -> what the journal says after the image was tried in slot B."""

    def run(image: bytes) -> Any:
        c3.boot()
        c3.install("B", image)
        request(c3)
        report = c3.restart()
        assert (report.running, report.confirmed) == (A, A)
        assert c3.state().state == journal.REJECTED
        return c3.refused("B")

    return run


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        pytest.param({"least": 100}, "IM14", id="newer-revision"),
        pytest.param({"most": 3}, "IM14", id="older-revision"),
        pytest.param({"class_id": bytes(16)}, "IM7", id="class"),
        pytest.param({"sec_cnt": 257}, "PO2", id="counter-step"),
        pytest.param({"entry": 0x403D8604}, "IM15", id="entry-in-the-loader"),
    ],
)
def test_image_that_does_not_fit_is_refused_by_name(
    bad: Any, keys: Any, parts: dict[str, Any], word: str
) -> None:
    assert bad(Image(key=keys.root_a)(**parts)) == word


def test_wrong_keys_and_signatures_are_refused(bad: Any, keys: Any, c3: Any) -> None:
    covered = body(Image(key=keys.root_a))
    other = hashlib.sha256(b"other").digest()
    signature = signature_block(keys.root_a, other)
    block = bytearray(signature_block(keys.root_a, hashlib.sha256(covered).digest()))
    block[101:165] = signature[101:165]  # a good signature, of something else
    block[1196:1200] = struct.pack("<I", zlib.crc32(bytes(block[:1196])))
    assert bad(covered + sector(bytes(block))) == "IM10"


def test_image_for_another_root_s_epoch_is_refused(c3: Any, c3_signed: Signed, keys: Any) -> None:
    c3.install("B", c3_signed("1.1.0", key=keys.root_b))
    c3.machine.element.nvm.counters[1] = 8
    report = c3.boot()
    assert c3.refused("A") == "IM9"
    assert report.running == B


# --- partition table ---


@pytest.mark.parametrize("damage", ["blank", "flipped", "wrong-md5", "no-fota"])
def test_damaged_table_is_said_and_the_copy_boots(c3: Any, c3_signed: Signed, damage: str) -> None:
    from espressif_forms import STORE as FOTA
    from espressif_forms import TABLE

    good = table()
    tables = {
        "blank": b"\xff" * 4096,
        "flipped": good[:70] + bytes([good[70] ^ 4]) + good[71:],
        "wrong-md5": good[:180] + bytes([good[180] ^ 1]) + good[181:],
        "no-fota": table(*(row for row in TABLE if row[0] != FOTA)),
    }
    c3.write(0x8000, tables[damage])
    c3.boot()
    assert "fota-boot: partitions: PT1" in c3.said
    c3.install("B", c3_signed("1.1.0", sec_cnt=2))
    request(c3)
    assert c3.restart().running == B


def test_table_without_md5_is_taken_as_it_is(c3: Any) -> None:
    c3.write(0x8000, table(md5=False))
    assert c3.boot().running == A
    assert "PT1" not in c3.said


def test_damaged_settings_halt(c3: Any) -> None:
    c3.write(0x7010, b"\0")
    c3.boot("halt: SE1")
    assert "app" not in c3.said


def test_journal_above_2_mib_is_written(c3: Any) -> None:
    """The ROM takes the flash for 2 MiB until it is told: a silent failure of every write."""
    assert STORE > 2 << 20
    c3.boot()
    assert c3.state().sequence == 1


# --- what is built ---


def test_code_is_rv32imc_and_nothing_else(c3_bootloader: Path) -> None:
    """The emulator executes atomics and floating point; the chip traps."""
    tool = "riscv64-unknown-elf-"
    for elf in (c3_bootloader, ROOT / "build/sample/esp32c3/app-1.0.0.elf"):
        said = subprocess.run(
            [tool + "readelf", "-A", elf], check=True, capture_output=True, text=True
        ).stdout
        parts = said.split('Tag_RISCV_arch: "')[1].split('"')[0].split("_")
        names = {part.rstrip("0123456789p").rstrip("0123456789") for part in parts}
        assert names <= {"rv32i", "m", "c", "zicsr", "zmmul"}, parts
    code = subprocess.run(
        [tool + "objdump", "-d", "--no-show-raw-insn", c3_bootloader],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    words = [line.split("\t")[1:] for line in code.splitlines() if line.count("\t") >= 1 and ":" in line]
    used = {word[0].strip() for word in words}
    assert not {w for w in used if w.startswith(("amo", "lr.", "sc.", "f", "ecall", "ebreak", "mret"))} - {
        "fence"
    }
    csrs = {" ".join(word) for word in words if word[0].strip().startswith("csr")}
    assert all("mstatus" in text or "mtvec" in text for text in csrs), csrs


def test_bootloader_fits_the_room_in_front_of_the_settings(c3_bootloader: Path) -> None:
    image = c3_bootloader.with_suffix(".bin").read_bytes()
    assert len(image) <= 0x7000
    assert image[:2] == b"\xe9\x02"
    assert image[-32:] == hashlib.sha256(image[:-32]).digest()


def test_bootloader_is_the_file_that_esptool_makes_of_its_elf(c3_bootloader: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.bin"
    how = ("--flash-mode", "dio", "--flash-freq", "80m", "--flash-size", "4MB", "-o", str(theirs))
    command = [sys.executable, "-m", "esptool", "--chip", "esp32c3", "elf2image", *how, str(c3_bootloader)]
    subprocess.run(command, check=True, capture_output=True)
    assert theirs.read_bytes() == c3_bootloader.with_suffix(".bin").read_bytes()


def test_boot_of_256_kib_stays_within_its_instructions(
    c3: Any, c3_signed: Signed, c3_plain: Callable[..., bytes]
) -> None:
    c3.boot()
    image = c3_signed("1.1.0", sec_cnt=2, pad=262144 - 8192)
    assert 250_000 < len(image) < 280_000
    c3.install("B", image)
    request(c3)
    c3.restart("self-test passed")
    c3.type("c", "confirm: ok")
    c3.restart()
    c3.machine.reset("pin")
    start, said = c3.machine.instructions, len(c3.machine.uart)
    result = c3.machine.run(until=lambda m: b"slot B 1.1.0 confirmed" in bytes(m.uart[said:]), time_ms=9000)
    used = c3.machine.instructions - start
    print(f"boot of {len(image)} bytes: {used} instructions, {result.time_us} us")
    assert 200_000 < used <= 2_000_000


def test_boot_of_256_kib_in_software_stays_within_its_instructions(
    c3: Any, c3_signed: Signed, c3_software: Path
) -> None:
    """The same bootloader with the compression function in C: for a chip whose engine is not to be used."""
    c3.write(0, c3_software.with_suffix(".bin").read_bytes())
    c3.install("A", c3_signed("1.1.0", pad=262144 - 8192))
    c3.boot()
    c3.machine.reset("pin")
    start, said = c3.machine.instructions, len(c3.machine.uart)
    c3.machine.run(until=lambda m: b"slot A 1.1.0 confirmed" in bytes(m.uart[said:]), time_ms=9000)
    used = c3.machine.instructions - start
    print(f"in software: {used} instructions")
    assert 2_000_000 < used <= 21_000_000


def test_report_says_where_the_journal_is(c3: Any) -> None:
    c3.boot()
    report = c3.machine.read(esp32c3.BOOT_REPORT_ADDRESS, 128)
    assert struct.unpack_from("<I", report, 96)[0] == STORE
    assert SLOTS["A"] > OTADATA
    assert BANK == 1
