"""A board with an STM32 (SPEC 1): settings, trust store, slots, journal, agent store, boot report, reset.
What is the STM32L4's, and what another chip's board has in its place, is in ``ROW`` and in the flash.

Runs on the chip with ``machine.mem32`` and ``machine.I2C``, and on the virtual device with the same two
objects.
"""

from fota_agent.boards.atecc608 import Atecc608
from fota_agent.boards.flash_stm32l4 import Flash, FlashSlot
from fota_agent.engine import state as store
from fota_wire import bootreport, journal, layout, settings
from fota_wire.chips import stm32l476
from fota_wire.errors import DeviceError, FormatError
from fota_wire.status import JO1, SE1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fota_agent.seams import Clock, Element, I2c, Memory, Random, Sleep, Slot
    from fota_wire.bootreport import BootReport

AIRCR, SYSRESETREQ = 0xE000ED0C, 0x05FA0004
COPIES = 2


class Stm32Board:
    """The ``Board`` of ``fota_agent.seams``.

    ``read(address, length)`` returns bytes at a mapped address; ``sleep_us`` waits; ``ticks_ms`` never goes
    back;
    ``random_below(n)`` returns 0..n-1, for jitter.

    Raises:
        DeviceError: SE1, settings or trust store are missing or damaged; CE1..CE6, the element does not
        answer, or
            is not the one this board was paired with.
    """

    ROW = stm32l476
    slot_kind = FlashSlot
    flash_kind = Flash

    def __init__(
        self,
        mem32: "Memory",
        i2c: "I2c",
        read: "Callable[[int, int], bytes]",
        sleep_us: "Sleep",
        ticks_ms: "Clock",
        random_below: "Random",
        flash: "Flash | None" = None,
    ) -> None:
        self._mem32 = mem32
        self._flash = flash or self.flash_kind(mem32, read, sleep_us)
        self.ticks_ms = ticks_ms
        self.random_below = random_below
        try:
            paired = settings.unpack(self._factory(self.ROW.SETTINGS_OFFSET, settings.SIZE))
            trust = settings.unpack_trust_store(
                self._factory(self.ROW.TRUST_STORE_OFFSET, self.ROW.TRUST_STORE_SIZE)
            )
        except FormatError as exc:
            raise DeviceError(f"factory data: {exc}", SE1) from exc
        self.vendor_id, self.class_id = trust.vendor_id, paired.class_id
        self.genesis_root, self.server_url = trust.genesis_root, trust.server_url
        self.server_ca, self.certificate = trust.server_ca, trust.device_cert
        self.max_counter_step, self.root_b = paired.max_step, paired.root_b
        self.slot_size = self.ROW.SLOT_SIZE
        self.store_size = self.ROW.AGENT_STORE_SIZE // COPIES - store.HEADER_SIZE
        self.running: Slot = self.slot_kind(self._flash, self.ROW.SLOT_ADDRESS, self.ROW.SLOT_SIZE)
        self.inactive: Slot = self.slot_kind(self._flash, self.ROW.INACTIVE_SLOT_ADDRESS, self.ROW.SLOT_SIZE)
        self.element: Element = Atecc608(i2c, sleep_us, paired.address)
        self.device_id = self.element.serial_number()
        if self.device_id != paired.serial or trust.class_id != paired.class_id:
            raise DeviceError(f"crypto element {self.device_id.hex()} is not the one of this board", SE1)
        self.public_key = self.element.public_key()

    def boot_report(self) -> "BootReport":
        """Return what the bootloader left in RAM (SPEC 4). DeviceError if nothing valid is there."""
        raw = self._ram(self.ROW.BOOT_REPORT_ADDRESS, bootreport.SIZE)
        try:
            return bootreport.unpack(raw)
        except FormatError as exc:
            raise DeviceError(f"{exc}: has the bootloader run?") from exc

    def health(self) -> "bool | None":
        """Return the verdict in the application's health word: healthy, failed, or None for not known yet."""
        word = self._mem32[self.ROW.HEALTH_ADDRESS]
        return {layout.HEALTH_GOOD: True, layout.HEALTH_BAD: False}.get(word)

    # -- boot journal ------------------------------------------------------------------------------------

    def request(self) -> None:
        """Ask for a trial of the inactive slot. VerifyError JO2, JO3; DeviceError JO1, FL1, FL2."""
        running = self.boot_report().running
        record, page, cell = self._scan()
        self._append(journal.request(record, running, layout.other_slot(running)), page, cell)

    def confirm(self) -> None:
        """Make the running slot the confirmed one; nothing is written if it is. DeviceError JO1, FL1, FL2."""
        record, page, cell = self._scan()
        wanted = journal.confirm(record, self.boot_report().running)
        if wanted is not None:
            self._append(wanted, page, cell)

    def reject(self, reason: int) -> None:
        """End the trial with ``reason``. VerifyError JO4; DeviceError JO1, FL1, FL2."""
        record, page, cell = self._scan()
        self._append(journal.reject(record, self.boot_report().running, reason), page, cell)

    def _scan(self) -> "tuple[journal.Record, int, int]":
        return journal.scan(self._journal_page(0), self._journal_page(1))

    def _journal_page(self, number: int) -> bytes:
        """Return one page, with zeros in place of what faults on ECC."""
        start = self._journal_address(number)
        data = self._flash.read_sound(start, journal.PAGE_SIZE)
        if data is not None:
            return data
        size = self.ROW.WRITE_SIZE
        cells = range(start, start + journal.PAGE_SIZE, size)
        return b"".join([self._flash.read_sound(at, size) or bytes(size) for at in cells])

    def _append(self, record: "journal.Record", page: int, cell: int) -> None:
        start = self._journal_address(page)
        if cell == 0:
            self._flash.erase(start)
        self._flash.program(start + cell * journal.RECORD_SIZE, journal.pack(record))
        if self._scan()[0] != record:
            raise DeviceError("boot journal: the record is not there after writing it", JO1)

    def _journal_address(self, page: int) -> int:
        offset = self.ROW.JOURNAL_OFFSET + page * self.ROW.JOURNAL_STRIDE
        return self._flash.address(self.ROW.JOURNAL_BANK, offset)

    # -- agent store: two copies, written in turn --------------------------------------------------------

    def load_store(self) -> "bytes | memoryview | None":
        """Return what was saved last, or None."""
        copies = [self._copy(number) for number in range(COPIES)]
        best = store.newest(copies)
        found = None if best is None else copies[best]
        return None if found is None else found[1]

    def save_store(self, data: "list[bytes | memoryview]") -> "memoryview | None":
        """Write ``data`` over the older copy; a power cut leaves the newer one. DeviceError FL1, FL2."""
        copies = [self._copy(number) for number in range(COPIES)]
        best = store.newest(copies)
        found = None if best is None else copies[best]
        size = store.HEADER_SIZE + store.size_of(data)
        if size > self.ROW.AGENT_STORE_SIZE // COPIES:
            raise DeviceError(f"agent store: {size} bytes are too many")
        at = self._copy_address(0 if best is None else 1 - best)
        for page in range(at, at + size, self.ROW.PAGE_SIZE):
            if not self._flash.is_blank(page):
                self._flash.erase(page)
        for block in store.pack_copy(1 if found is None else found[0] + 1, data):
            self._flash.program(at, block)
            at += len(block)
        lies = self.load_store()
        return lies if isinstance(lies, memoryview) else None

    def _copy(self, number: int) -> "tuple[int, bytes | memoryview] | None":
        start = self._copy_address(number)
        size = store.size_in(self._flash.read_sound(start, store.HEADER_SIZE))
        if size is None:
            return None
        self._flash.take_fault()
        copy = store.unpack_copy(self._flash.view(start, size))  # reads all of it
        return None if self._flash.take_fault() else copy

    def _copy_address(self, number: int) -> int:
        offset = self.ROW.AGENT_STORE_OFFSET + number * (self.ROW.AGENT_STORE_SIZE // COPIES)
        return self._flash.address(self.ROW.AGENT_STORE_BANK, offset)

    # -- the rest ----------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Reset the chip; the boot report is spoilt first, so that nobody takes it for the next boot's."""
        self._mem32[self.ROW.BOOT_REPORT_ADDRESS] = 0
        self._mem32[AIRCR] = SYSRESETREQ

    def _factory(self, offset: int, length: int) -> "bytes | memoryview":
        return self._flash.view(self._flash.address(1, offset), length)

    def _ram(self, address: int, length: int) -> bytes:
        words = [self._mem32[address + at] for at in range(0, length, 4)]
        return b"".join([word.to_bytes(4, "little") for word in words])
