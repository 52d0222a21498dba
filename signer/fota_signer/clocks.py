"""Tells for which STM32 a program was made, by the clock controller that it drives: every program has to, and
each chip has it in a place of its own. They are linked for one address, so that little else shows it.
"""

import re
import struct
from typing import TYPE_CHECKING

from fota_wire.chips import stm32l476, stm32u585

if TYPE_CHECKING:
    from fota_wire.host_chips import Stm32

CONTROLLERS: dict[str, tuple[int, ...]] = {
    stm32l476.NAME: (0x40021000,),
    stm32u585.NAME: (0x46020C00, 0x46020800, 0x46020000, 0x56020C00, 0x56020800, 0x56020000),
}
"""By which addresses programs reach RCC: of the STM32U5 also from PWR beside it, from the page of both, and
all of it by the secure alias. RM0351 2.2.2, RM0456 2.3.2.
"""
_REACH = 0x400
"""Bytes from such an address on that belong to it, where code puts the address together."""
_APART = 64
"""Bytes at most between the two instructions that do so."""


def fault_of(program: bytes, chip: "Stm32") -> str:
    """Return what there is to say of a program that shows another chip than ``chip``, and not this one;
    else "". ``program`` begins at a multiple of 4.
    """
    if drives(program, chip.NAME):
        return ""
    made = next((name for name in CONTROLLERS if drives(program, name)), "")
    if not made:
        return ""
    return f"made for chip {made} (it drives the clocks at 0x{CONTROLLERS[made][0]:08x}), not for {chip.NAME}"


def drives(program: bytes, name: str) -> bool:
    """Tell whether ``program`` has an address of this chip's clock controller in it."""
    return any(_is_literal(program, address) or _is_loaded(program, address) for address in CONTROLLERS[name])


def _is_literal(program: bytes, address: int) -> bool:
    """Tell whether the address is a word of the program, as in a literal pool."""
    word, at = struct.pack("<I", address), -1
    while (at := program.find(word, at + 1)) >= 0:
        if at % 4 == 0:
            return True
    return False


def _is_loaded(program: bytes, address: int) -> bool:
    """Tell whether code puts the address together: MOVW, and MOVT for its upper half (Armv7-M, T3 and T1)."""
    high = address >> 16
    head = struct.pack("<HB", 0xF2C0 | (high >> 11 & 1) << 10 | high >> 12, high & 0xFF)
    ends = bytes(range(high >> 4 & 0x70, (high >> 4 & 0x70) + 16))  # with each register
    return any(
        found.start() % 2 == 0 and _is_lower_half_before(program, found.start(), address & 0xFFFF)
        for found in re.finditer(re.escape(head) + b"[" + re.escape(ends) + b"]", program)
    )


def _is_lower_half_before(program: bytes, at: int, wanted: int) -> bool:
    register = program[at + 3] & 15
    for before in range(at - 2, max(at - _APART, 0) - 1, -2):
        one, two = struct.unpack_from("<HH", program, before)
        if one & 0xFBF0 == 0xF240 and two & 0x8F00 == register << 8:
            low = (one & 15) << 12 | (one >> 10 & 1) << 11 | (two >> 12 & 7) << 8 | two & 0xFF
            return bool(0 <= low - wanted < _REACH)
    return False
