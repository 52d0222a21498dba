"""Commands of the chip's own state: Info, Random, Counter, UpdateExtra, SelfTest."""

from fota_vdev.atecc608 import p256
from fota_vdev.atecc608.context import Context, Refusal, need
from fota_vdev.atecc608.crc import OK, PARSE
from fota_vdev.atecc608.memory import LATCH_PERMISSION

REVISION, KEY_VALID, STATE, GPIO, LATCH = range(5)
ALL_SELF_TESTS = 0x3F


class StateCommands(Context):
    """Info, Random, Counter, UpdateExtra, SelfTest. ``failing`` holds the bits of self-tests that fail."""

    failing = 0
    failed = 0

    def _info(self, p1: int, p2: int, data: bytes) -> bytes:
        need(not data and p1 <= LATCH, PARSE)
        if p1 == REVISION:
            return bytes(self.nvm.config[4:8])
        if p1 == KEY_VALID:
            slot = self._slot(p2)
            need(self.nvm.is_p256(slot))
            return bytes([self._key_valid(slot), 0, 0, 0])
        if p1 == STATE:
            key, proven = self.sram.temp_key, self.sram.authorised
            authorised = 0 if proven is None else 1 << 2 | proven << 3
            return bytes([key.flags, bool(key.value) << 7 | authorised, 0, 0])
        need(p1 == LATCH)  # there is no GPIO on the I2C variant
        return self._info_latch(p2)

    def _info_latch(self, p2: int) -> bytes:
        need(p2 <= 3, PARSE)
        if p2 & 2:
            free = not p2 & 1 and self._assume.latch_is_cleared_freely
            if self._assume.latch_needs_permission and not free:
                permission = self.nvm.config[LATCH_PERMISSION]
                need(permission & 0x80 and self.sram.authorised == permission & 15)
                self.sram.authorised = None
            self.latches.persistent = bool(p2 & 1)
        return bytes([self.latches.persistent, 0, 0, 0])

    def _key_valid(self, slot: int) -> bool:
        try:
            if self.nvm.is_private(slot):
                p256.public_of(self.nvm.private_key(slot))
            else:
                p256.verify(self.nvm.public_key(slot), bytes(32), bytes(64))
        except ValueError:
            return False
        return True

    def _fresh(self, n: int) -> bytes:
        if self.nvm.config_locked:
            return self._random(n)
        pattern = self._assume.unlocked_random
        return (pattern * n)[:n]

    def _random_numbers(self, p1: int, p2: int, data: bytes) -> bytes:
        need(p1 <= 1 and p2 == 0 and not data, PARSE)
        return self._fresh(32)

    def _counter(self, p1: int, p2: int, data: bytes) -> bytes:
        need(p1 <= 1 and p2 <= 1 and not data, PARSE)
        need(self.nvm.config_locked)
        if p1 == 1:
            self._count(p2)
        return self.nvm.counters[p2].to_bytes(4, "little")

    def _update_extra(self, p1: int, p2: int, data: bytes) -> bytes:
        need(p1 <= 2 and not data and p2 < 256, PARSE)
        need(p1 < 2)  # no slot of a 608 has a count that could be decremented
        need(not self.nvm.config_locked or self.nvm.config[84 + p1] == 0)
        self.nvm.config[84 + p1] = p2
        return bytes([OK])

    def _self_test(self, p1: int, p2: int, data: bytes) -> bytes:
        need(p1 and not p1 & ~ALL_SELF_TESTS and p2 == 0 and not data, PARSE)
        self.failed = self.failed & ~p1 | p1 & self.failing
        return bytes([p1 & self.failing])

    def _need_health(self, status: int) -> None:
        """End the command if a self-test failed and has not passed since."""
        if self.failed and self._assume.self_test_failure_blocks:
            raise Refusal(status)
