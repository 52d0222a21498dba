"""The core: Unicorn, with exact instruction counts, stops between instructions, hand-made exceptions."""

from collections.abc import Callable
from typing import Any

from unicorn.arm_const import (
    UC_ARM_REG_EPSR,
    UC_ARM_REG_LR,
    UC_ARM_REG_PC,
    UC_ARM_REG_PRIMASK,
    UC_ARM_REG_R0,
    UC_ARM_REG_R1,
    UC_ARM_REG_R2,
    UC_ARM_REG_R3,
    UC_ARM_REG_R12,
    UC_ARM_REG_SP,
    UC_ARM_REG_XPSR,
    UC_CPU_ARM_CORTEX_M4,
)
from unicorn.unicorn_const import (
    UC_ARCH_ARM,
    UC_HOOK_INTR,
    UC_HOOK_MEM_READ,
    UC_HOOK_MEM_UNMAPPED,
    UC_HOOK_MEM_WRITE_PROT,
    UC_MEM_FETCH,
    UC_MEM_FETCH_UNMAPPED,
    UC_MEM_WRITE_UNMAPPED,
    UC_MODE_MCLASS,
    UC_MODE_THUMB,
    UC_PROT_EXEC,
    UC_PROT_READ,
    UC_PROT_WRITE,
)

from fota_vdev.parts.emulator import NO_END, Emulator, Stop, Uc, Unicorn, is_no_code

FRAME = (UC_ARM_REG_R0, UC_ARM_REG_R1, UC_ARM_REG_R2, UC_ARM_REG_R3, UC_ARM_REG_R12, UC_ARM_REG_LR)
THUMB, ALIGNED_FRAME = 1 << 24, 1 << 9
EXC_TO_HANDLER, EXC_TO_THREAD = 0xFFFF_FFF1, 0xFFFF_FFF9
EXCP_SWI, EXCP_BKPT, EXCP_EXCEPTION_EXIT = 2, 7, 8
# Execute never, ARMv7-M table B3-1; Unicorn asks for the last page at each of its starts.
NEVER_CODE = (range(0x4000_0000, 0x6000_0000), range(0xA000_0000, 0xFFFF_FC00))
WFI, WFE = b"\x30\xbf", b"\x20\xbf"


class Cpu(Emulator):
    """Registers, memory map, exceptions.

    Stops: "count", "wfi", "wfe", "return" (from an exception), "svc", "fault".

    An instruction in an IT block whose condition is false does not count.
    """

    def __init__(
        self,
        read: Callable[[int, int], int],
        write: Callable[[int, int, int], None],
        model: int = UC_CPU_ARM_CORTEX_M4,
    ) -> None:
        uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
        uc.ctl_set_cpu_model(model)
        super().__init__(uc, read, write)
        self.on_store: Callable[[int, int, int], None] = lambda address, size, value: None
        self.on_read: Callable[[int, int], None] = lambda address, size: None
        self._interrupt: int | None = None
        self._unmapped: tuple[int, int] | None = None
        self._never: list[tuple[int, int, int]] = []
        self._read_hooks: list[Any] = []
        self.uc.hook_add(UC_HOOK_INTR, self._hook_interrupt)
        self.watch_invalid(UC_HOOK_MEM_UNMAPPED, self._hook_unmapped)
        self.watch_invalid(UC_HOOK_MEM_WRITE_PROT, self._hook_store)
        self._pristine = self.uc.context_save()

    # -- memory map --------------------------------------------------------------------------------------

    def map_flash(self, areas: dict[int, int], size: int) -> None:
        """Map host memory as flash at several addresses, in place of what was mapped there."""
        for address, pointer in areas.items():
            if any(begin == address for begin, _, _ in self.uc.mem_regions()):
                self.uc.mem_unmap(address, size)
            self.uc.mem_map_ptr(address, size, UC_PROT_READ | UC_PROT_EXEC, pointer)
        self._protect_flash()
        self.uc.ctl_flush_tb()

    def forbid_code(self, areas: list[tuple[int, int]], ram: Callable[[int], bool]) -> None:
        """Let nothing execute in ``areas`` (begin, end), whole pages, and everywhere else that is memory.

        ``ram`` tells which of the rest may be written. What `map_flash` maps anew is executable again.
        """
        if not areas and not self._never:
            return
        wanted = [(begin, end, UC_PROT_READ | (UC_PROT_WRITE if ram(begin) else 0)) for begin, end in areas]
        for begin, end, kind in self._never:
            self.uc.mem_protect(begin, end - begin, kind | UC_PROT_EXEC)
        for begin, end, kind in wanted:
            self.uc.mem_protect(begin, end - begin, kind)
        self._never = wanted
        self._protect_flash()
        self.uc.ctl_flush_tb()

    def _protect_flash(self) -> None:
        """Say again that flash is no memory to write: without this a store of the core reaches cells that
        were mapped read-only, or that a change of protection has parted from others."""
        for begin, last, permissions in self.uc.mem_regions():
            if permissions and not permissions & UC_PROT_WRITE:
                self.uc.mem_protect(begin, last + 1 - begin, permissions)

    def watch_reads(self, ranges: list[tuple[int, int]]) -> None:
        """Report data reads in these ranges (begin, last) to `on_read`; replaces the ranges of before."""
        if not ranges and not self._read_hooks:
            return
        for handle in self._read_hooks:
            self.uc.hook_del(handle)
        self._read_hooks = [
            self.uc.hook_add(UC_HOOK_MEM_READ, self._hook_read, begin=begin, end=last)
            for begin, last in ranges
        ]
        self.uc.ctl_flush_tb()  # blocks translated before would not see the change

    # -- hooks -------------------------------------------------------------------------------------------

    def _page(self, uc: Unicorn, page: int, access: int, entry: Unicorn, data: object) -> bool:
        if access != UC_MEM_FETCH:
            # Before it asks, it notes where in an IT block this load or store is, and takes the next block of
            # code for part of that. Between two blocks, when it fetches, what is noted is right.
            uc.reg_write(UC_ARM_REG_EPSR, THUMB)
        elif any(page in area for area in NEVER_CODE):
            return False
        return super()._page(uc, page, access, entry, data)

    def _hook_interrupt(self, _uc: object, number: int, _data: object) -> None:
        self._interrupt = number
        self.uc.emu_stop()

    def _hook_unmapped(
        self, _uc: object, access: int, address: int, _size: int, _value: int, _data: object
    ) -> bool:
        self._unmapped = (access, address)
        return False

    def _hook_store(
        self, _uc: object, _kind: int, address: int, size: int, value: int, _data: object
    ) -> bool:
        try:
            self.on_store(address, size, value & ((1 << 8 * size) - 1))
        except Exception as exc:
            self.abort(exc)
        return True

    def _hook_read(
        self, _uc: object, _kind: int, address: int, size: int, _value: int, _data: object
    ) -> None:
        try:
            self.on_read(address, size)
        except Exception as exc:
            self.abort(exc)

    # -- running -----------------------------------------------------------------------------------------

    def slice(self, count: int) -> Stop:
        """Run up to ``count`` instructions. The program counter is exact afterwards, whatever the reason."""
        self._interrupt = self._unmapped = None
        return self._classify(*self._emulate(self.uc.reg_read(UC_ARM_REG_PC) | 1, count))

    def _classify(self, error: Exception | None, by_count: bool) -> Stop:
        if self._interrupt is not None:
            return self._classify_interrupt(self._interrupt)
        if error is not None:
            if self._unmapped is not None:
                access, address = self._unmapped
                kinds = {UC_MEM_FETCH_UNMAPPED: "fetch from", UC_MEM_WRITE_UNMAPPED: "write to"}
                return Stop("fault", f"{kinds.get(access, 'read of')} unmapped 0x{address:08x}", address)
            if is_no_code(error):
                return Stop("fault", f"the MPU forbids to execute 0x{self.pc:08x}")
            return Stop("fault", f"{error} (undefined instruction or no permission)")
        if by_count:
            return Stop("count")
        if self.pc == NO_END & ~1:  # where Unicorn stops by itself
            return Stop("fault", f"fetch from unmapped 0x{self.pc:08x}", self.pc)
        before = bytes(self.uc.mem_read(self.pc - 2, 2))
        return Stop({WFI: "wfi", WFE: "wfe"}.get(before, "count"))

    def _classify_interrupt(self, number: int) -> Stop:
        if number == EXCP_EXCEPTION_EXIT:
            return Stop("return")
        if number == EXCP_SWI:
            return Stop("svc")
        what = (
            "breakpoint without a debugger" if number == EXCP_BKPT else f"exception {number} of the emulator"
        )
        return Stop("fault", what)

    # -- registers and exceptions ------------------------------------------------------------------------

    @property
    def pc(self) -> int:
        """Address of the next instruction."""
        return int(self.uc.reg_read(UC_ARM_REG_PC)) & ~1

    def size_at(self, address: int) -> int:
        """Bytes of the instruction at ``address``: 2 or 4."""
        first = int.from_bytes(self.uc.mem_read(address & ~1, 2), "little")
        return 4 if first >> 11 in (0x1D, 0x1E, 0x1F) else 2

    @property
    def sp(self) -> int:
        """Stack pointer."""
        return int(self.uc.reg_read(UC_ARM_REG_SP))

    @property
    def masked(self) -> bool:
        """PRIMASK."""
        return bool(self.uc.reg_read(UC_ARM_REG_PRIMASK) & 1)

    def reset(self, sp: int, pc: int) -> None:
        """Start as after reset: thread mode, interrupts on, IT state empty."""
        self.uc.context_restore(self._pristine)
        self.uc.reg_write(UC_ARM_REG_SP, sp & ~3)
        self.uc.reg_write(UC_ARM_REG_LR, 0xFFFF_FFFF)
        self.uc.reg_write(UC_ARM_REG_PC, pc & ~1)

    def enter(self, number: int, vector: int, *, nested: bool) -> None:
        """Take exception ``number``: push the eight-word frame (8-aligned) and go to ``vector``.

        Raises:
            EmulatorError: the stack is not in RAM.
        """
        uc = self.uc
        xpsr = int(uc.reg_read(UC_ARM_REG_XPSR)) | THUMB
        sp = self.sp
        frame = sp - 32 & ~7
        if sp & 4:
            xpsr |= ALIGNED_FRAME
        words = [uc.reg_read(r) for r in FRAME] + [self.pc, xpsr]
        uc.mem_write(frame, b"".join(int(w).to_bytes(4, "little") for w in words))
        uc.reg_write(UC_ARM_REG_SP, frame)
        uc.reg_write(UC_ARM_REG_LR, EXC_TO_HANDLER if nested else EXC_TO_THREAD)
        uc.reg_write(UC_ARM_REG_XPSR, xpsr & 0xF800_0000 | THUMB | number)
        uc.reg_write(UC_ARM_REG_PC, vector & ~1)

    def leave(self) -> None:
        """Return from an exception: pop the frame.

        Raises:
            EmulatorError: the stack is not in RAM.
        """
        uc = self.uc
        sp = self.sp
        raw = bytes(uc.mem_read(sp, 32))
        words = [int.from_bytes(raw[i : i + 4], "little") for i in range(0, 32, 4)]
        for register, value in zip(FRAME, words[:6], strict=True):
            uc.reg_write(register, value)
        xpsr = words[7]
        uc.reg_write(UC_ARM_REG_XPSR, xpsr & ~ALIGNED_FRAME)
        uc.reg_write(UC_ARM_REG_SP, sp + 32 + (4 if xpsr & ALIGNED_FRAME else 0))
        uc.reg_write(UC_ARM_REG_PC, words[6] & ~1)
