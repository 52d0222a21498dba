"""The independent watchdog, clocked by LSI at 32 kHz: once started it ends in a reset unless it is fed."""

from typing import ClassVar

from fota_vdev.parts.bus import Peripheral, UnmodelledError
from fota_vdev.parts.clock import PS_PER_S, Clock

KR, PR, RLR, SR, WINR = 0x00, 0x04, 0x08, 0x0C, 0x10
LSI_HZ = 32_000
UPDATE_PS = 5 * PS_PER_S // LSI_HZ  # PR and RLR reach the LSI domain after up to five of its clocks
FIELDS = {PR: ("pr", 1), RLR: ("rlr", 2)}


class Iwdg(Peripheral):
    """IWDG, base 0x4000_3000. Time out = (RLR + 1) * 4 * 2**PR / 32 kHz."""

    name = "IWDG"
    STATE: ClassVar[tuple[str, ...]] = ("pr", "rlr", "unlocked", "expires_ps", "_pending")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Stop, with the longest count at the fastest clock."""
        self.pr = 0
        self.rlr = 0xFFF
        self.unlocked = False
        self.expires_ps: int | None = None
        self._pending: dict[str, tuple[int, int]] = {}

    def start(self) -> None:
        """Start counting; only a reset stops it."""
        self._feed()

    @property
    def timeout_ps(self) -> int:
        """Time from feeding to reset."""
        return (self.rlr + 1) * (4 << min(self.pr, 6)) * PS_PER_S // LSI_HZ

    def _feed(self) -> None:
        self._settle()
        self.expires_ps = self._clock.ps + self.timeout_ps

    def _settle(self) -> None:
        now = self._clock.ps
        for name, (value, ready_ps) in list(self._pending.items()):
            if now >= ready_ps:
                setattr(self, name, value)
                del self._pending[name]

    def read(self, offset: int) -> int:
        """Return a register; reading SR while an update is under way lets time run on to its end."""
        self._settle()
        if offset == SR:
            value = sum(bit for name, bit in FIELDS.values() if name in self._pending)
            if value and self.expires_ps is not None:
                self._clock.wait_until(max(ready for _, ready in self._pending.values()))
            return value
        plain = {KR: 0, PR: self.pr, RLR: self.rlr, WINR: 0xFFF}
        if offset not in plain:
            raise self.unmodelled(offset, "read of")
        return plain[offset]

    def write(self, offset: int, value: int) -> None:
        """Write a register: 0xCCCC starts, 0xAAAA feeds, 0x5555 unlocks PR and RLR."""
        self._settle()
        if offset == KR:
            self.unlocked = value == 0x5555
            if value == 0xCCCC and self.expires_ps is None:
                self._pending = {
                    name: (new, self._clock.ps + UPDATE_PS) for name, (new, _) in self._pending.items()
                }
                self._feed()
            elif value == 0xAAAA and self.expires_ps is not None:
                self._feed()
            self._clock.on_jump()
        elif offset in FIELDS:
            name, _ = FIELDS[offset]
            if self.unlocked and name not in self._pending:
                mask = 7 if name == "pr" else 0xFFF
                # without LSI (watchdog not started) the update stays pending
                ready = self._clock.ps + UPDATE_PS if self.expires_ps is not None else 1 << 200
                self._pending[name] = (value & mask, ready)
        elif offset == WINR:
            if value & 0xFFF != 0xFFF:
                raise UnmodelledError("the window of the IWDG is not modelled")
        else:
            raise self.unmodelled(offset, "write to")
