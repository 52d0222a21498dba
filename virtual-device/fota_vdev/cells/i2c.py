"""The I2C1 master of the STM32L4 ("I2C v2" cell, base 0x4000_5400): its flags and bit times."""

from collections.abc import Callable
from typing import ClassVar

from fota_vdev.parts.bus import Peripheral, UnmodelledError
from fota_vdev.parts.clock import PS_PER_S, Clock
from fota_vdev.wires.i2c_bus import I2CBus

CR1, CR2, OAR1, OAR2, TIMINGR, TIMEOUTR, ISR, ICR, PECR, RXDR, TXDR = range(0x00, 0x2C, 4)
PE, INTERRUPTS = 1, 0xFE
RD, START, STOP, NACK, RELOAD, AUTOEND = 1 << 10, 1 << 13, 1 << 14, 1 << 15, 1 << 24, 1 << 25
TXE, TXIS, RXNE, NACKF, STOPF, TC, TCR, BUSY = 1, 2, 4, 1 << 4, 1 << 5, 1 << 6, 1 << 7, 1 << 15
SYNC_PS = 750_000  # both edges of SCL pass the analog filter and a synchroniser


class I2c(Peripheral):
    """Master mode, 7-bit addresses, polling.

    Every step (address, byte, STOP) takes its bit times. A read of ISR shows the flags as they are; when a
    step is under way that read lets time run on to its end, so a polling loop sees "not yet" once.
    """

    name = "I2C1"
    narrow = True
    STATE: ClassVar[tuple[str, ...]] = (
        "regs",
        "flags",
        "_left",
        "_out",
        "_in",
        "_step",
        "_due_ps",
        "_address",
        "_txdr",
    )

    def __init__(
        self, bus: I2CBus, clock: Clock, kernel_hz: Callable[[], int], pins: Callable[[], bool]
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._kernel_hz = kernel_hz
        self._pins = pins
        self.regs: dict[int, int] = {}
        self._idle()
        self.reset()

    def reset(self) -> None:
        """Let go of the bus: what the device got so far, it takes as a message cut short."""
        if self._out:
            self._bus.write(self._address, bytes(self._out))
        self.regs = dict.fromkeys((CR1, CR2, OAR1, OAR2, TIMINGR, TIMEOUTR, PECR), 0)
        self._idle()

    def _idle(self) -> None:
        self.flags = TXE
        self._left = 0
        self._out = bytearray()
        self._in = bytearray()
        self._step = ""
        self._due_ps = 0
        self._address = 0
        self._txdr: int | None = None

    @property
    def bit_ps(self) -> int:
        """One bit on the bus, from TIMINGR and the kernel clock."""
        timing = self.regs[TIMINGR]
        hz = self._kernel_hz()
        if hz == 0:
            raise UnmodelledError("I2C1 used while its kernel clock (CCIPR.I2C1SEL) is off")
        clocks = ((timing & 0xFF) + 1 + (timing >> 8 & 0xFF) + 1) * ((timing >> 28) + 1)
        return clocks * PS_PER_S // hz + SYNC_PS

    # -- steps -------------------------------------------------------------------------------------------

    def _schedule(self, step: str, bits: int) -> None:
        self._step = step
        self._due_ps = self._clock.ps + bits * self.bit_ps

    def _settle(self) -> None:
        while self._step and self._clock.ps >= self._due_ps:
            step, self._step = self._step, ""
            {
                "address": self._address_done,
                "sent": self._byte_sent,
                "got": self._byte_got,
                "stop": self._stopped,
            }[step]()

    def _begin(self) -> None:
        if not self._pins():
            raise UnmodelledError("I2C1 started while PB8/PB9 (or PB6/PB7) are not AF4 open drain")
        self.flags = self.flags & ~(TC | TCR) | BUSY
        self._address = self.regs[CR2] >> 1 & 0x7F
        self._left = self.regs[CR2] >> 16 & 0xFF
        self._schedule("address", 10)

    def _address_done(self) -> None:
        self.regs[CR2] &= ~START
        read = bool(self.regs[CR2] & RD)
        if not self._bus.select(self._address, read=read, bit_ps=self.bit_ps):
            self.flags |= NACKF
            self._schedule("stop", 1)
        elif read:
            self._in = bytearray(self._bus.read(self._address, self._left))
            self._next()
        else:
            self._next()

    def _next(self) -> None:
        """Go on after the address or a byte: the next byte, or the end of NBYTES."""
        if self._left and self.regs[CR2] & RD:
            self._schedule("got", 9)
        elif self._left:
            self.flags |= TXIS
        elif self.regs[CR2] & RELOAD:
            self.flags |= TCR
        elif self.regs[CR2] & AUTOEND:
            self._schedule("stop", 1)
        else:
            self.flags |= TC

    def _byte_sent(self) -> None:
        if self._txdr is not None:
            self._out.append(self._txdr)
        self._txdr = None
        self._left -= 1
        self._next()

    def _byte_got(self) -> None:
        self.flags |= RXNE

    def _stopped(self) -> None:
        if self._out:
            self._bus.write(self._address, bytes(self._out))
        self._out = bytearray()
        self._in = bytearray()
        self._left = 0
        self.regs[CR2] = 0
        self.flags = self.flags & ~(BUSY | TXIS | TC | TCR) | STOPF

    # -- registers ---------------------------------------------------------------------------------------

    def read(self, offset: int) -> int:
        """Return a register."""
        self._settle()
        if offset == ISR:
            value = self.flags
            if self._step:
                self._clock.wait_until(self._due_ps)
            return value
        if offset == RXDR:
            return self._read_byte()
        if offset in (ICR, TXDR):
            return 0
        if offset not in self.regs:
            raise self.unmodelled(offset, "read of")
        return self.regs[offset]

    def _read_byte(self) -> int:
        if not self.flags & RXNE:
            return 0
        self.flags &= ~RXNE
        byte = self._in.pop(0) if self._in else 0xFF
        self._left -= 1
        self._next()
        return byte

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        self._settle()
        if offset == CR1:
            self._write_cr1(value)
        elif offset == CR2:
            self._write_cr2(value)
        elif offset == TXDR:
            self._write_byte(value & 0xFF)
        elif offset == ICR:
            self.flags &= ~(value & (NACKF | STOPF))
        elif offset == TIMINGR and self.regs[CR1] & PE:
            raise UnmodelledError("I2C1 TIMINGR written while PE is set")
        elif offset in self.regs:
            self.regs[offset] = value
        else:
            raise self.unmodelled(offset, "write to")

    def _write_cr1(self, value: int) -> None:
        if value & INTERRUPTS:
            raise UnmodelledError("an interrupt of I2C1 was enabled; only polling is modelled")
        self.regs[CR1] = value
        if not value & PE:
            if self._out:
                self._bus.write(self._address, bytes(self._out))
            self._idle()

    def _write_cr2(self, value: int) -> None:
        if not self.regs[CR1] & PE:
            self.regs[CR2] = value & ~(START | STOP)
            return
        reload_pending = self.flags & TCR
        self.regs[CR2] = value & ~STOP
        if value & START and not self._step:
            self._begin()
        elif value & STOP and self.flags & BUSY:
            self._schedule("stop", 1)
        elif reload_pending:
            self.flags &= ~TCR
            self._left = value >> 16 & 0xFF
            self._next()

    def _write_byte(self, value: int) -> None:
        if self.flags & TXIS:
            self.flags &= ~TXIS
            self._txdr = value
            self._schedule("sent", 9)
        # without TXIS the byte goes nowhere: the driver did not wait
