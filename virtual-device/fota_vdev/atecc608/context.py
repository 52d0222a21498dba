"""What every command of the element works with: memory, SRAM, and the way a command is refused."""

import hashlib
from collections.abc import Callable

from fota_vdev.atecc608.assumptions import Assumptions
from fota_vdev.atecc608.crc import EXECUTION, PARSE
from fota_vdev.atecc608.memory import (
    Nvm,
    Sram,
    TempKey,
)


class Refusal(Exception):
    """The command ends with a status other than success."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status:02x}")
        self.status = status


def sha256(*parts: bytes) -> bytes:
    """Return SHA-256 of the parts joined."""
    return hashlib.sha256(b"".join(parts)).digest()


def need(condition: object, status: int = EXECUTION) -> None:
    """End the command with ``status`` unless ``condition`` holds."""
    if not condition:
        raise Refusal(status)


class Context:
    """State that commands share. ``random`` gives fresh random bytes."""

    def __init__(self, assumptions: Assumptions, random: Callable[[int], bytes]) -> None:
        self._assume = assumptions
        self._random = random
        self.nvm: Nvm
        self.sram = Sram()

    @property
    def _sn8(self) -> bytes:
        return self.nvm.serial[8:9]

    @property
    def _sn01(self) -> bytes:
        return self.nvm.serial[0:2]

    def _use_temp_key(self) -> TempKey:
        key = self.sram.temp_key
        need(key.value)
        if self._assume.clear_after_use:
            self.sram.temp_key = TempKey()
        return key

    def _use_message(self) -> bytes:
        message = self.sram.message
        need(len(message) >= 32)
        if self._assume.clear_after_use:
            self.sram.message = b""
        return message

    def _slot(self, p2: int) -> int:
        need(p2 < 16, PARSE)
        return p2

    def _need_data_lock(self) -> None:
        need(self.nvm.data_locked or not self._assume.sign_needs_data_lock)
