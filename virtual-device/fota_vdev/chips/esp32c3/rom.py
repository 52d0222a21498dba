"""Functions of the mask ROM by their real addresses, for a machine without the ROM itself.

These are the entry points that stock second stages call, and a few more; a call of any other address ends
the run. Each is one instruction and takes no time but what hardware needs. Arguments and results lie in
a0..a7; the ROM's habits (what is refused, what it keeps in RAM) are those measured on the real one.
"""

import hashlib
import zlib
from collections.abc import Callable
from typing import ClassVar

from fota_vdev.chips.esp32c3 import flash_chip as chip
from fota_vdev.chips.esp32c3 import rom_boot, uart
from fota_vdev.chips.esp32c3.address_space import ROM, WFI_AND_AGAIN, AddressSpace
from fota_vdev.chips.esp32c3.board import Board
from fota_vdev.chips.esp32c3.cpu import Cpu
from fota_vdev.chips.esp32c3.flash_array import PAGE, SECTOR
from fota_vdev.chips.esp32c3.mmu import CTRL1, ENTRIES, INVALID, WINDOW
from fota_vdev.chips.esp32c3.mmu import PAGE as MMU_PAGE
from fota_vdev.chips.esp32c3.printf import formatted
from fota_vdev.chips.esp32c3.system import CLK_EN1, RST_EN1
from fota_vdev.parts.bus import Peripheral, UnmodelledError
from fota_vdev.parts.clock import PS_PER_S, PS_PER_US
from fota_wire.errors import DeviceError

SPIN = ROM + 0x5_FF00  # here the ROM waits for a watchdog
LAST_HOOKED = SPIN - 1
RECORD_POINTER, RECORD = 0x3FCD_FFF0, 0x3FCD_FE40  # what the ROM knows of the flash chip
FIRST_RECORD = (0x00C8_4016, 2 << 20, 64 << 10, SECTOR, PAGE, 0xFFFF)
BOOT_PS = 15_000 * PS_PER_US
OK, ERROR = 0, 1
MD5_CONTEXT = 88  # bytes: four words of state, two of length, a block
DIGESTS = {0: "sha1", 1: "sha224", 2: "sha256"}


class Rom(Peripheral):
    """The functions, and what they remember between calls."""

    name = "ROM"
    STATE: ClassVar[tuple[str, ...]] = ("ticks_mhz", "hashes", "analog", "console")

    def __init__(self, cpu: Cpu, space: AddressSpace, board: Board) -> None:
        self._cpu, self._space, self._board = cpu, space, board
        self._clock = board.clock
        self._calls: dict[int, Callable[..., int | None]] = {
            ROM + offset: getattr(self, f"_{name}") for offset, name in ENTRIES_BY_OFFSET.items()
        }
        self.reset()
        space.patch_rom(SPIN - ROM, WFI_AND_AGAIN)
        cpu.on_rom = self.call
        cpu.watch_rom(ROM, LAST_HOOKED)

    def reset(self) -> None:
        """Forget."""
        self.ticks_mhz = 40
        self.hashes: dict[int, tuple[str, bytes]] = {}
        self.analog: dict[tuple[int, int], int] = {}
        self.console = True

    # -- from reset to the second stage ------------------------------------------------------------------

    def boot(self) -> None:
        """Load the second stage and leave the core at its entry, or where the ROM waits for a watchdog."""
        board = self._board
        self._clock.advance(BOOT_PS)
        cause = board.rtc.cause
        self._say(f"rst:0x{cause:x} ({rom_boot.CAUSES.get(cause, '?')}),boot:0x8 (SPI_FAST_FLASH_BOOT)")
        loaded = rom_boot.load(board.flash.read_phys(1, 0, 1 << 20))
        for line in loaded.said:
            self._say(line)
        for address, data in loaded.segments:
            self._store(address, data)
        self._space.write(RECORD_POINTER, RECORD.to_bytes(4, "little"))
        self._space.write(RECORD, b"".join(word.to_bytes(4, "little") for word in FIRST_RECORD))
        board.system.write(CLK_EN1, 4)
        board.system.write(RST_EN1, board.system.read(RST_EN1) & ~4)
        board.cache.regs[CTRL1] = 0
        board.cache.enable(on=True)
        self._cpu.reset(SPIN if loaded.entry is None else loaded.entry)
        self._cpu.set_register(1, SPIN)  # a second stage that returns
        self._cpu.set_register(2, rom_boot.STACK)
        self._cpu.vector = rom_boot.VECTORS

    def _store(self, address: int, data: bytes) -> None:
        """Store a segment wherever its header says, word by word where it is not RAM."""
        if self._space.is_ram(address, len(data)):
            self._space.write(address, data)
            return
        for at in range(0, len(data), 4):
            self._board.bus.write(address + at, int.from_bytes(data[at : at + 4], "little"))

    def _say(self, line: str) -> None:
        self._print(f"{line}\r\n".encode())

    def _print(self, text: bytes) -> None:
        for byte in text:
            self._board.console.write(uart.FIFO, byte)
            self._board.usb.write(uart.EP1, byte)

    # -- calls -------------------------------------------------------------------------------------------

    def call(self, address: int) -> None:
        """Do what the function at ``address`` does; the core then returns from it.

        Raises:
            UnmodelledError: there is no such function here.
        """
        function = self._calls.get(address)
        if function is None:
            raise UnmodelledError(f"call of ROM address 0x{address:08x}, which is not modelled (see --rom)")
        arguments = [self._cpu.register(10 + n) for n in range(8)]
        result = function(*arguments[: function.__code__.co_argcount - 1])
        if result is not None:
            self._cpu.set_register(10, result)

    def _get_reset_reason(self, _core: int) -> int:
        return self._board.rtc.cause

    def _printf(self, pattern: int) -> int:
        registers = [self._cpu.register(11 + n) for n in range(7)]

        def argument(n: int) -> int:
            if n < len(registers):
                return registers[n]
            return int.from_bytes(self._space.read(self._cpu.sp + 4 * (n - len(registers)), 4), "little")

        text = formatted(self._string(pattern), argument, self._string)
        if self.console:
            self._print(text)
        return len(text)

    def _string(self, address: int) -> bytes:
        out = bytearray()
        while (byte := self._space.read(address + len(out), 1)) != b"\0":
            out += byte
        return bytes(out)

    def _install_putc1(self, function: int) -> None:
        if function and not ROM <= function < SPIN:
            raise UnmodelledError("ets_install_putc1 with a function of the program")
        self.console = bool(function)

    def _install_uart_printf(self) -> None:
        self.console = True

    def _delay_us(self, us: int) -> None:
        self._clock.advance(us * self.ticks_mhz * PS_PER_S // self._clock.hz)

    def _tx_one_char(self, char: int) -> int:
        self._print(bytes([char & 0xFF]))
        return OK

    def _rx_one_char(self, where: int) -> int:
        if not self._board.console.read(uart.STATUS):
            return ERROR
        self._space.write(where, bytes([self._board.console.read(uart.FIFO)]))
        return OK

    def _nothing(self) -> None:
        """What has no effect here: nothing waits on the line."""

    def _zero(self) -> int:
        return 0

    def _uart_div_modify(self, port: int, divider: int) -> None:
        if port == 0:
            self._board.console.write(uart.CLKDIV, divider >> 4 & 0xFFF | (divider & 15) << 20)

    def _software_reset(self) -> None:
        self._board.request_reset("software")

    def _software_reset_cpu(self, _core: int) -> None:
        self._board.request_reset("software cpu")

    def _get_cpu_frequency(self) -> int:
        return self.ticks_mhz

    def _update_cpu_frequency(self, mhz: int) -> None:
        self.ticks_mhz = mhz

    # -- flash -------------------------------------------------------------------------------------------

    def _chip_size(self) -> int:
        record = int.from_bytes(self._space.read(RECORD_POINTER, 4), "little")
        return int.from_bytes(self._space.read(record + 4, 4), "little")

    def _wait_idle(self, _chip: int) -> int:
        self._board.flash_chip.wait()
        return OK

    def _config_param(self, device: int, size: int, block: int, sector: int, page: int, mask: int) -> int:
        record = int.from_bytes(self._space.read(RECORD_POINTER, 4), "little")
        words = (device, size, block, sector, page, mask)
        self._space.write(record, b"".join(word.to_bytes(4, "little") for word in words))
        return OK

    def _write_enabled(self, code: int, address: int = 0, data: bytes = b"") -> None:
        flash = self._board.flash_chip
        flash.wait()
        flash.command(chip.WREN)
        flash.command(code, address, data)
        flash.wait()

    def _unlock(self) -> int:
        self._write_enabled(chip.WRSR, data=b"\0\0")
        return OK

    def _erase(self, code: int, unit: int, number: int) -> int:
        if (number + 1) * unit > self._chip_size():
            return ERROR
        self._write_enabled(code, number * unit)
        return OK

    def _erase_sector(self, number: int) -> int:
        return self._erase(chip.SE, SECTOR, number)

    def _erase_block(self, number: int) -> int:
        return self._erase(chip.BE64, 64 << 10, number)

    def _write(self, address: int, source: int, n: int) -> int:
        if address + n > self._chip_size() or n % 4:
            return ERROR
        data = self._space.read(source, n)
        while data:
            room = PAGE - address % PAGE
            self._write_enabled(chip.PP, address, data[:room])
            address, data = address + len(data[:room]), data[room:]
        return OK

    def _read(self, address: int, target: int, n: int) -> int:
        if address + n > self._chip_size():
            return ERROR
        flash = self._board.flash_chip
        flash.wait()
        self._space.write(target, flash.command(0xBB, address, answer=n))
        return OK

    # -- memory ------------------------------------------------------------------------------------------

    def _memset(self, target: int, byte: int, n: int) -> int:
        if not self._space.is_ram(target, n):  # asked before they are made: it may be gigabytes
            raise DeviceError(f"0x{target:08x} + {n} bytes is not RAM")
        self._space.write(target, bytes([byte & 0xFF]) * n)
        return target

    def _memcpy(self, target: int, source: int, n: int) -> int:
        if n:
            self._space.write(target, self._space.read(source, n))
        return target

    def _memcmp(self, left: int, right: int, n: int) -> int:
        pairs = zip(self._space.read(left, n), self._space.read(right, n), strict=True)
        return next((a - b for a, b in pairs if a != b), 0)

    def _strlen(self, address: int) -> int:
        return len(self._string(address))

    def _crc32_le(self, crc: int, address: int, n: int) -> int:
        return zlib.crc32(self._space.read(address, n), crc)

    def _udivdi3(self, low: int, high: int, by_low: int, by_high: int) -> int:
        quotient = (high << 32 | low) // (by_high << 32 | by_low)
        self._cpu.set_register(11, quotient >> 32)
        return quotient & 0xFFFF_FFFF

    # -- cache -------------------------------------------------------------------------------------------

    def _boot_cache_init(self) -> None:
        self._mmu_init()
        self._board.cache.invalidate()
        self._board.cache.write(CTRL1, 0)
        self._board.cache.enable(on=True)

    def _cache_disable(self) -> int:
        self._board.cache.enable(on=False)
        return 0

    def _cache_enable(self, _autoload: int) -> None:
        self._board.cache.enable(on=True)

    def _invalidate_all(self) -> None:
        self._board.cache.invalidate()

    def _invalidate_address(self, address: int, n: int) -> int:
        begin = address & (WINDOW - 1)
        self._board.cache.invalidate(begin, min(begin + n, WINDOW))
        return OK

    def _mmu_init(self) -> None:
        for index in range(ENTRIES):
            self._board.mmu.write(4 * index, INVALID)

    def _mmu_set(self, _external: int, address: int, flash: int, kib: int, n: int, fixed: int) -> int:
        if address % MMU_PAGE or flash % MMU_PAGE:
            return 1
        if kib != MMU_PAGE >> 10:
            return 3
        first = (address & (WINDOW - 1)) // MMU_PAGE
        for index in range(n):
            page = flash // MMU_PAGE + (0 if fixed else index)
            self._board.mmu.write(4 * (first + index), page)
        return OK

    # -- digests -----------------------------------------------------------------------------------------

    def _md5_init(self, context: int) -> None:
        self.hashes[context] = ("md5", b"")

    def _md5_update(self, context: int, address: int, n: int) -> None:
        """Without a beginning, what lies in RAM is one: the digest is another one."""
        self.hashes.setdefault(context, ("md5", self._space.read(context, MD5_CONTEXT)))
        self._hash_update(context, address, n)

    def _hash_update(self, context: int, address: int, n: int) -> None:
        if context not in self.hashes:
            raise UnmodelledError(f"digest context 0x{context:08x} was not initialised")
        name, data = self.hashes[context]
        self.hashes[context] = (name, data + self._space.read(address, n))

    def _hash_final(self, context: int, out: int) -> None:
        self._hash_update(context, context, 0)
        name, data = self.hashes.pop(context)
        self._space.write(out, hashlib.new(name, data, usedforsecurity=False).digest())

    def _md5_final(self, out: int, context: int) -> None:
        self._md5_update(context, context, 0)
        self._hash_final(context, out)

    def _sha_init(self, context: int, kind: int) -> int:
        if kind not in DIGESTS:
            raise UnmodelledError(f"digest {kind} of the ROM is not modelled")
        self.hashes[context] = (DIGESTS[kind], b"")
        return OK

    def _sha_starts(self, context: int, _t: int) -> int:
        self._hash_update(context, context, 0)
        self.hashes[context] = (self.hashes[context][0], b"")
        return OK

    def _sha_update(self, context: int, address: int, n: int, _keep: int) -> int:
        self._hash_update(context, address, n)
        return OK

    def _sha_finish(self, context: int, out: int) -> int:
        self._hash_final(context, out)
        return OK

    # -- eFuses and analogue -----------------------------------------------------------------------------

    def _secure_boot_enabled(self) -> int:
        return self._board.efuse.word("repeat_data2") >> 20 & 1

    def _analog_write(self, block: int, _host: int, register: int, value: int) -> None:
        self.analog[block, register] = value & 0xFF

    def _analog_write_mask(
        self, block: int, _host: int, register: int, high: int, low: int, value: int
    ) -> None:
        mask = _ones(high, low) << (low & 31)
        old = self.analog.get((block, register), 0)
        self.analog[block, register] = (old & ~mask | value << (low & 31) & mask) & 0xFF

    def _analog_read(self, block: int, _host: int, register: int) -> int:
        return self.analog.get((block, register), 0)

    def _analog_read_mask(self, block: int, _host: int, register: int, high: int, low: int) -> int:
        return self.analog.get((block, register), 0) >> (low & 31) & _ones(high, low)


def _ones(high: int, low: int) -> int:
    """As many ones as bits ``low`` to ``high`` are; the core shifts modulo 32, whatever it is given."""
    return (1 << (high - low + 1 & 31)) - 1


# offset in the ROM: name of the method
ENTRIES_BY_OFFSET = {
    0x018: "get_reset_reason", 0x040: "printf", 0x044: "install_putc1", 0x048: "install_uart_printf",
    0x050: "delay_us", 0x068: "tx_one_char", 0x070: "rx_one_char", 0x07C: "nothing", 0x080: "nothing",
    0x084: "nothing", 0x088: "uart_div_modify", 0x090: "software_reset", 0x094: "software_reset_cpu",
    0x10C: "wait_idle", 0x124: "erase_block", 0x128: "erase_sector", 0x12C: "write", 0x130: "read",
    0x134: "config_param", 0x140: "unlock", 0x150: "zero", 0x154: "zero", 0x164: "nothing",
    0x354: "memset", 0x358: "memcpy", 0x35C: "memcpy", 0x360: "memcmp", 0x374: "strlen",
    0x4C8: "boot_cache_init", 0x4D4: "invalidate_address", 0x4D8: "invalidate_all", 0x51C: "cache_disable",
    0x520: "cache_enable", 0x524: "cache_disable", 0x528: "cache_enable", 0x55C: "mmu_init",
    0x560: "mmu_set", 0x564: "mmu_set", 0x584: "get_cpu_frequency", 0x588: "update_cpu_frequency",
    0x5CC: "nothing", 0x614: "md5_init", 0x618: "md5_update", 0x61C: "md5_final", 0x628: "crc32_le",
    0x644: "nothing", 0x648: "nothing", 0x650: "sha_init", 0x658: "sha_starts", 0x65C: "sha_update",
    0x660: "sha_finish", 0x6D0: "zero", 0x6F8: "secure_boot_enabled", 0x71C: "zero", 0x72C: "zero",
    0x8AC: "udivdi3", 0x1954: "analog_read", 0x1958: "analog_read_mask", 0x195C: "analog_write",
    0x1960: "analog_write_mask",
}  # fmt: skip
