"""The core's own registers: SysTick, system control block, a NVIC without interrupts, DWT cycle counter."""

from collections.abc import Callable
from typing import ClassVar

from fota_vdev.cortex_m.mpu import Mpu, MpuV8
from fota_vdev.parts.bus import Peripheral, UnmodelledError
from fota_vdev.parts.clock import PS_PER_S, Clock

SYST_CSR, SYST_RVR, SYST_CVR, SYST_CALIB = 0x010, 0x014, 0x018, 0x01C
CPUID, ICSR, VTOR, AIRCR, SCR, CCR, SHPR1, SHCSR = 0xD00, 0xD04, 0xD08, 0xD0C, 0xD10, 0xD14, 0xD18, 0xD24
CFSR, HFSR, DFSR, MMFAR, BFAR, AFSR, CPACR, DEMCR = 0xD28, 0xD2C, 0xD30, 0xD34, 0xD38, 0xD3C, 0xD88, 0xDFC
ENABLE, TICKINT, CLKSOURCE, COUNTFLAG = 1, 2, 4, 1 << 16
PENDSTCLR, PENDSTSET, PENDSVCLR, PENDSVSET, NMIPENDSET = 1 << 25, 1 << 26, 1 << 27, 1 << 28, 1 << 31
SYSRESETREQ, VECTKEY = 1 << 2, 0x05FA
CORTEX_M4, CORTEX_M33 = 0x410F_C241, 0x410F_D214
NMI, HARDFAULT, SVCALL, PENDSV, SYSTICK = 2, 3, 11, 14, 15


class SysTick:
    """A 24-bit down counter in virtual time; it runs on while the core sleeps."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Switch off."""
        self.csr = 0
        self.reload = 0
        self.pending = False
        self._value = 0
        self._anchor_ps = 0

    @property
    def _hz(self) -> int:
        return self._clock.hz if self.csr & CLKSOURCE else self._clock.hz // 8

    def settle(self) -> None:
        """Bring value, COUNTFLAG and pending up to now."""
        now = self._clock.ps
        if not self.csr & ENABLE or self.reload == 0:
            self._anchor_ps = now
            return
        ticks = (now - self._anchor_ps) * self._hz // PS_PER_S
        if ticks <= 0:
            return
        self._anchor_ps += -(-ticks * PS_PER_S // self._hz)
        period = self.reload + 1
        first = self._value or period  # from 0 the counter reloads first
        if ticks >= first:
            self.csr |= COUNTFLAG
            self.pending = self.pending or bool(self.csr & TICKINT)
        self._value = (first - ticks) % period

    def next_ps(self) -> int | None:
        """When the counter next reaches 0 with its interrupt enabled, or None."""
        self.settle()
        if not self.csr & ENABLE or not self.csr & TICKINT or self.reload == 0:
            return None
        return self._anchor_ps - (-(self._value or self.reload + 1) * PS_PER_S // self._hz)

    def read(self, offset: int) -> int:
        """Return CSR (clears COUNTFLAG), RVR, CVR or CALIB."""
        self.settle()
        if offset == SYST_CSR:
            value = self.csr
            self.csr &= ~COUNTFLAG
            return value
        return {SYST_RVR: self.reload, SYST_CVR: self._value}.get(offset, 0x4000_0000)

    def write(self, offset: int, value: int) -> None:
        """Write CSR, RVR or CVR (any value clears it)."""
        self.settle()
        if offset == SYST_CSR:
            self.csr = self.csr & COUNTFLAG | value & 7
        elif offset == SYST_RVR:
            self.reload = value & 0xFF_FFFF
        elif offset == SYST_CVR:
            self._value = 0
            self.csr &= ~COUNTFLAG
        self._anchor_ps = self._clock.ps
        self._clock.on_jump()


class SystemControl(Peripheral):
    """0xE000_E000. Interrupts of peripherals are not modelled: enabling one ends the run."""

    name = "SCS"
    narrow = False
    STATE: ClassVar[tuple[str, ...]] = ("regs", "vtor", "pendsv", "svcall", "tick_state", "mpu_state")

    def __init__(
        self, clock: Clock, nmi_line: Callable[[], bool], *, cpuid: int = CORTEX_M4, boot_address: int = 0
    ) -> None:
        self._cpuid = cpuid
        self._boot_address = boot_address
        self.systick = SysTick(clock)
        self.mpu = MpuV8() if cpuid == CORTEX_M33 else Mpu()
        self._nmi_line = nmi_line
        self.on_reset_request: Callable[[], None] = lambda: None
        self.on_pend: Callable[[], None] = lambda: None
        self.active: list[int] = []
        self.reset()

    def reset(self) -> None:
        """Take the state after reset."""
        self.systick.reset()
        self.mpu.reset()
        self.vtor = self._boot_address
        self.pendsv = False
        self.svcall = False
        self.active.clear()
        self.regs = {SCR: 0, CCR: 0x200, SHPR1: 0, SHPR1 + 4: 0, SHPR1 + 8: 0, SHCSR: 0, CFSR: 0, HFSR: 0,
                     DFSR: 0, MMFAR: 0, BFAR: 0, AFSR: 0, CPACR: 0, DEMCR: 0}  # fmt: skip

    @property
    def mpu_state(self) -> tuple[int, int, tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
        """The regions, for snapshots."""
        return self.mpu.state

    @mpu_state.setter
    def mpu_state(
        self, state: tuple[int, int, tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]
    ) -> None:
        self.mpu.state = state

    @property
    def tick_state(self) -> tuple[int, int, bool, int, int, list[int]]:
        """SysTick and the active exceptions, for snapshots."""
        t = self.systick
        return t.csr, t.reload, t.pending, t._value, t._anchor_ps, list(self.active)

    @tick_state.setter
    def tick_state(self, state: tuple[int, int, bool, int, int, list[int]]) -> None:
        t = self.systick
        t.csr, t.reload, t.pending, t._value, t._anchor_ps, active = state
        self.active = list(active)  # the snapshot keeps its own

    def next_exception(self, *, masked: bool) -> int | None:
        """The exception to take now, or None; ``masked`` is PRIMASK.

        NMI goes before all, the others are taken in thread mode only: one priority group.
        """
        if NMI in self.active:
            return None
        if self._nmi_line():
            return NMI
        if self.active or masked:
            return None
        return self.pending()

    def pending(self) -> int | None:
        """The pending exception of lowest number, masked or not: what ends a WFI."""
        self.systick.settle()
        if self._nmi_line():
            return NMI
        for number, waits in ((SVCALL, self.svcall), (PENDSV, self.pendsv), (SYSTICK, self.systick.pending)):
            if waits:
                return number
        return None

    def take(self, number: int) -> None:
        """Make an exception active."""
        if number == SVCALL:
            self.svcall = False
        elif number == PENDSV:
            self.pendsv = False
        elif number == SYSTICK:
            self.systick.pending = False
        self.active.append(number)

    def read(self, offset: int) -> int:
        """Return a register."""
        if SYST_CSR <= offset <= SYST_CALIB:
            return self.systick.read(offset)
        if offset == ICSR:
            return self._icsr()
        if offset in self.mpu.WINDOW:
            return self.mpu.read(offset)
        plain = {CPUID: self._cpuid, VTOR: self.vtor, AIRCR: 0xFA05_0000, 0x004: 0, 0x008: 0}
        if offset in plain:
            return plain[offset]
        if offset in self.regs:
            return self.regs[offset]
        if 0x100 <= offset < 0x500:  # NVIC: nothing is enabled, pending or prioritised
            return 0
        raise self.unmodelled(offset, "read of")

    def _icsr(self) -> int:
        self.systick.settle()
        number = self.pending() or 0
        active = self.active[-1] if self.active else 0
        flags = (PENDSTSET if self.systick.pending else 0) | (PENDSVSET if self.pendsv else 0)
        return flags | (NMIPENDSET if self._nmi_line() else 0) | number << 12 | active

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        if SYST_CSR <= offset <= SYST_CALIB:
            self.systick.write(offset, value)
        elif offset in self.mpu.WINDOW:
            self.mpu.write(offset, value)
        elif offset == ICSR:
            self._write_icsr(value)
        elif offset == VTOR:
            self.vtor = value & 0x3FFF_FF80
        elif offset == AIRCR:
            if value >> 16 == VECTKEY and value & SYSRESETREQ:
                self.on_reset_request()
        elif offset in (CFSR, HFSR, DFSR):
            self.regs[offset] &= ~value
        elif offset == CPACR and value:
            raise UnmodelledError("the floating-point unit was enabled; it is not modelled")
        elif offset in self.regs:
            self.regs[offset] = value
        elif 0x100 <= offset < 0x180 and value:
            raise UnmodelledError(
                "an interrupt was enabled in the NVIC; peripheral interrupts are not modelled"
            )
        elif not 0x100 <= offset < 0x500:
            raise self.unmodelled(offset, "write to")

    def _write_icsr(self, value: int) -> None:
        self.systick.settle()
        if value & PENDSTCLR:
            self.systick.pending = False
        if value & PENDSTSET:
            self.systick.pending = True
        if value & PENDSVCLR:
            self.pendsv = False
        if value & PENDSVSET:
            self.pendsv = True
        if value & NMIPENDSET:
            raise UnmodelledError("NMI set pending by software")
        self.on_pend()


class Dwt(Peripheral):
    """0xE000_1000: only CTRL.CYCCNTENA and CYCCNT. It counts core clocks and stands still in WFI."""

    name = "DWT"
    STATE: ClassVar[tuple[str, ...]] = ("ctrl", "_count", "_anchor")

    def __init__(self, clock: Clock, trace_enabled: Callable[[], bool]) -> None:
        self._clock = clock
        self._trace_enabled = trace_enabled
        self.reset()

    def reset(self) -> None:
        """Switch off."""
        self.ctrl = 0
        self._count = 0
        self._anchor = self._awake_ps

    @property
    def _awake_ps(self) -> int:
        return self._clock.ps - self._clock.slept_ps

    def settle(self) -> None:
        """Bring the count up to now."""
        now = self._awake_ps
        if self.ctrl & 1 and self._trace_enabled():
            self._count += (now - self._anchor) * self._clock.hz // PS_PER_S
        self._anchor = now

    def read(self, offset: int) -> int:
        """Return CTRL or CYCCNT."""
        self.settle()
        if offset == 0:
            return 0x4000_0000 | self.ctrl
        if offset == 4:
            return self._count & 0xFFFF_FFFF
        raise self.unmodelled(offset, "read of")

    def write(self, offset: int, value: int) -> None:
        """Write CTRL or CYCCNT."""
        self.settle()
        if offset == 0:
            self.ctrl = value & 1
        elif offset == 4:
            self._count = value
        elif offset == 0xFB0:
            pass  # lock access register: no lock on this core
        else:
            raise self.unmodelled(offset, "write to")
