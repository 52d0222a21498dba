"""What a chip has to bring to be a virtual device: five parts that know nothing of the machine.

A chip assembles itself; `fota_vdev.machine.Machine` adds power, the run loop, and what is seen from outside.
"""

from collections.abc import Callable
from typing import Any, Protocol

from fota_vdev.atecc608 import Atecc608
from fota_vdev.parts.bus import Bus, Peripheral
from fota_vdev.parts.clock import Clock
from fota_vdev.parts.emulator import Stop
from fota_vdev.parts.flash_cells import FlashCells
from fota_vdev.parts.stream import Stream
from fota_vdev.wires.i2c_bus import HostI2C, I2CBus
from fota_wire.host_chips import Chip as Row


class Core(Protocol):
    """The processor: see `fota_vdev.parts.emulator.Emulator`."""

    uc: Any
    live: bool

    @property
    def executed(self) -> int:
        """Instructions executed so far."""

    @property
    def pc(self) -> int:
        """Address of the next instruction."""

    def slice(self, count: int) -> Stop:
        """Run up to ``count`` instructions."""

    def limit(self, more: int) -> None:
        """End the slice after ``more`` further instructions."""

    def size_at(self, address: int) -> int:
        """Bytes of the instruction at ``address``."""

    def forget_code(self) -> None:
        """Drop all translations."""

    def map_registers(self, base: int, size: int) -> None:
        """Let the bus answer there."""

    def state(self) -> Any:  # noqa: ANN401
        """Return what `restore` needs."""

    def restore(self, state: Any) -> None:  # noqa: ANN401
        """Go back to a `state`."""


class Console(Protocol):
    """The port that a terminal listens to."""

    output: bytearray
    on_byte: Callable[[int], None]

    def receive(self, data: bytes) -> None:
        """Type."""


class Board(Protocol):
    """The peripherals."""

    clock: Clock
    bus: Bus
    i2c_bus: I2CBus
    host_i2c: HostI2C
    request_reset: Callable[[str], None]
    _by_name: dict[str, Peripheral]

    @property
    def console(self) -> Console:
        """The port that a terminal listens to."""

    @property
    def random(self) -> Stream:
        """The stream behind the random numbers."""

    def reset(self, cause: str) -> None:
        """Reset what this cause reaches."""

    def power_off(self) -> None:
        """Forget what only the supply keeps."""

    def deadlines(self) -> list[int]:
        """When, in picoseconds, something happens by itself."""

    def expired(self) -> str | None:
        """Return the reset that a watchdog asks for now."""

    def attach_modem(self, modem: Peripheral) -> tuple[int, int] | None:
        """Put a modem where the board has it; return (base, size) of registers new to the core's map."""

    def state(self) -> dict[str, Any]:
        """Return the state of all blocks."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""


class Space(Protocol):
    """The memory map."""

    ram: dict[int, Any]

    def service(self) -> None:
        """Between two instructions: take over a new mapping, drop translations of changed memory."""

    def map_flash(self) -> None:
        """Map flash as it is to be seen after a reset."""

    def scramble_ram(self, seed: str) -> None:
        """Fill RAM with the rubbish of a power-up."""

    def load32(self, address: int) -> int:
        """Read a word as a bus master."""

    def store32(self, address: int, value: int) -> None:
        """Write a word as a bus master."""

    def read(self, address: int, n: int) -> bytes:
        """Return memory as the chip sees it."""

    def extra(self) -> Any:  # noqa: ANN401
        """What a snapshot has to hold beside RAM, flash and registers."""

    def code_at(self) -> tuple[tuple[int, int, int], ...]:
        """Where RAM may hold code, as (base of the RAM, begin, end in it)."""

    def code_differs(self, bank: int, now: bytes, then: bytes) -> bool:
        """Return True if cells that may have been executed are others."""

    def settle(self, extra: Any, *, stale: bool) -> None:  # noqa: ANN401
        """Fit the mapping to what a snapshot has restored; ``stale`` if memory with code changed."""


class Traps(Protocol):
    """What follows when the core stops."""

    def start(self) -> None:
        """Set the core as after reset."""

    def deliver(self) -> None:
        """Between two instructions: take what is pending."""

    def stopped(self, stop: Stop) -> None:
        """Deal with the end of a slice that was no count and no WFI."""

    def awake(self) -> bool:
        """Return True if a WFI ends at once."""


class Assembly(Protocol):
    """The parts of one chip."""

    @property
    def cpu(self) -> Core:
        """The processor."""

    @property
    def flash(self) -> FlashCells:
        """What survives without power."""

    @property
    def board(self) -> Board:
        """The peripherals."""

    @property
    def space(self) -> Space:
        """The memory map."""

    @property
    def traps(self) -> Traps:
        """What follows when the core stops."""


class Chip(Protocol):
    """One chip."""

    @property
    def row(self) -> Row:
        """Its row in the table of chips."""

    def assemble(
        self,
        element: Atecc608 | None,
        seed: int,
        warn: Callable[[str], None],
        fault: Callable[[str], None],
    ) -> Assembly:
        """Return the parts of a new chip. ``warn`` and ``fault`` are told what goes wrong."""

    def handed_over(self, pc: int, load32: Callable[[int], int]) -> bool:
        """Tell whether the bootloader has jumped into the application, by where the core is or a register."""
