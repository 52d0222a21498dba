"""A run of bytes with the address where it is loaded: what the readers of ELF and Intel HEX return."""

from typing import NamedTuple


class Chunk(NamedTuple):
    """``content`` is loaded at ``address``; ``label`` says where in the file it stands, for messages."""

    address: int
    content: bytes
    label: str = ""

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + len(self.content)
