"""The factory HEX: all below slot A and the first image in one Intel HEX, and the option bytes for it."""

import io
from dataclasses import dataclass

from fota_signer import intel_hex
from fota_signer.factory.record import DeviceRecord
from fota_signer.firmware import read_chunks
from fota_wire.cose import key_hash
from fota_wire.errors import InputError
from fota_wire.layout import (
    BOOTLOADER_SIZE,
    FLASH_BASE,
    RECOVERY_OFFSET,
    SETTINGS_OFFSET,
    SLOT_ADDRESS,
    TRUST_STORE_OFFSET,
)
from fota_wire.settings import (
    DEFAULT_MAX_STEP,
    DEFAULT_TRIES,
    DEFAULT_WATCHDOG_S,
    Settings,
    TrustStore,
    pack,
    pack_trust_store,
)

DOUBLE_WORD = 8
ROOM = ((0, BOOTLOADER_SIZE), (RECOVERY_OFFSET, SETTINGS_OFFSET))


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """What all devices of a batch have in flash; for the last four see SPEC 1.2."""

    bootloader: bytes
    image: bytes
    class_id: bytes
    vendor_id: bytes
    root_a_xy: bytes
    root_b_xy: bytes
    genesis_root: bytes
    server_ca_der: bytes
    server_url: str
    tries: int = DEFAULT_TRIES
    watchdog_s: int = DEFAULT_WATCHDOG_S
    max_step: int = DEFAULT_MAX_STEP
    watchdog_always: bool = True


def bootloader_image(elf: bytes, name: str) -> bytes:
    """Return the bootloader's bytes from its first on. With recovery, there is a hole for the trust store.

    Raises:
        InputError: not an ELF (or HEX) of a bootloader for this layout, or something in it would be left out.
    """
    chunks = read_chunks(elf, name)
    if chunks is None:
        raise InputError(f"{name}: not an ELF")
    out = bytearray()
    for address, data, _ in chunks:
        offset = address - FLASH_BASE
        room = next((end for begin, end in ROOM if begin <= offset < end), 0)
        if offset < len(out) or offset + len(data) > room:
            raise InputError(
                f"{name}: 0x{address:08x} + {len(data)} bytes is outside the bootloader's room (SPEC 1)"
            )
        out += b"\xff" * (offset - len(out)) + data
    return bytes(out)


def _parts(firmware: Firmware, trust_store: bytes) -> list[tuple[int, bytes]]:
    """Return (offset, bytes) of bootloader and trust store, which a bootloader with recovery surrounds.

    Raises:
        InputError: the trust store does not fit in front of recovery.
    """
    parts = [(0, firmware.bootloader[:BOOTLOADER_SIZE]), (TRUST_STORE_OFFSET, trust_store)]
    recovery = firmware.bootloader[RECOVERY_OFFSET:]
    if not recovery:
        return parts
    room = RECOVERY_OFFSET - TRUST_STORE_OFFSET
    if len(trust_store) > room:
        raise InputError(
            f"trust store has {len(trust_store)} bytes; with recovery in the bootloader, room is for {room}"
        )
    return [*parts, (RECOVERY_OFFSET, recovery)]


def factory_hex(firmware: Firmware, record: DeviceRecord) -> str:
    """Return the Intel HEX of one device; `inspection` says whether it can live with it. It holds the pairing
    keys: keep it as such.

    Raises:
        InputError: something does not fit its place, or the record is not that of a finished chip.
    """
    from intelhex import IntelHex

    if record.certificate is None or record.io_key is None or record.mac_key is None:
        what = "has no certificate yet: finish fota provision device"
        if record.certificate is not None:
            what = "holds no pairing keys any more: they are in the factory HEX that was made of it"
        raise InputError(f"{record.path}: {what}")
    roots = key_hash(firmware.root_a_xy), key_hash(firmware.root_b_xy)
    if (record.root_a, record.root_b) != roots:
        raise InputError(f"{record.path}: the chip holds other firmware roots than --root-a and --root-b")
    page = Settings(
        class_id=firmware.class_id,
        serial=record.serial,
        address=record.address[0],
        io_key=record.io_key,
        mac_key=record.mac_key,
        root_a=roots[0],
        root_b=roots[1],
        tries=firmware.tries,
        watchdog_s=firmware.watchdog_s,
        max_step=firmware.max_step,
        watchdog_always=firmware.watchdog_always,
    )
    store = TrustStore(
        genesis_root=firmware.genesis_root,
        server_ca=firmware.server_ca_der,
        device_cert=record.certificate,
        server_url=firmware.server_url,
        vendor_id=firmware.vendor_id,
        class_id=firmware.class_id,
    )
    out = IntelHex()
    for address, data in (
        *((FLASH_BASE + offset, data) for offset, data in _parts(firmware, pack_trust_store(store))),
        (FLASH_BASE + SETTINGS_OFFSET, pack(page)),
        (SLOT_ADDRESS, firmware.image),
    ):
        out.puts(address, data + b"\xff" * (-len(data) % DOUBLE_WORD))
    text = io.StringIO()
    out.write_hex_file(text)
    return text.getvalue()


def load_hex(text: str, name: str) -> list[tuple[int, bytes]]:
    """Return [(address, bytes)] of an Intel HEX.

    Raises:
        InputError: it is none, or something in it would be left out.
    """
    return [(chunk.address, chunk.content) for chunk in intel_hex.read(text.encode(), name)]


PROGRAMMERS: dict[str, tuple[str, ...]] = {
    "STM32_Programmer_CLI": (
        "STM32_Programmer_CLI -c port=SWD mode=UR -e all -w {hex} -v",
        "STM32_Programmer_CLI -c port=SWD mode=UR -ob WRP1A_STRT=0x00 WRP1A_END=0x07 BFB2=0x0 IWDG_SW=0x1"
        " IWDG_STOP=0x1 IWDG_STDBY=0x1",
        "STM32_Programmer_CLI -c port=SWD mode=UR -ob RDP=0xBB",
    ),
    "OpenOCD": (
        'openocd -f interface/stlink.cfg -f target/stm32l4x.cfg -c "program {hex} verify exit"',
        'openocd -f interface/stlink.cfg -f target/stm32l4x.cfg -c "init; reset halt'
        "; stm32l4x option_write 0 0x2c {wrp} 0x00ff00ff; stm32l4x option_write 0 0x20 {optr} {mask}"
        '; stm32l4x option_load 0; shutdown"',
    ),
    "pyOCD": (
        "pyocd flash -t stm32l476rgtx -e chip {hex}",
        "pyocd cmd -t stm32l476rgtx -c 'halt'"
        " -c 'ww 0x40022008 0x45670123' -c 'ww 0x40022008 0xcdef89ab'"
        " -c 'ww 0x4002200c 0x08192a3b' -c 'ww 0x4002200c 0x4c5d6e7f'"
        " -c 'ww 0x4002202c {wrp}' -c 'ww 0x40022020 {optr}'"
        " -c 'ww 0x40022014 0x00020000' -c 'sleep 100' -c 'ww 0x40022014 0x08000000'",
    ),
}
WRP1AR = 7 << 16 | 0
"""Pages 0 (STRT, bits 7:0) to 7 (END, bits 23:16) of bank 1: all below slot A."""
OPTR = 0xFFEFF8BB
"""The L476's factory value with RDP 0xBB, level 1. IWDG_SW, IWDG_STOP, IWDG_STDBY (bits 16 to
18) are 1 and BFB2 (bit 20) is 0."""
OPTR_MASK = 1 << 20 | 7 << 16 | 0xFF


def option_commands(hex_name: str) -> dict[str, list[str]]:
    """Return, for each programmer, the commands that write the HEX and then the option bytes.

    WRP1A covers pages 0 to 7 (bootloader, trust store, settings), RDP is level 1, BFB2 is 0 (the bootloader
    chooses the bank, not the ROM), the watchdog is started by software (settings say how) and runs in stop
    and standby. Written from the reference manual and the programmers' own, and not tried on silicon.
    """
    registers = {"optr": f"0x{OPTR:08x}", "wrp": f"0x{WRP1AR:08x}", "mask": f"0x{OPTR_MASK:08x}"}
    return {
        tool: [command.format(hex=hex_name, **registers) for command in commands]
        for tool, commands in PROGRAMMERS.items()
    }
