"""What is needed of an ELF file: its loadable bytes by physical address, and its symbols."""

from pathlib import Path
from typing import Any

from fota_wire.errors import InputError


def segments(path: Path) -> list[tuple[int, bytes]]:
    """Return (physical address, bytes) of every loadable segment that has bytes.

    Raises:
        InputError: no such file, or not a 32-bit ARM ELF.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with path.open("rb") as f:
            elf = ELFFile(f)
            if elf.elfclass != 32 or elf["e_machine"] != "EM_ARM":
                raise InputError(f"{path}: an ELF file, but not for a 32-bit ARM")
            return [
                (int(s["p_paddr"]), bytes(s.data()))
                for s in elf.iter_segments()
                if s["p_type"] == "PT_LOAD" and s["p_filesz"]
            ]
    except ELFError as exc:
        raise InputError(f"{path}: not an ELF file") from exc
    except OSError as exc:
        raise InputError(f"{path}: {exc.strerror}") from exc


def symbols(path: Path) -> dict[str, int]:
    """Return name -> address; the Thumb bit of functions is cleared.

    Raises:
        InputError: no such file, not an ELF file, or without symbols.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with path.open("rb") as f:
            table: Any = ELFFile(f).get_section_by_name(".symtab")
            if table is None:
                raise InputError(f"{path}: has no symbols")
            found: dict[str, int] = {}
            for symbol in table.iter_symbols():
                thumb = symbol["st_info"]["type"] == "STT_FUNC"
                if symbol.name:
                    found[symbol.name] = symbol["st_value"] & (~1 if thumb else ~0)
            return found
    except ELFError as exc:
        raise InputError(f"{path}: not an ELF file") from exc
    except OSError as exc:
        raise InputError(f"{path}: {exc.strerror}") from exc
