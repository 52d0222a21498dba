"""Driver of the ATECC608 crypto element over I2C: random numbers, identity, and signatures by keys that
stay inside.

Transport: count | opcode | p1 | p2 lo | p2 hi | data | CRC lo | CRC hi, behind word address 3. The element
NAKs its address while it is asleep or busy. Every wait is bounded by the longest execution time of the
command.
"""

from fota_wire.errors import DeviceError
from fota_wire.status import CE1, CE2, CE3, CE5, CE6

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.seams import I2c, Sleep

WORD_RESET = b"\x00"  # the next read starts at the first byte of the answer again
WORD_SLEEP = b"\x01"  # sleep, forgetting all volatile state
WORD_COMMAND = b"\x03"

OP_READ, OP_GENDIG, OP_NONCE, OP_RANDOM, OP_COUNTER, OP_GENKEY, OP_SIGN = (
    2,
    0x15,
    0x16,
    0x1B,
    0x24,
    0x40,
    0x41,
)
# Longest execution times in milliseconds at clock divider M2, the slowest: safe for each setting.
MAX_MS = {
    OP_READ: 5,
    OP_GENDIG: 35,
    OP_NONCE: 20,
    OP_RANDOM: 23,
    OP_COUNTER: 25,
    OP_GENKEY: 653,
    OP_SIGN: 665,
}

WAKE_DELAY_US = 1500
WAKE_TRIES = 36
WAKE_PAUSE_US = 20_000  # all tries together outlast the longest command
POLL_US = 2000
READ_TRIES = 3
AWAKE, SELF_TEST_FAILED = 0x11, 0x07


def crc16(data: bytes) -> int:
    """Return the element's CRC: polynomial 0x8005, start 0, bits of each byte taken from the lowest."""
    crc = 0
    for byte in data:
        for bit in range(8):
            top = (crc >> 15) & 1
            crc = (crc << 1) & 0xFFFF
            if top != (byte >> bit) & 1:
                crc ^= 0x8005
    return crc


def with_crc(data: bytes) -> bytes:
    """Return ``data`` followed by its CRC, low byte first."""
    crc = crc16(data)
    return data + bytes((crc & 0xFF, crc >> 8))


class Atecc608:
    """One element at a 7-bit I2C address (SPEC 1.2). Each method is one awake session.

    ``key_slot``: the private key that is meant where none is named.
    """

    def __init__(self, i2c: "I2c", sleep_us: "Sleep", address: int = 0x60) -> None:
        self._i2c = i2c
        self._sleep_us = sleep_us
        self._address = address
        self.key_slot = 0

    def random(self) -> bytes:
        """Return 32 bytes of the element's random number generator. Raises DeviceError."""
        return self._session([(OP_RANDOM, 0, 0, b"", 32)])

    def serial_number(self) -> bytes:
        """Return SN0..SN8, 9 bytes. Raises DeviceError."""
        block = self._session([(OP_READ, 0x80, 0, b"", 32)])
        return block[0:4] + block[8:13]

    def public_key(self, slot: "int | None" = None) -> bytes:
        """Return x || y, 64 bytes, of the private key in ``slot``. Raises DeviceError."""
        return self._session([(OP_GENKEY, 0x00, self.key_slot if slot is None else slot, b"", 64)])

    def generate_key(self, slot: int) -> bytes:
        """Make a new private key in ``slot``; return its x || y. The old one is gone. Raises DeviceError."""
        return self._session([(OP_GENKEY, 0x04, slot, b"", 64)])

    def sign(self, digest: bytes, slot: "int | None" = None) -> bytes:
        """Return r || s, 64 bytes, over ``digest``, exactly 32 bytes, by the private key in ``slot``.

        Raises:
            DeviceError: the element is absent, damaged or refuses.
            ValueError: the digest has another length.
        """
        if len(digest) != 32:
            raise ValueError("the element signs a digest of 32 bytes")
        return self._session(
            [
                (
                    OP_RANDOM,
                    0,
                    0,
                    b"",
                    32,
                ),  # refreshes the seed that the signature's own random number comes from
                (OP_NONCE, 0x43, 0, digest, 1),  # pass-through, 32 bytes, to the message digest buffer
                (
                    OP_SIGN,
                    0xA0,
                    self.key_slot if slot is None else slot,
                    b"",
                    64,
                ),  # external message, taken from that buffer
            ]
        )

    def attest(self, num_in: bytes, slot: int = 1) -> "tuple[bytes, int, bytes]":
        """Have the key in ``slot`` sign Counter0 over a nonce of ``num_in``, 20 bytes, and a random number.

        Return that number (32 bytes), the counter, and r || s. Raises DeviceError.
        """
        random, _, signature, counter = self._answers(
            [
                (OP_NONCE, 0x00, 0, num_in, 32),
                (OP_GENDIG, 0x04, 0, b"", 1),  # zone 4: Counter0
                (OP_SIGN, 0x40, slot, b"", 64),  # a message made inside, with the whole serial number
                (OP_COUNTER, 0x00, 0, b"", 4),
            ]
        )
        return random, int.from_bytes(counter, "little"), signature

    def count_up(self, counter: int, target: int) -> int:
        """Count until ``counter`` (0, 1) is at least ``target``; return where it stands. Raises DeviceError.

        One count a session: a power cut costs nothing but time, and may leave one count more than was asked.
        """
        value = int.from_bytes(self._session([(OP_COUNTER, 0, counter, b"", 4)]), "little")
        while value < target:
            before, value = value, int.from_bytes(self._session([(OP_COUNTER, 1, counter, b"", 4)]), "little")
            if value <= before:
                break
        return value

    def _session(self, commands: "list[tuple[int, int, int, bytes, int]]") -> bytes:
        """Wake, run ``commands``, sleep; return the answer to the last one."""
        return self._answers(commands)[-1]

    def _answers(self, commands: "list[tuple[int, int, int, bytes, int]]") -> "list[bytes]":
        """Wake, run ``commands``, sleep; return all answers."""
        self._wake()
        try:
            return [self._execute(op, p1, p2, data, size) for op, p1, p2, data, size in commands]
        finally:
            self._write_quietly(WORD_SLEEP)

    def _wake(self) -> None:
        answer = bytearray(4)
        absent = True
        for attempt in range(WAKE_TRIES):
            if attempt > 1:
                self._sleep_us(WAKE_PAUSE_US)  # it may be busy with what the host asked before a reset
            # Nobody answers address 0, but its low bits hold SDA down for long enough.
            self._write_quietly(b"", 0)
            self._sleep_us(WAKE_DELAY_US)
            try:
                self._i2c.readfrom_into(self._address, answer)
            except OSError:
                answer[0] = 0
            if answer == with_crc(bytes((4, AWAKE))):
                return
            if answer == with_crc(bytes((4, SELF_TEST_FAILED))):
                raise DeviceError("crypto element: its self-test failed", CE6)
            # Awake already, in the middle of something: let it forget that, and wake it again.
            if self._write_quietly(WORD_SLEEP):
                absent = False
        if absent:
            raise DeviceError("crypto element: no answer on the bus", CE1)
        raise DeviceError("crypto element: does not wake up properly", CE2)

    def _execute(self, op: int, p1: int, p2: int, data: bytes, size: int) -> bytes:
        """Run one command; return its answer of ``size`` bytes (1: the status byte, which is then 0)."""
        packet = bytes((7 + len(data), op, p1, p2 & 0xFF, p2 >> 8)) + data
        if not self._write_quietly(WORD_COMMAND + with_crc(packet)):
            raise DeviceError("crypto element: went away in a session", CE1)
        answer = self._poll(op, size + 3)
        for _ in range(READ_TRIES):
            length = answer[0]
            if 4 <= length <= len(answer) and with_crc(bytes(answer[: length - 2])) == bytes(answer[:length]):
                break
            if not self._read_again(answer):
                raise DeviceError("crypto element: went away in a session", CE1)
        else:
            raise DeviceError("crypto element: damaged answers", CE2)
        if length == 4 and (size != 1 or answer[1] != 0):
            raise DeviceError(f"crypto element: refused command 0x{op:02x}, status 0x{answer[1]:02x}", CE5)
        if length != size + 3:
            raise DeviceError(f"crypto element: answer of {length} bytes to command 0x{op:02x}", CE2)
        return bytes(answer[1 : length - 2])

    def _poll(self, op: int, length: int) -> bytearray:
        """Wait until the element answers; return up to ``length`` bytes, 0xFF past the answer's end."""
        answer = bytearray(max(length, 4))
        waited = 0
        while waited <= MAX_MS[op] * 1000 + 2 * POLL_US:
            self._sleep_us(POLL_US)
            waited += POLL_US
            try:
                self._i2c.readfrom_into(self._address, answer)
            except OSError:
                continue
            return answer
        raise DeviceError(f"crypto element: busy for more than {MAX_MS[op]} ms", CE3)

    def _read_again(self, answer: bytearray) -> bool:
        try:
            self._i2c.writeto(self._address, WORD_RESET)
            self._i2c.readfrom_into(self._address, answer)
        except OSError:
            return False
        return True

    def _write_quietly(self, data: bytes, address: "int | None" = None) -> bool:
        """Write; return False on a NAK."""
        try:
            self._i2c.writeto(self._address if address is None else address, data)
        except OSError:
            return False
        return True
