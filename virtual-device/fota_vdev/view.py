"""What a device's flash, element and last boot report say, decoded for people and for JSON."""

from typing import Any

from fota_vdev.machine import Machine
from fota_vdev.places import Places, Region, places
from fota_wire import bootreport, journal, status
from fota_wire.errors import FormatError, FotaError
from fota_wire.image import parse_image
from fota_wire.layout import SLOT_A, SLOT_B, SLOT_NAMES
from fota_wire.version import format_version

UNITS = {8: "double_words", 16: "quad_words"}
PAGES = "programmed_pages"
"""What is programmed at once, by its bytes; of SPI flash, a page or a part of one."""


def code_text(code: int) -> str:
    """Return a status code for people: ``ok``, ``-`` (not looked at) or ``IM6 image-hash: ...``."""
    if code == 0:
        return "-"
    return "ok" if code == status.OK else status.describe(code)


def journal_pages(machine: Machine, where: Places) -> tuple[bytes, bytes]:
    """Return the journal as a reader sees it: zeros, which are no record, for what faults on ECC."""
    word = machine.flash.geometry.word
    pages = []
    for region in where.journal:
        raw = bytearray(region.read(machine)[: journal.PAGE_SIZE])
        for bank, offset in machine.flash.ecc_bad:
            at = offset - region.offset
            if bank == region.bank and 0 <= at < journal.PAGE_SIZE:
                raw[at : at + word] = bytes(word)
        pages.append(bytes(raw))
    return pages[0], pages[1]


def journal_view(machine: Machine, where: Places) -> dict[str, Any]:
    """Return the state that the boot journal holds, torn records left out."""
    record, page, cell = journal.scan(*journal_pages(machine, where))
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


def slot_view(machine: Machine, slot: Region) -> dict[str, Any]:
    """Return what lies in a slot; the signature is not checked here, the bootloader does that."""
    try:
        image = parse_image(slot.read(machine), in_flash=True, chip=machine.chip.row)
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


def report_of(machine: Machine) -> bootreport.BootReport:
    """Return the boot report that lies in RAM now. FormatError: there is none."""
    return bootreport.unpack(machine.read(machine.chip.row.BOOT_REPORT_ADDRESS, bootreport.SIZE))


def reported(machine: Machine) -> bool:
    """Tell whether the bootloader has handed over to an application, and left a report."""
    if not machine.application_runs:
        return False
    try:
        report_of(machine)
    except FormatError:
        return False
    return True


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


def wear_view(machine: Machine, where: Places | None) -> dict[str, Any]:
    """Return wear by region: erases in all, most erases of one page; what was programmed, by bank."""
    regions: dict[str, tuple[Region, ...]] = {}
    if where is not None:
        regions = {"journal": where.journal, "agent store": (where.agent_store,),
                   "slot A": (where.slots[SLOT_A],), "slot B": (where.slots[SLOT_B],)}  # fmt: skip
    counters, size = machine.flash.counters, machine.flash.geometry.page
    wear: dict[str, Any] = {}
    for name, parts in regions.items():
        pages = [
            (r.bank, page) for r in parts for page in range(r.offset // size, (r.offset + r.size) // size)
        ]
        erases = [counters.erases[place] for place in pages]
        wear[name] = {"erases": sum(erases), "most_of_one_page": max(erases)}
    unit = UNITS.get(machine.chip.row.WRITE_SIZE, PAGES)
    wear[unit] = {f"bank {bank}": n for bank, n in counters.double_words.items()}
    if unit != PAGES:  # SPI flash has no ECC
        wear[f"torn_{unit}"] = len(machine.flash.ecc_bad)
    return wear


def status_view(machine: Machine) -> dict[str, Any]:
    """Return everything about a device that has no power."""
    try:
        where = places(machine)
    except FotaError as exc:
        where = None
        nowhere = {"reason": str(exc)}
    return {
        "chip": machine.chip.row.NAME,
        "journal": journal_view(machine, where) if where else nowhere,
        "slot_a": slot_view(machine, where.slots[SLOT_A]) if where else nowhere,
        "slot_b": slot_view(machine, where.slots[SLOT_B]) if where else nowhere,
        "last_boot_report": report_view(machine.last_report),
        "element": element_view(machine),
        "flash": wear_view(machine, where),
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
