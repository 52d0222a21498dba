"""I2C1 of an STM32 as a polling master, in the shape of ``machine.I2C`` (RM0351 chapter 39; the
STM32U5 has the same cell, and its port B elsewhere).

Whoever starts the chip switches on the clocks (kernel clock HSI16) and gives PB8 and PB9 their alternate
function, open drain. Every wait is bounded.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.seams import Memory

CR1, CR2, TIMINGR, ISR, ICR, RXDR, TXDR = (0x40005400 + at for at in (0, 4, 0x10, 0x18, 0x1C, 0x24, 0x28))
MODER, BSRR = 0x00, 0x18  # of a port
SCL, SDA = 8, 9
PINS, OUTPUTS, ALTERNATE = 0b1111 << 2 * SCL, 0b0101 << 2 * SCL, 0b1010 << 2 * SCL
PE, RD_WRN, START, AUTOEND = 1 << 0, 1 << 10, 1 << 13, 1 << 25
TXIS, RXNE, NACKF, STOPF, BERR, ARLO = 1 << 1, 1 << 2, 1 << 4, 1 << 5, 1 << 8, 1 << 9
ALL_FLAGS = 0x3F38
# TIMINGR with a kernel clock of 16 MHz. At 100 kHz address 0 holds SDA down for 80 us: the wake pulse.
KHZ_100, KHZ_400 = 0x30420F13, 0x10320309
PATIENCE = 2000  # register reads for one byte: milliseconds, where a byte takes 0.1 ms
ENODEV = 19


class I2c:
    """``machine.I2C`` for 7-bit addresses; a NAK, like a bus that fails, is OSError(ENODEV).

    Writing nothing to address 0 goes out at 100 kHz and is the wake pulse of the crypto element; everything
    else at 400 kHz.
    """

    GPIOB = 0x48000400

    def __init__(self, mem32: "Memory") -> None:
        self._mem32 = mem32
        self._free()
        self._start(KHZ_400)

    def writeto(self, addr: int, buf: bytes) -> int:
        """Write ``buf``, at most 255 bytes, with START and STOP; return its length."""
        if addr or buf:
            self._transfer(addr, len(buf), buf, None)
            return len(buf)
        self._mem32[CR1] = 0
        self._free()
        self._start(KHZ_100)
        try:
            self._transfer(0, 0, buf, None)
        finally:
            self._start(KHZ_400)
        return 0

    def readfrom_into(self, addr: int, buf: bytearray) -> None:
        """Fill ``buf``, at most 255 bytes."""
        self._transfer(addr, len(buf), b"", buf)

    def _free(self) -> None:
        """Give nine clocks by hand: a device that a reset left in the middle of a byte lets go of SDA."""
        mem32 = self._mem32
        others = mem32[self.GPIOB + MODER] & ~PINS
        mem32[self.GPIOB + BSRR] = 1 << SCL | 1 << SDA
        mem32[self.GPIOB + MODER] = others | OUTPUTS
        for _ in range(9):
            mem32[self.GPIOB + BSRR] = 1 << SCL + 16
            mem32[self.GPIOB + BSRR] = 1 << SCL
        mem32[self.GPIOB + MODER] = others | ALTERNATE

    def _start(self, timing: int) -> None:
        """Set the bit rate; this also clears the state machine."""
        self._mem32[CR1] = 0
        self._mem32[TIMINGR] = timing
        self._mem32[CR1] = PE

    def _transfer(self, addr: int, length: int, data: bytes, into: "bytearray | None") -> None:
        mem32 = self._mem32
        mem32[ICR] = ALL_FLAGS
        direction = 0 if into is None else RD_WRN
        mem32[CR2] = direction | START | AUTOEND | length << 16 | addr << 1
        good = True
        for at in range(length):
            flags = self._wait(TXIS | RXNE | NACKF | STOPF)
            if flags & RXNE and into is not None:
                into[at] = mem32[RXDR]
            elif flags & TXIS:
                mem32[TXDR] = data[at]
            else:
                good = False
                break
        flags = self._wait(STOPF)
        if not flags:
            self._start(KHZ_400)
        if not good or not flags or flags & NACKF:
            raise OSError(ENODEV, "no device acknowledges on the I2C bus")

    def _wait(self, flags: int) -> int:
        """Return ISR once one of ``flags`` is in it; 0 if the bus failed or nothing came."""
        for _ in range(PATIENCE):
            isr = self._mem32[ISR]
            if isr & (BERR | ARLO):
                return 0
            if isr & flags:
                return isr
        return 0


class I2cU5(I2c):
    """The STM32U5's."""

    GPIOB = 0x42020400
