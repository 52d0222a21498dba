"""What the engine of the glitch campaigns has to know of a core: registers, instructions, and the state of
the chip around it that decides the future of a run."""

import struct
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile
from unicorn import arm_const as arm
from unicorn import riscv_const as riscv

from fota_vdev.cells.address_space import CODE_IN_RAM
from fota_vdev.chips.esp32c3.address_space import DRAM, DRAM_SIZE, IRAM, IRAM_SIZE
from fota_vdev.chips.esp32c3.cpu import MASK_ROM
from fota_vdev.machine import Machine
from fota_wire.host_chips import ESPRESSIF

RAM = 0x2000_0000
STACK_TOP = 0x2000_0400
# what an application may leave at the place of enter(): MPU off, and on into slot A
PLANTED = struct.pack("<8H2I", 0x4803, 0x2100, 0x6001, 0xF3BF, 0x8F4F, 0x4802, 0x4700, 0xBF00,
                      0xE000ED94, 0x08004241)  # fmt: skip
ARM_NOPS = {2: b"\x00\xbf", 4: b"\xaf\xf3\x00\x80"}


def frozen(value: Any) -> Any:
    """A state of a peripheral as something that can be a key."""
    if isinstance(value, dict):
        return tuple(value.items())
    return (
        tuple(value)
        if isinstance(value, list | deque)
        else bytes(value)
        if isinstance(value, bytearray)
        else value
    )


def element_state(machine: Machine) -> tuple[Any, ...]:
    """The crypto element without its clock."""
    e = machine.element
    assert e is not None
    return (
        e._status, bytes(e._fifo), e._output, e._pointer, e._busy_until_ps > machine.clock.ps,
        e._stream.position, tuple(e._nvm.counters), e._after is None or tuple(e._after.counters),
        e._executor.sram.message, e._executor.sram.temp_key.value,
    )  # fmt: skip


class Core:
    """One machine's core, and its bootloader's ELF.

    ``ARGUMENTS`` and ``KEPT`` are registers: what a function may read at its entry, what the ABI says is live
    there besides, the stack pointer last but one. ``FLIPS`` are those whose bits are flipped.
    """

    ARGUMENTS: tuple[int, ...]
    KEPT: tuple[int, ...]
    FLIPS: tuple[tuple[int, int], ...]
    RESETS_ON: tuple[str, ...] = ()
    """Resets that belong to a boot."""
    MORE_ACCESSES = 15_000
    """Accesses to registers that a boot with a fault may take beyond those of the undisturbed one."""

    def __init__(self, machine: Machine, elf: Path) -> None:
        self.machine, self.uc = machine, machine.cpu.uc
        self.symbols = machine.symbols(elf)

    def size(self, pc: int) -> int:
        """Bytes of the instruction there."""
        raise NotImplementedError

    def jump(self, pc: int) -> None:
        """Go on there."""
        self.uc.reg_write(self.PC, pc)

    PC: int

    def is_ours(self, pc: int) -> bool:
        """True if the instruction there is the bootloader's, so that it is attacked."""
        return True

    def block(self, pc: int) -> list[int]:
        """Addresses of the instructions that are executed as one with that at ``pc``: an IT block's."""
        return []

    def decides(self, pc: int) -> bool:
        """True if the instruction there goes by what was just compared."""
        raise NotImplementedError

    def memory(self) -> tuple[bytes, bytes]:
        """The live stack, and static data."""
        raise NotImplementedError

    def peripherals(self) -> tuple[Any, ...]:
        """Everything else that decides the future, time left out."""
        raise NotImplementedError

    def plant(self, target: int) -> None:
        """Leave in RAM what an application could have left there before the reset."""
        raise NotImplementedError

    def may_run(self, address: int) -> bool:
        """True if an instruction there, outside the bootloader, is an application's."""
        return True

    def count_accesses(self, count: Callable[[], None]) -> None:
        """Have ``count`` called for each access that may change a peripheral."""
        cpu: Any = self.machine.cpu
        read, write = cpu._read, cpu._write

        def counted_read(address: int, size: int) -> int:
            count()
            return int(read(address, size))

        def counted_write(address: int, value: int, size: int) -> None:
            count()
            write(address, value, size)

        cpu._read, cpu._write = counted_read, counted_write


class Arm(Core):
    """Cortex-M4 and -M33."""

    _R = tuple(arm.UC_ARM_REG_R0 + n for n in range(13))
    ARGUMENTS = _R[:4]
    KEPT = (*_R[4:12], arm.UC_ARM_REG_SP, arm.UC_ARM_REG_LR)
    FLIPS = (
        *((r, bit) for r in _R for bit in (0, 1, 7, 16, 31)),
        *((arm.UC_ARM_REG_XPSR, bit) for bit in (28, 29, 30, 31)),
    )
    RESETS_ON = ("obl",)
    PC = arm.UC_ARM_REG_PC

    def half(self, address: int) -> int:
        """The 16 bits there."""
        return int(struct.unpack("<H", bytes(self.uc.mem_read(address, 2)))[0])

    def size(self, pc: int) -> int:
        return 4 if self.half(pc) >> 11 in (0x1D, 0x1E, 0x1F) else 2

    def block(self, pc: int) -> list[int]:
        half = self.half(pc)
        if not is_it(half):
            return []
        first, mask = half >> 4 & 15, half & 15
        apsr = self.uc.reg_read(arm.UC_ARM_REG_APSR)
        length = 4 - (mask & -mask).bit_length() + 1
        executed, at = [], pc + 2
        for n in range(length):
            bit = first & 1 if n == 0 else mask >> (4 - n) & 1
            if condition_holds(first & 14 | bit, apsr):
                executed.append(at)
            at += self.size(at)
        return executed

    def decides(self, pc: int) -> bool:
        half = self.half(pc)
        if self.size(pc) == 2:
            return is_it(half) or (half >> 12 == 0xD and half >> 8 & 15 < 14) or half & 0xF500 == 0xB100
        second = int.from_bytes(self.uc.mem_read(pc + 2, 2), "little")
        return half >> 11 == 0x1E and second >> 12 & 0xD == 8 and half >> 6 & 15 < 14

    def memory(self) -> tuple[bytes, bytes]:
        sp = self.uc.reg_read(arm.UC_ARM_REG_SP)
        low = sp if RAM <= sp <= STACK_TOP else RAM
        ram = self.machine.space.ram[RAM]
        begin, end = self.symbols["linker_data_start"] - RAM, self.symbols["linker_bss_end"] - RAM
        return ram[low - RAM : STACK_TOP - RAM], ram[begin:end]

    def peripherals(self) -> tuple[Any, ...]:
        m, b = self.machine, self.machine.board
        now = m.clock.ps
        tick, i2c, flash = b.scs.systick, b.i2c, b.controller
        return (
            tuple(b.rcc.regs.values()), b.swapped, tuple(m.flash.options.items()), flash.busy_until_ps > now,
            *(frozen(getattr(flash, name)) for name in flash.STATE if name != "busy_until_ps"),
            *(tuple(b.gpio[p].regs.values()) for p in "AB"),
            tuple(i2c.regs.values()), i2c.flags, i2c._left, bytes(i2c._out), bytes(i2c._in), i2c._step,
            i2c._address, i2c._txdr, tuple(b.usart.regs.values()),
            b.iwdg.pr, b.iwdg.rlr, b.iwdg.unlocked, b.iwdg.expires_ps is not None, tuple(b.iwdg._pending),
            b.rng.cr, b.rng.stream.position, b.scs.vtor, tuple(b.scs.active), b.scs.mpu_state,
            tick.csr & 7, tick.reload, tick.pending, b.dwt.ctrl, tuple(b.scs.regs.values()),
            *element_state(m),
        )  # fmt: skip

    def plant(self, target: int) -> None:
        at = CODE_IN_RAM - RAM
        self.machine.space.ram[RAM][at : at + len(PLANTED)] = PLANTED

    def count_accesses(self, count: Callable[[], None]) -> None:
        super().count_accesses(count)
        cpu: Any = self.machine.cpu
        store = cpu.on_store

        def counted_store(address: int, size: int, value: int) -> None:
            count()  # the flash controller took it
            store(address, size, value)

        cpu.on_store = counted_store


class RiscV(Core):
    """The ESP32-C3's. Its mask ROM is one instruction a function here, and nobody's to attack."""

    _X = tuple(getattr(riscv, f"UC_RISCV_REG_X{n}") for n in range(32))
    ARGUMENTS = _X[10:14]
    KEPT = (*_X[8:10], *_X[18:28], _X[2], _X[1])
    FLIPS = tuple((r, bit) for r in (*_X[8:16], _X[1]) for bit in (0, 1, 7, 16, 31))
    PC = riscv.UC_RISCV_REG_PC
    MOVERS = (0x40000354, 0x40000358, 0x40000360)  # memset, memcpy, memcmp change no peripheral
    TIMES = ("busy_until_ps", "swd_fed_ps", "started_ps", "_due_ps", "alarm", "watchdog", "stream")
    MORE_ACCESSES = 60_000  # its I2C controller is fed byte by byte

    def size(self, pc: int) -> int:
        return self.machine.cpu.size_at(pc)  # type: ignore[no-any-return, attr-defined]

    def is_ours(self, pc: int) -> bool:
        return not MASK_ROM[0] <= pc < MASK_ROM[1]

    def decides(self, pc: int) -> bool:
        word = self.machine.cpu.word(pc)  # type: ignore[attr-defined]
        return branches(word)

    def _ram(self, begin: int, end: int) -> bytes:
        into = IRAM_SIZE - DRAM_SIZE - DRAM
        return self.machine.space.ram[IRAM][begin + into : end + into]

    def memory(self) -> tuple[bytes, bytes]:
        s = self.symbols
        top, sp = s["linker_stack_top"], self.machine.cpu.sp
        low = sp if s["ram_start"] <= sp <= top else s["ram_start"]
        return self._ram(low, top), self._ram(s["fota_port_journal"] & ~15, s["linker_bss_end"])

    def peripherals(self) -> tuple[Any, ...]:
        m, b = self.machine, self.machine.board
        parts: list[Any] = []
        for name, block in b._by_name.items():
            kept = [a for a in block.STATE if a not in self.TIMES]
            if name == "SYSTIMER":  # its other registers are times
                parts += [block.raised, block.alarm is not None, block.regs.get(0), block.regs.get(0x64)]
            elif name == "ROM":
                parts += [block.ticks_mhz, tuple(block.hashes), tuple(block.analog.items())]
            else:
                parts += [frozen(getattr(block, attribute)) for attribute in kept]
        return (
            *parts,
            b.random.position,
            b.flash_chip.busy,
            tuple(m.cpu.csrs.items())[:2],  # type: ignore[attr-defined]
            m.cpu.vector,  # type: ignore[attr-defined]
            tuple(m.space.stale),
            *element_state(m),
        )

    def plant(self, target: int) -> None:
        """The stack as an application left it: nothing clears it."""
        s, into = self.symbols, IRAM_SIZE - DRAM_SIZE - DRAM
        begin, end = s["ram_start"] + into, s["linker_stack_top"] + into
        self.machine.space.ram[IRAM][begin:end] = struct.pack("<I", target) * ((end - begin) // 4)

    def count_accesses(self, count: Callable[[], None]) -> None:
        super().count_accesses(count)
        cpu: Any = self.machine.cpu
        call = cpu.on_rom

        def counted_call(address: int) -> None:
            if address not in self.MOVERS:
                count()
            call(address)

        cpu.on_rom = counted_call


def is_it(half: int) -> bool:
    """True for an IT instruction."""
    return half >> 8 == 0xBF and bool(half & 15)


def branches(word: int) -> bool:
    """True for a conditional branch of RISC-V, in two bytes or four."""
    return word & 0x7F == 0x63 if word & 3 == 3 else word & 0xC003 == 0xC001


def condition_holds(condition: int, apsr: int) -> bool:
    """Evaluate an ARM condition code 0..15 with the flags of APSR."""
    n, z, c, v = (bool(apsr >> bit & 1) for bit in (31, 30, 29, 28))
    table = (z, c, n, v, c and not z, n == v, n == v and not z, True)
    return table[condition >> 1] != bool(condition & 1) or condition == 15


def core_of(machine: Machine, elf: Path) -> Core:
    """The core of a machine."""
    return (RiscV if machine.chip.row.NAME in ESPRESSIF else Arm)(machine, elf)


def behind_the_check(elf: Path) -> int:
    """Address (with the Thumb bit) right behind the last conditional branch before the jump: in enter(),
    where banks are exchanged from RAM, else in fota_port_boot().
    """
    with elf.open("rb") as f:
        file: Any = ELFFile(f)
        table = file.get_section_by_name(".symtab")
        found = table.get_symbol_by_name("enter") or table.get_symbol_by_name("fota_port_boot")
        symbol = found[0]
        section = file.get_section_by_name(".data" if RAM <= symbol["st_value"] < RAM << 1 else ".text")
        begin = symbol["st_value"] & ~1
        code = section.data()[begin - section["sh_addr"] :]
        if file["e_machine"] == "EM_RISCV":
            return begin + _behind_riscv(code, symbol["st_size"])
    at, last = 0, 0
    while at < symbol["st_size"]:
        half = int.from_bytes(code[at : at + 2], "little")
        if half & 0xFF87 == 0x4700:  # BX
            break
        at += 4 if half >> 11 in (0x1D, 0x1E, 0x1F) else 2
        if half >> 12 == 0xD and half >> 8 & 15 < 14:
            last = at
    return begin + last | 1


def _behind_riscv(code: bytes, size: int) -> int:
    """Where the way of instructions to flash is opened: SW zero to EXTMEM_CTRL1."""
    at = 0
    while at < size:
        word = int.from_bytes(code[at : at + 4], "little")
        if word & 0x01F0_707F == 0x0000_2023 and word >> 7 & 31 == 4:
            return at
        at += 4 if word & 3 == 3 else 2
    raise LookupError("fota_port_boot() opens nothing")
