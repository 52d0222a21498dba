"""The chip on its bus: wake, idle, sleep, watchdog, input FIFO, busy times, and power."""

import copy
import random
from collections.abc import Callable
from typing import Any

from fota_vdev.atecc608.assumptions import Assumptions
from fota_vdev.atecc608.commands import NOT_MODELLED, TIMES_MS, Executor
from fota_vdev.atecc608.crc import CRC_ERROR, PARSE, SELF_TEST, WOKE_UP, crc16, group
from fota_vdev.atecc608.memory import (
    ADDRESS,
    CHIP_MODE,
    POWER_ON_SELF_TEST,
    Latches,
    Nvm,
    Sram,
    factory_config,
)
from fota_vdev.atecc608.state_commands import ALL_SELF_TESTS
from fota_vdev.parts.bus import PowerCutError
from fota_vdev.parts.clock import PS_PER_MS, PS_PER_US
from fota_vdev.parts.stream import Stream
from fota_wire.errors import InputError

ASLEEP, IDLE, AWAKE = "asleep", "idle", "awake"
DIVIDERS = {0x00: 0, 0x28: 1, 0x68: 2}
SHORTEST = 7


class Atecc608:
    """A blank part unless ``nvm`` is given. ``seed`` feeds its random numbers and its serial number.

    The host side of the bus calls `wake_pulse`, `acknowledge`, `write`, `read`; time comes from the clock
    that the machine attaches. ``post_failure`` True makes the power-on self-test fail; ``broken`` are the
    bits of the self-tests (as in the SelfTest command) that fail whenever they run.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        nvm: Nvm | None = None,
        random_position: int = 0,
        assumptions: Assumptions | None = None,
    ) -> None:
        self.assumptions = assumptions or Assumptions()
        self._stream = Stream("atecc608", seed, random_position)
        if nvm is None:
            unique = Stream("atecc608-serial", seed).take(6)
            serial = b"\x01\x23" + unique + b"\xee"
            nvm = Nvm(bytearray(factory_config(serial, self.assumptions.revision)))
        self._nvm = nvm
        self._after: Nvm | None = None
        self._executor = Executor(self.assumptions, self._stream.take)
        self._now_ps: Callable[[], int] = lambda: 0
        self.unmodelled: list[str] = []
        self.commands: list[tuple[str, int, int]] = []
        # opcode, first parameter, right before each command: a cut may be armed for this very one
        self.on_command: Callable[[int, int], None] = lambda opcode, p1: None
        self._cut_in: int | None = None
        self._cut_torn: int | None = None
        self._powered = False
        self._lose_power()

    def attach_clock(self, now_ps: Callable[[], int]) -> None:
        """Take virtual time, picoseconds, from ``now_ps``."""
        self._now_ps = now_ps

    # -- what lies inside ------------------------------------------------------------------------------------

    @property
    def nvm(self) -> Nvm:
        """The non-volatile memory as it is now; for looking, never for changing."""
        self._settle()
        return self._nvm

    @property
    def serial(self) -> bytes:
        """SN0..SN8."""
        return self._nvm.serial

    @property
    def counters(self) -> tuple[int, int]:
        """Counter0 and Counter1."""
        return self.nvm.counters[0], self.nvm.counters[1]

    @property
    def address(self) -> int:
        """7-bit I2C address: byte 16, or byte 85 if ChipMode says so and it is set."""
        config = self._nvm.config
        extra = config[CHIP_MODE] & 1 and config[85]
        return (config[85] if extra else config[ADDRESS]) >> 1

    @property
    def broken(self) -> int:
        """Bits of the self-tests that fail."""
        return self._executor.failing

    @broken.setter
    def broken(self, bits: int) -> None:
        self._executor.failing = bits

    @property
    def post_failure(self) -> bool:
        """True while a self-test has failed and not passed since: the chip wakes with status 07."""
        return bool(self._executor.failed)

    @post_failure.setter
    def post_failure(self, fails: bool) -> None:
        self._executor.failing = self._executor.failed = ALL_SELF_TESTS if fails else 0

    @property
    def status(self) -> str:
        """ "asleep", "idle" or "awake"."""
        self._settle()
        return self._status

    # -- power -----------------------------------------------------------------------------------------------

    def power_on(self) -> None:
        """Give the supply: the chip sleeps."""
        self._powered = True
        self._lose_power()

    def power_off(self) -> None:
        """Take the supply away; a command under way leaves what it leaves."""
        self._settle()
        if self._after is not None:
            self._tear(random.Random(self._stream.take(8)))  # noqa: S311
        self._powered = False
        self._cut_in = None
        self._lose_power()

    def arm_cut(self, command: int, torn: int | None) -> None:
        """Cut the power at the ``command``-th command from now; ``torn`` None: before it does anything."""
        self._cut_in, self._cut_torn = command, torn

    def _tear(self, dice: random.Random) -> None:
        if self._after is not None:
            self._nvm = self._nvm.torn(
                self._after,
                dice,
                may_add=self.assumptions.cut_increment_may_add_one,
                mixes=self.assumptions.cut_write_mixes_words,
            )
            self._after = None

    def _lose_power(self) -> None:
        self._executor.latches = Latches()
        if self._nvm.chip_options & POWER_ON_SELF_TEST:
            self._executor.failed = self._executor.failing
        self._lose_sram()

    def _lose_sram(self) -> None:
        self._status = ASLEEP
        self._executor.sram = Sram()
        self._fifo = bytearray()
        self._output = b""
        self._pointer = 0
        self._busy_until_ps = 0
        self._watchdog_ps = 0

    def _settle(self) -> None:
        """Bring the chip up to now: finish a command, let the watchdog expire."""
        now = self._now_ps()
        expired = self._expired(now)
        in_time = not expired or self._busy_until_ps <= self._watchdog_ps
        if self._after is not None and (
            (now >= self._busy_until_ps and in_time) or (expired and self.assumptions.write_survives_watchdog)
        ):
            self._nvm, self._after = self._after, None
        if expired:
            self._after = None
            self._lose_sram()

    def _expired(self, now: int) -> bool:
        return self._status == AWAKE and now >= self._watchdog_ps

    # -- bus -------------------------------------------------------------------------------------------------

    def wake_pulse(self, low_us: float) -> None:
        """SDA is held low for ``low_us``; long enough, it wakes a chip that sleeps or idles."""
        self._settle()
        if not self._powered or self._status == AWAKE or low_us < self.assumptions.wake_low_us:
            return
        now = self._now_ps()
        long = self._nvm.config[CHIP_MODE] & 4
        watchdog_ms = self.assumptions.long_watchdog_ms if long else self.assumptions.watchdog_ms
        self._status = AWAKE
        self._fifo.clear()
        self._output, self._pointer = group(bytes([SELF_TEST if self.post_failure else WOKE_UP])), 0
        self._busy_until_ps = now + self.assumptions.wake_delay_us * PS_PER_US
        self._watchdog_ps = now + watchdog_ms * PS_PER_MS

    def acknowledge(self, address: int, *, read: bool) -> bool:
        """Tell whether the chip answers its address: awake, not busy, and no half command before a read."""
        self._settle()
        if not self._powered or address != self.address or self._status != AWAKE:
            return False
        return self._now_ps() >= self._busy_until_ps and not (read and self._fifo)

    def write(self, data: bytes) -> None:
        """Take one write message: word address, then bytes.

        Raises:
            PowerCutError: an armed power cut falls on the command that this message completes.
        """
        if not data or self._status != AWAKE:
            return
        word, rest = data[0], data[1:]
        if word == 0:
            self._pointer = 0
            self._fifo.clear()
        elif word == 1:
            self._lose_sram()
        elif word == 2:
            self._status = IDLE
            self._fifo.clear()
            self._output = b""
        elif word == 3:
            self._fifo += rest
            if self._fifo and len(self._fifo) >= max(self._fifo[0], 1):
                self._execute()

    def read(self, n: int) -> bytes:
        """Return the next ``n`` bytes of the response."""
        part = self._output[self._pointer : self._pointer + n]
        self._pointer += len(part)
        return part + bytes([self.assumptions.past_end]) * (n - len(part))

    # -- commands --------------------------------------------------------------------------------------------

    def _execute(self) -> None:
        packet, self._fifo = bytes(self._fifo[: max(self._fifo[0], 1)]), bytearray()
        self._pointer = 0
        if len(packet) < SHORTEST:
            self._respond(bytes([PARSE]), 0)
            return
        if crc16(packet[:-2]) != packet[-2:]:
            self._respond(bytes([CRC_ERROR]), 0)
            return
        opcode, p1, p2, data = packet[1], packet[2], int.from_bytes(packet[3:5], "little"), packet[5:-2]
        name, times = TIMES_MS.get(opcode, (NOT_MODELLED.get(opcode, f"opcode {opcode:02x}"), (1, 1, 1)))
        if opcode not in TIMES_MS:
            self.unmodelled.append(name)
        self.commands.append((name, p1, p2))
        self.on_command(opcode, p1)
        cut, dice = self._cut_now()
        if cut and dice is None:
            raise PowerCutError(f"power cut before the element's {name}")
        self._executor.nvm = self._nvm.copy()
        response = self._executor.run(opcode, p1, p2, data)
        self._after = self._executor.nvm
        if cut and dice is not None:
            self._tear(dice)
            raise PowerCutError(f"power cut during the element's {name}")
        divider = DIVIDERS.get(self._nvm.config[CHIP_MODE] & 0xF8, 0)
        self._respond(response, times[divider])

    def _cut_now(self) -> tuple[bool, random.Random | None]:
        if self._cut_in is None:
            return False, None
        self._cut_in -= 1
        if self._cut_in:
            return False, None
        self._cut_in = None
        return True, None if self._cut_torn is None else random.Random(self._cut_torn)  # noqa: S311

    def _respond(self, payload: bytes, max_ms: int) -> None:
        self._output = group(payload)
        self._busy_until_ps = self._now_ps() + int(max_ms * PS_PER_MS * self.assumptions.execution)

    # -- states ----------------------------------------------------------------------------------------------

    def persistent_state(self) -> dict[str, Any]:
        """Return what survives without power, as plain data; it holds secrets."""
        return {
            "nvm": self.nvm.state(),
            "seed": self._stream.seed,
            "random_position": self._stream.position,
        }

    @classmethod
    def from_persistent_state(cls, state: dict[str, Any]) -> "Atecc608":
        """Return a chip without power.

        Raises:
            InputError: the data is not such a state.
        """
        try:
            return cls(
                seed=int(state["seed"]),
                nvm=Nvm.from_state(state["nvm"]),
                random_position=int(state["random_position"]),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise InputError(f"the crypto element's state is damaged: {exc}") from exc

    @property
    def _inside(self) -> tuple[bool, bool, int, int]:
        """What the executor keeps beside its SRAM."""
        inside = self._executor
        latches = inside.latches
        return latches.persistent, latches.secure_boot_prohibited, inside.failing, inside.failed

    @_inside.setter
    def _inside(self, values: tuple[bool, bool, int, int]) -> None:
        self._executor.latches = Latches(*values[:2])
        self._executor.failing, self._executor.failed = values[2:]

    _VOLATILE = ("_nvm", "_after", "_status", "_fifo", "_output", "_pointer", "_busy_until_ps",
                 "_watchdog_ps", "_powered", "_cut_in", "_cut_torn", "_inside")  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Return everything, for a snapshot."""
        state = {name: copy.deepcopy(getattr(self, name)) for name in self._VOLATILE}
        return state | {"sram": copy.deepcopy(self._executor.sram), "position": self._stream.position}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        for name in self._VOLATILE:
            setattr(self, name, copy.deepcopy(state[name]))
        self._executor.sram = copy.deepcopy(state["sram"])
        self._stream.position = state["position"]
