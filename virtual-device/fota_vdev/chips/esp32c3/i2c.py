"""The I2C0 master (0x6001_3000): a list of commands over two FIFOs of 32 bytes, with its bit times."""

from collections.abc import Callable
from typing import ClassVar

from fota_vdev.chips.esp32c3.registers import Plain
from fota_vdev.parts.bus import UnmodelledError
from fota_vdev.parts.clock import PS_PER_S, Clock
from fota_vdev.wires.i2c_bus import I2CBus

SCL_LOW, CTR, SR, FIFO_CONF, DATA, INT_RAW, INT_CLR, INT_ENA, INT_ST = (
    0x00, 0x04, 0x08, 0x18, 0x1C, 0x20, 0x24, 0x28, 0x2C,
)  # fmt: skip
SCL_HIGH, CLK_CONF, COMD0, SCL_SP_CONF = 0x38, 0x54, 0x58, 0x80
MASTER, TRANS_START, FSM_RST, CONF_UPGATE = 1 << 4, 1 << 5, 1 << 10, 1 << 11
RX_FIFO_RST, TX_FIFO_RST = 1 << 12, 1 << 13
END_DETECT, BYTE_DONE, TRANS_COMPLETE, TRANS_STARTED, NACK = 1 << 3, 1 << 4, 1 << 7, 1 << 9, 1 << 10
BUS_BUSY, RESP_REC = 1 << 4, 1
WRITE, STOP, READ, END, RESTART = 1, 2, 3, 4, 6
DONE, ACK_CHECK, ACK_EXPECTED = 1 << 31, 1 << 8, 1 << 9
FIFO, COMMANDS = 32, 8
SCL_ACTIVE, FROM_RC_FAST = 1 << 21, 1 << 20
LATCHED = (SCL_LOW, SCL_HIGH, CTR)


class I2c(Plain):
    """Master mode, 7-bit addresses, polling.

    A list runs command by command in virtual time. A read of INT_RAW or SR shows what is so far; while the
    list runs on, that read lets time run to its end, so a polling loop sees "not yet" once. A message is
    handed to the bus at its end, bytes that are read in the pieces that READ commands ask for; ``got`` are
    those of this message before the piece.
    """

    STATE: ClassVar[tuple[str, ...]] = (
        "regs", "flags", "latched", "_tx", "_rx", "_out", "_address", "_selected", "_busy", "_index",
        "_due_ps", "_response", "got",
    )  # fmt: skip

    def __init__(self, bus: I2CBus, clock: Clock, pins: Callable[[], bool]) -> None:
        super().__init__("I2C0", {SCL_LOW: 0, SCL_HIGH: 0, CTR: 3, CLK_CONF: SCL_ACTIVE})
        self._bus = bus
        self._clock = clock
        self._pins = pins
        self._idle()

    def reset(self) -> None:
        """Let go of the bus: what the device got so far, it takes as a message cut short."""
        self._deliver()
        super().reset()
        self._idle()

    def _idle(self) -> None:
        self.flags = 0
        self.latched = {offset: self.regs[offset] for offset in LATCHED}
        self._tx, self._rx, self._out = bytearray(), bytearray(), bytearray()
        self._stop_list()
        self._address, self._response, self.got = 0, False, 0

    def _stop_list(self) -> None:
        self._index: int | None = None  # of the command under way
        self._due_ps = 0
        self._selected = ""  # "read" or "write" after an address that was acknowledged
        self._busy = False

    @property
    def bit_ps(self) -> int:
        """One bit on the bus, by the settings that CONF_UPGATE has put in force."""
        conf = self.regs[CLK_CONF]
        if not conf & SCL_ACTIVE:
            raise UnmodelledError("I2C0 used while its clock (CLK_CONF.SCLK_ACTIVE) is off")
        hz = 17_500_000 if conf & FROM_RC_FAST else 40_000_000
        fraction_a, fraction_b = conf >> 8 & 63, conf >> 14 & 63
        divider = (conf & 0xFF) + 1 + (fraction_b / fraction_a if fraction_a else 0)
        high = self.latched[SCL_HIGH]
        clocks = (self.latched[SCL_LOW] & 0x1FF) + 1 + (high & 0x1FF) + (high >> 9 & 0x7F)
        return int(clocks * divider * PS_PER_S / hz)

    # -- the list ----------------------------------------------------------------------------------------

    def _start(self) -> None:
        if not self._pins():
            raise UnmodelledError(
                "I2C0 started while its signals 53 and 54 are not led to two open-drain pins"
            )
        if not self.latched[CTR] & MASTER:
            raise UnmodelledError("I2C0 started as a slave: set MS_MODE, and CONF_UPGATE to put it in force")
        self.flags |= TRANS_STARTED
        self._schedule(0)

    def _command(self, index: int) -> tuple[int, int, int]:
        """Operation, number of bytes, and the whole register."""
        value = self.regs.get(COMD0 + 4 * index, 0)
        return value >> 11 & 7, value & 0xFF, value

    def _schedule(self, index: int) -> None:
        if index >= COMMANDS:
            raise UnmodelledError("I2C0: the list of commands has neither STOP nor END")
        operation, count, _ = self._command(index)
        if operation not in (WRITE, STOP, READ, END, RESTART):
            raise UnmodelledError(
                f"I2C0: command {index} has the operation {operation}, which does not exist"
            )
        bits = {WRITE: 9 * count, READ: 9 * count, END: 0}.get(operation, 1)
        self._index = index
        self._due_ps = self._clock.ps + bits * self.bit_ps

    def _settle(self) -> None:
        while self._index is not None and self._clock.ps >= self._due_ps:
            self._execute(self._index)

    def _execute(self, index: int) -> None:
        operation, count, value = self._command(index)
        self.regs[COMD0 + 4 * index] = value | DONE
        if operation in (RESTART, STOP):
            self._deliver()
            self._selected = ""
            self._busy = operation == RESTART
        elif operation == WRITE and not self._write(count, value):
            self.flags |= NACK
            self._index = None
            return
        elif operation == READ:
            self._read(count)
        if operation in (STOP, END):
            self.flags |= TRANS_COMPLETE if operation == STOP else END_DETECT
            self._index = None
        else:
            self._schedule(index + 1)

    def _write(self, count: int, command: int) -> bool:
        """Send bytes of the FIFO, the first after a START being the address; False ends the list."""
        if count > len(self._tx):
            raise UnmodelledError(f"I2C0: WRITE of {count} bytes with {len(self._tx)} in the FIFO")
        data, self._tx = self._tx[:count], self._tx[count:]
        if not self._selected and data:
            self._address, read = data[0] >> 1, bool(data[0] & 1)
            acknowledged = self._bus.select(self._address, read=read, bit_ps=self.bit_ps)
            self._response, self.got = not acknowledged, 0
            self._selected = ("read" if read else "write") if acknowledged else "nobody"
            data = data[1:]
            if command & ACK_CHECK and self._response != bool(command & ACK_EXPECTED):
                return False
        if self._selected == "write":
            self._out += data
        self.flags |= BYTE_DONE
        return True

    def _read(self, count: int) -> None:
        if len(self._rx) + count > FIFO:
            raise UnmodelledError(f"I2C0: READ of {count} bytes with {len(self._rx)} in the FIFO of {FIFO}")
        self._rx += self._bus.read(self._address, count) if self._selected == "read" else b"\xff" * count
        self.got += count

    def _deliver(self) -> None:
        if getattr(self, "_out", b""):
            message, self._out = bytes(self._out), bytearray()
            self._bus.write(self._address, message)

    # -- registers ---------------------------------------------------------------------------------------

    def _poll(self) -> None:
        """Let the list run to its end."""
        while self._index is not None:
            self._clock.wait_until(self._due_ps)
            self._execute(self._index)

    def read(self, offset: int) -> int:
        """Return a register."""
        self._settle()
        if offset in (INT_RAW, INT_ST):
            value = self.flags
            if self._index is not None:
                self._poll()
            return value if offset == INT_RAW else value & self.regs.get(INT_ENA, 0)
        if offset == SR:
            busy = BUS_BUSY if self._busy else 0
            if self._index is not None:
                self._poll()
            return busy | int(self._response) | len(self._rx) << 8 | len(self._tx) << 18
        if offset == DATA:
            return self._rx.pop(0) if self._rx else 0
        return super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        self._settle()
        if offset == DATA:
            if len(self._tx) < FIFO:  # what does not fit is lost
                self._tx.append(value & 0xFF)
        elif offset == CTR:
            self._write_ctr(value)
        elif offset == INT_CLR:
            self.flags &= ~value
        elif offset == FIFO_CONF:
            if value & RX_FIFO_RST:
                self._rx.clear()
            if value & TX_FIFO_RST:
                self._tx.clear()
            super().write(offset, value)
        elif offset not in (SR, INT_RAW):
            super().write(offset, value)

    def _write_ctr(self, value: int) -> None:
        self.regs[CTR] = value & ~(TRANS_START | FSM_RST | CONF_UPGATE)
        if value & FSM_RST:
            self._deliver()
            self._stop_list()
        if value & CONF_UPGATE:
            self.latched = {offset: self.regs[offset] for offset in LATCHED}
            if self.regs.get(SCL_SP_CONF, 0) & 1:
                pulses = self.regs[SCL_SP_CONF] >> 1 & 31
                self.regs[SCL_SP_CONF] &= ~1
                self._clock.advance(pulses * self.bit_ps)
        if value & TRANS_START:
            self._start()
