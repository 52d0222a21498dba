"""The eFuses (0x6000_8800): what the factory burnt, to be read. Burning is not modelled."""

from collections.abc import Callable
from typing import ClassVar

from fota_vdev.chips.esp32c3.registers import Plain
from fota_vdev.parts.bus import UnmodelledError

CONF, STATUS, CMD = 0x1CC, 0x1D0, 0x1D4
PROGRAM_COMMAND, READ_COMMAND = 2, 1
# register: name of the word in the options of the flash array, which keeps what persists
WORDS = {0x2C: "wr_dis", **{0x30 + 4 * n: f"repeat_data{n}" for n in range(5)},
         **{0x44 + 4 * n: f"sys_{n}" for n in range(6)},
         **{0x5C + 4 * n: f"sys_part1_{n}" for n in range(8)}, **{0x7C + 4 * n: f"usr_{n}" for n in range(8)},
         **{0x9C + 0x20 * key + 4 * n: f"key{key}_{n}" for key in range(6) for n in range(8)},
         **{0x15C + 4 * n: f"sys_part2_{n}" for n in range(8)}}  # fmt: skip

# a part as it is sold: revision v0.4 (minor number in SYS_3)
FACTORY = dict.fromkeys(WORDS.values(), 0) | {"sys_3": 4 << 18}


class Efuse(Plain):
    """``options()`` gives the words; a MAC address that is not burnt comes from the seed."""

    STATE: ClassVar[tuple[str, ...]] = ("regs",)

    def __init__(self, options: Callable[[], dict[str, int]], seed: int) -> None:
        super().__init__("EFUSE")
        self._options = options
        self._mac = {"sys_0": 0x4F00_0000 | seed & 0xFF_FFFF, "sys_1": 0x7C_DF}

    def word(self, name: str) -> int:
        """Return a word by its name."""
        return self._options()[name] or self._mac.get(name, 0)

    @property
    def delay_shift(self) -> int:
        """WDT_DELAY_SEL + 1."""
        return (self.word("repeat_data1") >> 16 & 3) + 1

    def read(self, offset: int) -> int:
        """Return a register."""
        return self.word(WORDS[offset]) if offset in WORDS else super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """Write a register; burning ends the run."""
        if offset == CMD:
            if value & PROGRAM_COMMAND:
                raise UnmodelledError("burning eFuses is not modelled")
            return  # reading again: nothing has changed
        if offset not in WORDS:
            super().write(offset, value)
