"""``machine.I2C``'s two calls by way of the ESP32-C3's I2C controller, register by register: no code of the
product. For whoever is to drive the element through the model of the controller.
"""

import errno

I2C0, GPIO, SYSTEM, IO_MUX = 0x60013000, 0x60004000, 0x600C0000, 0x60009000
SCL_LOW, CTR, FIFO_CONF, DATA, INT_RAW, INT_CLR, SCL_HIGH, CLK_CONF, COMD0 = (
    0x00, 0x04, 0x18, 0x1C, 0x20, 0x24, 0x38, 0x54, 0x58,
)  # fmt: skip
OPEN_DRAIN_MASTER, START, FSM_RESET, UPDATE = 0x13, 1 << 5, 1 << 10, 1 << 11
RESTART, WRITE, READ, STOP, END = 6 << 11, 1 << 11, 3 << 11, 2 << 11, 4 << 11
ACK_CHECK, NOT_ACK = 1 << 8, 1 << 10
END_DETECT, COMPLETE, NACK = 1 << 3, 1 << 7, 1 << 10
FIFO, PINS = 32, {5: 54, 6: 53}  # SDA, SCL


class ControllerI2c:
    """A master at 100 kHz, which polls. Raises OSError(ENODEV): nobody acknowledged."""

    def __init__(self, machine):
        self.machine = machine
        put = machine.store32
        put(SYSTEM + 0x10, machine.load32(SYSTEM + 0x10) | 1 << 7)
        put(SYSTEM + 0x18, machine.load32(SYSTEM + 0x18) & ~(1 << 7))
        for pin, signal in PINS.items():
            put(GPIO + 0x74 + 4 * pin, 1 << 2)
            put(IO_MUX + 4 + 4 * pin, 1 << 12 | 1 << 9 | 1 << 8)
            put(GPIO + 0x554 + 4 * pin, signal)
            put(GPIO + 0x154 + 4 * signal, pin | 1 << 6)
            put(GPIO + 0x24, 1 << pin)
        for register, value in ((CLK_CONF, 1 << 21), (SCL_LOW, 199), (SCL_HIGH, 102 | 98 << 9)):
            put(I2C0 + register, value)
        put(I2C0 + CTR, OPEN_DRAIN_MASTER | UPDATE)

    def _run(self, *commands):
        """A list of commands from its start to STOP, END or a byte that nobody acknowledged."""
        put = self.machine.store32
        for number, command in enumerate(commands):
            put(I2C0 + COMD0 + 4 * number, command)
        put(I2C0 + INT_CLR, 0xFFFFFFFF)
        put(I2C0 + CTR, OPEN_DRAIN_MASTER | UPDATE)
        put(I2C0 + CTR, OPEN_DRAIN_MASTER | START)
        while not (flags := self.machine.load32(I2C0 + INT_RAW)) & (END_DETECT | COMPLETE | NACK):
            self.machine.sleep_us(10)
        if flags & NACK:
            self._run(STOP)
            put(I2C0 + CTR, OPEN_DRAIN_MASTER | FSM_RESET)
            raise OSError(errno.ENODEV, "not acknowledged")

    def _begin(self, address):
        self.machine.store32(I2C0 + FIFO_CONF, 3 << 12)
        self.machine.store32(I2C0 + FIFO_CONF, 0)
        self.machine.store32(I2C0 + DATA, address)

    def writeto(self, address, data, /):
        self._begin(address << 1)
        head, rest = [RESTART], bytes(data)
        room = FIFO - 1
        while True:
            part, rest = rest[:room], rest[room:]
            for byte in part:
                self.machine.store32(I2C0 + DATA, byte)
            count = len(part) + (1 if head else 0)
            self._run(*head, WRITE | ACK_CHECK | count, END if rest else STOP)
            head, room = [], FIFO
            if not rest:
                return len(data)

    def readfrom(self, address, n, /):
        self._begin(address << 1 | 1)
        head, out = [RESTART, WRITE | ACK_CHECK | 1], bytearray()
        while len(out) < n:
            part = min(FIFO, n - len(out))
            last = len(out) + part == n
            acked = [READ | (part - 1 if last else part)] if part > last else []
            self._run(*head, *acked, *([READ | NOT_ACK | 1, STOP] if last else [END]))
            out += bytes(self.machine.load32(I2C0 + DATA) for _ in range(part))
            head = []
        return bytes(out)
