"""The boot journal in C against its Python twin, on a simulated flash that can be cut and torn."""

import ctypes
import itertools
import random
from typing import Any

import pytest
from core_structs import Record as CRecord

from fota_wire import journal, status
from fota_wire.errors import VerifyError

OK, FL1, FL3, JO1 = 0x5A3C96E1, 0x464C0001, 0x464C0003, 0x4A4F0001
A, B, NONE = 0x5A, 0xA5, 0xC3
PAGE = 2048
REASONS = (0, 1, 0x40FFFFFF, 0x41000000, 0xFFFFFFFF)
READ = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32)
ERASE = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32)


class FlashTable(ctypes.Structure):
    _fields_ = [
        ("context", ctypes.c_void_p),
        ("page_size", ctypes.c_uint32),
        ("read", READ),
        ("program", READ),
        ("erase", ERASE),
    ]


class CJournal(ctypes.Structure):
    _fields_ = [
        ("flash", ctypes.c_void_p),
        ("record", CRecord),
        ("active", ctypes.c_uint32),
        ("next", ctypes.c_uint32),
    ]


class SimFlash:
    """Two pages with the double-word rule, ECC marks, and a power cut at the n-th operation."""

    def __init__(self, content: bytes = b"\xff" * 2 * PAGE, torn: frozenset[int] = frozenset()) -> None:
        self.cells, self.torn = bytearray(content), set(torn)
        self.operations: list[tuple[str, int]] = []
        self.cut_at = 0
        self.dice = random.Random(0)
        self.off = False
        self.table = FlashTable(None, PAGE, READ(self._read), READ(self._program), ERASE(self._erase))

    def _read(self, _c: Any, offset: int, out: int, n: int) -> int:
        ctypes.memmove(out, bytes(self.cells[offset : offset + n]), n)
        return FL3 if any(w in self.torn for w in range(offset, offset + n, 8)) else OK

    def _cut(self, kind: str, offset: int) -> bool:
        self.operations.append((kind, offset))
        self.off = self.off or len(self.operations) == self.cut_at
        return self.off

    def _program(self, _c: Any, offset: int, data: int, n: int) -> int:
        raw = ctypes.string_at(data, n)
        for i in range(0, n, 8):
            was_off, at = self.off, offset + i
            if self._cut("program", at):
                if not was_off and self.dice.random() < 0.8:  # torn: some bits cleared
                    self.cells[at : at + 8] = bytes(b | self.dice.randrange(256) for b in raw[i : i + 8])
                    self.torn.add(at)
                return FL1
            if self.cells[at : at + 8] != b"\xff" * 8 or at in self.torn:
                return FL1
            self.cells[at : at + 8] = raw[i : i + 8]
        return OK

    def _erase(self, _c: Any, offset: int) -> int:
        was_off = self.off
        if self._cut("erase", offset):
            for at in range(offset, offset + PAGE, 8) if not was_off else ():
                choice = self.dice.randrange(3)
                if choice == 1:
                    self.cells[at : at + 8] = b"\xff" * 8
                elif choice == 2:
                    self.cells[at : at + 8] = self.dice.randbytes(8)
                    self.torn.add(at)
            return FL1
        self.cells[offset : offset + PAGE] = b"\xff" * PAGE
        self.torn = {w for w in self.torn if not offset <= w < offset + PAGE}
        return OK

    def pages(self) -> tuple[bytes, bytes]:
        """As a reader sees them: zeros for what faults."""
        seen = bytearray(self.cells)
        for at in self.torn:
            seen[at : at + 8] = bytes(8)
        return bytes(seen[:PAGE]), bytes(seen[PAGE:])


def opened(core: ctypes.CDLL, flash: SimFlash) -> CJournal:
    found = CJournal()
    core.fota_journal_open(ctypes.byref(found), ctypes.byref(flash.table))
    return found


def append(core: ctypes.CDLL, flash: SimFlash, record: journal.Record) -> int:
    core.fota_journal_append.restype = ctypes.c_uint32
    c = CRecord(0, record.confirmed, record.candidate, record.state, record.tries, record.reason, 0)
    return core.fota_journal_append(ctypes.byref(opened(core, flash)), ctypes.byref(c))


def as_python(r: CRecord) -> journal.Record:
    return journal.Record(r.sequence, r.confirmed, r.candidate, r.state, r.tries, r.reason)


def some_record(dice: random.Random) -> journal.Record:
    confirmed, candidate = dice.choice([(A, B), (B, A)])
    state = dice.choice([journal.STAGED, journal.TRIAL, journal.REJECTED, journal.REVERTED])
    tries = dice.randrange(4) if state == journal.TRIAL else 0
    return journal.Record(0, confirmed, candidate, state, tries, dice.choice([0, status.PO4]))


def assert_same_view(core: ctypes.CDLL, flash: SimFlash) -> None:
    state, page, cell = journal.scan(*flash.pages())
    found = opened(core, flash)
    assert as_python(found.record) == state
    if found.next == PAGE:
        assert cell == 0
        assert page == (PAGE - found.active) // PAGE
    else:
        assert (page, cell) == (found.active // PAGE, found.next // 16)


SLOTS = (A, B, NONE, 0, 0xFF)
STATES = (journal.NONE, journal.STAGED, journal.TRIAL, journal.REJECTED, journal.REVERTED, 0x3D)


def test_every_record_of_the_table_s_edges_is_one_for_both_or_absent_for_both(core: ctypes.CDLL) -> None:
    flash, taken = SimFlash(), 0
    shapes = itertools.product((0, 1, 0xFFFFFF, 0x1000000), SLOTS, SLOTS, STATES, (0, 1, 255), REASONS)
    for shape in shapes:
        flash.cells[:16] = journal.pack(journal.Record(*shape))
        found = as_python(opened(core, flash).record)
        assert found == (journal.unpack(flash.cells[:16]) or journal.EMPTY), shape
        taken += found != journal.EMPTY
        # a state is always one of a slot, and not of the confirmed one
        pending = found.state != journal.NONE
        assert not pending or found.candidate in {A, B} - {found.confirmed}, shape
    # confirmed and candidate: 3 * 3 without a state, 4 with one, which a trial has in three numbers of tries
    assert taken == 2 * 3 * (9 + 4 * (3 + 3))


def test_thousand_records_are_found_alike_and_pages_wear_evenly(core: ctypes.CDLL) -> None:
    flash, dice = SimFlash(), random.Random(7)
    for number in range(1, 1001):
        record = some_record(dice)
        assert append(core, flash, record) == OK
        assert_same_view(core, flash)
        record.sequence = number
        assert as_python(opened(core, flash).record) == record
    erases = [at for kind, at in flash.operations if kind == "erase"]
    assert erases == ([0, PAGE] * 4)[: len(erases)]
    assert len(erases) == 8


def test_record_bytes_are_those_of_python(core: ctypes.CDLL) -> None:
    flash = SimFlash()
    assert append(core, flash, journal.Record(0, A, B, journal.TRIAL, 2, status.AP1)) == OK
    assert bytes(flash.cells[:16]) == journal.pack(journal.Record(1, A, B, journal.TRIAL, 2, status.AP1))


@pytest.mark.parametrize("seed", range(40))
def test_any_rubbish_is_read_alike(core: ctypes.CDLL, seed: int) -> None:
    dice = random.Random(seed)
    flash = SimFlash()
    for cell in range(256):
        kind = dice.randrange(6)
        raw = journal.pack(some_record(dice))
        if kind == 0:
            record = some_record(dice)
            record.sequence = dice.randrange(1, 300)
            raw = journal.pack(record)
        elif kind == 1:
            raw = dice.randbytes(16)
        elif kind < 4:
            raw = b"\xff" * 16
        elif kind == 4:
            fields = [
                dice.choice(x)
                for x in ((0, 5, 0xFFFFFFFF), (A, B, NONE, 0), (A, B, NONE, 1), (0x0F, 0x33, 0x3C, 9), (0, 1))
            ]
            raw = journal.pack(journal.Record(*fields))
        flash.cells[16 * cell : 16 * cell + 16] = raw
        if dice.random() < 0.1:
            flash.torn.add(16 * cell + dice.choice((0, 8)))
    assert_same_view(core, flash)


def filled(count: int) -> SimFlash:
    """Pages as they are after ``count`` records."""
    pages = [bytearray(b"\xff" * PAGE), bytearray(b"\xff" * PAGE)]
    for number in range(count):
        page, cell = number // 128 % 2, number % 128
        if cell == 0:
            pages[page][:] = b"\xff" * PAGE
        pages[page][16 * cell : 16 * cell + 16] = journal.pack(
            journal.Record(number + 1, A, NONE, journal.NONE)
        )
    return SimFlash(bytes(pages[0] + pages[1]))


NEW = journal.Record(0, A, B, journal.STAGED)


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 255, 256])
@pytest.mark.parametrize("seed", range(25))
def test_append_cut_anywhere_keeps_old_or_new(core: ctypes.CDLL, count: int, seed: int) -> None:
    """Cuts at every operation of an append, torn, then once more in the append that follows."""
    before = filled(count)
    clean = SimFlash(bytes(before.cells))
    assert append(core, clean, NEW) == OK
    old = as_python(opened(core, before).record)
    new = journal.Record(old.sequence + 1, A, B, journal.STAGED)
    for cut_at in range(1, len(clean.operations) + 1):
        flash = SimFlash(bytes(before.cells))
        flash.cut_at, flash.dice = cut_at, random.Random(seed)
        assert append(core, flash, NEW) == JO1
        assert flash.off
        again = SimFlash(bytes(flash.cells), frozenset(flash.torn))
        assert as_python(opened(core, again).record) in (old, new)
        again.cut_at, again.dice = seed % 3 + 1, random.Random(seed + 1)
        append(core, again, NEW)
        last = SimFlash(bytes(again.cells), frozenset(again.torn))
        assert as_python(opened(core, last).record).sequence >= old.sequence
        assert append(core, last, NEW) == OK
        assert as_python(opened(core, last).record).state == journal.STAGED
        assert_same_view(core, last)


def test_cell_is_never_written_twice(core: ctypes.CDLL) -> None:
    flash = filled(3)
    flash.cells[48:56] = bytes(8)  # a torn first half: cell 3 is used up
    assert append(core, flash, NEW) == OK
    assert [at for kind, at in flash.operations if kind == "program"] == [64, 72]


@pytest.mark.parametrize("seed", range(200))
def test_application_rules_are_those_of_python(core: ctypes.CDLL, seed: int) -> None:
    dice = random.Random(seed)
    state = some_record(dice) if dice.random() < 0.8 else journal.Record(0, A, NONE, journal.NONE)
    state.sequence = dice.choice((1, 5))
    running, slot = dice.choice((A, B)), dice.choice((A, B))
    c_state = CRecord(
        state.sequence, state.confirmed, state.candidate, state.state, state.tries, state.reason, 0
    )
    out, needed = CRecord(), ctypes.c_bool()
    for name in ("request", "reject"):
        getattr(core, f"fota_record_{name}").restype = ctypes.c_uint32

    def same(code: int, rule: Any, *arguments: Any) -> None:
        refusal = None
        try:
            expected = rule(state, *arguments)
        except VerifyError as exc:
            refusal = exc.code
        assert code == (OK if refusal is None else refusal)
        if refusal is not None:
            return
        record = as_python(out)
        record.sequence = state.sequence + 1
        assert record == expected

    reference = ctypes.byref(c_state)
    same(
        core.fota_record_request(reference, running, slot, ctypes.byref(out)), journal.request, running, slot
    )
    same(
        core.fota_record_reject(reference, running, status.AP1, ctypes.byref(out)),
        journal.reject,
        running,
        status.AP1,
    )
    core.fota_record_confirm(reference, running, ctypes.byref(out), ctypes.byref(needed))
    expected = journal.confirm(state, running)
    assert needed.value == (expected is not None)
    if expected is not None:
        same(OK, journal.confirm, running)


@pytest.mark.parametrize(
    ("reason", "valid"),
    [(0, True), (1, False), (0x2000043F, False), (0x40FFFFFF, False), (0x41000000, True), (0xFFFFFFFF, True)],
)
def test_reason_that_could_be_an_address_of_code_is_no_record(
    core: ctypes.CDLL, reason: int, valid: bool
) -> None:
    """SPEC 3, for both readers: a skipped instruction may take such a word for a return address."""
    record = journal.Record(1, A, B, journal.REVERTED, 0, reason)
    flash = SimFlash()
    flash.cells[0:16] = journal.pack(record)
    assert_same_view(core, flash)
    assert (as_python(opened(core, flash).record) == record) is valid
