"""What lies at which address of an ESP32-C3: RAM, RTC RAM, ROM, flash through the cache, registers.

Nothing executes at the addresses of the data bus (0x3C.., 0x3F..), whatever can be read there.
"""

import hashlib
import mmap
from ctypes import addressof, c_char

from fota_vdev.chips.esp32c3.cpu import Cpu
from fota_vdev.chips.esp32c3.flash_array import SECTOR, SIZE, NorFlash
from fota_vdev.chips.esp32c3.mmu import ENTRIES, INVALID, PAGE, WINDOW, Cache
from fota_vdev.parts.bus import Bus, BusFaultError, UnmodelledError
from fota_vdev.parts.memory import private_memory
from fota_wire.errors import DeviceError

IRAM, IRAM_SIZE = 0x4037_C000, 0x6_4000  # the first 16 KiB are the cache's
DRAM, DRAM_SIZE = 0x3FC8_0000, 0x6_0000
RTC_RAM, RTC_RAM_SIZE = 0x5000_0000, 0x2000
ROM, ROM_SIZE, ROM_DATA, ROM_DATA_AT = 0x4000_0000, 0x6_0000, 0x3FF0_0000, 0x4_0000
IROM, DROM = 0x4200_0000, 0x3C00_0000
REGISTERS = ((0x6000_0000, 0xD_1000),)
RET, WFI_AND_AGAIN = b"\x82\x80", bytes.fromhex("73005010 f5bf")


class AddressSpace:
    """The memory map. Changes that the running core must not see half done wait for `service`.

    ``seen`` is flash as the cache knows it: sectors in ``stale`` have changed since. ``rom`` is the mask ROM,
    or None: then each entry point is one ``ret``. ``code`` says where RAM may hold code, as (base of the RAM,
    begin, end in it): who knows better than "anywhere" saves translations.
    """

    def __init__(self, cpu: Cpu, flash: NorFlash, bus: Bus, cache: Cache, rom: bytes | None = None) -> None:
        self._cpu = cpu
        self._flash = flash
        self._bus = bus
        self._cache = cache
        self._stale_code = self._remap_due = False
        self._mapped: dict[int, int] = {}  # address of a page in a window: page of flash
        self._shown: dict[int, int] = {}  # the same of what was mapped there last
        self.ram = {IRAM: private_memory(IRAM_SIZE), RTC_RAM: private_memory(RTC_RAM_SIZE)}
        self._seen = private_memory(SIZE)
        self._seen[:] = flash.read_phys(1, 0, SIZE)
        self.stale: set[int] = set()
        self.code: list[tuple[int, int, int]] = [(IRAM, 0, IRAM_SIZE)]
        self._rom = private_memory(ROM_SIZE)
        self._rom[:] = RET * (ROM_SIZE // 2) if rom is None else rom
        self._map_memory()
        flash.on_change = lambda bank, offset, size: self._flash_changed()
        cache.on_change = self._remap
        cache.on_invalidate = self._invalidated

    def _map_memory(self) -> None:
        pointers = {base: addressof(c_char.from_buffer(ram)) for base, ram in self.ram.items()}
        for base, pointer in pointers.items():
            self._cpu.map_ram(base, len(self.ram[base]), pointer)
        self._cpu.map_data(DRAM, DRAM_SIZE, pointers[IRAM] + IRAM_SIZE - DRAM_SIZE)
        rom = addressof(c_char.from_buffer(self._rom))
        self._cpu.map_rom(ROM, ROM_SIZE, rom)
        self._cpu.map_rom(ROM_DATA, ROM_SIZE - ROM_DATA_AT, rom + ROM_DATA_AT, code=False)
        for base, size in REGISTERS:
            self._cpu.map_registers(base, size)
        self._pointer = addressof(c_char.from_buffer(self._seen))

    # -- flash through the cache ---------------------------------------------------------------------------

    def _flash_changed(self) -> None:
        self.stale |= self._flash.changed
        self._flash.changed.clear()

    def refresh(self, sectors: set[int] | None = None) -> None:
        """Have the cache see flash as it is, everywhere or in these sectors."""
        for sector in self.stale & sectors if sectors is not None else set(self.stale):
            at = sector * SECTOR
            self._seen[at : at + SECTOR] = self._flash.read_phys(1, at, SECTOR)
            self.stale.discard(sector)
            self._stale_code = True

    def _invalidated(self, begin: int, end: int) -> None:
        if (begin, end) == (0, WINDOW):
            self.refresh()
        else:
            touched = range(begin // SECTOR * SECTOR, end, SECTOR)
            places = (self._in_flash(offset) for offset in touched)
            self.refresh({place // SECTOR for place in places if place is not None})
        self._cpu.limit(0)

    def _in_flash(self, offset: int) -> int | None:
        """Offset in flash of an offset in the window, as the cache maps it; None if it maps nothing."""
        entry = self._cache.shown[offset // PAGE]
        place = (entry & 0xFF) * PAGE + offset % PAGE
        return None if entry & INVALID or place >= SIZE else place

    def physical(self, address: int) -> tuple[int, int] | None:
        """Bank (there is one) and offset in flash of what is mapped at an address now, or None."""
        place = self._mapped.get(address // PAGE * PAGE)
        return None if place is None else (1, place + address % PAGE)

    def _remap(self) -> None:
        self._remap_due = True
        if self._cpu.live:
            self._cpu.limit(0)
        else:
            self.service()

    def map_flash(self) -> None:
        """Map the pages of both windows as the cache has them now."""
        self._remap_due = False
        wanted = {}
        valid = [index for index in range(ENTRIES) if not self._cache.shown[index] & INVALID]
        for base, open_ in zip((IROM, DROM), self._cache.buses, strict=True):
            for index in valid if open_ else ():
                place = self._in_flash(index * PAGE)
                if place is not None:
                    wanted[base + index * PAGE] = place
        if wanted == self._mapped:
            return
        before, after = _runs(self._mapped), _runs(wanted)
        for address, (_, size) in before.items():
            if after.get(address) != before[address]:
                self._cpu.unmap(address, size)
        for address, (place, size) in after.items():
            if before.get(address) != (place, size):
                self._cpu.map_rom(address, size, self._pointer + place, code=address >= IROM)
        self._mapped = wanted
        # translations are of what was mapped there last: mostly the same, for the cache was only off
        self._stale_code |= any(self._shown.get(address, place) != place for address, place in wanted.items())
        self._shown |= wanted

    def service(self) -> None:
        """Between two instructions: take over a new mapping, drop translations of changed memory."""
        if self._remap_due:
            self.map_flash()
        if self._stale_code:
            self._stale_code = False
            self._cpu.forget_code()

    # -- snapshots ---------------------------------------------------------------------------------------

    def extra(self) -> dict[int, bytes]:
        """What the cache knows of sectors that have changed since: contents by number."""
        return {n: self._seen[n * SECTOR : (n + 1) * SECTOR] for n in sorted(self.stale)}

    def settle(self, extra: dict[int, bytes], *, stale: bool) -> None:
        """Fit mapping and what the cache knows to registers and flash that a snapshot has restored."""
        self._flash_changed()
        before = self._stale_code
        self.refresh()
        self._stale_code = before  # judged below: most of the time what comes back is what was there
        for n, content in extra.items():
            self._seen[n * SECTOR : (n + 1) * SECTOR] = content
        self.stale = set(extra)
        self._stale_code |= stale
        self.map_flash()
        self.service()

    def code_at(self) -> tuple[tuple[int, int, int], ...]:
        """Where RAM may hold code."""
        return tuple(self.code)

    def code_differs(self, bank: int, now: bytes, then: bytes) -> bool:
        """Return True if cells that may have been executed are others: any, as far as is known."""
        return True

    # -- access ------------------------------------------------------------------------------------------

    def scramble_ram(self, seed: str) -> None:
        """Fill RAM with the rubbish of a power-up."""
        for base, ram in self.ram.items():
            ram[:] = hashlib.shake_128(f"{seed}|{base}".encode()).digest(len(ram))
        self._stale_code = True

    def _ram_at(self, address: int, n: int) -> tuple[mmap.mmap, int] | None:
        if address >= DRAM and address + n <= DRAM + DRAM_SIZE:
            address += IRAM + IRAM_SIZE - DRAM - DRAM_SIZE
        for base, ram in self.ram.items():
            if base <= address and address + n <= base + len(ram):
                return ram, address - base
        return None

    def read(self, address: int, n: int) -> bytes:
        """Return ``n`` bytes of RAM, ROM or flash as the chip sees them.

        Raises:
            DeviceError: something there is no memory, or not mapped.
        """
        ram = self._ram_at(address, n)
        if ram is not None:
            return ram[0][ram[1] : ram[1] + n]
        for base, at in ((ROM, 0), (ROM_DATA, ROM_DATA_AT)):
            if base <= address and address - base + at + n <= ROM_SIZE:
                return self._rom[address - base + at : address - base + at + n]
        out = bytearray()
        while len(out) < n:
            page = (address + len(out)) // PAGE * PAGE
            if page not in self._mapped:
                raise DeviceError(f"0x{address:08x} + {n} bytes is neither RAM nor ROM nor mapped flash")
            at = (address + len(out)) % PAGE
            place = self._mapped[page] + at
            out += self._seen[place : place + min(n - len(out), PAGE - at)]
        return bytes(out)

    def is_ram(self, address: int, n: int) -> bool:
        """Return True if all of the range is RAM."""
        return self._ram_at(address, n) is not None

    def patch_rom(self, offset: int, code: bytes) -> None:
        """Put instructions into the ROM."""
        self._rom[offset : offset + len(code)] = code

    def write(self, address: int, data: bytes) -> None:
        """Write RAM, as the ROM's functions do.

        Raises:
            DeviceError: it is not RAM.
        """
        ram = self._ram_at(address, len(data))
        if ram is None:
            raise DeviceError(f"0x{address:08x} + {len(data)} bytes is not RAM")
        ram[0][ram[1] : ram[1] + len(data)] = data
        begin, end = ram[1], ram[1] + len(data)
        if any(self.ram[base] is ram[0] and begin < last and first < end for base, first, last in self.code):
            self._stale_code = True
            self._cpu.limit(0)

    def load32(self, address: int) -> int:
        """Read an aligned word: memory, or a register.

        Raises:
            DeviceError: not aligned, or nothing answers there.
        """
        _check_alignment(address)
        if address < REGISTERS[0][0]:
            return int.from_bytes(self.read(address, 4), "little")
        try:
            return self._bus.read(address)
        except (UnmodelledError, BusFaultError) as exc:
            raise DeviceError(str(exc)) from exc

    def store32(self, address: int, value: int) -> None:
        """Write an aligned word: RAM, or a register.

        Raises:
            PowerCutError: an armed power cut fell on this access.
            DeviceError: not aligned, or nothing answers there.
        """
        _check_alignment(address)
        value &= 0xFFFF_FFFF
        if address < REGISTERS[0][0]:
            self.write(address, value.to_bytes(4, "little"))
            return
        try:
            self._bus.write(address, value)
        except (UnmodelledError, BusFaultError) as exc:
            raise DeviceError(str(exc)) from exc


def _check_alignment(address: int) -> None:
    if address % 4:
        raise DeviceError(f"0x{address:08x} is not aligned to 4 bytes")


def _runs(pages: dict[int, int]) -> dict[int, tuple[int, int]]:
    """Return pages of 64 KiB as stretches of memory, {address: (place in flash, size)}: far fewer calls."""
    runs: dict[int, tuple[int, int]] = {}
    start = end = -1
    for address, place in pages.items():  # by address
        if address == end and place == pages[start] + address - start:
            end += PAGE
        else:
            start, end = address, address + PAGE
        runs[start] = (pages[start], end - start)
    return runs
