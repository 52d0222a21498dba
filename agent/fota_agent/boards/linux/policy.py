"""What to boot: the pure part of the launcher, the twin of the bootloader's ``core/policy.c``."""

from typing import NamedTuple

from fota_wire import journal, layout, status

VERIFY, WRITE, BOOT, HALT = "verify", "write", "boot", "halt"


class Step(NamedTuple):
    """What to do next. ``record``: to be written, for WRITE and for a BOOT that comes with one; its sequence
    number is the state's. ``status``: why, for HALT.
    """

    action: str
    slot: int = layout.SLOT_NONE
    record: journal.Record | None = None
    trial: bool = False
    status: int = 0


def is_refusal(code: int) -> bool:
    """Tell whether a status speaks against an image; others are faults of this machine."""
    return status.STATUS.get(code, ("",))[0][:2] in ("IM", "PO", "FL") if code != status.OK else False


def next_step(state: journal.Record, verdicts: dict[int, int], tries: int, writable: bool = True) -> Step:
    """Return the next step. ``verdicts``: {slot: status} of the slots that were looked at in this boot;
    ``tries`` of a new trial; ``writable``: False once a record could not be written in this boot.
    """
    for code in verdicts.values():
        if code != status.OK and not is_refusal(code):
            return Step(HALT, status=code)
    pending = state.candidate != layout.SLOT_NONE and state.state in (journal.STAGED, journal.TRIAL)
    if pending and writable:
        return _of_candidate(state, verdicts.get(state.candidate), tries)
    return _of_confirmed(state, verdicts, writable)


def _of_candidate(state: journal.Record, verdict: int | None, tries: int) -> Step:
    staged = state.state == journal.STAGED
    left = tries if staged else state.tries
    if left == 0:
        return Step(WRITE, record=_ended(state, journal.REVERTED, state.reason or status.PO4))
    if verdict is None:
        return Step(VERIFY, state.candidate)
    if verdict == status.OK:
        record = _record(state, state.confirmed, state.candidate, journal.TRIAL, left - 1, state.reason)
        return Step(BOOT, state.candidate, record, trial=True)
    return Step(WRITE, record=_ended(state, journal.REJECTED if staged else journal.REVERTED, verdict))


def _of_confirmed(state: journal.Record, verdicts: dict[int, int], writable: bool) -> Step:
    first = state.confirmed == layout.SLOT_NONE
    slot = layout.SLOT_A if first else state.confirmed
    if is_refusal(verdicts.get(slot, status.OK)):
        slot = layout.other_slot(slot)
    verdict = verdicts.get(slot)
    if verdict is None:
        return Step(VERIFY, slot)
    if verdict != status.OK:
        return Step(HALT, status=status.PO3)
    record = _record(state, slot, layout.SLOT_NONE, journal.NONE, 0, 0) if first and writable else None
    return Step(BOOT, slot, record)


def _ended(state: journal.Record, kind: int, reason: int) -> journal.Record:
    return _record(state, state.confirmed, state.candidate, kind, 0, reason)


def _record(
    state: journal.Record, confirmed: int, candidate: int, kind: int, tries: int, reason: int
) -> journal.Record:
    return journal.Record(state.sequence + 1, confirmed, candidate, kind, tries, reason)
