"""Exceptions of the core: taking, leaving, and faults that escalate to HardFault or lock the core up."""

from collections.abc import Callable

from fota_vdev.cortex_m.cpu import Cpu
from fota_vdev.cortex_m.scs import BFAR, CFSR, HARDFAULT, HFSR, NMI, SystemControl
from fota_vdev.parts.bus import BusFaultError, UnmodelledError
from fota_vdev.parts.emulator import EmulatorError, Stop
from fota_wire.errors import DeviceError

FORCED = 1 << 30
SCR, SLEEPDEEP = 0xD10, 4
BFARVALID, PRECISERR = 1 << 15, 1 << 9


class Exceptions:
    """Unicorn has no NVIC: frames are pushed and popped by hand, vectors read through VTOR.

    ``words`` returns words of memory by address and number.
    """

    def __init__(
        self,
        cpu: Cpu,
        scs: SystemControl,
        words: Callable[[int, int], list[int]],
        on_fault: Callable[[str], None],
    ) -> None:
        self._cpu = cpu
        self._scs = scs
        self._words = words
        self._on_fault = on_fault

    def start(self) -> None:
        """Begin as after reset: stack pointer and program counter from the vectors."""
        self._cpu.reset(*self._words(self._scs.vtor, 2))

    def stopped(self, stop: Stop) -> None:
        """Deal with the end of a slice: return from an exception, SVC, or a fault.

        Raises:
            UnmodelledError: the core locks up.
        """
        if stop.kind == "return":
            self.leave()
        elif stop.kind == "svc":
            self._scs.svcall = True
        elif stop.kind == "fault":
            self.hard_fault(stop)

    def awake(self) -> bool:
        """Return True if a WFI ends at once: an exception is pending.

        Raises:
            UnmodelledError: the sleep would be a deep one.
        """
        if self._scs.regs[SCR] & SLEEPDEEP:
            raise UnmodelledError("WFI with SLEEPDEEP: the stop and standby modes are not modelled")
        return self._scs.pending() is not None

    def deliver(self) -> None:
        """Take the pending exception, if one may be taken now."""
        number = self._scs.next_exception(masked=self._cpu.masked)
        if number is not None:
            self._enter(number)

    def _enter(self, number: int) -> None:
        try:
            vector = self._words(self._scs.vtor + 4 * number, 1)[0]
            self._cpu.enter(number, vector, nested=bool(self._scs.active))
        except (EmulatorError, BusFaultError, DeviceError) as exc:
            raise UnmodelledError(f"lockup: exception {number} cannot be taken ({exc})") from exc
        if not vector & 1:
            raise UnmodelledError(f"lockup: the vector of exception {number} is 0x{vector:08x}")
        self._scs.take(number)

    def leave(self) -> None:
        """Return from the active exception."""
        if not self._scs.active:
            self.hard_fault(Stop("fault", "exception return in thread mode"))
            return
        self._scs.active.pop()
        try:
            self._cpu.leave()
        except EmulatorError as exc:
            raise UnmodelledError(f"lockup: no stack to return from an exception ({exc})") from exc

    def hard_fault(self, stop: Stop) -> None:
        """Escalate a fault, as with SHCSR = 0.

        Raises:
            UnmodelledError: the core is in HardFault or NMI already, or cannot take it: lockup.
        """
        text = f"{stop.detail} (pc 0x{self._cpu.pc:08x})"
        self._on_fault(text)
        if HARDFAULT in self._scs.active or NMI in self._scs.active:
            raise UnmodelledError(f"lockup: {stop.detail}")
        self._scs.regs[HFSR] |= FORCED
        if stop.address:
            self._scs.regs[CFSR] |= BFARVALID | PRECISERR
            self._scs.regs[BFAR] = stop.address
        self._enter(HARDFAULT)
