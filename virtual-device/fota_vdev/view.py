"""What a device's flash, element and last boot report say, decoded for people and for JSON."""

from typing import Any

from fota_vdev.machine import Machine
from fota_wire import bootreport, journal, status
from fota_wire.errors import FotaError
from fota_wire.image import parse_image
from fota_wire.layout import SLOT_A, SLOT_B, SLOT_BANKS, SLOT_NAMES
from fota_wire.version import format_version


def code_text(code: int) -> str:
    """Return a status code for people: ``ok``, ``-`` (not looked at) or ``IM6 image-hash: ...``."""
    if code == 0:
        return "-"
    return "ok" if code == status.OK else status.describe(code)


def journal_pages(machine: Machine) -> tuple[bytes, bytes]:
    """Return the journal as a reader sees it: zeros, which are no record, for what faults on ECC."""
    row, word = machine.chip.row, machine.flash.geometry.word
    pages = []
    for page in (0, 1):
        at = row.JOURNAL_OFFSET + page * row.JOURNAL_STRIDE
        raw = bytearray(machine.flash.read_phys(row.JOURNAL_BANK, at, journal.PAGE_SIZE))
        for bank, offset in machine.flash.ecc_bad:
            if bank == row.JOURNAL_BANK and at <= offset < at + journal.PAGE_SIZE:
                raw[offset - at : offset - at + word] = bytes(word)
        pages.append(bytes(raw))
    return pages[0], pages[1]


def journal_view(machine: Machine) -> dict[str, Any]:
    """Return the state that the boot journal holds, torn records left out."""
    record, page, cell = journal.scan(*journal_pages(machine))
    return {
        "sequence": record.sequence,
        "confirmed": SLOT_NAMES[record.confirmed],
        "candidate": SLOT_NAMES[record.candidate],
        "state": journal.STATE_NAMES[record.state],
        "tries": record.tries,
        "reason": code_text(record.reason),
        "page": page,
        "next_cell": cell,
    }


def slot_view(machine: Machine, slot: int) -> dict[str, Any]:
    """Return what lies in a slot; the signature is not checked here, the bootloader does that."""
    row = machine.chip.row
    raw = machine.flash.read_phys(SLOT_BANKS[slot], row.SLOT_OFFSET, row.SLOT_SIZE)
    try:
        image = parse_image(raw, in_flash=True, chip=row)
    except FotaError as exc:
        return {"image": None, "reason": str(exc)}
    return {
        "image": format_version(image.version),
        "sec_cnt": image.sec_cnt,
        "file_digest": image.file_digest.hex(),
        "image_hash": image.image_hash.hex(),
        "size": image.size,
    }


def report_view(raw: bytes) -> dict[str, Any] | None:
    """Return a boot report decoded, or None if there is none."""
    if not raw:
        return None
    report = bootreport.unpack(raw)
    return {
        "running": SLOT_NAMES.get(report.running, "?"),
        "confirmed": SLOT_NAMES.get(report.confirmed, "?"),
        "candidate": SLOT_NAMES.get(report.candidate, "?"),
        "state": journal.STATE_NAMES.get(report.state, "?"),
        "tries": report.tries,
        "trial": report.trial,
        "reset_cause": report.reset_cause,
        "version": report.version_text,
        "sec_cnt": report.sec_cnt,
        "floor": report.floor,
        "epoch": report.epoch,
        "reason": code_text(report.reason),
        "slot_a": code_text(report.status_a),
        "slot_b": code_text(report.status_b),
        "element": code_text(report.status_element),
        "image_hash": report.image_hash.hex(),
        "hash_us": report.hash_us,
        "element_us": report.element_us,
        "sequence": report.sequence,
    }


def element_view(machine: Machine) -> dict[str, Any] | None:
    """Return identity, locks and counters of the element; no secret."""
    element = machine.element
    if element is None:
        return None
    nvm = element.nvm
    return {
        "serial": element.serial.hex(),
        "address": element.address,
        "config_locked": nvm.config_locked,
        "data_locked": nvm.data_locked,
        "locked_slots": [slot for slot in range(16) if nvm.slot_locked(slot)],
        "counter0": element.counters[0],
        "counter1": element.counters[1],
        "floor": element.counters[0] // 8,
        "epoch": element.counters[1] // 8,
    }


def wear_view(machine: Machine) -> dict[str, Any]:
    """Return wear by region: erases in all, most erases of one page, double words by bank."""
    row = machine.chip.row
    regions = {
        "journal": (row.JOURNAL_BANK, row.JOURNAL_OFFSET, 2 * row.JOURNAL_STRIDE),
        "agent store": (row.AGENT_STORE_BANK, row.AGENT_STORE_OFFSET, row.AGENT_STORE_SIZE),
        "slot A": (SLOT_BANKS[SLOT_A], row.SLOT_OFFSET, row.SLOT_SIZE),
        "slot B": (SLOT_BANKS[SLOT_B], row.SLOT_OFFSET, row.SLOT_SIZE),
    }
    counters = machine.flash.counters
    wear: dict[str, Any] = {}
    for name, (bank, offset, size) in regions.items():
        pages = range(offset // row.PAGE_SIZE, (offset + size) // row.PAGE_SIZE)
        erases = [counters.erases[bank, page] for page in pages]
        wear[name] = {"erases": sum(erases), "most_of_one_page": max(erases)}
    wear["double_words"] = {f"bank {bank}": n for bank, n in counters.double_words.items()}
    wear["torn_double_words"] = len(machine.flash.ecc_bad)
    return wear


def status_view(machine: Machine) -> dict[str, Any]:
    """Return everything about a device that has no power."""
    return {
        "chip": machine.chip.row.NAME,
        "journal": journal_view(machine),
        "slot_a": slot_view(machine, SLOT_A),
        "slot_b": slot_view(machine, SLOT_B),
        "last_boot_report": report_view(machine.last_report),
        "element": element_view(machine),
        "flash": wear_view(machine),
    }


def as_lines(view: dict[str, Any], indent: str = "") -> list[str]:
    """Return nested values as aligned lines."""
    width = max((len(key) for key in view), default=0)
    lines = []
    for key, value in view.items():
        if isinstance(value, dict):
            lines.append(f"{indent}{key}")
            lines += as_lines(value, indent + "  ")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            lines.append(f"{indent}{key:<{width}}  {'none' if shown is None else shown}")
    return lines
