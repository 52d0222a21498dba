"""Unicorn with an exact count of instructions; what a core adds to it is the core's own."""

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import unicorn
from unicorn.arm_const import UC_CPU_ARM_CORTEX_M4
from unicorn.unicorn_const import (
    UC_ARCH_ARM,
    UC_CTL_IO_WRITE,
    UC_CTL_TLB_FLUSH,
    UC_ERR_FETCH_PROT,
    UC_HOOK_TLB_FILL,
    UC_MEM_FETCH,
    UC_MODE_MCLASS,
    UC_MODE_THUMB,
    UC_PROT_ALL,
    UC_PROT_READ,
    UC_PROT_WRITE,
    UC_TLB_VIRTUAL,
)

from fota_wire.errors import DeviceError

_untyped: Any = unicorn  # the binding has no types
Unicorn = Any
Uc: Any = _untyped.Uc
EmulatorError: type[Exception] = _untyped.UcError
NO_END = 0xFFFF_FFFE
MANY_PAGES = 2048
CODE_PAGE = 1024  # what Unicorn maps, protects and looks up translations by, at least


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a slice ended: "count", "wfi", "fault", or a kind of the core's own (see its class)."""

    kind: str
    detail: str = ""
    address: int = 0
    number: int = 0


@functools.cache
def _counter_offsets() -> tuple[int, int]:
    """Where Unicorn keeps its count of instructions and the limit, found by running and looking.

    Unicorn counts exactly but has no call that tells the count; the two words lie in its private state,
    at the same place for every architecture. Two runs of different length single them out.

    Raises:
        DeviceError: this Unicorn keeps them elsewhere.
    """
    uc = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
    uc.ctl_set_cpu_model(UC_CPU_ARM_CORTEX_M4)
    uc.mem_map(0, 0x1000)
    uc.mem_write(0, b"\x00\xbf" * 1024)
    found: list[set[tuple[int, int]]] = []
    for count in (137, 211):
        uc.emu_start(1, NO_END, count=count)
        raw = ctypes.string_at(ctypes.cast(uc._uch, ctypes.c_void_p).value or 0, 0x1000)
        words = {o: int.from_bytes(raw[o : o + 8], "little") for o in range(0, 0xFF8, 8)}
        counted = [o for o, v in words.items() if v == count + 1]
        limits = [o for o, v in words.items() if v == count]
        found.append({(c, limit) for c in counted for limit in limits})
    both = found[0] & found[1]
    if len(both) != 1:
        raise DeviceError(
            "this version of unicorn keeps its instruction count elsewhere: install unicorn==2.1.4"
        )
    return both.pop()


def is_no_code(error: Exception) -> bool:
    """Tell whether a run ended because memory at the program counter is there, and not for execution."""
    return getattr(error, "errno", None) == UC_ERR_FETCH_PROT


class Emulator:
    """Memory map and counter. Policy (time, resets, what a stop means) is the machine's."""

    def __init__(
        self, uc: "Unicorn", read: Callable[[int, int], int], write: Callable[[int, int, int], None]
    ) -> None:
        self.uc = uc
        base = ctypes.cast(self.uc._uch, ctypes.c_void_p).value or 0
        counter, limit = _counter_offsets()
        self._counter = ctypes.c_uint64.from_address(base + counter)
        self._limit = ctypes.c_uint64.from_address(base + limit)
        self._done = 0
        self.live = False
        self._read, self._write = read, write
        self._abort: Exception | None = None
        self._ram: list[range] = []
        self._code: set[int] = set()  # pages of RAM that something executed from
        self._watched: list[tuple[int, Callable[..., bool]]] = []
        self._watches: list[Any] = []
        self._asked = 0
        uc.ctl_set_tlb_mode(UC_TLB_VIRTUAL)
        uc.hook_add(UC_HOOK_TLB_FILL, self._page)

    def _page(self, _uc: "Unicorn", page: int, access: int, entry: "Unicorn", _data: object) -> bool:
        """Tell Unicorn, which comes to a page of memory for the first time, how it may go on with it.

        Each store to a page that it may execute, or that is watched, it looks at by itself, for 70 ns; others
        cost 10. So RAM is not for execution until something executes from it.
        """
        self._asked += 1
        entry.paddr, entry.perms = page, UC_PROT_ALL
        if page not in self._code and any(page in ram for ram in self._ram):
            if access == UC_MEM_FETCH:
                self._code.add(page)
            else:
                entry.perms = UC_PROT_READ | UC_PROT_WRITE
        return True

    def watch_invalid(self, kinds: int, hook: Callable[..., bool]) -> None:
        """Call ``hook`` for accesses of these kinds that memory outside of RAM does not allow."""
        self._watched.append((kinds, hook))
        self._watch_outside_ram()

    def _watch_outside_ram(self) -> None:
        for handle in self._watches:
            self.uc.hook_del(handle)
        begins = [0, *(ram.stop for ram in self._ram)]
        ends = [*(ram.start for ram in self._ram), 1 << 32]
        self._watches = [
            self.uc.hook_add(kinds, hook, begin=begin, end=end - 1)
            for kinds, hook in self._watched
            for begin, end in zip(begins, ends, strict=True)
            if begin < end
        ]

    def map_ram(self, address: int, size: int, pointer: int) -> None:
        """Map host memory as RAM."""
        self.uc.mem_map_ptr(address, size, UC_PROT_ALL, pointer)
        self._is_ram(address, size)

    def _is_ram(self, address: int, size: int) -> None:
        self._ram = sorted([*self._ram, range(address, address + size)], key=lambda ram: ram.start)
        self._watch_outside_ram()

    def map_registers(self, base: int, size: int) -> None:
        """Let the bus answer in [base, base + size)."""

        def read(_uc: object, offset: int, width: int, _data: object) -> int:
            try:
                return self._read(base + offset, width)
            except Exception as exc:
                self.abort(exc)
                return 0

        def write(_uc: object, offset: int, width: int, value: int, _data: object) -> None:
            try:
                self._write(base + offset, value & ((1 << 8 * width) - 1), width)
            except Exception as exc:
                self.abort(exc)

        self.uc.mmio_map(base, size, read, None, write, None)

    def forget_code(self) -> None:
        """Drop all translations: memory that may hold code was changed by the host."""
        self.uc.ctl_flush_tb()

    def forget_code_at(self, address: int, size: int) -> None:
        """Drop translations of ``size`` bytes only, which is all that the host changed."""
        last = address + size - 1
        for begin in range(address // CODE_PAGE * CODE_PAGE, last + 1, CODE_PAGE):
            self.uc.ctl_remove_cache(max(begin, address), min(begin + CODE_PAGE, last + 1))

    def abort(self, exc: Exception) -> None:
        """End the slice from inside a hook, because of ``exc``."""
        self._abort = self._abort or exc
        self.uc.emu_stop()

    @property
    def executed(self) -> int:
        """Instructions executed so far, the one under way included; exact at any moment."""
        return self._done + (self._counter.value if self.live else 0)

    def limit(self, more: int) -> None:
        """From inside a hook: end the slice after ``more`` further instructions, or earlier as planned."""
        if self.live:
            self._limit.value = min(self._limit.value, self._counter.value + max(more, 0))

    def _emulate(self, begin: int, count: int) -> tuple[Exception | None, bool]:
        """Run up to ``count`` instructions; return Unicorn's error, and whether the count ended it.

        Raises:
            Exception: what a hook gave to `abort`.
        """
        self._abort = None
        error: Exception | None = None
        if self._asked > MANY_PAGES:  # it keeps too few: it makes room for more when it forgets all
            self.uc.ctl(UC_CTL_TLB_FLUSH, UC_CTL_IO_WRITE)
            self._asked = 0
        self._counter.value = 0
        self.live = True
        try:
            self.uc.emu_start(begin, NO_END, count=count)
        except EmulatorError as exc:
            error = exc
        finally:
            self.live = False
        counted, limit = self._counter.value, self._limit.value
        self._done += counted - 1 if counted > limit else counted
        self._raise_abort()
        return error, counted > limit

    def _raise_abort(self) -> None:
        if self._abort is not None:
            exc, self._abort = self._abort, None
            raise exc

    def state(self) -> tuple[Any, int]:
        """Return what `restore` needs; RAM and flash are the machine's."""
        return self.uc.context_save(), self._done

    def restore(self, state: tuple[Any, int]) -> None:
        """Go back to a `state`."""
        context, self._done = state
        self.uc.context_restore(context)
