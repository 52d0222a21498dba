"""A run of bytes with the address where it is loaded: what the readers of ELF and of records return."""

from typing import NamedTuple

from fota_wire.errors import InputError

BOM = b"\xef\xbb\xbf"
"""A byte-order mark, which editors leave in texts."""

Run = tuple[int, bytearray, int]
"""Address, content, and the first line of it, as a reader of records finds them."""


class Chunk(NamedTuple):
    """``content`` is loaded at ``address``; ``label`` says where in the file it stands, for messages."""

    address: int
    content: bytes
    label: str = ""

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + len(self.content)


def add(runs: list[Run], address: int, content: bytes, line: int) -> None:
    """Put a record behind the last run, if it goes on there, or begin another."""
    if runs and runs[-1][0] + len(runs[-1][1]) == address:
        runs[-1][1].extend(content)
    else:
        runs.append((address, bytearray(content), line))


def joined(runs: list[Run], name: str) -> list[Chunk]:
    """Return the runs of records by address; those that follow each other as one.

    Raises:
        InputError: two of them overlap.
    """
    found: list[Run] = []
    for address, content, line in sorted(run for run in runs if run[1]):
        end = found[-1][0] + len(found[-1][1]) if found else 0
        if found and address < end:
            raise InputError(f"{name}: line {line}: records overlap at 0x{address:08x}")
        if found and address == end:
            found[-1][1].extend(content)
        else:
            found.append((address, content, line))
    return [Chunk(address, bytes(content), f"line {line}") for address, content, line in found]
