"""``fota inspect`` of what a linker made: what is in it, and what `fota sign` would say, chip by chip."""

from fota_signer import elf, intel_hex, s_record
from fota_signer.chunk import Chunk
from fota_signer.firmware import load_firmware
from fota_wire import status
from fota_wire.errors import FotaError
from fota_wire.host_chips import CHIPS, STM32

MOST_RUNS = 32  # that are shown
TAKEN = "taken, "


def explain(data: bytes, name: str) -> dict[str, object] | None:
    """Return what firmware in ``data`` loads, and for which chips it could be signed; None: it is none.

    A raw binary says nothing of itself: it is firmware if it could be signed for some chip.

    Raises:
        InputError: damaged, or something in it would be left out.
    """
    form, chunks = _read(data, name)
    said = {chip: _said(data, name, chip) for chip in CHIPS}
    table: dict[str, object] = {"kind": "firmware", "form": form}
    if chunks is not None:
        table |= {"size": sum(len(chunk.content) for chunk in chunks), "loads": _runs(chunks)}
    elif any(text.startswith(TAKEN) for text in said.values()):
        table["size"] = len(data)
    else:
        return None
    return {**table, "chips": [f"{chip}: {text}" for chip, text in said.items()]}


def _runs(chunks: list[Chunk]) -> list[str]:
    runs = [f"0x{chunk.address:08x}: {len(chunk.content)} bytes" for chunk in sorted(chunks)]
    more = len(runs) - MOST_RUNS
    return runs if more <= 0 else [*runs[:MOST_RUNS], f"and {more} more"]


def _read(data: bytes, name: str) -> tuple[str, list[Chunk] | None]:
    """Return the form, and what it loads; None: it has no addresses."""
    if data[:4] == elf.MAGIC:
        if elf.machine_of(data) == elf.RISC_V:
            return "ELF for RISC-V", elf.read(data, name, machine=elf.RISC_V)
        return "ELF for ARM", elf.read(data, name)
    if intel_hex.looks_like_hex(data):
        return "Intel HEX", intel_hex.read(data, name)
    if s_record.looks_like_s_records(data):
        return "Motorola S-records", s_record.read(data, name)
    return "raw binary", None


def _said(data: bytes, name: str, chip: str) -> str:
    """Return what `fota sign --chip` would come to."""
    notes: list[str] = []
    try:
        if chip in STM32:
            content = load_firmware(data, name, say=notes.append, chip=STM32[chip])
        else:
            from fota_signer.esp_firmware import load_application

            content = load_application(data, name, CHIPS[chip], say=notes.append)
    except FotaError as exc:
        label = f"{status.label(exc.code)}: " if isinstance(exc.code, int) else ""
        text = str(exc).removeprefix(f"{name}: ").removeprefix(label)
        return f"refused: {label}{text}"
    return "; ".join([f"{TAKEN}{len(content)} bytes", *notes])
