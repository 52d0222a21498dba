"""Which bytes on the bus are secrets, told from the command they belong to. What is not known is a secret.

In clear go, while a chip is provisioned, the pairing keys (Write of slots 4 and 6); on a chip used otherwise,
the outputs of ECDH, KDF and AES, keys loaded by Nonce or PrivWrite, and slots that hold no public thing. The
CRC goes with the bytes it covers: it would tell 16 bits of them. MACs and signatures are made to be seen, and
Random's output too: whoever is on the bus has it, so nothing may use it as a key.
"""

from collections.abc import Callable, Sequence

Bytes = Sequence[int | None]
Masked = tuple[int | None, ...]

COMMAND = 0x03
HEADER = 5  # count, opcode, p1, p2
STATUS_ANSWER = 4
PUBLIC_SLOTS = {10, 11, 12, 14, 15}  # certificates and public keys (SPEC 1.4)
READ, WRITE, NONCE, SHA = 0x02, 0x12, 0x16, 0x47
DATA_ZONE, ENCRYPTED = 2, 0x40
PASS_THROUGH, TO_DIGEST_BUFFER, RETURN_TEMP_KEY = 3, 0x40, 0x8000
SHA_CONTEXTS = (6, 7)
SHOWN = {0x08, 0x15, 0x17, 0x1B, 0x20, 0x24, 0x28, 0x30, 0x40, 0x41, 0x45, 0x77, 0x80}


def _other_slot(p2: int) -> bool:
    return p2 >> 3 & 15 not in PUBLIC_SLOTS


def hides_data(opcode: int, p1: int, p2: int) -> bool:
    """Tell whether the data that goes with a command is secret."""
    if opcode == WRITE:
        return p1 & 3 == DATA_ZONE and not p1 & ENCRYPTED and _other_slot(p2)
    if opcode == NONCE:
        return p1 & 3 == PASS_THROUGH and p1 & 0xC0 != TO_DIGEST_BUFFER
    if opcode == SHA:
        return p1 & 7 in SHA_CONTEXTS
    return opcode != READ and opcode not in SHOWN


def hides_answer(opcode: int, p1: int, p2: int) -> bool:
    """Tell whether what a command returns is secret."""
    if opcode == READ:
        return p1 & 3 == DATA_ZONE and _other_slot(p2)
    if opcode == NONCE:
        return bool(p2 & RETURN_TEMP_KEY)
    if opcode == SHA:
        return p1 & 7 in SHA_CONTEXTS
    return opcode not in SHOWN | {WRITE}


class Censor:
    """Follows both directions of the bus and returns every message with its secret bytes as None."""

    def __init__(self) -> None:
        self._packet: list[int | None] = []
        self._hide_answer = False
        self._answered = 0  # bytes read since the last message of the host
        self._count: int | None = None

    def write(self, data: Bytes) -> Masked:
        """Return a message of the host: word address, then a packet or a part of one."""
        self._answered = 0
        if not data or data[0] != COMMAND:
            self._packet = []
            return tuple(data)
        start = len(self._packet)
        self._packet += data[1:]
        hidden = len(self._packet) >= HEADER and self._rule_says(hides_data)
        first_hidden = max(HEADER - start, 0) + 1
        shown = tuple(None if hidden and at >= first_hidden else byte for at, byte in enumerate(data))
        if len(self._packet) >= HEADER:
            self._hide_answer = self._rule_says(hides_answer)
        if self._packet and len(self._packet) >= max(self._packet[0] or 0, 1):
            self._packet = []
        return shown

    def _rule_says(self, rule: Callable[[int, int, int], bool]) -> bool:
        opcode, p1, low, high = self._packet[1:HEADER]
        if opcode is None or p1 is None or low is None or high is None:
            return True
        return rule(opcode, p1, high << 8 | low)

    def read(self, data: Bytes) -> Masked:
        """Return a message of the chip, or a part of one. Its size is shown, and a status is."""
        start, self._answered = self._answered, self._answered + len(data)
        if start == 0 and data:
            self._count = data[0]
        if not self._hide_answer or self._count == STATUS_ANSWER:
            return tuple(data)
        return tuple(None if start + at else byte for at, byte in enumerate(data))
