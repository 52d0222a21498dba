"""Which commands there are and how long they take. An `Executor` works on a copy of the memory; the chip
commits it when time is up.
"""

from collections.abc import Callable

from fota_vdev.atecc608.assumptions import Assumptions
from fota_vdev.atecc608.context import Refusal
from fota_vdev.atecc608.crc import SELF_TEST
from fota_vdev.atecc608.digest_commands import DigestCommands
from fota_vdev.atecc608.key_commands import KeyCommands
from fota_vdev.atecc608.memory import TempKey
from fota_vdev.atecc608.memory_commands import MemoryCommands
from fota_vdev.atecc608.secret_commands import SecretCommands
from fota_vdev.atecc608.sha_commands import ShaCommands
from fota_vdev.atecc608.verify_commands import VerifyCommands

READ, INFO, SELF_TEST_COMMAND = 0x02, 0x30, 0x77
# opcode: (name, maximum time in ms at clock divider M0, M1, M2)
TIMES_MS: dict[int, tuple[str, tuple[int, int, int]]] = {
    READ: ("Read", (5, 5, 5)),
    0x08: ("MAC", (55, 55, 55)),
    0x12: ("Write", (45, 45, 45)),
    0x15: ("GenDig", (25, 35, 35)),
    0x16: ("Nonce", (20, 20, 20)),
    0x17: ("Lock", (35, 35, 35)),
    0x1B: ("Random", (23, 23, 23)),
    0x20: ("UpdateExtra", (10, 10, 10)),
    0x24: ("Counter", (25, 25, 25)),
    0x28: ("CheckMac", (40, 40, 40)),
    INFO: ("Info", (5, 5, 5)),
    0x40: ("GenKey", (115, 215, 653)),
    0x41: ("Sign", (115, 220, 665)),
    0x43: ("ECDH", (75, 172, 531)),
    0x45: ("Verify", (105, 295, 1085)),
    0x47: ("SHA", (36, 42, 75)),
    0x51: ("AES", (27, 27, 27)),
    0x56: ("KDF", (165, 165, 165)),
    SELF_TEST_COMMAND: ("SelfTest", (250, 625, 2324)),
    0x80: ("SecureBoot", (80, 160, 480)),
}
NOT_MODELLED = {0x13: "Delete", 0x1C: "DeriveKey", 0x46: "PrivWrite"}


class Executor(
    DigestCommands, KeyCommands, MemoryCommands, SecretCommands, ShaCommands, VerifyCommands
):  # fmt: skip
    """Runs one command at a time on ``nvm`` and ``sram``. ``random`` gives fresh random bytes."""

    def __init__(self, assumptions: Assumptions, random: Callable[[int], bytes]) -> None:
        super().__init__(assumptions, random)
        self._commands = {
            READ: self._read, 0x08: self._mac, 0x12: self._write, 0x15: self._gen_dig, 0x16: self._nonce,
            0x17: self._lock, 0x1B: self._random_numbers, 0x20: self._update_extra, 0x24: self._counter,
            0x28: self._check_mac, INFO: self._info, 0x40: self._gen_key, 0x41: self._sign, 0x43: self._ecdh,
            0x45: self._verify, 0x47: self._sha, 0x51: self._aes, 0x56: self._kdf,
            SELF_TEST_COMMAND: self._self_test, 0x80: self._secure_boot,
        }  # fmt: skip

    def run(self, opcode: int, p1: int, p2: int, data: bytes) -> bytes:
        """Return the payload of the response: a status byte or the command's output.

        TempKey, the message digest buffer and a proven key do not survive a refused command.
        """
        if opcode not in self._commands:
            return bytes([self._assume.not_modelled_status])
        before = self.nvm.copy()
        try:
            if opcode not in (READ, INFO, SELF_TEST_COMMAND):
                self._need_health(SELF_TEST)
            return self._commands[opcode](p1, p2, data)
        except Refusal as exc:
            if self._assume.refused_command_writes_nothing:
                self.nvm = before
            if self._assume.clear_after_use:
                self.sram.temp_key, self.sram.message = TempKey(), b""
            if self._assume.authorisation_serves_once:
                self.sram.authorised = None
            return bytes([exc.status])
