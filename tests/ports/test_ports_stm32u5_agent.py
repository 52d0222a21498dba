"""The agent's board on an STM32U585: its flash calls on the emulated flash, journal, store, boot report."""

import random
from typing import Any

import pytest

from fota_agent.boards.flash_stm32l4 import CR_LOCK
from fota_agent.boards.flash_stm32u5 import BankSlotU5, FlashU5
from fota_agent.boards.stm32u5 import Stm32U5Board
from fota_agent.transport import download
from fota_wire import host_chips, journal
from fota_wire.errors import DeviceError, VerifyError
from fota_wire.status import FL1, FL2, IM13

from .conftest import A, B

U5 = host_chips.stm32("stm32u585")
PAGE = U5.PAGE_SIZE


@pytest.fixture
def flash(device: Any) -> FlashU5:
    device.machine.power_on()
    return FlashU5(device.machine.mem32, device.machine.read, device.machine.sleep_us)


def page_of(seed: int, size: int = 256) -> bytearray:
    return bytearray(random.Random(seed).randbytes(size))


@pytest.mark.parametrize("bank", [1, 2])
def test_erase_and_program_touch_one_page_of_one_physical_bank(
    device: Any, flash: FlashU5, bank: int
) -> None:
    for number in (1, 2):
        for page in (8, 9, 10):
            device.flash.write_phys(number, page * PAGE, page_of(1, PAGE))
    address = flash.address(bank, 9 * PAGE)
    flash.erase(address)
    flash.program(address, page_of(2))
    assert device.flash.read_phys(bank, 9 * PAGE, PAGE) == page_of(2) + b"\xff" * (PAGE - 256)
    for number, page in ((1, 8), (1, 10), (2, 8), (2, 10), (3 - bank, 9)):
        assert device.flash.read_phys(number, page * PAGE, PAGE) == page_of(1, PAGE)
    assert dict(device.flash.counters.erases) == {(bank, 9): 1}
    assert device.machine.mem32[FlashU5.CR] & CR_LOCK


def test_banks_are_known_by_the_factorys_layout_after_a_swap(staged: Any) -> None:
    staged.boot("journal: record")
    flash = FlashU5(staged.machine.mem32, staged.machine.read, staged.machine.sleep_us)
    assert staged.low_bank == 2
    assert (flash.address(2, 0), flash.address(1, 0)) == (U5.FLASH_BASE, U5.OTHER_BANK_BASE)
    flash.erase(flash.address(1, 9 * PAGE))
    assert (1, 9) in staged.flash.counters.erases
    flash.program(flash.address(1, 9 * PAGE), page_of(3))
    assert staged.flash.read_phys(1, 9 * PAGE, 256) == page_of(3)


def test_quad_word_is_programmed_once_and_written_twice_is_an_error(device: Any, flash: FlashU5) -> None:
    slot = BankSlotU5(flash, U5.INACTIVE_SLOT_ADDRESS, U5.SLOT_SIZE)
    before = device.flash.counters.double_words[2]
    slot.program(0, b"\xff" * 16 + bytes(range(16)) + b"\xff" * 32)
    assert device.flash.counters.double_words[2] == before + 1
    with pytest.raises(DeviceError) as caught:
        slot.program(16, page_of(2))
    assert caught.value.code == FL1
    with pytest.raises(ValueError, match="flash words"):
        slot.program(8, bytes(16))
    slot.erase(0)
    slot.program(16, page_of(2))
    assert slot.read(16, 256) == page_of(2)


def test_write_protected_page_is_an_error(device: Any, flash: FlashU5) -> None:
    for bank in (1, 2):
        with pytest.raises(DeviceError) as caught:
            flash.erase(flash.address(bank, PAGE))
        assert caught.value.code == FL2
    assert device.flash.counters.total_erases == 0


def test_page_torn_by_a_power_cut_is_where_writing_goes_on(device: Any, flash: FlashU5) -> None:
    slot = BankSlotU5(flash, U5.INACTIVE_SLOT_ADDRESS, U5.SLOT_SIZE)
    generator = random.Random(7)
    for attempt in range(8):
        download.erase(slot, 3 * PAGE)
        slot.program(0, page_of(0, PAGE))
        device.machine.cut_power_at(flash_op=generator.randrange(1, PAGE // 16), torn=attempt)
        with pytest.raises(DeviceError):
            slot.program(PAGE, page_of(1, PAGE))
        device.machine.power_on()
        offset = download.resume_offset(slot, 3 * PAGE)
        assert 0 <= offset <= PAGE
        assert all(slot.is_blank(at) for at in range(offset, 3 * PAGE, PAGE))


@pytest.fixture
def board(device: Any) -> Stm32U5Board:
    """The board of a device that runs 1.0.0, confirmed, in slot A."""
    device.boot()
    machine = device.machine
    clock = [0]
    return Stm32U5Board(
        machine.mem32, machine.i2c, machine.read, machine.sleep_us, lambda: clock[0], lambda n: 0
    )


def test_board_reads_what_factory_and_bootloader_left(
    device: Any, board: Stm32U5Board, factory_device: Any
) -> None:
    assert board.device_id == factory_device.record.serial
    assert board.certificate == factory_device.record.certificate
    assert (board.slot_size, board.running.page_size) == (U5.SLOT_SIZE, PAGE)
    report = board.boot_report()
    assert (report.version, report.running) == ((1, 0, 0, 0), A)


def test_request_confirm_and_reject_of_the_board_are_what_the_bootloader_obeys(
    device: Any, board: Stm32U5Board, signed: Any
) -> None:
    image = signed("1.1.0", sec_cnt=2)
    download.erase(board.inactive, len(image))
    for at in range(0, len(image), 4096):
        part = image[at : at + 4096]
        board.inactive.program(at, bytearray(part + b"\xff" * (-len(part) % 16)))
    board.request()
    board.reset()
    report = device.boot()
    assert (report.version, report.running, report.trial) == ((1, 1, 0, 0), B, True)
    assert device.low_bank == 2
    board.confirm()
    assert device.state().confirmed == B
    assert device.restart().trial is False


def test_image_of_another_chip_is_no_trial(board: Stm32U5Board, device: Any, signed: Any) -> None:
    own, other = signed("1.1.0", sec_cnt=2), signed("1.1.0", sec_cnt=2, chip=host_chips.stm32("stm32l476"))
    device.flash.write_phys(2, U5.SLOT_OFFSET, own)
    assert download.inspect(board.inactive, len(own))[0] == 2
    unsaid = signed("1.1.0", sec_cnt=2, chip=None)
    device.flash.write_phys(2, U5.SLOT_OFFSET, unsaid)
    assert download.inspect(board.inactive, len(unsaid))[0] == 2
    device.flash.write_phys(2, U5.SLOT_OFFSET, other)
    with pytest.raises(VerifyError, match="for chip 'stm32l476', not stm32u585") as caught:
        download.inspect(board.inactive, len(other))
    assert caught.value.code == IM13


def test_store_keeps_the_newer_of_two_copies(device: Any, board: Stm32U5Board) -> None:
    assert board.load_store() is None
    for number in range(4):
        board.save_store([b"state %d" % number])
    assert board.load_store() == b"state 3"
    device.machine.cut_power_at(flash_op=2, torn=1)
    with pytest.raises(DeviceError):
        board.save_store([b"state 4"])
    device.boot()
    assert board.load_store() == b"state 3"
    room = range(U5.AGENT_STORE_OFFSET // PAGE, (U5.AGENT_STORE_OFFSET + U5.AGENT_STORE_SIZE) // PAGE)
    worn = {page for bank, page in device.flash.counters.erases if bank == 2 and page in room}
    assert worn == {room[0], room[2]}


def test_torn_record_of_the_journal_is_an_absent_one(device: Any, board: Stm32U5Board) -> None:
    before = device.state()
    device.machine.cut_power_at(flash_op=1, torn=3)
    with pytest.raises(DeviceError):
        board.request()
    device.boot()
    assert device.state().sequence in (before.sequence, before.sequence + 1)
    assert board._scan()[0] == device.state()
    assert journal.scan(*device.pages())[0] == device.state()
