"""ESP32 under MicroPython's own port, the element on I2C. **Not run on silicon.** With our second stage
(ESP32-C3): `SecondStageBoard`. With Espressif's: `Esp32Board`, two OTA partitions through
``esp32.Partition``.

There, what the chip's own bootloader keeps takes the place of our journal: ``otadata`` says which partition
boots, and whether that is a trial (PENDING_VERIFY); a reset without ``confirm`` goes back. There is one try,
and no reason in it: ``reject`` keeps the reason in NVS. The partition table needs two data partitions of
ours, ``fota_trust`` (SPEC 1.3, written by the factory) and ``fota_store``. MicroPython has to be built with
rollback support. The application brings the network up.
"""

import binascii
import struct

from fota_agent.boards.atecc608 import Atecc608
from fota_agent.boards.esp32c3 import Esp32C3Board
from fota_agent.boards.flash_esp32c3 import NorFlash
from fota_agent.engine import state as store
from fota_wire import bootreport, der, journal, layout, p256, settings
from fota_wire.chips import esp32c3
from fota_wire.errors import DeviceError, FormatError, InputError, VerifyError
from fota_wire.status import FL1, FL2, IM1, IM3, JO1, JO2, PO4, SE1
from fota_wire.version import parse_version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fota_agent.seams import Clock, Element, Esp32, Partition, Random, Slot
    from fota_wire.bootreport import BootReport

BLOCK = 4096
IOCTL_ERASE = 6  # MicroPython's block protocol: MP_BLOCKDEV_IOCTL_BLOCK_ERASE
TYPE_APP, TYPE_DATA, OTADATA, OTA_0, OTA_1 = 0, 1, 0x00, 0x10, 0x11
NEW, PENDING, VALID, INVALID, ABORTED = 0, 1, 2, 3, 4
NAMESPACE, REASON = "fota", "reason"
MAX_SEGMENTS = 16
DESCRIPTOR, DESCRIPTOR_MAGIC = 0x20, 0xABCD5432  # of the application, at a fixed place in the image


class PartitionSlot:
    """The ``Slot`` of ``fota_agent.seams`` in an OTA partition; pages are flash sectors of 4 KiB."""

    page_size = BLOCK

    def __init__(self, partition: "Partition") -> None:
        self._partition = partition
        self.size = partition.info()[3]

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes."""
        data = bytearray(length)
        self._partition.readblocks(offset // BLOCK, data, offset % BLOCK)
        return bytes(data)

    def is_blank(self, offset: int) -> bool:
        """Return True if the page at ``offset`` is wholly erased."""
        return self.read(offset, BLOCK) == b"\xff" * BLOCK

    def erase(self, offset: int) -> None:
        """Erase the page at ``offset``. DeviceError FL2."""
        try:
            self._partition.ioctl(IOCTL_ERASE, offset // BLOCK)
        except OSError as exc:
            raise DeviceError(f"flash: erase at {offset} failed", FL2) from exc

    def program(self, offset: int, data: "bytearray | memoryview") -> None:
        """Program erased bytes within one page, and read them back. DeviceError FL1."""
        try:  # with an offset nothing is erased
            self._partition.writeblocks(offset // BLOCK, data, offset % BLOCK)
        except OSError as exc:
            raise DeviceError(f"flash: program at {offset} failed", FL1) from exc
        if self.read(offset, len(data)) != bytes(data):
            raise DeviceError(f"flash: {offset} does not read back", FL1)


class Esp32Board:
    """The ``Board`` of ``fota_agent.seams``.

    ``esp32``: MicroPython's module of that name; ``reset``, ``ticks_ms`` (never back), ``random_below(n)``.

    Raises:
        DeviceError: SE1, partitions or trust store are missing; CE1..CE6, the element does not answer.
    """

    def __init__(
        self,
        esp32: "Esp32",
        element: "Element",
        reset: "Callable[[], object]",
        ticks_ms: "Clock",
        random_below: "Random",
    ) -> None:
        self._esp32 = esp32
        self._reset = reset
        self.verify = p256.verify
        self.ticks_ms = ticks_ms
        self.random_below = random_below
        self._store = self._data("fota_store")
        self._otadata = self._find(TYPE_DATA, OTADATA, "otadata")
        factory = self._data("fota_trust")
        raw = bytearray(min(factory.info()[3], esp32c3.TRUST_STORE_SIZE))
        factory.readblocks(0, raw, 0)
        try:
            trust = settings.unpack_trust_store(bytes(raw))
        except FormatError as exc:
            raise DeviceError(f"factory data: {exc}", SE1) from exc
        self.vendor_id, self.class_id = trust.vendor_id, trust.class_id
        self.group = trust.group
        self.genesis_root, self.server_url = trust.genesis_root, trust.server_url
        self.server_cas = [bytes(ca) for ca in der.split(trust.server_ca)]
        self.certificate = bytes(trust.device_cert)
        self._running = esp32.Partition(esp32.Partition.RUNNING)
        self._slot = layout.SLOT_B if self._running.info()[1] == OTA_1 else layout.SLOT_A
        self._other = self._find(TYPE_APP, OTA_0 if self._slot == layout.SLOT_B else OTA_1, "the other slot")
        self.running: Slot = PartitionSlot(self._running)
        self.inactive: Slot = PartitionSlot(self._other)
        self.slot_size = self.inactive.size
        self.max_counter_step = layout.SEC_CNT_MAX  # the floor is the chip's own, in eFuses
        self._copy_size = self._store.info()[3] // 2
        self.store_size = min(self._copy_size, store.MAX_DATA) - store.HEADER_SIZE
        self.element = element
        self.device_id = element.serial_number()
        self.public_key = element.public_key()

    def boot_report(self) -> "BootReport":
        """Return what otadata and the images say. DeviceError if the running image is none."""
        report = bootreport.BootReport()
        other = layout.other_slot(self._slot)
        mine, theirs = self._state(self._slot), self._state(other)
        report.running = self._slot
        report.trial = mine == PENDING
        report.confirmed = other if report.trial else self._slot
        if report.trial:
            report.candidate, report.state = self._slot, journal.TRIAL
        elif theirs in (INVALID, ABORTED):
            report.candidate, report.state = other, journal.REVERTED
            report.reason = self._reason()
        elif theirs == NEW:
            report.candidate, report.state = other, journal.STAGED
        try:
            report.sec_cnt, report.version, report.image_hash = describe(self.running)
        except VerifyError as exc:
            raise DeviceError(f"the running image: {exc}") from exc
        return report

    def inspect(self, size: int) -> "tuple[int, bytes]":
        """Return (secure version, class) of the written image; its class is what the manifest vouches for.

        Raises:
            VerifyError: IM1, IM3.
        """
        return describe(self.inactive)[0], self.class_id

    def health(self) -> "bool | None":
        """The application's hooks say it."""
        return True

    def request(self) -> None:
        """Have the other partition booted, on trial. VerifyError JO2; DeviceError JO1: it is not accepted."""
        if self._state(self._slot) == PENDING:
            raise VerifyError("a trial is running: confirm or reject it first", JO2)
        self._keep_reason(0)
        try:
            self._other.set_boot()
        except OSError as exc:
            raise DeviceError("otadata: the other partition is not accepted", JO1) from exc

    def confirm(self) -> None:
        """Keep the running image. DeviceError JO1."""
        if self._state(self._slot) != PENDING:
            return
        try:
            self._esp32.Partition.mark_app_valid_cancel_rollback()
        except OSError as exc:
            raise DeviceError("otadata: the running image could not be kept", JO1) from exc

    def reject(self, reason: int) -> None:
        """Keep why the trial ended; the reset that follows without ``confirm`` goes back."""
        self._keep_reason(reason)

    def reset(self) -> None:
        """Reset the chip."""
        self._reset()

    def load_store(self) -> "bytes | memoryview | None":
        """Return what was saved last, or None."""
        copies = [self._copy(number) for number in (0, 1)]
        best = store.newest(copies)
        found = None if best is None else copies[best]
        return None if found is None else found[1]

    def save_store(self, data: "list[bytes | memoryview]") -> None:
        """Write ``data`` over the older copy; a power cut leaves the newer one. DeviceError FL1, FL2."""
        copies = [self._copy(number) for number in (0, 1)]
        best = store.newest(copies)
        found = None if best is None else copies[best]
        raw = b"".join(list(store.pack_copy(1 if found is None else found[0] + 1, data)))
        if len(raw) > self._copy_size:
            raise DeviceError(f"agent store: {len(raw)} bytes are too many")
        place = PartitionSlot(self._store)
        start = (0 if best is None else 1 - best) * self._copy_size
        for at in range(0, len(raw), BLOCK):
            page = raw[at : at + BLOCK]
            place.erase(start + at)
            place.program(start + at, bytearray(page + b"\xff" * (BLOCK - len(page))))

    def _copy(self, number: int) -> "tuple[int, bytes | memoryview] | None":
        place, start = PartitionSlot(self._store), number * self._copy_size
        size = store.size_in(place.read(start, store.HEADER_SIZE))
        if size is None or size > self._copy_size:
            return None
        return store.unpack_copy(place.read(start, size))

    def _state(self, slot: int) -> int:
        """Return the otadata state of ``slot``, VALID where otadata says nothing of it.

        Two sectors hold {sequence, label[20], state, CRC-32 of the sequence}; slot = (sequence - 1) % 2.
        """
        best, state = 0, VALID
        for sector in (0, 1):
            raw = bytearray(32)
            self._otadata.readblocks(sector, raw, 0)
            sequence, kept, crc = struct.unpack("<I20xII", raw)
            right = binascii.crc32(raw[:4], 0xFFFFFFFF) & 0xFFFFFFFF == crc
            number = layout.SLOT_B if (sequence - 1) % 2 else layout.SLOT_A
            if right and 0 < sequence < 0xFFFFFFFF and number == slot and sequence > best:
                best, state = sequence, kept
        return state

    def _reason(self) -> int:
        try:
            return self._esp32.NVS(NAMESPACE).get_i32(REASON) or PO4
        except OSError:
            return PO4

    def _keep_reason(self, reason: int) -> None:
        try:
            memory = self._esp32.NVS(NAMESPACE)
            memory.set_i32(REASON, reason)
            memory.commit()
        except OSError as exc:
            raise DeviceError("NVS: the reason could not be kept", JO1) from exc

    def _data(self, label: str) -> "Partition":
        return self._find(TYPE_DATA, 0xFF, label, label)

    def _find(self, kind: int, subtype: int, what: str, label: "str | None" = None) -> "Partition":
        found = self._esp32.Partition.find(kind, subtype=subtype, label=label)
        if not found:
            raise DeviceError(f"partition table: {what} is missing", SE1)
        return found[0]


def describe(slot: "Slot") -> "tuple[int, tuple[int, int, int, int], bytes]":
    """Return (secure version, version, SHA-256 at its end) of the ESP-IDF image in ``slot``.

    Raises:
        VerifyError: IM1, not such an image; IM3, its sizes do not fit, or it has no hash.
    """
    head = slot.read(0, 24)
    if head[0] != 0xE9:
        raise VerifyError("not an ESP32 image", IM1)
    at = 24
    for _ in range(head[1]):
        if head[1] > MAX_SEGMENTS or at + 8 > slot.size:
            raise VerifyError("image sizes do not fit", IM3)
        at += 8 + struct.unpack("<4xI", slot.read(at, 8))[0]
    at = (at + 16) & ~15  # the checksum is the last byte of a block of 16
    if head[23] != 1 or at + 32 > slot.size:
        raise VerifyError("image has no hash, or does not fit", IM3)
    magic, secure_version, text = struct.unpack("<II8x32s", slot.read(DESCRIPTOR, 48))
    if magic != DESCRIPTOR_MAGIC:
        raise VerifyError("image has no application descriptor", IM1)
    try:
        version = parse_version(text.rstrip(b"\x00").decode())
    except (UnicodeError, InputError):
        version = (0, 0, 0, 0)
    return secure_version, version, slot.read(at, 32)


class Ticks:
    """Milliseconds that never go back, from MicroPython's ``ticks_ms``, which wraps in 12 days: to be read
    more often than every six.
    """

    def __init__(self, ticks_ms: "Clock", ticks_diff: "Callable[[int, int], int]") -> None:
        self._ticks_ms, self._ticks_diff = ticks_ms, ticks_diff
        self._last, self._total = ticks_ms(), 0

    def __call__(self) -> int:
        """Return the milliseconds since this was made."""
        now = self._ticks_ms()
        self._total += self._ticks_diff(now, self._last)
        self._last = now
        return self._total


class SecondStageBoard(Esp32C3Board):
    """An ESP32-C3 whose second stage is ours, under MicroPython's own port: flash by its module ``esp``."""

    verify = staticmethod(p256.verify)

    def health(self) -> "bool | None":
        """The application's hooks say it: it is one program with the agent."""
        return True


def detect(
    scl: "int | None" = None, sda: "int | None" = None, address: int = 0x60
) -> "Esp32Board | SecondStageBoard":
    """Return this board, its element on I2C bus 0 at the pins ``scl`` and ``sda``. Whose second stage it has
    is told by the partition table: ours needs the partition `fota`. DeviceError.

    Pins not named: 6 and 5 with our second stage, which has the element there; else 22 and 21.
    """
    import time

    import esp32
    import machine

    ours = esp32.Partition.find(esp32c3.STORE_TYPE, subtype=esp32c3.STORE_SUBTYPE, label=None)
    pins = (6, 5) if ours else (22, 21)
    scl, sda = pins[0] if scl is None else scl, pins[1] if sda is None else sda
    i2c = machine.I2C(0, scl=machine.Pin(scl), sda=machine.Pin(sda), freq=100_000)
    ticks = Ticks(time.ticks_ms, time.ticks_diff)  # type: ignore[attr-defined]  # MicroPython's
    sleep_us = time.sleep_us  # type: ignore[attr-defined]  # MicroPython's
    if ours:
        import esp

        flash = NorFlash(esp)
        return SecondStageBoard(machine.mem32, i2c, flash.read, sleep_us, ticks, random_below, flash)
    return Esp32Board(esp32, Atecc608(i2c, sleep_us, address), machine.reset, ticks, random_below)


def random_below(limit: int) -> int:
    """Return 0..limit-1, for jitter."""
    import os

    return int.from_bytes(os.urandom(4), "little") % limit
