"""The agent's board on an ESP32-C3: its flash calls on the emulated flash, places, journal, store, images."""

import hashlib
import random
import struct
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from esp32c3_world import PAGE, SLOTS, STORE, Device
from espressif_forms import TABLE, table

from fota_agent.boards import esp32
from fota_agent.boards.esp32c3_spi import Esp32C3SpiBoard, Spi1Flash, SpiNorFlash
from fota_agent.transport import download
from fota_vdev.parts.bus import PowerCutError
from fota_wire import esp_partitions, journal
from fota_wire.chips import esp32c3
from fota_wire.errors import DeviceError, VerifyError
from fota_wire.status import FL1, IM1, IM3, IM4, IM13, JO2, SE1

from .conftest import A, B

SECTOR = esp32c3.PAGE_SIZE


def page_of(seed: int, size: int = SECTOR) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture
def flash(c3: Any) -> SpiNorFlash:
    c3.machine.power_on()
    return SpiNorFlash(c3.machine.mem32, c3.machine.read, c3.machine.sleep_us)


def board_of(device: Any) -> Esp32C3SpiBoard:
    machine = device.machine
    return Esp32C3SpiBoard(
        machine.mem32, machine.i2c, machine.read, machine.sleep_us, lambda: machine.time_us // 1000,
        lambda limit: limit - 1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def booted(c3_factory: Any) -> Any:
    """The factory's device once it runs 1.0.0 in slot A."""
    c3_factory.machine.restore(c3_factory.fresh)
    Device(c3_factory.machine).boot()
    return c3_factory.machine.snapshot()


@pytest.fixture
def running(c3: Any, booted: Any) -> Any:
    """That device."""
    c3.machine.restore(booted)
    return c3


@pytest.fixture
def board(running: Any) -> Esp32C3SpiBoard:
    return board_of(running)


def power_again(device: Any, before: Any) -> Esp32C3SpiBoard:
    """Power comes back after a cut, and the bootloader reports what it did before: the board of that life."""
    device.machine.power_on()
    device.machine.space.write(esp32c3.BOOT_REPORT_ADDRESS, before)
    return board_of(device)


def report_of(device: Any) -> bytes:
    return bytes(device.machine.read(esp32c3.BOOT_REPORT_ADDRESS, 128))


# --- flash ---


def test_erase_and_program_touch_one_sector(c3: Any, flash: SpiNorFlash) -> None:
    at = SLOTS["B"] + 5 * SECTOR
    around = page_of(1, 3 * SECTOR)
    c3.write(at - SECTOR, around)
    c3.flash.log.clear()
    flash.erase(at)
    assert flash.is_blank(at)
    assert c3.read(at - SECTOR, 3 * SECTOR) == around[:SECTOR] + b"\xff" * SECTOR + around[2 * SECTOR :]
    flash.program(at, page_of(2))
    assert c3.read(at, SECTOR) == flash.read(at, SECTOR) == page_of(2)
    assert c3.read(at + SECTOR, SECTOR) == around[2 * SECTOR :]
    assert [op.kind for op in c3.flash.log].count("erase") == 1


def test_unaligned_stretch_is_read_and_written_over_the_ends_of_pages(c3: Any, flash: SpiNorFlash) -> None:
    at = SLOTS["B"] + 0xF4  # a page ends 12 bytes behind it
    flash.program(at, page_of(3, 300))
    assert c3.read(at, 300) == page_of(3, 300)
    for start, length in ((1, 1), (3, 66), (11, 130)):
        assert flash.read(at + start, length) == page_of(3, 300)[start : start + length]


def test_programming_what_was_not_erased_is_an_error(flash: SpiNorFlash) -> None:
    flash.program(SLOTS["B"], bytes(64))
    with pytest.raises(DeviceError) as caught:
        flash.program(SLOTS["B"], b"\xff" * 64)
    assert caught.value.code == FL1
    with pytest.raises(ValueError, match="words"):
        flash.program(SLOTS["B"] + 2, bytes(4))


@pytest.mark.parametrize("number", range(8))
def test_download_goes_on_behind_what_a_power_cut_tore(c3: Any, board: Esp32C3SpiBoard, number: int) -> None:
    size = 3 * SECTOR
    wanted = page_of(4, size)
    download.erase(board.inactive, size)
    report = report_of(c3)
    c3.machine.cut_power_at(flash_op=1 + random.Random(number).randrange(size // 64))
    with pytest.raises(PowerCutError):
        write(board, wanted, 0)
    board = power_again(c3, report)
    offset = download.resume_offset(board.inactive, size)
    assert offset % SECTOR == 0
    assert board.inactive.read(0, offset) == wanted[:offset]
    write(board, wanted, offset)
    assert c3.read(SLOTS["B"], size) == wanted
    found = download.digest_of(board.inactive, size, memoryview(bytearray(SECTOR)))
    assert found == hashlib.sha256(wanted).digest()


@pytest.mark.parametrize("number", range(1, 4))
def test_sector_torn_while_it_was_erased_is_erased_again(
    c3: Any, board: Esp32C3SpiBoard, number: int
) -> None:
    c3.write(SLOTS["B"], page_of(5, 3 * SECTOR))
    report = report_of(c3)
    c3.machine.cut_power_at(flash_op=number)
    with pytest.raises(PowerCutError):
        download.erase(board.inactive, 3 * SECTOR)
    download.erase(power_again(c3, report).inactive, 3 * SECTOR)
    assert c3.read(SLOTS["B"], 3 * SECTOR) == b"\xff" * 3 * SECTOR


def write(board: Esp32C3SpiBoard, wanted: bytes, offset: int) -> None:
    for at in range(offset, len(wanted), SECTOR):
        board.inactive.program(at, memoryview(wanted)[at : at + SECTOR])


def install(board: Esp32C3SpiBoard, image: bytes) -> None:
    download.erase(board.inactive, len(image))
    write(board, image, 0)


# --- MicroPython's own port: its modules, over the emulated chip ---


def test_board_is_found_through_the_modules_of_micropythons_own_port(
    running: Any, monkeypatch: pytest.MonkeyPatch, c3_signed: Any
) -> None:
    """`esp` writes as ESP-IDF does: whole words, page by page, nothing erased; sectors are torn by cuts."""
    machine, pins = running.machine, []

    class Partition:
        @staticmethod
        def find(kind: int, *, subtype: int, label: str | None) -> list[Any]:
            raw = running.read(esp32c3.TABLE_OFFSET, 0xC00)
            return [
                part
                for part in esp_partitions.parse(raw, esp32c3)
                if (part.kind, part.subtype) == (kind, subtype)
            ]

    def i2c(number: int, *, scl: int, sda: int, freq: int) -> Any:
        pins.append((number, scl, sda, freq))
        return machine.i2c

    modules = {
        "esp": Spi1Flash(machine.mem32),
        "esp32": SimpleNamespace(Partition=Partition),
        "machine": SimpleNamespace(mem32=machine.mem32, I2C=i2c, Pin=lambda pin: pin),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("time.ticks_ms", lambda: machine.time_us // 1000, raising=False)
    monkeypatch.setattr("time.ticks_diff", lambda a, b: a - b, raising=False)
    monkeypatch.setattr("time.sleep_us", machine.sleep_us, raising=False)
    board: Any = esp32.detect()
    assert pins == [(0, 6, 5, 100_000)]
    assert isinstance(board, esp32.SecondStageBoard)
    image = c3_signed("1.1.0", sec_cnt=2)
    install(board, image)
    assert (board.inspect(len(image))[0], board.health()) == (2, True)
    board.request()
    assert (running.state().state, running.state().candidate) == (journal.STAGED, B)


# --- places ---


def test_places_are_those_of_the_table_and_of_the_settings_where_that_is_damaged(
    running: Any,
) -> None:
    c3 = running
    by_table = board_of(c3)
    assert by_table.running._address == SLOTS["A"]  # type: ignore[attr-defined]
    assert by_table.inactive._address == SLOTS["B"]  # type: ignore[attr-defined]
    assert by_table._flash.journal() == STORE
    c3.write(esp32c3.TABLE_OFFSET, b"\0" * 4)
    by_copy = board_of(c3)
    assert by_copy._flash._places == by_table._flash._places
    c3.write(esp32c3.SETTINGS_OFFSET, b"\0" * 256)
    with pytest.raises(DeviceError) as caught:
        board_of(c3)
    assert caught.value.code == SE1


def test_table_that_is_not_the_one_that_the_bootloader_read_is_no_board(running: Any) -> None:
    c3 = running
    c3.write(esp32c3.TABLE_OFFSET, table(*TABLE[:-1], ((0x40, 1), 0x298000, 0x8000, "fota")))
    assert c3.restart().store == 0x298000
    c3.write(esp32c3.TABLE_OFFSET, table(*TABLE))
    with pytest.raises(DeviceError, match="the bootloader has its journal at 0x298000") as caught:
        board_of(c3)
    assert caught.value.code == SE1


@pytest.mark.parametrize("burnt", range(8))
def test_flash_encryption_is_told_by_its_name(running: Any, burnt: int) -> None:
    c3 = running
    c3.flash.options["repeat_data1"] = burnt << 18 | 0xFFE3FFFF  # whatever else is burnt beside
    if burnt.bit_count() % 2 == 0:
        board_of(c3)
        return
    with pytest.raises(DeviceError, match="flash encryption is on") as caught:
        board_of(c3)
    assert caught.value.code == SE1


def test_board_before_the_bootloader_has_run_is_refused(c3: Any) -> None:
    c3.machine.power_on()
    with pytest.raises(DeviceError, match="has the bootloader run"):
        board_of(c3)


# --- journal, store, reset ---


def test_request_trial_confirm_on_the_journal_that_the_bootloader_keeps(
    c3: Any, board: Esp32C3SpiBoard, c3_signed: Any
) -> None:
    image = c3_signed("1.1.0", sec_cnt=2)
    install(board, image)
    assert board.inspect(len(image)) == (2, board.class_id)
    board.request()
    board.reset()
    report = c3.boot()
    assert (report.running, report.trial) == (B, True)
    board = board_of(c3)
    assert board.running._address == SLOTS["B"]  # type: ignore[attr-defined]
    with pytest.raises(VerifyError) as caught:
        board.request()
    assert caught.value.code == JO2
    board.confirm()
    assert (c3.state().confirmed, c3.state().state) == (B, journal.NONE)
    board.reset()
    assert c3.boot().running == B
    assert c3.ota()[0][0] == 0xFFFFFFFF, "OTA data is not ours to write"


def test_reject_goes_back_and_says_why(c3: Any, board: Esp32C3SpiBoard, c3_signed: Any) -> None:
    install(board, c3_signed("1.1.0", sec_cnt=2))
    board.request()
    board.reset()
    c3.boot()
    board_of(c3).reject(0x41500001)
    c3.machine.reset("pin")
    report = c3.boot()
    assert (report.running, report.state, report.reason) == (A, journal.REVERTED, 0x41500001)


def test_journal_turns_its_pages(c3: Any, board: Esp32C3SpiBoard) -> None:
    for _ in range(2 * PAGE // journal.RECORD_SIZE + 3):
        board.request()
    record = c3.state()
    assert (record.state, record.candidate) == (journal.STAGED, B)


def test_store_is_written_in_turn_and_a_cut_leaves_the_newer_one(c3: Any, board: Esp32C3SpiBoard) -> None:
    assert board.load_store() is None
    for text in (b"first", b"second"):
        board.save_store([text])
        assert bytes(board.load_store() or b"") == text
    report = report_of(c3)
    c3.machine.cut_power_at(flash_op=1)
    with pytest.raises(PowerCutError):
        board.save_store([b"third"])
    assert bytes(power_again(c3, report).load_store() or b"") in (b"second", b"third")


def test_damaged_trust_store_is_no_board(running: Any) -> None:
    c3 = running
    c3.write(STORE + esp32c3.TRUST_STORE_OFFSET, b"\0" * 16)
    with pytest.raises(DeviceError) as caught:
        board_of(c3)
    assert caught.value.code == SE1


# --- images ---


def change(at: int, data: bytes) -> Any:
    def changed(image: bytes) -> bytes:
        return image[:at] + data + image[at + len(data) :]

    return changed


def without_block(image: bytes) -> bytes:
    return image.replace(b"FOTA", b"fota", 1)


def of_another_length(image: bytes) -> bytes:
    at = image.index(b"FOTA\x01\x00")
    return change(at + 6, struct.pack("<H", 67))(image)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        pytest.param(change(0, b"\x3d"), IM1, id="no-magic"),
        pytest.param(change(12, b"\x00\x00"), IM13, id="classic-esp32"),
        pytest.param(change(28, b"\xf0\xff\xff\xff"), IM3, id="segment-leaves-the-file"),
        pytest.param(without_block, IM4, id="no-fota-block"),
        pytest.param(of_another_length, IM4, id="fota-block-of-another-length"),
    ],
)
def test_image_that_makes_no_sense_here_is_refused_before_a_trial(
    c3: Any, board: Esp32C3SpiBoard, c3_signed: Any, spoil: Any, code: int
) -> None:
    image = spoil(c3_signed("1.1.0", sec_cnt=2))
    c3.install("B", image)
    with pytest.raises(VerifyError) as caught:
        board.inspect(len(image))
    assert caught.value.code == code
