"""What lies at which address, for the core and for the host: RAM, flash through the mapping, registers."""

import hashlib
import mmap
from collections.abc import Callable
from ctypes import addressof, c_char
from dataclasses import dataclass

from fota_vdev.cells.board import Board
from fota_vdev.cells.flash_array import FlashArray
from fota_vdev.cortex_m.cpu import Cpu
from fota_vdev.parts.bus import BusFaultError, UnmodelledError
from fota_vdev.parts.memory import private_memory
from fota_wire.errors import DeviceError

FLASH_BASE = 0x0800_0000
CODE_IN_RAM = 0x2000_0400  # bootloader.ld puts its RAM function behind the stack


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryMap:
    """RAM and register areas as (base, size), whether flash shows again at address 0, and the
    bytes at the start of bank 2 that are never executed: the boot journal."""

    ram: tuple[tuple[int, int], ...]
    registers: tuple[tuple[int, int], ...]
    alias: bool
    journal: int = 0


class AddressSpace:
    """The memory map. Changes that the running core must not see half done wait for `service`."""

    def __init__(
        self,
        cpu: Cpu,
        flash: FlashArray,
        board: Board,
        warn: Callable[[str], None],
        memory: MemoryMap,
    ) -> None:
        self._bank = flash.geometry.bank
        self._journal = memory.journal
        self._bases = (0, FLASH_BASE) if memory.alias else (FLASH_BASE,)
        self._cpu = cpu
        self._flash = flash
        self._board = board
        self._warn = warn
        self._remap_due = self._stale_code = self._fence_due = False
        self._changed: list[tuple[int, int, int]] = []  # bank, offset, bytes whose translations are stale
        self.ram = {base: private_memory(size) for base, size in memory.ram}
        for base, ram in self.ram.items():
            cpu.map_ram(base, len(ram), addressof(c_char.from_buffer(ram)))
        for base, size in memory.registers:
            cpu.map_registers(base, size)
        cpu.on_store = self.store_to_flash
        cpu.on_read = self._check_ecc
        board.watch_remap(self._remap)
        board.scs.mpu.on_change = self._mpu_changed
        flash.on_change = self._flash_changed
        self.map_flash()

    # -- mapping -----------------------------------------------------------------------------------------

    def physical(self, address: int) -> tuple[int, int] | None:
        """Bank and offset that a mapped flash address means now (FB_MODE), or None outside flash."""
        for base in self._bases:
            if base <= address < base + 2 * self._bank:
                upper = address - base >= self._bank
                return (2 if upper != self._board.swapped else 1), (address - base) % self._bank
        return None

    def map_flash(self) -> None:
        """Map the banks as the board says, at 0x0800_0000 and at the alias from 0, if there is one."""
        self._remap_due = self._stale_code = False
        self._changed.clear()
        banks = (2, 1) if self._board.swapped else (1, 2)
        low, high = (self._flash.pointer(bank) for bank in banks)
        areas = dict.fromkeys(self._bases, low) | {base + self._bank: high for base in self._bases}
        self._cpu.map_flash(areas, self._bank)
        self.fence()
        self._watch_torn_words()

    def _wanted(self) -> tuple[object, ...]:
        """What the mapping depends on: which bank is low, and what the MPU says."""
        return self._board.swapped, self._board.scs.mpu_state

    def extra(self) -> None:
        """Nothing beside RAM, flash and registers is needed to go back to a snapshot."""

    def settle(self, extra: None, *, stale: bool) -> None:
        """Fit the mapping to registers and flash that a snapshot has restored."""
        if self._mapped != self._wanted():
            self.map_flash()
        elif stale:
            self._forget_code()

    def code_at(self) -> tuple[tuple[int, int, int], ...]:
        """Where RAM may hold code, as (base of the RAM, begin, end in it)."""
        return tuple(
            (base, CODE_IN_RAM - base, CODE_IN_RAM - base + 256)
            for base, ram in self.ram.items()
            if base <= CODE_IN_RAM < base + len(ram)
        )

    def code_differs(self, bank: int, now: bytes, then: bytes) -> bool:
        """Return True if cells that may have been executed are others; the journal never is."""
        return bank == 1 or now[self._journal :] != then[self._journal :]

    def service(self) -> None:
        """Between two instructions: take over a new mapping, drop translations of changed memory."""
        if self._remap_due:
            self.map_flash()
        if self._fence_due:
            self.fence()
        if self._stale_code:
            self._forget_code()
        elif self._changed:
            for bank, offset, size in _joined(self._changed):
                at = offset + (self._bank if (bank == 2) != self._board.swapped else 0)
                for base in self._bases:
                    self._cpu.forget_code_at(base + at, size)
            self._changed.clear()
            self._watch_torn_words()

    def _forget_code(self) -> None:
        self._stale_code = False
        self._changed.clear()
        self._cpu.forget_code()
        self._watch_torn_words()

    def fence(self) -> None:
        """Take over what the MPU says about executing."""
        self._fence_due = False
        self._mapped = self._wanted()
        areas = [(base, base + 2 * self._bank) for base in self._bases]
        areas += [(base, base + len(ram)) for base, ram in self.ram.items()]
        never = [part for area in areas for part in self._board.scs.mpu.never(*area)]
        self._cpu.forbid_code(never, lambda address: self._ram_at(address, 4) is not None)

    def _mpu_changed(self) -> None:
        self._fence_due = True
        if self._cpu.live:
            self._cpu.limit(0)
        else:
            self.fence()

    def _remap(self) -> None:
        if self._board.controller.acr & 0x600:
            self._warn("FB_MODE changed with the flash caches on: clear ICEN and DCEN, and reset both, first")
        if self._cpu.live:
            self._remap_due = True
            self._cpu.limit(0)
        else:
            self.map_flash()

    def _flash_changed(self, bank: int, offset: int, size: int) -> None:
        """A chip that updates itself writes tens of thousands of words, none of which it has executed."""
        if 0 < size <= self._flash.geometry.page:
            self._changed.append((bank, offset, size))
        else:
            self._stale_code = True
        self._cpu.limit(0)

    def _watch_torn_words(self) -> None:
        """Have the core report reads of pages that hold torn double words, wherever they are mapped."""
        size = self._flash.geometry.page
        pages = sorted({offset // size for _, offset in self._flash.ecc_bad})
        banks = [base + bank for base in self._bases for bank in (0, self._bank)]
        starts = [bank + page * size for page in pages for bank in banks]
        self._cpu.watch_reads([(start, start + size - 1) for start in starts])

    def _check_ecc(self, address: int, size: int) -> None:
        place = self.physical(address)
        if place is None:
            return
        bad = self._flash.bad_in(place[0], place[1], size)
        if bad is not None:
            self._board.controller.ecc_fault(place[0], bad)
            self._cpu.limit(0)

    # -- access ------------------------------------------------------------------------------------------

    def scramble_ram(self, seed: str) -> None:
        """Fill RAM with the rubbish of a power-up."""
        for base, ram in self.ram.items():
            ram[:] = hashlib.shake_128(f"{seed}|{base}".encode()).digest(len(ram))

    def _ram_at(self, address: int, n: int) -> tuple[mmap.mmap, int] | None:
        for base, ram in self.ram.items():
            if base <= address and address + n <= base + len(ram):
                return ram, address - base
        return None

    def store_to_flash(self, address: int, size: int, value: int) -> None:
        """Hand a store to the flash controller.

        Raises:
            BusFaultError: the address is flash through the alias at 0, or no flash.
            PowerCutError: an armed cut falls on it.
        """
        place = self.physical(address)
        if place is None or address < FLASH_BASE:
            raise BusFaultError(address, "store to memory that cannot be written")
        self._board.controller.store(place[0], place[1], size, value)

    def words(self, address: int, n: int) -> list[int]:
        """Return ``n`` words of memory as the core fetches vectors: ECC is not looked at."""
        raw = self.read(address, 4 * n, quiet=True)
        return [int.from_bytes(raw[i : i + 4], "little") for i in range(0, 4 * n, 4)]

    def load32(self, address: int) -> int:
        """Read an aligned word: RAM, flash through the mapping, or a register.

        Raises:
            DeviceError: not aligned, or nothing answers there.
        """
        _check_alignment(address)
        if self.physical(address) is not None or self._ram_at(address, 4) is not None:
            return int.from_bytes(self.read(address, 4), "little")
        try:
            return self._board.bus.read(address)
        except (UnmodelledError, BusFaultError) as exc:
            raise DeviceError(str(exc)) from exc

    def store32(self, address: int, value: int) -> None:
        """Write an aligned word; flash obeys the same rules as for the core.

        Raises:
            PowerCutError: an armed power cut fell on this access.
            DeviceError: not aligned, or nothing answers there.
        """
        _check_alignment(address)
        value &= 0xFFFF_FFFF
        ram = self._ram_at(address, 4)
        try:
            if ram is not None:
                ram[0][ram[1] : ram[1] + 4] = value.to_bytes(4, "little")
                self._stale_code = True
            elif self.physical(address) is not None:
                self.store_to_flash(address, 4, value)
            else:
                self._board.bus.write(address, value)
        except (UnmodelledError, BusFaultError) as exc:
            raise DeviceError(str(exc)) from exc

    def read(self, address: int, n: int, *, quiet: bool = False) -> bytes:
        """Return ``n`` bytes of RAM or flash as the chip sees them.

        A torn double word sets ECCD in the flash controller, unless ``quiet``.

        Raises:
            DeviceError: the range is neither RAM nor flash.
        """
        ram = self._ram_at(address, n)
        if ram is not None:
            return ram[0][ram[1] : ram[1] + n]
        out = bytearray()
        while len(out) < n:
            place = self.physical(address + len(out))
            if place is None:
                raise DeviceError(f"0x{address:08x} + {n} bytes is neither RAM nor flash")
            bank, offset = place
            take = min(n - len(out), self._bank - offset)
            bad = None if quiet else self._flash.bad_in(bank, offset, take)
            if bad is not None:
                self._board.controller.ecc_fault(bank, bad)
            out += self._flash.read_phys(bank, offset, take)
        return bytes(out)


def _check_alignment(address: int) -> None:
    if address % 4:
        raise DeviceError(f"0x{address:08x} is not aligned to 4 bytes")


def _joined(changed: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return (bank, offset, bytes) with what lies end to end in one: a download's words come in order."""
    found: list[tuple[int, int, int]] = []
    for bank, offset, size in changed:
        if found and found[-1][0] == bank and sum(found[-1][1:]) == offset:
            found[-1] = bank, found[-1][1], found[-1][2] + size
        else:
            found.append((bank, offset, size))
    return found
