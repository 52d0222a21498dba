"""Fast snapshots of a whole machine, for campaigns that go back to one tens of thousands of times.

`Machine.snapshot` makes plain data and takes milliseconds. A `Snapshot` holds the same state in the cheapest
form that is still complete: processor context, RAM, cells that changed, registers of every peripheral, the
element's volatile and non-volatile state, virtual time, random streams. It serves the one `Snapshots` that
made it.
"""

import copy
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fota_vdev.machine import Machine
from fota_vdev.parts.flash_cells import FlashCounters
from fota_vdev.parts.stream import Stream

T = TypeVar("T")
IMMUTABLE = (int, float, str, bytes, bool, tuple, type(None))


def duplicate(value: T) -> T:
    """Return an independent copy of what peripherals keep: flat containers of numbers, and streams."""
    if isinstance(value, IMMUTABLE):
        return value
    if isinstance(value, dict | list | set | bytearray | deque):
        return copy.copy(value)
    return copy.copy(value) if isinstance(value, Stream) else copy.deepcopy(value)


@dataclass(slots=True)
class Cells:
    """What flash holds; shared by all snapshots between which it did not change."""

    version: int
    banks: dict[int, bytes]
    ecc_bad: frozenset[tuple[int, int]]
    options: dict[str, int]
    more: dict[str, Any]
    counters: tuple[dict[tuple[int, int], int], dict[int, int]]
    operations: int
    log_length: int


@dataclass(slots=True)
class Snapshot:
    """One moment of one machine."""

    core: Any
    space: Any
    clock: tuple[int, int, int, int]
    ram: dict[int, bytes]
    cells: Cells
    cut: tuple[int | None, int | None]
    registers: dict[str, dict[str, Any]]
    element: dict[str, Any] | None
    machine: tuple[Any, ...]
    uart: bytes


class Snapshots:
    """Takes and restores the snapshots of ``machine``, between runs only."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._version = self._versions = 0
        self._current: Cells | None = None
        changed = machine.flash.on_change

        def on_change(bank: int, offset: int, size: int) -> None:
            self._versions += 1
            self._version = self._versions  # never one that was used before
            self._current = None
            changed(bank, offset, size)

        machine.flash.on_change = on_change

    # -- taking ------------------------------------------------------------------------------------------

    def take(self) -> Snapshot:
        """Return the state now."""
        m = self.machine
        m.space.service()  # nothing may be pending between memory map and flash
        return Snapshot(
            core=m.cpu.state(),
            space=m.space.extra(),
            clock=m.clock.state(),
            ram={base: bytes(ram) for base, ram in m.space.ram.items()},
            cells=self._cells(),
            cut=(m.flash.cut_in, m.flash.cut_torn),
            registers=self.registers(),
            element=self._element(),
            machine=(m.powered, m.power_ups, m._request, tuple(m.resets), tuple(m.faults), m.last_report),
            uart=bytes(m.uart),
        )

    def _cells(self) -> Cells:
        if self._current is None:
            flash = self.machine.flash
            self._current = Cells(
                version=self._version,
                banks={bank: flash.read_phys(bank, 0, flash.geometry.bank) for bank in flash.banks},
                ecc_bad=frozenset(flash.ecc_bad),
                options=dict(flash.options),
                more={name: duplicate(getattr(flash, name)) for name in flash.MORE},
                counters=(dict(flash.counters.erases), dict(flash.counters.double_words)),
                operations=flash.operations,
                log_length=len(flash.log),
            )
        return self._current

    def registers(self) -> dict[str, dict[str, Any]]:
        """Return the state of all peripherals."""
        blocks = self.machine.board._by_name
        return {name: {a: duplicate(getattr(p, a)) for a in p.STATE} for name, p in blocks.items()}

    def _element(self) -> dict[str, Any] | None:
        """The element's memory is replaced as a whole by every command, never changed: no copy needed."""
        element = self.machine.element
        if element is None:
            return None
        state = {
            name: getattr(element, name) if name in ("_nvm", "_after") else duplicate(getattr(element, name))
            for name in element._VOLATILE
        }
        sram = copy.copy(element._executor.sram)
        return {
            "volatile": state,
            "sram": (sram, copy.copy(sram.temp_key), duplicate(sram.sha)),
            "position": element._stream.position,
            "commands": len(element.commands),
        }

    # -- going back --------------------------------------------------------------------------------------

    def restore(self, s: Snapshot) -> None:
        """Go back to a snapshot of this machine."""
        m = self.machine
        stale = self._restore_ram(s)
        for name, block in m.board._by_name.items():
            for attribute, value in s.registers[name].items():
                setattr(block, attribute, duplicate(value))
        self._restore_element(s)
        m.powered, m.power_ups, m._request, resets, faults, m.last_report = s.machine
        m.resets, m.faults = list(resets), list(faults)
        m.uart[:] = s.uart
        m.cpu.restore(s.core)
        m.clock.restore(s.clock)
        marks_moved = self._restore_cells(s.cells)
        m.flash.cut_in, m.flash.cut_torn = s.cut
        m.space.settle(s.space, stale=stale or marks_moved)

    # -- when no peripheral was touched in between ---------------------------------------------------------

    def take_core(self, before: Snapshot) -> Snapshot:
        """Return the state now, given that since ``before`` only core and RAM have changed."""
        m = self.machine
        return replace(
            before,
            core=m.cpu.state(),
            clock=m.clock.state(),
            ram={base: bytes(ram) for base, ram in m.space.ram.items()},
        )

    def restore_core(self, s: Snapshot) -> None:
        """Go back to ``s``, given that since then only core and RAM have changed."""
        m = self.machine
        stale = self._restore_ram(s)
        m.cpu.restore(s.core)
        m.clock.restore(s.clock)
        if stale:
            m.cpu.forget_code()

    def _restore_ram(self, s: Snapshot) -> bool:
        """Return True if RAM that may hold translated code changed."""
        space = self.machine.space
        stale = any(space.ram[base][at:end] != s.ram[base][at:end] for base, at, end in space.code_at())
        for base, ram in space.ram.items():
            ram[:] = s.ram[base]
        return stale

    def _restore_cells(self, cells: Cells) -> bool:
        """Return True if translations or the watch on torn words no longer fit."""
        flash = self.machine.flash
        if self._current is cells:
            return False
        marks_moved = flash.ecc_bad != cells.ecc_bad
        stale = False
        for bank in flash.banks:
            now = flash.read_phys(bank, 0, flash.geometry.bank)
            if now != cells.banks[bank]:
                stale = stale or self.machine.space.code_differs(bank, now, cells.banks[bank])
                flash.set_cells(bank, cells.banks[bank])
        flash.ecc_bad = set(cells.ecc_bad)
        flash.options = dict(cells.options)
        for name, value in cells.more.items():
            setattr(flash, name, duplicate(value))
        flash.counters = FlashCounters(Counter(cells.counters[0]), dict(cells.counters[1]))
        flash.operations = cells.operations
        del flash.log[cells.log_length :]
        self._version = cells.version
        self._current = cells
        return stale or marks_moved

    def _restore_element(self, s: Snapshot) -> None:
        element = self.machine.element
        if element is None or s.element is None:
            return
        for name, value in s.element["volatile"].items():
            setattr(element, name, value if name in ("_nvm", "_after") else duplicate(value))
        sram, temp_key, sha = s.element["sram"]
        element._executor.sram = copy.copy(sram)
        element._executor.sram.temp_key = copy.copy(temp_key)
        element._executor.sram.sha = duplicate(sha)
        element._stream.position = s.element["position"]
        del element.commands[s.element["commands"] :]
