"""From the network into a slot: fixed buffer, hard size limit, minimum rate; whatever arrived is kept.

What is promised: an image arrives over a link of 256 bytes per second, and over one that breaks after every
KiB of it. What is enforced is less, for records, heads and repetitions take their share.
"""

import struct

from fota_wire.errors import FotaError, TransportError, VerifyError
from fota_wire.image import CHIP, CLASS_ID, ESPRESSIF, MAGIC, PROTECTED_MAGIC, SEC_CNT
from fota_wire.layout import HEADER_SIZE
from fota_wire.status import IM1, IM3, IM4, IM13

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.seams import Clock, Reader, Slot, Transport
    from fota_wire.suit import Manifest

MIN_RATE = 128  # bytes per second, over each window
WINDOW_MS = 180_000  # 16 KiB may come at once, after 64 s at the rate that is promised: TLS records
FIXED_MS = 120_000  # on top of what the size takes at the minimum rate
UNIT = 16  # bytes: the least that every slot can program on its own
WIDE, LEAST = 32_768, 256  # a link that carries WIDE between two breaks is asked for all at once
MAX_PROTECTED = 1024


class Pace:
    """A clock for one transfer of ``size`` bytes: slow retrieval ends here instead of lasting for ever.

    Between ``pause`` and ``resume`` it stands still: that time is the application's, not the network's.
    """

    def __init__(self, now_ms: "Clock", size: int) -> None:
        self._now_ms = now_ms
        self._window = self._start = self._paused = now_ms()
        self._window_bytes = 0
        self._deadline_ms = FIXED_MS + size * 1000 // MIN_RATE

    def pause(self) -> None:
        """Stop the clock."""
        self._paused = self._now_ms()

    def resume(self) -> None:
        """Go on counting."""
        gap = self._now_ms() - self._paused
        self._window += gap
        self._start += gap

    def count(self, received: int) -> None:
        """Account for ``received`` more bytes. TransportError if the transfer is slower than allowed."""
        now = self._now_ms()
        self._window_bytes += received
        if now - self._start > self._deadline_ms:
            raise TransportError(f"slow retrieval: not done within {self._deadline_ms // 1000} s")
        if now - self._window >= WINDOW_MS:
            if self._window_bytes * 1000 < MIN_RATE * (now - self._window):
                raise TransportError(f"slow retrieval: below {MIN_RATE} bytes per second")
            self._window, self._window_bytes = now, 0


def read_body(reader: "Reader", limit: int, now_ms: "Clock", buffer: "bytes | bytearray" = b"") -> memoryview:
    """Return a whole body of at most ``limit`` bytes, in ``buffer`` if it has room. TransportError: longer,
    broken off, or too slow.
    """
    if reader.length > limit:
        reader.close()
        raise TransportError(f"response: body of {reader.length} bytes, more than {limit}")
    view = memoryview(buffer if reader.length <= len(buffer) else bytearray(reader.length))[: reader.length]
    pace = Pace(now_ms, reader.length)
    at = 0
    while at < len(view):
        count = reader.readinto(view[at:])
        at += count
        try:
            pace.count(count)
        except TransportError:
            reader.close()
            raise
    return view


class Download:
    """One image on its way into ``slot``; ``offset`` is where the next byte goes, a multiple of ``UNIT``
    until the end. ``buffer`` has the size of a page.

    A link that breaks often is asked for less at once: of a TLS record nothing can be read before its end,
    and servers put 16 KiB into one.

    What fills the pages is a ``Reader``. So an encrypted or delta payload is a Reader around this one (and
    the running slot), made where the answer is opened; limits, resume and the digest of the result stay.
    """

    def __init__(
        self, manifest: "Manifest", slot: "Slot", offset: int, buffer: memoryview, now_ms: "Clock"
    ) -> None:
        self.offset = offset
        self._manifest = manifest
        self._slot = slot
        self._buffer = buffer
        self._now_ms = now_ms
        self._reader: Reader | None = None
        self._pace: Pace | None = None
        self._skip = 0  # bytes at the start of the body that lie in the slot already
        self.retry_after = ""  # what the server said with a refusal
        self._ask = WIDE  # how much at once: a power of two, WIDE stands for all
        self._end = 0  # of what was asked for
        self._since = offset  # where it went on after the last break

    def goes_on(self, manifest: "Manifest", offset: int) -> bool:
        """Tell whether this is the download of ``manifest`` from ``offset`` on."""
        return self.offset == offset and self._manifest.manifest_digest == manifest.manifest_digest

    def step(self, transport: "Transport") -> bool:
        """Ask for what is missing, or fetch and write one page of it; return True when all is written.

        After a failure ``offset`` says how far it came; the next step goes on from there.

        Raises:
            TransportError: network, server or pace; its ``code`` is the HTTP status where there is one.
            VerifyError: the server offers another length than the manifest's.
            DeviceError: the flash failed.
        """
        if self.offset >= self._manifest.size:
            return True
        try:
            if self._reader is None:
                self._open(transport)
            else:
                self._page(self._reader)
        except FotaError:
            self.close()
            self._narrow()
            raise
        return self.offset >= self._manifest.size

    def close(self) -> None:
        """Give the answer up unless it was read to its end."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _narrow(self) -> None:
        """The link broke: ask for less if it carried little since the last time."""
        got, self._since, self._pace = self.offset - self._since, self.offset, None
        if got >= WIDE:
            return
        ask, limit = (WIDE, got) if got else (self._ask // 4, self._manifest.size - self.offset)
        while ask > limit:
            ask //= 2
        self._ask = max(LEAST, ask)

    def _open(self, transport: "Transport") -> None:
        size, self.retry_after = self._manifest.size, ""
        self._end = size if self._ask >= WIDE else min(size, self.offset + self._ask)
        headers = {"Accept": "application/octet-stream"}
        if self.offset or self._end < size:
            last = self._end - 1 if self._end < size else ""
            headers["Range"] = f"bytes={self.offset}-{last}"
            headers["If-Range"] = f'"{self._manifest.digest.hex()}"'
        status, answer, self._reader = transport.request("GET", "/v1/" + self._manifest.uri, headers)
        self._skip = self._check_answer(status, answer, self._reader.length)
        if self._pace is None:
            self._pace = Pace(self._now_ms, size)

    def _check_answer(self, status: int, headers: "dict[str, str]", length: int) -> int:
        """Return how many bytes at the start of the body lie in the slot already."""
        size = self._manifest.size
        if status == 206 and (self.offset or self._end < size):
            if headers.get("content-range", "") != f"bytes {self.offset}-{self._end - 1}/{size}":
                raise VerifyError(
                    f"payload: another range than asked for: {headers.get('content-range')}", "range"
                )
            expected, skip = self._end - self.offset, 0
        elif status == 200:  # the server does not do ranges, or holds something else: the digest tells
            expected, skip, self._end = size, self.offset, size
        else:
            self.retry_after = headers.get("retry-after", "")
            raise TransportError(f"payload: server answers {status}", status)
        if length != expected:
            raise VerifyError(f"payload: {length} bytes offered, {expected} expected", "length")
        return skip

    def _page(self, reader: "Reader") -> None:
        """Fetch the rest of a page and write it; what lies in the slot already is passed over."""
        page_size = len(self._buffer)
        pace = self._pace
        if pace is None:
            raise RuntimeError("a page before the answer")
        pace.resume()
        if self._skip:
            want = min(self._skip, page_size)
            got, error = self._fill(reader, want, pace)
            self._skip -= got
        else:
            want = min(page_size - self.offset % page_size, self._end - self.offset)
            got, error = self._fill(reader, want, pace)
            self._write(got if got == want else got // UNIT * UNIT)
        if error is not None:
            raise error
        pace.pause()
        if self.offset == self._end < self._manifest.size:  # one more, and twice as much
            self._reader = None
            self._ask = min(WIDE, 2 * self._ask)

    def _write(self, count: int) -> None:
        """Write so much of the buffer; what is left of a unit at the image's end is filled up."""
        if count:
            whole = -(-count // UNIT) * UNIT
            self._buffer[count:whole] = b"\xff" * (whole - count)
            self._slot.program(self.offset, self._buffer[:whole])
            self.offset += count

    def _fill(self, reader: "Reader", want: int, pace: Pace) -> "tuple[int, TransportError | None]":
        """Return how many bytes of ``want`` came, and why not all."""
        got = 0
        try:
            while got < want:
                count = reader.readinto(self._buffer[got:want])
                if count == 0:
                    return got, TransportError("payload: broke off")
                got += count
                pace.count(count)
        except TransportError as exc:
            return got, exc
        return got, None


def erase(slot: "Slot", size: int) -> None:
    """Erase the pages of the first ``size`` bytes that are not blank yet. DeviceError FL2."""
    for offset in range(0, size, slot.page_size):
        if not slot.is_blank(offset):
            slot.erase(offset)


def resume_offset(slot: "Slot", size: int) -> int:
    """Return where a write that a reset ended goes on.

    Pages were written in order into erased flash, so all before the last one with content are complete;
    that one may be torn, and is erased, unless the slot can ``salvage`` a part of it. DeviceError FL2.
    """
    last = (size - 1) // slot.page_size * slot.page_size
    for offset in range(last, -1, -slot.page_size):
        if not slot.is_blank(offset):
            salvage = getattr(slot, "salvage", None)
            if salvage is not None:
                return int(salvage(offset))
            slot.erase(offset)
            return offset
    return 0


def digest_of(slot: "Slot", size: int, buffer: memoryview) -> bytes:
    """Return the SHA-256 of the first ``size`` bytes of ``slot``."""
    import hashlib

    sha = hashlib.sha256()
    for offset in range(0, size, len(buffer)):
        sha.update(slot.read(offset, min(len(buffer), size - offset)))
    return sha.digest()


def inspect(slot: "Slot", size: int) -> "tuple[int, bytes]":
    """Return (SEC_CNT, class UUID) of the image in the first ``size`` bytes of ``slot`` (SPEC 2).

    Only what decides whether a trial makes sense; the bootloader checks all of it.

    Raises:
        VerifyError: IM1, IM3 or IM4; IM13, it names another chip than the slot's, or is an ESP32's.
    """
    magic, _, header_size, protected_size, payload_size = struct.unpack("<IIHHI", slot.read(0, 16))
    if magic & 0xFF == ESPRESSIF[0]:
        raise VerifyError("image is for an ESP32, not for this chip", IM13)
    if magic != MAGIC:
        raise VerifyError("not a firmware image: magic is missing", IM1)
    start = header_size + payload_size
    if header_size != HEADER_SIZE or start + protected_size > size or not 4 < protected_size <= MAX_PROTECTED:
        raise VerifyError("image sizes do not fit", IM3)
    area = slot.read(start, protected_size)
    if struct.unpack_from("<HH", area, 0) != (PROTECTED_MAGIC, protected_size):
        raise VerifyError("protected TLV area is missing", IM4)
    found: dict[int, bytes] = {}
    at = 4
    while at + 4 <= protected_size:
        kind, length = struct.unpack_from("<HH", area, at)
        value = area[at + 4 : at + 4 + length]
        if len(value) != length or (kind in (SEC_CNT, CLASS_ID) and kind in found):
            raise VerifyError("protected TLV area is malformed", IM4)
        found[kind] = value
        at += 4 + length
    if at != protected_size or len(found.get(SEC_CNT, b"")) != 4 or len(found.get(CLASS_ID, b"")) != 16:
        raise VerifyError("image has no security counter or class", IM4)
    chip = getattr(slot, "chip", "")  # of a board of one's own: not known
    said = found.get(CHIP, b"")
    if chip and said and said != chip.encode():
        raise VerifyError(f"image is for chip {repr(bytes(said[:16]))[1:]}, not {chip}", IM13)
    return struct.unpack("<I", found[SEC_CNT])[0], found[CLASS_ID]
