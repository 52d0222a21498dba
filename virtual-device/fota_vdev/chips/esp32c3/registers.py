"""Blocks whose registers only remember: second stages set them up, nothing in the model depends on them."""

from typing import ClassVar

from fota_vdev.parts.bus import Peripheral


class Plain(Peripheral):
    """Registers that hold what was written; those that ``resets`` does not name begin as 0."""

    STATE: ClassVar[tuple[str, ...]] = ("regs",)

    def __init__(self, name: str, resets: dict[int, int] | None = None) -> None:
        self.name = name  # type: ignore[misc]
        self._resets = resets or {}
        self.regs: dict[int, int] = dict(self._resets)

    def reset(self) -> None:
        """Take the reset values."""
        self.regs = dict(self._resets)

    def read(self, offset: int) -> int:
        """Return what was written."""
        return self.regs.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """Remember ``value``."""
        self.regs[offset] = value
