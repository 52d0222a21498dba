"""A board whose bootloader keeps its journal in flash (SPEC 1): settings, trust store, slots, journal, agent
store, boot report, reset. What is one chip's is in ``ROW`` and in the flash.

Runs on the chip with ``machine.mem32`` and ``machine.I2C``, and beside a virtual device with the same two
objects.
"""

from fota_agent.boards.atecc608 import Atecc608
from fota_agent.engine import state as store
from fota_wire import bootreport, der, journal, layout, settings
from fota_wire.errors import DeviceError, FormatError
from fota_wire.status import JO1, SE1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fota_agent.seams import BoardFlash, Clock, Element, I2c, Memory, Random, Sleep, Slot
    from fota_wire.bootreport import BootReport
    from fota_wire.host_chips import Chip

COPIES = 2


class FlashSlot:
    """One firmware slot of a `BoardFlash`; the ``Slot`` of ``fota_agent.seams``."""

    ROW: "Chip"
    page_size: int
    chip: str

    def __init__(self, flash: "BoardFlash", address: int, size: int) -> None:
        self._flash = flash
        self._address = address
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes at ``offset``; ValueError outside the slot."""
        self._inside(offset, length)
        return self._flash.read(self._address + offset, length)

    def is_blank(self, offset: int) -> bool:
        """Return True if the page at ``offset`` is wholly erased."""
        self._inside(offset, self.ROW.PAGE_SIZE)
        return self._flash.is_blank(self._address + offset)

    def erase(self, offset: int) -> None:
        """Erase the page at ``offset``. DeviceError FL2."""
        self._inside(offset, self.ROW.PAGE_SIZE)
        self._flash.erase(self._address + offset)

    def program(self, offset: int, data: "bytearray | memoryview") -> None:
        """Program erased bytes within one page. DeviceError FL1."""
        self._inside(offset, len(data))
        self._flash.program(self._address + offset, data)

    def _inside(self, offset: int, length: int) -> None:
        if not 0 <= offset <= self.size - length:
            raise ValueError("outside the slot")


class FlashBoard:
    """The ``Board`` of ``fota_agent.seams``.

    ``read(address, length)`` returns bytes at a mapped address; ``sleep_us`` waits; ``ticks_ms`` never goes
    back;
    ``random_below(n)`` returns 0..n-1, for jitter.

    Raises:
        DeviceError: SE1, settings or trust store are missing or damaged; CE1..CE6, the element does not
        answer, or
            is not the one this board was paired with.
    """

    ROW: "Chip"
    RESET_REGISTER: int
    RESET_VALUE: int
    slot_kind = FlashSlot
    flash_kind: "Callable[[Memory, Callable[[int, int], bytes], Sleep], BoardFlash]"

    def __init__(
        self,
        mem32: "Memory",
        i2c: "I2c",
        read: "Callable[[int, int], bytes]",
        sleep_us: "Sleep",
        ticks_ms: "Clock",
        random_below: "Random",
        flash: "BoardFlash | None" = None,
    ) -> None:
        self._mem32 = mem32
        self._flash: BoardFlash = flash or self.flash_kind(mem32, read, sleep_us)
        self.ticks_ms = ticks_ms
        self.random_below = random_below
        try:
            paired = settings.unpack(self._flash.view(self._flash.settings(), settings.SIZE))
            trust = settings.unpack_trust_store(
                self._flash.view(self._flash.trust_store(), self.ROW.TRUST_STORE_SIZE)
            )
        except FormatError as exc:
            raise DeviceError(f"factory data: {exc}", SE1) from exc
        self.vendor_id, self.class_id = trust.vendor_id, paired.class_id
        self.group = trust.group
        self.genesis_root, self.server_url = trust.genesis_root, trust.server_url
        still = getattr(self._flash, "still", bytes)  # nobody writes there, so that no copy is needed
        self.server_cas = [still(ca) for ca in der.split(trust.server_ca)]
        self.certificate = still(trust.device_cert)
        self.max_counter_step, self.root_b = paired.max_step, paired.root_b
        self.store_size = self.ROW.AGENT_STORE_SIZE // COPIES - store.HEADER_SIZE
        running, other = self.slots()
        self.running: Slot = self.slot_kind(self._flash, running[0], running[1])
        self.inactive: Slot = self.slot_kind(self._flash, other[0], other[1])
        self.slot_size = other[1]
        self.element: Element = Atecc608(i2c, sleep_us, paired.address)
        self.device_id = self.element.serial_number()
        if self.device_id != paired.serial or trust.class_id != paired.class_id:
            raise DeviceError(f"crypto element {self.device_id.hex()} is not the one of this board", SE1)
        self.public_key = self.element.public_key()

    def slots(self) -> "tuple[tuple[int, int], tuple[int, int]]":
        """Return (address, size) of the slot that runs, and of the other one."""
        raise NotImplementedError

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

    def tell_health(self, healthy: bool) -> None:
        """Write the application's verdict into that word, where it is the same program."""
        self._mem32[self.ROW.HEALTH_ADDRESS] = layout.HEALTH_GOOD if healthy else layout.HEALTH_BAD

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

    def _journal_page(self, number: int) -> "bytes | bytearray | memoryview":
        """Return one page where it lies, if that is memory: there may be no room for a copy. With zeros in
        place of what faults on ECC.
        """
        start = self._journal_address(number)
        self._flash.take_fault()
        seen = self._flash.view(start, journal.PAGE_SIZE)
        sum(seen)  # reads all of it
        if not self._flash.take_fault():
            return seen
        page = bytearray(journal.PAGE_SIZE)
        size = self.ROW.WRITE_SIZE
        for at in range(0, journal.PAGE_SIZE, size):
            page[at : at + size] = self._flash.read_sound(start + at, size) or bytes(size)
        return page

    def _append(self, record: "journal.Record", page: int, cell: int) -> None:
        start = self._journal_address(page)
        if cell == 0:
            self._flash.erase(start)
        self._flash.program(start + cell * journal.RECORD_SIZE, journal.pack(record))
        if self._scan()[0] != record:
            raise DeviceError("boot journal: the record is not there after writing it", JO1)

    def _journal_address(self, page: int) -> int:
        return self._flash.journal() + page * self.ROW.JOURNAL_STRIDE

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
        return self._flash.agent_store() + number * (self.ROW.AGENT_STORE_SIZE // COPIES)

    # -- the rest ----------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Reset the chip; the boot report is spoilt first, so that nobody takes it for the next boot's."""
        self._mem32[self.ROW.BOOT_REPORT_ADDRESS] = 0
        self._mem32[self.RESET_REGISTER] = self.RESET_VALUE

    def _ram(self, address: int, length: int) -> bytes:
        words = [self._mem32[address + at] for at in range(0, length, 4)]
        return b"".join([word.to_bytes(4, "little") for word in words])
