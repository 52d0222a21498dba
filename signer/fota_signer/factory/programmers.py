"""Option bytes of a chip that leaves the factory, and the programmers' commands that write them with its HEX.

Written from the reference manuals and the programmers' own, and not tried on silicon.
"""

import re
from typing import NamedTuple

from fota_wire.chips import esp32c3, stm32l476, stm32u585

IWDG = 7 << 16
"""OPTR: IWDG_SW, IWDG_STOP, IWDG_STDBY; all 1: started by software (settings say how), and runs on."""
_WORD = re.compile(r"""(?:[^\s"']|"[^"]*"|'[^']*')+""")
RDP, RDP_LEVEL_1 = 0xFF, 0xBB


class Options(NamedTuple):
    """What a chip's option bytes have to be: ``words`` for people; ``registers`` {name: value} that commands
    name in braces, beside ``hex``; ``programmers`` {tool: commands}.
    """

    words: dict[str, object]
    registers: dict[str, int]
    programmers: dict[str, tuple[str, ...]]
    title: str = "Option bytes"


_L4 = Options(
    words={"RDP": "level 1", "WRP1A": "pages 0-7", "BFB2": 0, "IWDG_SW": 1},
    registers={
        "wrp": 7 << 16 | 0,  # pages 0 (STRT, bits 7:0) to 7 (END, bits 23:16) of bank 1: all below slot A
        "optr": 0xFFEFF8AA & ~RDP | RDP_LEVEL_1,  # the factory's but for RDP; BFB2 (bit 20) is 0
        "mask": 1 << 20 | IWDG | RDP,
    },
    programmers={
        "STM32_Programmer_CLI": (
            "STM32_Programmer_CLI -c port=SWD mode=UR -e all -w {hex} -v",
            "STM32_Programmer_CLI -c port=SWD mode=UR -ob WRP1A_STRT=0x00 WRP1A_END=0x07 BFB2=0x0 IWDG_SW=0x1"
            " IWDG_STOP=0x1 IWDG_STDBY=0x1",
            "STM32_Programmer_CLI -c port=SWD mode=UR -ob RDP=0xBB",
        ),
        "OpenOCD": (
            'openocd -f interface/stlink.cfg -f target/stm32l4x.cfg -c "program {hex} verify exit"',
            'openocd -f interface/stlink.cfg -f target/stm32l4x.cfg -c "init; reset halt"'
            ' -c "stm32l4x option_write 0 0x2c {wrp} 0x00ff00ff"'
            ' -c "stm32l4x option_write 0 0x20 {optr} {mask}"'
            ' -c "stm32l4x option_load 0; shutdown"',
        ),
        "pyOCD": (
            "pyocd flash -t stm32l476rgtx -e chip {hex}",
            "pyocd cmd -t stm32l476rgtx -c 'halt'"
            " -c 'ww 0x40022008 0x45670123' -c 'ww 0x40022008 0xcdef89ab'"
            " -c 'ww 0x4002200c 0x08192a3b' -c 'ww 0x4002200c 0x4c5d6e7f'"
            " -c 'ww 0x4002202c {wrp}' -c 'ww 0x40022020 {optr}'"
            " -c 'ww 0x40022014 0x00020000' -c 'sleep 100' -c 'ww 0x40022014 0x08000000'",
        ),
    },
)

_U5 = Options(
    words={"RDP": "level 1", "WRP1A": "pages 0-1", "WRP2A": "pages 0-1", "SWAP_BANK": 0, "DUALBANK": 1,
           "TZEN": 0, "IWDG_SW": 1},
    registers={
        # pages 0 (PSTRT, bits 6:0) to 1 (PEND, bits 22:16), in both banks alike; UNLOCK (bit 31) stays 1,
        # since the bootloader repairs what a power cut leaves of the option bytes
        "wrp": 1 << 31 | 1 << 16 | 0,
        "optr": 0x1FEFF8AA & ~RDP | RDP_LEVEL_1,  # the factory's but for RDP: TZEN (31), SWAP_BANK (20) are 0
        "mask": 1 << 31 | 1 << 21 | 1 << 20 | IWDG | RDP,
    },
    programmers={
        "STM32_Programmer_CLI": (
            "STM32_Programmer_CLI -c port=SWD mode=UR -ob TZEN=0x0 DUALBANK=0x1 SWAP_BANK=0x0",
            "STM32_Programmer_CLI -c port=SWD mode=UR -e all -w {hex} -v",
            "STM32_Programmer_CLI -c port=SWD mode=UR -ob WRP1A_PSTRT=0x0 WRP1A_PEND=0x1 WRP2A_PSTRT=0x0"
            " WRP2A_PEND=0x1 IWDG_SW=0x1 IWDG_STOP=0x1 IWDG_STDBY=0x1",
            "STM32_Programmer_CLI -c port=SWD mode=UR -ob RDP=0xBB",
        ),
        "OpenOCD": (
            'openocd -f interface/stlink.cfg -f target/stm32u5x.cfg -c "program {hex} verify exit"',
            'openocd -f interface/stlink.cfg -f target/stm32u5x.cfg -c "init; reset halt"'
            ' -c "stm32l4x option_write 0 0x58 {wrp} 0x807f007f"'
            ' -c "stm32l4x option_write 0 0x68 {wrp} 0x807f007f"'
            ' -c "stm32l4x option_write 0 0x40 {optr} {mask}"'
            ' -c "stm32l4x option_load 0; shutdown"',
        ),
        "pyOCD": (
            "pyocd flash -t stm32u585aiixq -e chip {hex}",
            "pyocd cmd -t stm32u585aiixq -c 'halt'"
            " -c 'ww 0x40022008 0x45670123' -c 'ww 0x40022008 0xcdef89ab'"
            " -c 'ww 0x40022010 0x08192a3b' -c 'ww 0x40022010 0x4c5d6e7f'"
            " -c 'ww 0x40022058 {wrp}' -c 'ww 0x40022068 {wrp}' -c 'ww 0x40022040 {optr}'"
            " -c 'ww 0x40022028 0x00020000' -c 'sleep 100' -c 'ww 0x40022028 0x08000000'",
        ),
    },
)  # fmt: skip

_C3 = Options(
    words={"burnt": "none; docs/esp32.md says which to burn, and in which order"},
    registers={},
    programmers={
        "esptool": (
            "esptool --chip esp32c3 write-flash --flash-mode keep --flash-freq keep --flash-size keep"
            " --erase-all 0x0 {hex}",
        ),
    },
    title="eFuses",
)

OPTIONS = {stm32l476.NAME: _L4, stm32u585.NAME: _U5, esp32c3.NAME: _C3}


def option_commands(chip: str, hex_name: str) -> dict[str, list[str]]:
    """Return, for each programmer, the commands that write the HEX and then the option bytes.

    All below the slots is write-protected, RDP is level 1, the bootloader chooses the bank and not the ROM,
    the watchdog is started by software and runs in stop and standby.
    """
    options = OPTIONS[chip]
    registers = {name: f"0x{value:08x}" for name, value in options.registers.items()}
    return {
        tool: [command.format(hex=hex_name, **registers) for command in commands]
        for tool, commands in options.programmers.items()
    }


def continued(command: str, columns: int = 78) -> list[str]:
    """Return a command in lines of at most ``columns``, which a shell reads as one."""
    lines = [""]
    for word in _WORD.findall(command):
        if lines[-1] and len(lines[-1]) + len(word) + 3 > columns:
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines
