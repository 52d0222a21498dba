"""What the agent needs from a board, a network and an application: the interfaces, for readers and type
checkers.

Never imported at run time (MicroPython has no ``typing``); the modules name these types under
``TYPE_CHECKING``. Times are integer milliseconds of a clock that never goes back.
"""

from collections.abc import Callable
from typing import Protocol

from fota_wire.bootreport import BootReport
from fota_wire.suit import Manifest

Sleep = Callable[[int], None]  # microseconds
Clock = Callable[[], int]  # milliseconds
Random = Callable[[int], int]  # random(n): 0 <= value < n


class Queue(Protocol):
    """What holds the published values, (topic, s since 1970 or 0, JSON text), and is told to keep them."""

    telemetry: list[tuple[str, int, str]]
    dirty: bool


class Memory(Protocol):
    """``machine.mem32``: 32-bit bus accesses by address, a multiple of 4."""

    def __getitem__(self, address: int, /) -> int:
        """Load one word."""
        ...

    def __setitem__(self, address: int, value: int, /) -> None:
        """Store one word."""
        ...


class I2c(Protocol):
    """``machine.I2C``; a NAK is an OSError. Writing nothing to address 0 is the wake pulse of the element."""

    def writeto(self, addr: int, buf: bytes, /) -> object:
        """Write ``buf`` to the 7-bit address ``addr``, with START and STOP."""
        ...

    def readfrom_into(self, addr: int, buf: bytearray, /) -> None:
        """Fill ``buf`` from the 7-bit address ``addr``."""
        ...


class SpiFlash(Protocol):
    """MicroPython's module ``esp``, as far as it is used; every failure is an OSError."""

    def flash_read(self, offset: int, buffer: bytearray, /) -> object:
        """Fill ``buffer``."""
        ...

    def flash_write(self, offset: int, buffer: "bytes | bytearray | memoryview", /) -> object:
        """Program ``buffer``: bits are cleared, none is set."""
        ...

    def flash_erase(self, sector: int, /) -> object:
        """Erase 4096 bytes."""
        ...


class BoardFlash(Protocol):
    """All flash of a board, and where in it things are."""

    def settings(self) -> int:
        """Return the address of the settings page (SPEC 1.2)."""
        ...

    def trust_store(self) -> int:
        """Return the address of the trust store (SPEC 1.3)."""
        ...

    def journal(self) -> int:
        """Return the address of the first page of the boot journal (SPEC 3)."""
        ...

    def agent_store(self) -> int:
        """Return the address of the agent store."""
        ...

    def read(self, address: int, length: int, /) -> bytes:
        """Return ``length`` bytes."""
        ...

    def view(self, address: int, length: int, /) -> "bytes | memoryview":
        """Return ``length`` bytes, where flash is memory without a copy: good until they are erased."""
        ...

    def read_sound(self, address: int, length: int, /) -> "bytes | None":
        """Return ``length`` bytes, or None if any of them faults on ECC."""
        ...

    def take_fault(self) -> bool:
        """Return True if a read since the last call hit an ECC fault, and forget it."""
        ...

    def is_blank(self, address: int) -> bool:
        """Return True if the page at ``address`` is wholly erased."""
        ...

    def erase(self, address: int) -> None:
        """Erase the page at ``address``. DeviceError FL2."""
        ...

    def program(self, address: int, data: "bytes | bytearray | memoryview") -> None:
        """Program erased flash, and read it back. DeviceError FL1."""
        ...


class Partition(Protocol):
    """``esp32.Partition`` of MicroPython, as far as it is used; every failure is an OSError."""

    def info(self) -> tuple[int, int, int, int, str, bool]:
        """Return (type, subtype, address, size, label, encrypted)."""
        ...

    def readblocks(self, block_num: int, buf: bytearray, offset: int = 0, /) -> object:
        """Fill ``buf`` from ``offset`` in block ``block_num``."""
        ...

    def writeblocks(self, block_num: int, buf: "bytearray | memoryview", offset: int, /) -> object:
        """Write ``buf``; with an offset given, without erasing."""
        ...

    def ioctl(self, cmd: int, arg: int, /) -> object:
        """Do as MicroPython's block protocol says; 6 erases a block."""
        ...

    def set_boot(self) -> None:
        """Have this partition booted next."""
        ...


class Partitions(Protocol):
    """The class ``esp32.Partition``."""

    RUNNING: int

    def __call__(self, id: int, /) -> Partition:
        """Return the partition of that kind."""
        ...

    def find(self, type: int, *, subtype: int, label: str | None) -> list[Partition]:
        """Return the partitions that fit; subtype 0xFF: any."""
        ...

    def mark_app_valid_cancel_rollback(self) -> None:
        """End the trial of the running partition well."""
        ...


class Esp32(Protocol):
    """MicroPython's module ``esp32``."""

    Partition: Partitions

    def NVS(self, namespace: str, /) -> "Nvs":
        """Return the non-volatile storage of that name."""
        ...


class Nvs(Protocol):
    """``esp32.NVS``."""

    def get_i32(self, key: str, /) -> int:
        """Return a number; OSError if there is none."""
        ...

    def set_i32(self, key: str, value: int, /) -> None:
        """Set a number, to be committed."""
        ...

    def commit(self) -> None:
        """Write what was set."""
        ...


class Slot(Protocol):
    """One firmware slot; offsets and lengths in bytes from its start.

    Where pages need no erasing it has ``salvage(offset) -> int`` too: where writing goes on in a page that a
    reset left half written.
    """

    size: int
    page_size: int

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes; a double word that faults on ECC reads as whatever the bus returns."""
        ...

    def is_blank(self, offset: int) -> bool:
        """Return True if the page at ``offset`` is wholly erased."""
        ...

    def erase(self, offset: int) -> None:
        """Erase the page at ``offset``. A power cut leaves it undefined. DeviceError FL2 if it failed."""
        ...

    def program(self, offset: int, data: "bytearray | memoryview") -> None:
        """Program erased bytes within one page, and read them back; offset and length are multiples of 16
        (``download.UNIT``). DeviceError FL1 if it failed.
        """
        ...


class Element(Protocol):
    """The crypto element: holds the device key and draws the nonces. Raises DeviceError CE1..CE6.

    ``key_slot``: the private key that is meant where none is named.
    """

    key_slot: int

    def random(self) -> bytes:
        """Return 32 random bytes."""
        ...

    def serial_number(self) -> bytes:
        """Return the 9 bytes SN0..SN8, which are the device id."""
        ...

    def public_key(self, slot: int | None = None) -> bytes:
        """Return x || y (64 bytes) of the private key in ``slot``."""
        ...

    def generate_key(self, slot: int) -> bytes:
        """Make a new private key in ``slot``; return its x || y. The old one is gone."""
        ...

    def attest(self, num_in: bytes, slot: int = 1) -> tuple[bytes, int, bytes]:
        """Return (32 random bytes, Counter0, r || s) by the attestation key over both and ``num_in`` (20)."""
        ...

    def sign(self, digest: bytes, slot: int | None = None) -> bytes:
        """Return r || s (64 bytes) over ``digest`` (32 bytes) by the private key in ``slot``."""
        ...


class Identity(Protocol):
    """The constants of one device. ``group``: its own, of CAMPAIGNs, may be left out."""

    device_id: bytes
    vendor_id: bytes
    class_id: bytes
    genesis_root: "bytes | memoryview"
    max_counter_step: int
    slot_size: int


class Board(Identity, Protocol):
    """Everything of one device that the agent touches."""

    server_url: str
    server_cas: list[bytes]
    certificate: bytes
    store_size: int
    public_key: bytes
    element: Element
    running: Slot
    inactive: Slot

    def boot_report(self) -> BootReport:
        """Return what the bootloader left in RAM (SPEC 4). DeviceError if nothing valid is there."""
        ...

    def health(self) -> bool | None:
        """Return the application's own verdict: healthy, failed, or None while it is not known."""
        ...

    def request(self) -> None:
        """Write the journal record that asks for a trial of the inactive slot. DeviceError JO1..JO3."""
        ...

    def confirm(self) -> None:
        """Write the journal record that makes the running slot the confirmed one. DeviceError JO1."""
        ...

    def reject(self, reason: int) -> None:
        """Write the journal record that ends the trial with ``reason`` (SPEC 6). DeviceError JO1, JO4."""
        ...

    def load_store(self) -> bytes | memoryview | None:
        """Return what was saved last, or None."""
        ...

    def save_store(self, data: "list[bytes | memoryview]") -> "memoryview | None":
        """Replace what was saved by these parts; a power cut leaves the old content or the new. DeviceError.

        Where the store is memory, as flash is, return what was saved where it lies: it stays there until
        the next call has returned.
        """
        ...

    def ticks_ms(self) -> int:
        """Return milliseconds of a clock that never goes back."""
        ...

    def random_below(self, limit: int) -> int:
        """Return an integer from 0 to ``limit`` - 1, for jitter; not for keys."""
        ...

    def reset(self) -> None:
        """Reset the chip. May return where the chip is emulated."""
        ...


class Reader(Protocol):
    """The body of one response."""

    length: int

    def readinto(self, buf: memoryview) -> int:
        """Fill a part of ``buf``; return how many bytes, 0 at the end. TransportError."""
        ...

    def close(self) -> None:
        """Give the connection up unless the body was read to its end."""
        ...


class Stream(Protocol):
    """A connected, authenticated byte stream; every failure is an OSError."""

    def write(self, data: bytes | memoryview) -> None:
        """Send all of ``data``."""
        ...

    def readinto(self, buf: memoryview) -> int:
        """Receive at least one byte into ``buf`` and return how many; 0 when the peer has closed."""
        ...

    def close(self) -> None:
        """Close; never raises."""
        ...


class Transport(Protocol):
    """Requests to the one server of this device, over mutual TLS."""

    def request(
        self, method: str, path: str, headers: dict[str, str], body: bytes = b""
    ) -> tuple[int, dict[str, str], Reader]:
        """Send one request; return status, headers (lower-case names) and the body's reader.

        Raises:
            TransportError: the server cannot be reached, is not ours, or broke off.
            DeviceError: the crypto element did not sign.
        """
        ...

    def close(self) -> None:
        """Close what is kept open between requests; the next request opens it again."""
        ...


class Schedule(Protocol):
    """When updates are welcome; see ``fota_agent.schedule.Schedule``."""

    def may_download(self, manifest: Manifest) -> bool:
        """Return True if the image may be fetched now."""
        ...

    def may_install(self, manifest: Manifest, time: int | None) -> bool:
        """Return True if the image may be started at ``time``, s since 1970, None = not known."""
        ...


class Hooks(Protocol):
    """What the application may decide; see ``fota_agent.Hooks`` for the defaults."""

    def health_check(self) -> bool | None:
        """Return healthy, failed, or None while it is not known."""
        ...

    def available(self, manifest: object) -> None:
        """Hear of an update that is not on the device yet."""
        ...

    def may_download(self, manifest: object) -> bool:
        """Return True if the image may be fetched now."""
        ...

    def may_install(self, manifest: object) -> bool:
        """Return True if the new image may be requested and the chip reset now."""
        ...

    def progress(self, done: int, total: int) -> None:
        """Hear of bytes written so far."""
        ...

    def before_reboot(self) -> None:
        """Bring the application to rest."""
        ...

    def log(self, line: str) -> None:
        """Hear of one thing that happened."""
        ...
