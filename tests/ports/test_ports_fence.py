"""ADR 11 to the byte: until the jump nothing executes but the bootloader's flash and its function in RAM, on
both ports, by both compilers; and nothing that bus, image or application can write lies there.
"""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bootloader_make import BUILD, make
from chip_host import ChipHost
from elftools.elf.elffile import ELFFile
from emulated_factory import provision_element
from unicorn import UC_HOOK_MEM_WRITE

from fota_signer.factory.flash import layout_words
from fota_vdev.atecc608 import Atecc608
from fota_vdev.chips.stm32l4 import STM32L476
from fota_vdev.chips.stm32u5 import STM32U585
from fota_vdev.machine import Machine, StopReason
from fota_vdev.parts.elf import segments
from fota_wire.chips.stm32l476 import FLASH_BASE, SLOT_OFFSET
from fota_wire.cose import key_hash
from fota_wire.host_crypto import public_xy
from fota_wire.settings import Settings, pack

from .conftest import CLASS_ID

RAM, RAM_END = 0x2000_0000, 0x2001_8000
UDF = b"\x00\xde"  # udf #0
CHIPS = {"stm32l4": STM32L476, "stm32u5": STM32U585}
BUILDS = [(port, compiler) for port in CHIPS for compiler in ("gcc", "clang")]


@pytest.fixture(scope="module", params=BUILDS, ids=["-".join(build) for build in BUILDS])
def build(request: pytest.FixtureRequest) -> SimpleNamespace:
    port, compiler = request.param
    if compiler == "clang" and shutil.which("clang") is None:
        pytest.skip("clang is not installed: no second compiler")
    make(f"COMPILER={compiler}", "bootloader", port=port)
    elf = BUILD / f"bootloader/{port}{'-clang' if compiler == 'clang' else ''}/bootloader.elf"
    return SimpleNamespace(port=port, elf=elf, **tables(elf))


def tables(elf: Path) -> dict[str, Any]:
    """Functions and objects of an ELF in RAM: (begin, end); its initialised data."""
    with elf.open("rb") as f:
        file: Any = ELFFile(f)
        symbols = [s for s in file.get_section_by_name(".symtab").iter_symbols() if s["st_value"] >= RAM]
        data = file.get_section_by_name(".data")
        return {
            "functions": [span(s) for s in symbols if s["st_info"]["type"] == "STT_FUNC"],
            "objects": [span(s) for s in symbols if s["st_info"]["type"] == "STT_OBJECT"],
            "data": (data["sh_addr"], data.data()) if data is not None and data["sh_size"] else None,
        }


def span(symbol: Any) -> tuple[int, int]:
    begin = symbol["st_value"] & ~1
    return begin, begin + symbol["st_size"]


@pytest.fixture
def machine(build: SimpleNamespace, keys: SimpleNamespace) -> Machine:
    """The bootloader on its chip, with element and settings, nothing in its slots, no power."""
    machine = Machine(element=Atecc608(seed=3), seed=3, chip=CHIPS[build.port])
    machine.power_on()
    host = ChipHost(machine.i2c, machine.sleep_us)
    roots, io_key, mac_key = (public_xy(keys.root_a), public_xy(keys.root_b)), bytes(32), bytes(32)
    serial = host.serial()
    provision_element(machine, io_key=io_key, mac_key=mac_key, root_a_xy=roots[0], root_b_xy=roots[1])
    machine.power_off()
    settings = Settings(class_id=CLASS_ID, serial=serial, io_key=io_key, mac_key=mac_key,
                        root_a=key_hash(roots[0]), root_b=key_hash(roots[1]))  # fmt: skip
    row = machine.chip.row
    for bank in row.FACTORY_BANKS:
        for address, data in segments(build.elf):
            machine.flash.write_phys(bank, address - row.FLASH_BASE, data)
        machine.flash.write_phys(bank, row.SETTINGS_OFFSET, pack(settings))
        if row.LAYOUT_OFFSET < row.SLOT_OFFSET:
            machine.flash.write_phys(bank, row.LAYOUT_OFFSET, layout_words(row, bank))
        machine.flash.protect(bank, 0, row.SLOT_OFFSET // row.PAGE_SIZE - 1)
    return machine


def executable(machine: Machine) -> list[tuple[int, int]]:
    """Where SRAM executes, in pieces of the MPU's grain: 32 bytes."""
    mpu = machine.board.scs.mpu
    return [(at, at + 32) for at in range(RAM, RAM_END, 32) if mpu.executes(at) or mpu.executes(at + 30)]


def test_ram_that_executes_holds_the_function_and_traps_and_nothing_else(
    build: SimpleNamespace, machine: Machine
) -> None:
    machine.power_on()
    for at in range(RAM, RAM_END, 4):  # what an application may have left
        machine.mem32[at] = 0x4770_4770
    written: list[int] = []
    hook = machine.cpu.uc.hook_add(
        UC_HOOK_MEM_WRITE, lambda _u, _a, address, size, _v, _d: written.append(address) and None
    )
    result = machine.run(time_ms=5000, until=lambda m: b"halt: " in m.uart)
    machine.cpu.uc.hook_del(hook)
    assert result.reason is StopReason.UNTIL, bytes(machine.uart)
    assert machine.board.scs.mpu.executes(FLASH_BASE)
    spans = executable(machine)
    if build.data is None:
        assert spans == []
        return
    begin, code = build.data
    end = begin + len(code)
    assert (spans[0][0], spans[-1][1], 32 * len(spans)) == (begin, end, len(code))
    (function,) = build.functions
    assert function[0] == begin
    rest = code[function[1] - begin :]
    assert rest == UDF * (len(rest) // 2)
    assert machine.read(begin, len(code)) == code
    assert [(low, high) for low, high in build.objects if low < end and high > begin] == []
    start = machine.symbols(build.elf)["linker_stack_top"]
    assert start <= begin
    copies = [address for address in written if begin <= address < end]
    assert copies == 2 * list(range(begin, end)), "written by nobody but the start-up code"


def test_flash_that_executes_ends_where_the_slot_begins(machine: Machine) -> None:
    """And starts with the bootloader: what the factory wrote, behind its write protection."""
    machine.power_on()
    machine.run(time_ms=5000, until=lambda m: b"halt: " in m.uart)
    mpu = machine.board.scs.mpu
    bank = machine.chip.flash().geometry.bank
    edges = {FLASH_BASE: True, FLASH_BASE + SLOT_OFFSET - 2: True, FLASH_BASE + SLOT_OFFSET: False,
             FLASH_BASE + bank - 2: False, FLASH_BASE + bank: False, FLASH_BASE + bank + SLOT_OFFSET: False,
             FLASH_BASE + 2 * bank - 2: False, RAM_END: False, 0x3FFF_FFFE: False}  # fmt: skip
    assert {address: mpu.executes(address) for address in edges} == edges
