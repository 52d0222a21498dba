"""The system bus: which peripheral answers at an address, and how an access can end other than well."""

import copy
from typing import Any, ClassVar

from fota_wire.errors import DeviceError

BLOCK_SHIFT = 10  # every STM32L4 peripheral starts at a multiple of 1 KiB


class UnmodelledError(Exception):
    """The program used something that this virtual device does not model; the run ends and says so.

    ``address``: of the register, where it was one.
    """

    address: int | None = None


class BusFaultError(Exception):
    """The hardware answers this access with a bus error; the core takes a HardFault."""

    def __init__(self, address: int, what: str) -> None:
        super().__init__(f"{what} at 0x{address:08x}")
        self.address = address
        self.what = what


class PowerCutError(DeviceError):
    """The supply failed during this operation; the machine is off."""


class Peripheral:
    """One block of registers.

    ``STATE`` names the attributes that a snapshot has to hold. ``narrow`` tells that byte and half-word
    accesses are defined; elsewhere they end the run, because hardware does different things with them.
    """

    name: ClassVar[str] = "?"
    narrow: ClassVar[bool] = False
    STATE: ClassVar[tuple[str, ...]] = ()

    def reset(self) -> None:
        """Take the state after a system reset."""
        raise NotImplementedError

    def read(self, offset: int) -> int:
        """Return the 32-bit register at ``offset``.

        Raises:
            UnmodelledError: there is no such register in this model.
        """
        raise self.unmodelled(offset, "read of")

    def write(self, offset: int, value: int) -> None:
        """Write the 32-bit register at ``offset``.

        Raises:
            UnmodelledError: there is no such register, or the value asks for a function not modelled.
            BusFaultError: hardware answers with a bus error.
        """
        raise self.unmodelled(offset, "write to")

    def unmodelled(self, offset: int, what: str) -> UnmodelledError:
        """Return the error for a register that is not here."""
        return UnmodelledError(f"{what} {self.name}+0x{offset:02x}, which is not modelled")

    def state(self) -> dict[str, Any]:
        """Return a deep copy of the attributes in ``STATE``."""
        return {name: copy.deepcopy(getattr(self, name)) for name in self.STATE}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back a `state`."""
        for name, value in state.items():
            setattr(self, name, copy.deepcopy(value))


class Storage(Peripheral):
    """Registers that only remember what was written: no function behind them."""

    STATE = ("regs",)

    def __init__(self, name: str, resets: dict[int, int]) -> None:
        self.name = name  # type: ignore[misc]
        self._resets = resets
        self.regs = dict(resets)

    def reset(self) -> None:
        """Take the reset values."""
        self.regs = dict(self._resets)

    def read(self, offset: int) -> int:
        """Return what was written."""
        if offset not in self.regs:
            raise self.unmodelled(offset, "read of")
        return self.regs[offset]

    def write(self, offset: int, value: int) -> None:
        """Remember ``value``."""
        if offset not in self.regs:
            raise self.unmodelled(offset, "write to")
        self.regs[offset] = value


class Gate:
    """Tells whether a peripheral's clock is on; an unclocked one reads 0 and ignores writes."""

    def clocked(self, name: str) -> bool:
        """Return True if the peripheral ``name`` has its bus clock."""
        raise NotImplementedError


class Bus:
    """Dispatches register accesses; knows nothing of RAM and flash."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._blocks: dict[int, tuple[Peripheral, int]] = {}

    def attach(self, base: int, peripheral: Peripheral, size: int = 0x400) -> None:
        """Let ``peripheral`` answer in [base, base + size)."""
        for block in range(base >> BLOCK_SHIFT, (base + size - 1 >> BLOCK_SHIFT) + 1):
            self._blocks[block] = (peripheral, base)

    def _find(self, address: int, size: int, what: str) -> tuple[Peripheral, int]:
        found = self._blocks.get(address >> BLOCK_SHIFT)
        if found is None:
            raise UnmodelledError(f"{what} 0x{address:08x}: no peripheral is modelled there")
        peripheral, base = found
        if address % size or (size != 4 and not peripheral.narrow):
            raise UnmodelledError(
                f"{size}-byte {what} 0x{address:08x} ({peripheral.name}): 32-bit registers only"
            )
        return peripheral, address - base

    def read(self, address: int, size: int = 4) -> int:
        """Return the register at ``address``, or ``size`` bytes of it."""
        try:
            peripheral, offset = self._find(address, size, "read of")
            if not self._gate.clocked(peripheral.name):
                return 0
            word = peripheral.read(offset & ~3)
        except UnmodelledError as exc:
            exc.address = address
            raise
        return word >> 8 * (offset & 3) & ((1 << 8 * size) - 1)

    def write(self, address: int, value: int, size: int = 4) -> None:
        """Write the register at ``address``; narrow writes reach the register's low bits only."""
        try:
            peripheral, offset = self._find(address, size, "write to")
            if self._gate.clocked(peripheral.name):
                peripheral.write(offset, value & ((1 << 8 * size) - 1))
        except UnmodelledError as exc:
            exc.address = address
            raise
