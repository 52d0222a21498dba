"""A USART: bytes out and in. The line takes no virtual time."""

from collections import deque
from collections.abc import Callable
from typing import ClassVar

from fota_vdev.parts.bus import Peripheral, UnmodelledError

CR1, CR2, CR3, BRR, GTPR, RTOR, RQR, ISR, ICR, RDR, TDR = range(0x00, 0x2C, 4)
UE, RE, TE, OVER8 = 1, 1 << 2, 1 << 3, 1 << 15
INTERRUPTS = 0x1F << 4 | 1 << 14 | 3 << 26
RXNE, TC, TXE, TEACK, REACK = 1 << 5, 1 << 6, 1 << 7, 1 << 21, 1 << 22


class Usart(Peripheral):
    """USART2 (base 0x4000_4400) or another. Polled use only: enabling one of its interrupts ends the run."""

    narrow = True
    STATE: ClassVar[tuple[str, ...]] = ("regs", "_input")

    def __init__(
        self, kernel_hz: Callable[[], int], pins: Callable[[], tuple[bool, bool]], name: str = "USART2"
    ) -> None:
        self.name = name  # type: ignore[misc]
        self._kernel_hz = kernel_hz
        self._pins = pins  # whether the transmitter has its pin, and the receiver
        self.output = bytearray()
        self.on_byte: Callable[[int], None] = lambda byte: None
        self._input: deque[int] = deque()
        self.reset()

    def reset(self) -> None:
        """Switch the port off; what was received and not read is lost."""
        self.regs = dict.fromkeys((CR1, CR2, CR3, BRR, GTPR, RTOR), 0)
        self._input.clear()

    @property
    def baud(self) -> float:
        """Baud rate as set; 0 while the port is off."""
        divider = self.regs[BRR]
        if not self.regs[CR1] & UE or divider < 16:
            return 0.0
        return self._kernel_hz() * (2 if self.regs[CR1] & OVER8 else 1) / divider

    def receive(self, data: bytes) -> None:
        """Put bytes on the line; they are lost while the receiver is off or has no pin, as on a wire."""
        if self.regs[CR1] & UE and self.regs[CR1] & RE and self._pins()[1]:
            self._input.extend(data)

    def read(self, offset: int) -> int:
        """Return a register."""
        if offset == ISR:
            cr1 = self.regs[CR1]
            ready = TXE | TC | (RXNE if self._input else 0)
            acks = (TEACK if cr1 & TE else 0) | (REACK if cr1 & RE else 0)
            return ready | (acks if cr1 & UE else 0)
        if offset == RDR:
            return self._input.popleft() if self._input else 0
        if offset in (RQR, ICR, TDR):
            return 0
        if offset not in self.regs:
            raise self.unmodelled(offset, "read of")
        return self.regs[offset]

    def write(self, offset: int, value: int) -> None:
        """Write a register; a byte written to TDR leaves at once if port, baud rate and pin are set up."""
        if offset == TDR:
            self._transmit(value & 0xFF)
        elif offset == RQR:
            if value & 8:
                self._input.clear()
        elif offset == CR1 and value & INTERRUPTS:
            raise UnmodelledError(f"an interrupt of {self.name} was enabled; only polling is modelled")
        elif offset in self.regs:
            self.regs[offset] = value
        elif offset != ICR:
            raise self.unmodelled(offset, "write to")

    def _transmit(self, byte: int) -> None:
        if not (self.regs[CR1] & UE and self.regs[CR1] & TE and self._pins()[0]):
            return
        rate = self.baud
        if not 0.97 <= rate / 115_200 <= 1.03:
            raise UnmodelledError(f"{self.name} sends at {rate:.0f} baud; the terminal listens at 115200")
        self.output.append(byte)
        self.on_byte(byte)
