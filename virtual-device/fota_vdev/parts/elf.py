"""What is needed of an ELF file: its loadable bytes by physical address, and its symbols."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from fota_wire.errors import FotaError, InputError
from fota_wire.files import name_of, read_input


def segments(path: Path) -> list[tuple[int, bytes]]:
    """Return (physical address, bytes) of every loadable segment that has bytes.

    Raises:
        InputError: no such file, or not a 32-bit ARM ELF.
    """
    with _opened(path) as elf:
        if elf.elfclass != 32 or elf["e_machine"] != "EM_ARM":
            raise InputError(f"{name_of(path)}: an ELF file, but not for a 32-bit ARM")
        return [
            (int(s["p_paddr"]), bytes(s.data()))
            for s in elf.iter_segments()
            if s["p_type"] == "PT_LOAD" and s["p_filesz"]
        ]


def symbols(path: Path) -> dict[str, int]:
    """Return name -> address; the Thumb bit of functions is cleared.

    Raises:
        InputError: no such file, not an ELF file, or without symbols.
    """
    with _opened(path) as elf:
        table = elf.get_section_by_name(".symtab")
        if table is None:
            raise InputError(f"{name_of(path)}: has no symbols")
        found: dict[str, int] = {}
        for symbol in table.iter_symbols():
            thumb = symbol["st_info"]["type"] == "STT_FUNC"
            if symbol.name:
                found[symbol.name] = symbol["st_value"] & (~1 if thumb else ~0)
        return found


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An ELF file; whatever the library raises over damaged ones, while it is read, is an InputError."""
    from elftools.elf.elffile import ELFFile

    data = read_input(path)
    if data[:4] != b"\x7fELF":
        raise InputError(f"{name_of(path)}: not an ELF file")
    try:
        yield ELFFile(BytesIO(data))
    except FotaError:
        raise
    except Exception as exc:
        raise InputError(f"{name_of(path)}: a damaged ELF file") from exc


def functions(path: Path) -> "list[tuple[int, int, str]]":
    """Return (address, bytes, name) of every function, by address; empty if the file has no symbols.

    Raises:
        InputError: no such file, or not an ELF file.
    """
    with _opened(path) as elf:
        table = elf.get_section_by_name(".symtab")
        found = (
            [] if table is None else [s for s in table.iter_symbols() if s["st_info"]["type"] == "STT_FUNC"]
        )
        thumb = elf["e_machine"] == "EM_ARM"
        return sorted((s["st_value"] & (~1 if thumb else ~0), s["st_size"], s.name) for s in found)


def function_at(found: "list[tuple[int, int, str]]", address: int) -> str:
    """Return the name of the function of `functions` that an address lies in; "" if none."""
    return next((name for begin, size, name in found if begin <= address < begin + max(size, 1)), "")
