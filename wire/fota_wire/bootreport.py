"""Boot report (SPEC 4): what the bootloader leaves in RAM for the application, 128 bytes."""

import binascii
import struct

from fota_wire.errors import FormatError
from fota_wire.version import format_version

SIZE = 128
MAGIC = 0x52504246
_LAYOUT = "<IHH8BBBHIIIIIIII32sIIII24x"


class BootReport:
    """Fields of SPEC 4.

    ``running``, ``confirmed``, ``candidate`` slots; ``state`` of the candidate (:mod:`fota_wire.journal`);
    ``tries`` left; ``trial`` bool; ``reset_cause``; ``version`` (major, minor, revision, build);
    ``sec_cnt``; ``floor``; ``epoch``; ``reason`` of the journal's record; ``status_a``, ``status_b``,
    ``status_element`` codes; ``image_hash`` 32 bytes; ``hash_us``, ``element_us``; ``sequence`` of the
    journal; ``store``: on an ESP32 the offset in flash of the partition with the journal, else 0.
    """

    def __init__(self) -> None:
        self.running = self.confirmed = self.candidate = 0xC3
        self.state = 0x0F
        self.tries = 0
        self.trial = False
        self.reset_cause = 0
        self.version = (0, 0, 0, 0)
        self.sec_cnt = self.floor = self.epoch = self.reason = 0
        self.status_a = self.status_b = self.status_element = 0
        self.image_hash = bytes(32)
        self.hash_us = self.element_us = 0
        self.sequence = self.store = 0

    @property
    def version_text(self) -> str:
        """The version like ``1.2.3`` or ``1.2.3+4``."""
        return format_version(self.version)


def unpack(raw: bytes) -> BootReport:
    """Return the report in 128 bytes.

    Raises:
        FormatError: magic, format, length or CRC is wrong: no bootloader of ours ran.
    """
    if len(raw) != SIZE or struct.unpack("<I", raw[124:])[0] != binascii.crc32(raw[:124]):
        raise FormatError("boot report: missing or damaged", "bootreport")
    values = struct.unpack(_LAYOUT, raw[:124])
    if values[:3] != (MAGIC, 1, SIZE):
        raise FormatError("boot report: magic, format or length is not ours", "bootreport")
    report = BootReport()
    report.running, report.confirmed, report.candidate, report.state, report.tries = values[3:8]
    report.trial, report.reset_cause = values[8] == 1, values[9]
    report.version = values[11:15]
    report.sec_cnt, report.floor, report.epoch, report.reason = values[15:19]
    report.status_a, report.status_b, report.status_element, report.image_hash = values[19:23]
    report.hash_us, report.element_us, report.sequence, report.store = values[23:27]
    return report


def pack(report: BootReport) -> bytes:
    """Return the 128 bytes of a report, CRC included."""
    body = struct.pack(
        _LAYOUT,
        *(MAGIC, 1, SIZE, report.running, report.confirmed, report.candidate, report.state, report.tries),
        *(1 if report.trial else 0, report.reset_cause, 0),
        *report.version,
        *(report.sec_cnt, report.floor, report.epoch, report.reason),
        *(report.status_a, report.status_b, report.status_element, report.image_hash),
        *(report.hash_us, report.element_us, report.sequence, report.store),
    )
    return body + struct.pack("<I", binascii.crc32(body))
