"""The core of the ESP32-C3: RV32IMC, machine and user mode, with the vendor's counters.

Unicorn has no model of it. All of its models know atomic and floating-point instructions, S mode, and loads
and stores at any address. Here `misa` is that of the chip, in Unicorn's own state, so that the translator
itself refuses what the chip has not; every load and store is checked for its alignment; and what Unicorn
takes for illegal is looked at again, for the vendor's CSRs.
"""

import ctypes
import functools
import struct
from collections.abc import Callable
from typing import Any

from unicorn import riscv_const as riscv
from unicorn.unicorn_const import (
    UC_ARCH_RISCV,
    UC_HOOK_CODE,
    UC_HOOK_INTR,
    UC_HOOK_MEM_INVALID,
    UC_HOOK_MEM_READ,
    UC_HOOK_MEM_WRITE,
    UC_MEM_FETCH_UNMAPPED,
    UC_MEM_WRITE,
    UC_MEM_WRITE_PROT,
    UC_MEM_WRITE_UNMAPPED,
    UC_MODE_RISCV32,
    UC_PROT_EXEC,
    UC_PROT_READ,
    UC_PROT_WRITE,
)

from fota_vdev.parts.bus import UnmodelledError
from fota_vdev.parts.emulator import Emulator, EmulatorError, Stop, Uc, is_no_code
from fota_wire.errors import DeviceError

MASK_ROM = (0x4000_0000, 0x4006_0000)  # copies its data misaligned: the core itself can do it
MISA = 0x4010_1104  # RV32: C, I, M, U
WFI, EBREAK, C_EBREAK = 0x1050_0073, 0x0010_0073, 0x9002
FETCH_FAULT, ILLEGAL, BREAKPOINT, LOAD_FAULT, STORE_FAULT, ECALL_U, ECALL_M = 1, 2, 3, 5, 7, 8, 11
CAUSES = {
    FETCH_FAULT: "instruction access fault",
    ILLEGAL: "illegal instruction",
    BREAKPOINT: "ebreak",
    LOAD_FAULT: "load access fault",
    STORE_FAULT: "store access fault",
    ECALL_U: "ecall",
    ECALL_M: "ecall",
}
ECALL_OF_UNICORN = 8  # whatever the mode
MPP_MACHINE, MPIE, MIE = 3 << 11, 1 << 7, 1 << 3
X: tuple[int, ...] = tuple(getattr(riscv, f"UC_RISCV_REG_X{n}") for n in range(32))
RA, SP, GP = X[1], X[2], X[3]
A = X[10:18]
MASK = 0xFFFF_FFFF
# CSRs that Unicorn does not know: the vendor's counter, for machine and user mode, and those of user-level
# traps, which are never taken
EVENT, MODE, COUNT = "event", "mode", "count"
CSRS = {0x7E0: EVENT, 0x7E1: MODE, 0x7E2: COUNT, 0x800: EVENT, 0x801: MODE, 0x802: COUNT,
        0x000: "ustatus", 0x004: "uie", 0x005: "utvec", 0x040: "uscratch", 0x041: "uepc", 0x042: "ucause",
        0x043: "utval", 0x044: "uip"}  # fmt: skip


@functools.cache
def _pristine() -> bytes:
    """The state of a core after reset, with the chip's `misa`, found by looking and proved by running.

    Raises:
        DeviceError: this Unicorn keeps `misa` elsewhere.
    """
    uc = Uc(UC_ARCH_RISCV, UC_MODE_RISCV32)
    context = uc.context_save()
    where = ctypes.cast(context.context, ctypes.c_void_p).value or 0
    raw = bytearray(ctypes.string_at(where, context.size))
    misa = struct.pack("<I", uc.reg_read(riscv.UC_RISCV_REG_MISA) & MASK)
    at = raw.find(misa * 2)  # misa and its mask
    if at >= 0:
        raw[at : at + 8] = struct.pack("<2I", MISA, MISA)
        ctypes.memmove(where, bytes(raw), len(raw))
        uc.context_restore(context)
    if uc.reg_read(riscv.UC_RISCV_REG_MISA) & MASK != MISA:
        raise DeviceError("this version of unicorn keeps misa elsewhere: install unicorn==2.1.4")
    return bytes(raw)


class Cpu(Emulator):
    """Registers, traps as stops, CSRs of the vendor.

    Stops: "count", "wfi", and "trap", whose ``number`` is the cause (`CAUSES`), with ``address`` for mtval
    and the program counter on the instruction.
    """

    def __init__(self, read: Callable[[int, int], int], write: Callable[[int, int, int], None]) -> None:
        super().__init__(Uc(UC_ARCH_RISCV, UC_MODE_RISCV32), read, write)
        self.cycles: Callable[[], int] = lambda: 0
        self.on_rom: Callable[[int], None] = lambda address: None
        self.on_counter_read: Callable[[int], None] = lambda pc: None
        self.csrs: dict[str, int] = {}
        self._trap: tuple[int, int] | None = None
        self._invalid: tuple[int, int] | None = None
        self._alignment_hook: int | None = None
        self.uc.hook_add(UC_HOOK_INTR, self._hook_interrupt)
        self.watch_invalid(UC_HOOK_MEM_INVALID, self._hook_invalid)
        self.check_alignment(on=True)
        self._pristine = self.uc.context_save()
        where = ctypes.cast(self._pristine.context, ctypes.c_void_p).value or 0
        ctypes.memmove(where, _pristine(), self._pristine.size)
        self.reset(0)

    # -- memory map --------------------------------------------------------------------------------------

    def map_rom(self, address: int, size: int, pointer: int, *, code: bool = True) -> None:
        """Map host memory to be read, and executed if there can be ``code``."""
        rights = UC_PROT_READ | (UC_PROT_EXEC if code else 0)
        self.uc.mem_map_ptr(address, size, rights, pointer)
        self.uc.mem_protect(address, size, rights)  # or stores of the core go through

    def map_data(self, address: int, size: int, pointer: int) -> None:
        """Map host memory as RAM at which nothing executes."""
        self.uc.mem_map_ptr(address, size, UC_PROT_READ | UC_PROT_WRITE, pointer)
        self._is_ram(address, size)

    def unmap(self, address: int, size: int) -> None:
        """Let nothing answer there."""
        self.uc.mem_unmap(address, size)

    def watch_rom(self, begin: int, last: int) -> None:
        """Have `on_rom` called before every instruction in [begin, last]."""
        self.uc.hook_add(UC_HOOK_CODE, self._hook_rom, begin=begin, end=last)

    def check_alignment(self, *, on: bool) -> None:
        """End the run at a load or store that is not aligned. It costs half a microsecond for each."""
        if on == (self._alignment_hook is not None):
            return
        if on:
            kinds = UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE
            self._alignment_hook = self.uc.hook_add(kinds, self._hook_access)
        else:
            self.uc.hook_del(self._alignment_hook)
            self._alignment_hook = None
        self.forget_code()

    # -- hooks -------------------------------------------------------------------------------------------

    def _hook_access(
        self, _uc: object, kind: int, address: int, size: int, _value: int, _data: object
    ) -> None:
        if address & (size - 1) and not MASK_ROM[0] <= self.pc < MASK_ROM[1]:
            what = "store to" if kind == UC_MEM_WRITE else "load from"
            self.abort(UnmodelledError(f"{what} 0x{address:08x}, which is not aligned to {size} bytes"))

    def _hook_rom(self, _uc: object, address: int, _size: int, _data: object) -> None:
        try:
            self.on_rom(address)
        except Exception as exc:
            self.abort(exc)

    def _hook_invalid(
        self, _uc: object, access: int, address: int, _size: int, _value: int, _data: object
    ) -> bool:
        self._invalid = (access, address)
        return False

    def _hook_interrupt(self, _uc: object, number: int, _data: object) -> None:
        pc = (int(self.uc.reg_read(riscv.UC_RISCV_REG_PC)) - 4) & MASK  # Unicorn adds 4, whatever the size
        if number == ILLEGAL and self._csr(pc):
            return
        self._trap = (ECALL_M if number == ECALL_OF_UNICORN else number, pc)
        self.uc.emu_stop()

    def _csr(self, pc: int) -> bool:
        """Execute an access to one of the vendor's CSRs; return False if it is none."""
        word = self.word(pc)
        operation, name = word >> 12 & 7, CSRS.get(word >> 20)
        if word & 0x7F != 0x73 or not operation & 3 or name is None:
            return False
        old = self.cycles() & MASK if name == COUNT else self.csrs.get(name, 0)
        if name == COUNT:
            self.on_counter_read(pc)
        source = word >> 15 & 31
        operand = source if operation & 4 else int(self.uc.reg_read(X[source]))
        new = {1: operand, 2: old | operand, 3: old & ~operand & MASK}[operation & 3]
        if name != COUNT and (operation & 3 == 1 or source):
            self.csrs[name] = new
        if word >> 7 & 31:
            self.uc.reg_write(X[word >> 7 & 31], old)
        return True

    # -- running -----------------------------------------------------------------------------------------

    def slice(self, count: int) -> Stop:
        """Run up to ``count`` instructions. The program counter is exact afterwards, whatever the reason."""
        self._trap = self._invalid = None
        error, by_count = self._emulate(self.pc, count)
        stop = self._exception() if error is None else self._classify(error)
        if stop is not None:
            return stop
        if not by_count and self.word(self.pc - 4) == WFI:
            return Stop("wfi")
        return Stop("count")

    def _exception(self) -> Stop | None:
        """What `_hook_interrupt` has seen."""
        if self._trap is None:
            return None
        cause, self.pc = self._trap
        value = self.word(self.pc) if cause == ILLEGAL else 0
        return Stop("trap", CAUSES.get(cause, f"exception {cause}"), value, cause)

    def _classify(self, error: Exception) -> Stop:
        if is_no_code(error):
            return Stop("trap", f"fetch from 0x{self.pc:08x}", self.pc, FETCH_FAULT)
        if self._invalid is not None:
            access, address = self._invalid
            if access == UC_MEM_FETCH_UNMAPPED:
                return Stop("trap", f"fetch from 0x{address:08x}", address, FETCH_FAULT)
            if access in (UC_MEM_WRITE_UNMAPPED, UC_MEM_WRITE_PROT):
                return Stop("trap", f"store to 0x{address:08x}", address, STORE_FAULT)
            return Stop("trap", f"load from 0x{address:08x}", address, LOAD_FAULT)
        word = self.word(self.pc)
        if word == EBREAK or word & 0xFFFF == C_EBREAK:
            return Stop("trap", CAUSES[BREAKPOINT], 0, BREAKPOINT)
        return Stop("trap", f"{error}", word, ILLEGAL)

    # -- registers ---------------------------------------------------------------------------------------

    @property
    def pc(self) -> int:
        """Address of the next instruction."""
        return int(self.uc.reg_read(riscv.UC_RISCV_REG_PC)) & MASK

    @pc.setter
    def pc(self, address: int) -> None:
        self.uc.reg_write(riscv.UC_RISCV_REG_PC, address & MASK)

    @property
    def sp(self) -> int:
        """Stack pointer."""
        return int(self.uc.reg_read(SP)) & MASK

    def register(self, number: int) -> int:
        """Return x0..x31."""
        return int(self.uc.reg_read(X[number])) & MASK

    def set_register(self, number: int, value: int) -> None:
        """Write x1..x31."""
        self.uc.reg_write(X[number], value & MASK)

    def word(self, address: int) -> int:
        """The 32 bits at any address; at the end of memory the low half, or 0."""
        for size in (4, 2):
            try:
                return int.from_bytes(self.uc.mem_read(address & MASK, size), "little")
            except EmulatorError:
                continue
        return 0

    def size_at(self, address: int) -> int:
        """Bytes of the instruction at ``address``: 2 or 4."""
        return 4 if self.word(address) & 3 == 3 else 2

    def skip(self) -> None:
        """Leave out the next instruction, as a glitch does."""
        self.pc += self.size_at(self.pc)

    def reset(self, pc: int) -> None:
        """Start at ``pc`` as after reset: machine mode, interrupts off, all registers 0."""
        self.uc.context_restore(self._pristine)
        self.csrs = {EVENT: 0, MODE: 1, "pc": 0, "at": 0}  # the last two: of the latest reading
        self.pc = pc

    @property
    def vector(self) -> int:
        """mtvec."""
        return int(self.uc.reg_read(riscv.UC_RISCV_REG_MTVEC)) & MASK

    @vector.setter
    def vector(self, value: int) -> None:
        self.uc.reg_write(riscv.UC_RISCV_REG_MTVEC, value)

    def enter(self, cause: int, value: int) -> None:
        """Take an exception of the instruction at the program counter: to the first entry of the vectors."""
        status = int(self.uc.reg_read(riscv.UC_RISCV_REG_MSTATUS)) & MASK
        kept = status & ~(MPIE | MIE) | (MPIE if status & MIE else 0) | MPP_MACHINE
        self.uc.reg_write(riscv.UC_RISCV_REG_MSTATUS, kept)
        self.uc.reg_write(riscv.UC_RISCV_REG_MEPC, self.pc)
        self.uc.reg_write(riscv.UC_RISCV_REG_MCAUSE, cause)
        self.uc.reg_write(riscv.UC_RISCV_REG_MTVAL, value & MASK)
        self.pc = self.vector & ~0xFF

    def state(self) -> tuple[Any, ...]:
        """Return what `restore` needs; RAM and flash are the machine's."""
        return (*super().state(), dict(self.csrs))

    def restore(self, state: tuple[Any, ...]) -> None:
        """Go back to a `state`."""
        context, done, csrs = state
        super().restore((context, done))
        self.csrs = dict(csrs)
