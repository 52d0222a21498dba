"""Flash controller, slots, journal and agent store of the board, on the virtual device's flash model."""

import random

import pytest

from fota_agent.boards.flash_stm32l4 import CR_LOCK, BankSlot, Flash
from fota_agent.engine import state as store
from fota_agent.transport import download
from fota_wire.chips import stm32l476
from fota_wire.errors import DeviceError
from fota_wire.status import FL1, FL2

machine_module = pytest.importorskip("fota_vdev.machine")
PAGE = stm32l476.PAGE_SIZE
SLOT_OF_BANK = {1: stm32l476.SLOT_ADDRESS, 2: stm32l476.INACTIVE_SLOT_ADDRESS}


@pytest.fixture
def machine():
    made = machine_module.Machine(seed=1)
    made.power_on()
    return made


@pytest.fixture
def flash(machine):
    return Flash(machine.mem32, machine.read, machine.sleep_us)


@pytest.fixture
def slot(flash):
    return BankSlot(flash, stm32l476.INACTIVE_SLOT_ADDRESS, stm32l476.SLOT_SIZE)


def page_of(seed):
    return bytearray(random.Random(seed).randbytes(PAGE))


@pytest.mark.parametrize("bank", [1, 2])
def test_erase_and_program_touch_exactly_one_page_of_the_bank(machine, flash, bank):
    other = bytes(page_of(1))
    for number in (1, 2):
        for page in (8, 9, 10):
            machine.flash.write_phys(number, page * PAGE, other)
    address = flash.address(bank, 9 * PAGE)
    flash.erase(address)
    flash.program(address, page_of(2))
    assert machine.flash.read_phys(bank, 9 * PAGE, PAGE) == page_of(2)
    for number, page in ((1, 8), (1, 10), (2, 8), (2, 10), (3 - bank, 9)):
        assert machine.flash.read_phys(number, page * PAGE, PAGE) == other
    assert dict(machine.flash.counters.erases) == {(bank, 9): 1}
    assert machine.mem32[Flash.CR] & CR_LOCK


def test_mapping_follows_fb_mode_while_bker_stays_physical(machine, flash):
    machine.flash.write_phys(1, 9 * PAGE, bytes(page_of(1)))
    flash.address(1, 0)  # gives SYSCFG its clock
    machine.mem32[0x40010000] |= 1 << 8
    assert flash.address(1, 0) == stm32l476.OTHER_BANK_BASE
    assert flash.address(2, 0) == stm32l476.FLASH_BASE
    flash.erase(flash.address(1, 9 * PAGE))
    assert dict(machine.flash.counters.erases) == {(1, 9): 1}
    flash.program(stm32l476.FLASH_BASE + 9 * PAGE, page_of(3))
    assert machine.flash.read_phys(2, 9 * PAGE, PAGE) == page_of(3)
    assert machine.flash.read_phys(1, 9 * PAGE, PAGE) == b"\xff" * PAGE


def test_blank_double_words_cost_no_programming(machine, flash):
    data = b"\xff" * 16 + bytes(range(8)) + b"\xff" * (PAGE - 24)
    flash.program(stm32l476.INACTIVE_SLOT_ADDRESS, data)
    assert machine.flash.counters.double_words[2] == 1
    assert machine.read(stm32l476.INACTIVE_SLOT_ADDRESS, PAGE) == data


def test_programming_twice_is_an_error_and_leaves_the_controller_usable(machine, flash, slot):
    slot.program(0, page_of(1))
    with pytest.raises(DeviceError) as caught:
        slot.program(0, page_of(2))
    assert caught.value.code == FL1
    assert slot.read(0, PAGE) == page_of(1)
    slot.erase(0)
    slot.program(0, page_of(2))
    assert slot.read(0, PAGE) == page_of(2)


def test_flash_that_does_not_keep_what_was_programmed_is_an_error(machine):
    def worn(address, length):
        return machine.read(address, length)[:-1] + b"\x00"

    slot = BankSlot(
        Flash(machine.mem32, worn, machine.sleep_us), stm32l476.INACTIVE_SLOT_ADDRESS, stm32l476.SLOT_SIZE
    )
    with pytest.raises(DeviceError, match="does not read back") as caught:
        slot.program(0, bytearray(b"\x01" * PAGE))
    assert caught.value.code == FL1


def test_write_protected_page_is_an_error(machine, flash):
    machine.flash.protect(1, 0, 7)
    with pytest.raises(DeviceError) as caught:
        flash.erase(stm32l476.FLASH_BASE)
    assert caught.value.code == FL2
    with pytest.raises(DeviceError) as caught:
        flash.program(stm32l476.FLASH_BASE, bytes(8))
    assert caught.value.code == FL1
    assert machine.flash.counters.total_erases == 0


def test_slot_ends_where_it_ends(slot):
    slot.erase(stm32l476.SLOT_SIZE - PAGE)
    for offset, length in ((stm32l476.SLOT_SIZE, 1), (-1, 2), (stm32l476.SLOT_SIZE - PAGE + 1, PAGE)):
        with pytest.raises(ValueError, match="outside"):
            slot.read(offset, length)
    with pytest.raises(ValueError, match="outside"):
        slot.erase(stm32l476.SLOT_SIZE)


def cut(machine, operation, torn):
    machine.cut_power_at(flash_op=operation, torn=torn)


def test_page_torn_by_a_power_cut_is_found_erased_and_is_where_writing_goes_on(machine, slot):
    pages = [page_of(seed) for seed in range(5)]
    generator = random.Random(7)
    for attempt in range(12):
        download.erase(slot, 5 * PAGE)
        done = generator.randrange(5)
        for number in range(done):
            slot.program(number * PAGE, pages[number])
        cut(machine, generator.randrange(1, 256), attempt)
        with pytest.raises(DeviceError):
            slot.program(done * PAGE, pages[done])
        machine.power_on()
        offset = download.resume_offset(slot, 5 * PAGE)
        assert done * PAGE - PAGE <= offset <= done * PAGE
        for number in range(5):
            if number * PAGE < offset:
                assert slot.read(number * PAGE, PAGE) == pages[number]
            else:
                assert slot.is_blank(number * PAGE)


def test_erase_leaves_blank_pages_alone(machine, slot):
    slot.program(PAGE, page_of(1))
    download.erase(slot, 3 * PAGE + 1)
    assert dict(machine.flash.counters.erases) == {(2, 9): 1}
    assert all(slot.is_blank(number * PAGE) for number in range(4))


def test_copy_of_the_store_is_recognised_or_not_at_all():
    raw = b"".join(store.pack_copy(7, [b"hel", memoryview(b"lo")]))
    assert len(raw) % 8 == 0
    assert store.unpack_copy(raw) == (7, b"hello")
    for at in range(store.HEADER_SIZE + 5):
        damaged = bytearray(raw)
        damaged[at] ^= 1
        assert store.unpack_copy(bytes(damaged)) is None
    for short in range(store.HEADER_SIZE + 5):
        assert store.unpack_copy(raw[:short]) is None
    assert store.unpack_copy(None) is None
    assert store.newest([None, None]) is None
    assert store.newest([(3, b""), (4, b"")]) == 1
    assert store.newest([(5, b""), None]) == 0
