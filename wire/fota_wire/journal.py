"""Boot journal (SPEC 3): records, the scan of its two pages, and the rules of the application's side.

Pure: reading and programming flash is the caller's. The twin of the bootloader's ``core/journal.c``.
"""

import binascii
import struct

from fota_wire import status
from fota_wire.errors import VerifyError
from fota_wire.layout import SLOT_A, SLOT_B, SLOT_NONE

RECORD_SIZE = 16
PAGE_SIZE = 2048  # of the journal, on every chip: the begin of a page of flash that may be larger
RECORDS_PER_PAGE = PAGE_SIZE // RECORD_SIZE
SEQUENCE_MAX = 0xFFFFFF  # more than the flash can take

NONE, STAGED, TRIAL, REJECTED, REVERTED = 0x0F, 0x33, 0x3C, 0x55, 0x66
STATE_NAMES = {NONE: "none", STAGED: "staged", TRIAL: "trial", REJECTED: "rejected", REVERTED: "reverted"}

_LAYOUT = "<IBBBBI"
_BLANK = b"\xff" * RECORD_SIZE
_SLOTS = (SLOT_A, SLOT_B, SLOT_NONE)


class Record:
    """One record: the whole state. ``confirmed`` and ``candidate`` are slots (:mod:`fota_wire.layout`),
    ``state`` is the candidate's, ``tries`` the boots left to a trial, ``reason`` a status code or 0.
    """

    def __init__(
        self, sequence: int, confirmed: int, candidate: int, state: int, tries: int = 0, reason: int = 0
    ) -> None:
        self.sequence = sequence
        self.confirmed = confirmed
        self.candidate = candidate
        self.state = state
        self.tries = tries
        self.reason = reason

    def __eq__(self, other: object) -> bool:
        """Compare all fields."""
        return isinstance(other, Record) and pack(self) == pack(other)

    def __hash__(self) -> int:
        """Hash the sequence number."""
        return hash(self.sequence)

    def __repr__(self) -> str:
        """Show the fields as numbers."""
        return (
            f"Record({self.sequence}, {self.confirmed:#x}, {self.candidate:#x},"
            f" {self.state:#x}, {self.tries}, {self.reason:#x})"
        )

    def in_trial(self, running: int) -> bool:
        """Tell whether the boot of slot ``running`` is a trial."""
        return self.state == TRIAL and self.candidate == running


EMPTY = Record(0, SLOT_NONE, SLOT_NONE, NONE)
"""The state of a journal without a valid record."""


def pack(record: Record) -> bytes:
    """Return the 16 bytes of a record, CRC included."""
    body = struct.pack(
        _LAYOUT,
        record.sequence,
        record.confirmed,
        record.candidate,
        record.state,
        record.tries,
        record.reason,
    )
    return body + struct.pack("<I", binascii.crc32(body))


def unpack(cell: "bytes | bytearray | memoryview") -> "Record | None":
    """Return the record in 16 bytes, or None if it is absent in the sense of SPEC 3."""
    if len(cell) != RECORD_SIZE or struct.unpack("<I", cell[12:])[0] != binascii.crc32(cell[:12]):
        return None
    record = Record(*struct.unpack(_LAYOUT, cell[:12]))
    if not 1 <= record.sequence <= SEQUENCE_MAX:
        return None
    if record.confirmed not in _SLOTS or record.candidate not in _SLOTS or record.state not in STATE_NAMES:
        return None
    if record.tries and record.state != TRIAL:
        return None
    if 0 < record.reason < 0x4100_0000:  # no status code begins below "A": no word of a record is an address
        return None
    if record.state != NONE and record.candidate in (SLOT_NONE, record.confirmed):
        return None
    return record


def scan(
    page0: "bytes | bytearray | memoryview", page1: "bytes | bytearray | memoryview"
) -> "tuple[Record, int, int]":
    """Return (state, page, cell): the valid record with the highest sequence number (or EMPTY), and where
    the next record goes. **Cell 0 means: erase that page first**; any other cell is blank.

    The reader puts zeros in place of a double word that faults on ECC: not blank, and no valid record.
    """
    state, active = EMPTY, 1
    for number, page in enumerate((page0, page1)):
        for cell in range(RECORDS_PER_PAGE):
            record = unpack(page[cell * RECORD_SIZE : (cell + 1) * RECORD_SIZE])
            if record is not None and record.sequence > state.sequence:
                state, active = record, number
    if state.sequence == 0:
        return state, 0, 0
    cell = _first_free((page0, page1)[active])
    return (state, active, cell) if cell < RECORDS_PER_PAGE else (state, 1 - active, 0)


def request(state: Record, running: int, slot: int) -> Record:
    """Return the record by which the application in slot ``running`` asks for ``slot``.

    Raises:
        VerifyError: JO2, its own boot is a trial; JO3, ``slot`` is the running one.
    """
    if state.in_trial(running):
        raise VerifyError("a trial is running: confirm or reject it first", status.JO2)
    if slot == running or slot not in (SLOT_A, SLOT_B):
        raise VerifyError("the running slot cannot be requested", status.JO3)
    return Record(_next(state), running, slot, STAGED)


def confirm(state: Record, running: int) -> "Record | None":
    """Return the record by which the application in slot ``running`` confirms itself; None if it holds
    already.
    """
    if state.sequence and state.confirmed == running and state.candidate == SLOT_NONE and state.state == NONE:
        return None
    return Record(_next(state), running, SLOT_NONE, NONE)


def reject(state: Record, running: int, reason: int) -> Record:
    """Return the record by which the application in slot ``running`` ends its own trial; ``reason`` a status
    code.

    Raises:
        VerifyError: JO4, its boot is not a trial.
    """
    if not state.in_trial(running):
        raise VerifyError("no trial is running", status.JO4)
    return Record(_next(state), state.confirmed, running, TRIAL, 0, reason)


def _next(state: Record) -> int:
    if state.sequence >= SEQUENCE_MAX:
        raise VerifyError("the journal's sequence numbers are used up", status.JO1)
    return state.sequence + 1


def _first_free(page: "bytes | bytearray | memoryview") -> int:
    """Return the number of the first cell after the last one that is not blank."""
    cell = RECORDS_PER_PAGE
    while cell and page[(cell - 1) * RECORD_SIZE : cell * RECORD_SIZE] == _BLANK:
        cell -= 1
    return cell
