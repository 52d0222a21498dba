"""The console: UART0 (0x6000_0000) and USB-Serial-JTAG (0x6004_3000). Lines take no virtual time."""

from collections import deque
from collections.abc import Callable
from typing import ClassVar

from fota_vdev.chips.esp32c3.registers import Plain
from fota_vdev.parts.bus import UnmodelledError
from fota_vdev.parts.stream import Stream

FIFO, CLKDIV, STATUS, CONF0, CLK_CONF, ID = 0x00, 0x14, 0x1C, 0x20, 0x78, 0x80
RX_FIFO_RESET = 1 << 17
SOURCES = {2: 17_500_000, 3: 40_000_000}  # SCLK_SEL: 1 is APB
EP1, EP1_CONF = 0x00, 0x04


class Uart(Plain):
    """A UART, polled; who is at the other end listens at ``rate`` baud. As it is, UART0 with a terminal."""

    STATE: ClassVar[tuple[str, ...]] = ("regs", "_input")

    def __init__(self, apb_hz: Callable[[], int], name: str = "UART0", rate: int = 115_200) -> None:
        super().__init__(name, {CLKDIV: 347 | 4 << 20, CLK_CONF: 3 << 20 | 1 << 22, CONF0: 0x1000_001C})
        self._apb_hz = apb_hz
        self._rate = rate
        self.output = bytearray()
        self.on_byte: Callable[[int], None] = lambda byte: None
        self._input: deque[int] = deque()

    def reset(self) -> None:
        """Take the state that the ROM leaves: 115200 baud from the crystal."""
        super().reset()
        self._input.clear()

    @property
    def baud(self) -> float:
        """Baud rate as set."""
        conf = self.regs[CLK_CONF]
        source = SOURCES.get(conf >> 20 & 3) or self._apb_hz()
        divider = (self.regs[CLKDIV] & 0xFFF) + (self.regs[CLKDIV] >> 20 & 15) / 16
        return source / ((conf >> 12 & 0xFF) + 1) / max(divider, 1)

    def receive(self, data: bytes) -> None:
        """Put bytes on the line."""
        self._input.extend(data)

    def transmit(self, byte: int) -> None:
        """Send a byte.

        Raises:
            UnmodelledError: the port sends at another rate than the other end listens at.
        """
        if not 0.97 <= self.baud / self._rate <= 1.03:
            raise UnmodelledError(
                f"{self.name} sends at {self.baud:.0f} baud; the other end listens at {self._rate}"
            )
        self._sent(byte)

    def _sent(self, byte: int) -> None:
        """A byte has arrived at the other end."""
        self.output.append(byte)
        self.on_byte(byte)

    def read(self, offset: int) -> int:
        """Return a register; whatever was sent has gone."""
        if offset == FIFO:
            return self._input.popleft() if self._input else 0
        if offset == STATUS:
            return min(len(self._input), 128)
        return super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        if offset == FIFO:
            self.transmit(value & 0xFF)
            return
        if offset == CONF0 and value & RX_FIFO_RESET:
            self._input.clear()
        super().write(offset, value & ~(1 << 31) if offset == ID else value)


class UsbSerial(Plain):
    """USB-Serial-JTAG with a host that reads everything and types nothing."""

    STATE: ClassVar[tuple[str, ...]] = ("regs",)

    def __init__(self) -> None:
        super().__init__("USB")
        self.output = bytearray()

    def read(self, offset: int) -> int:
        """Return a register: there is always room."""
        return 2 if offset == EP1_CONF else 0 if offset == EP1 else super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        if offset == EP1:
            self.output.append(value & 0xFF)
        else:
            super().write(offset, value)


class Random(Plain):
    """SYSCON (0x6002_6000) with the random number register at 0xB0."""

    STATE: ClassVar[tuple[str, ...]] = ("regs", "stream")
    DATA = 0xB0

    def __init__(self, stream: Stream, entropy: Callable[[], bool], warn: Callable[[str], None]) -> None:
        super().__init__("SYSCON")
        self.stream = stream
        self._entropy = entropy
        self._warn = warn

    def read(self, offset: int) -> int:
        """Return a register; randomness without its source is reported."""
        if offset != self.DATA:
            return super().read(offset)
        if not self._entropy():
            self._warn("random numbers were read while the SAR ADC does not feed them: they are not random")
        return int.from_bytes(self.stream.take(4), "little")
