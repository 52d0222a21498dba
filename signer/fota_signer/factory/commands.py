"""Commands with named values in them, and a session that fills these in: the common form of step and plan."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from fota_signer.factory.packets import MISCOMPARE, ElementStatusError, Transport, packet, payload
from fota_wire import element, pkcs10
from fota_wire.errors import DeviceError, VerifyError

OTHER_DATA = bytes(13)
WRITE, LOCK = 0x12, 0x17
LOCK_BLOCK = 2
SECRETS = ("io_key", "mac_key")


@dataclass(frozen=True, slots=True)
class Value:
    """Stands for bytes that differ from chip to chip; see `Values` for the names."""

    name: str


@dataclass(frozen=True, slots=True)
class Keep:
    """An answer of ``length`` bytes, kept under ``name``."""

    name: str
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One packet and its answer: b"" = plain success, bytes or a `Value` = exactly this, `Keep` = take it."""

    name: str
    opcode: int
    p1: int = 0
    p2: int | Value = 0
    data: tuple[bytes | Value, ...] = ()
    answer: bytes | Value | Keep = b""


class Values:
    """The values of one chip, by name: given, kept from its answers, or computed from these.

    Given: ``io_key``, ``mac_key`` (secret), ``counters`` wanted, ``latched``. Computed: see `FORMULAS`.
    """

    def __init__(self, counters: tuple[int, int] = (0, 0)) -> None:
        self.counters = counters
        self.latched = False
        self._known: dict[str, bytes] = {}

    def __contains__(self, name: str) -> bool:
        """Tell whether a value is given or kept."""
        return name in self._known

    def __setitem__(self, name: str, value: bytes) -> None:
        """Give or keep a value."""
        self._known[name] = value

    def __getitem__(self, name: str) -> bytes:
        """Return a value. Raises DeviceError: it is not known yet."""
        if name in self._known:
            return self._known[name]
        if name == "challenge":  # one per session: the answers to it are computed in two places
            self._known[name] = secrets.token_bytes(32)
            return self._known[name]
        if name in FORMULAS:
            return _compute(self, name)
        raise DeviceError(f"{name} is not known: a command before this one would have brought it")

    @property
    def zone(self) -> bytes:
        """The configuration zone as it was read last."""
        return b"".join(self[f"zone_{block}"] for block in range(4))

    @property
    def serial(self) -> bytes:
        """SN0..SN8."""
        zone = self["zone_0"]
        return zone[0:4] + zone[8:13]


FORMULAS = {
    "config_16": "bytes 16..17 of the configuration zone as read",
    "config_88": "bytes 88..89 of the configuration zone as read",
    "wanted_0": "block 0 of the wanted configuration zone",
    "wanted_1": "block 1 of the wanted configuration zone",
    "wanted_2": "block 2 of the wanted configuration zone",
    "wanted_3": "block 3 of the wanted configuration zone",
    "config_crc": "CRC-16 of the wanted configuration zone, little endian",
    "challenge": "32 random bytes of the host, fresh for each chip",
    "mac_answer": "SHA-256(mac_key | challenge | 08 00 04 00 | 00*11 | SN8 | 00*4 | SN0 SN1 | 00*2)",
    "io_response": "SHA-256(io_key | challenge | 00*4 | 00*8 | 00*3 | SN8 | 00*4 | SN0 SN1 | 00*2)",
    "num_in": "the first 20 bytes of challenge",
    "latch_proof": "SHA-256(io_key | T0 | 00*15 | SN8 | 00*4 | SN0 SN1 | 00*2), "
    "T0 = SHA-256(nonce_random | num_in | 16 00 00)",
    "request_digest": "SHA-256 of the CertificationRequestInfo for CN = serial number (hex), and identity",
}


def _compute(values: Values, name: str) -> bytes:
    if name.startswith("config_") and name != "config_crc":
        at = int(name[7:])
        return values.zone[at : at + 2]
    if name == "request_digest":
        info = pkcs10.request_info(values.serial.hex(), values["identity"])
        return hashlib.sha256(info).digest()
    if name == "num_in":
        return values["challenge"][:20]
    if name in ("mac_answer", "io_response"):
        key, head = ("mac_key", b"\x08\0\x04\0") if name == "mac_answer" else ("io_key", bytes(4))
        sn = values.serial
        parts = (values[key], values["challenge"], head, bytes(11), sn[8:9], bytes(4), sn[0:2], bytes(2))
        return hashlib.sha256(b"".join(parts)).digest()
    if name == "latch_proof":
        return _latch_proof(values)
    wanted = element.wanted_config(values.zone, values.counters, values.latched)
    if name == "config_crc":
        return element.crc16(wanted)
    block = int(name[-1])
    return wanted[32 * block : 32 * block + 32]


def _latch_proof(values: Values) -> bytes:
    """Return what CheckMac of the IO key wants over TempKey after Nonce(random) with `challenge`."""
    number = values["challenge"][:20]
    temp_key = hashlib.sha256(values["nonce_random"] + number + b"\x16\0\0").digest()
    sn = values.serial
    tail = bytes(15) + sn[8:9] + bytes(4) + sn[0:2] + bytes(2)
    return hashlib.sha256(values["io_key"] + temp_key + tail).digest()


def read_zone() -> tuple[Command, ...]:
    """Return the commands that read the configuration zone."""
    return tuple(
        Command(name="Read of the configuration", opcode=0x02, p1=0x80, p2=block << 3,
                answer=Keep(f"zone_{block}", 32))
        for block in range(4)
    )  # fmt: skip


INFO = Command(name="Info", opcode=0x30, answer=Keep("revision", 4))


class Session:
    """Commands to one chip. ``values`` fill the commands, and take what the chip answers."""

    def __init__(self, transport: Transport, values: Values) -> None:
        self._transport = transport
        self.values = values
        self.sent = 0
        self._stale: set[int] = set()

    def run(self, command: Command) -> bytes:
        """Send one command; return its output.

        Raises:
            DeviceError: no answer, a damaged one, or one of another length.
            ElementStatusError: the chip refused.
            VerifyError: another answer than it had to be.
        """
        p2 = command.p2 if isinstance(command.p2, int) else int.from_bytes(self._bytes(command.p2), "little")
        data = b"".join(self._bytes(part) for part in command.data)
        self.sent += 1
        self._note_change(command.opcode, command.p1, p2)
        raw = self._transport.execute(packet(command.opcode, command.p1, p2, data))
        try:
            out = payload(raw, command.name)
        except ElementStatusError as exc:
            if exc.status == MISCOMPARE:
                raise VerifyError(f"{command.name}: the chip holds something else than it has to") from exc
            raise
        if isinstance(command.answer, Keep):
            if len(out) != command.answer.length:
                raise DeviceError(f"the crypto element's answer to {command.name} has {len(out)} bytes")
            self.values[command.answer.name] = out
            if command.answer.name.startswith("zone_"):
                self._stale.discard(int(command.answer.name[5:]))
        elif not hmac.compare_digest(out, self._bytes(command.answer)):
            raise VerifyError(f"{command.name}: the chip holds something else than it has to")
        return out

    def _bytes(self, part: bytes | Value) -> bytes:
        return self.values[part.name] if isinstance(part, Value) else part

    def proves(self, commands: tuple[Command, ...]) -> bool:
        """Tell whether the chip answers all of these as it has to; a refusal is a no."""
        try:
            for command in commands:
                self.run(command)
        except (VerifyError, ElementStatusError):
            return False
        return True

    @property
    def zone(self) -> bytes:
        """The configuration zone; blocks that commands changed since are read again."""
        for block, command in enumerate(read_zone()):
            if block in self._stale or f"zone_{block}" not in self.values:
                self.run(command)
        return self.values.zone

    def _note_change(self, opcode: int, p1: int, p2: int) -> None:
        if opcode == LOCK:
            self._stale.add(LOCK_BLOCK)
        elif opcode == WRITE and p1 & 3 == 0:
            self._stale.add(p2 >> 3)

    @property
    def config_locked(self) -> bool:
        """True once the configuration zone is locked."""
        return self.zone[87] != 0x55

    @property
    def data_locked(self) -> bool:
        """True once data and OTP zones are locked."""
        return self.zone[86] != 0x55

    def slot_locked(self, slot: int) -> bool:
        """True once the slot itself is locked."""
        return not int.from_bytes(self.zone[88:90], "little") >> slot & 1
