"""Reads Motorola S-records by the line: every record counts, or the file is refused by the number of a line.

A line is ``S``, its type, and in hex: the number of bytes that follow, an address of 2 to 4 bytes, content,
and a checksum that brings the sum of all to 0xFF. S1 to S3 are content, S7 to S9 the end with a start
address, S5 and S6 say how many records of content there were, S0 is a name.
"""

import re

from fota_signer.chunk import BOM, Chunk, Run, add, joined
from fota_wire.errors import InputError

_ADDRESS = {0: 2, 1: 2, 2: 3, 3: 4, 5: 2, 6: 3, 7: 4, 8: 3, 9: 2}
"""Bytes of address, or of count, by type; there is no S4."""
_DATA, _COUNTS, _ENDS = (1, 2, 3), (5, 6), (7, 8, 9)
_BEGIN = re.compile(rb"\s*[Ss][0-9][0-9A-Fa-f]{2}")
_RECORD = re.compile(rb"[Ss]([0-9])((?:[0-9A-Fa-f]{2})+)")


def looks_like_s_records(data: bytes) -> bool:
    """Tell whether ``data`` begins as S-records do, after a byte-order mark and blank lines."""
    return _BEGIN.match(data[:512].removeprefix(BOM)) is not None


def read(data: bytes, name: str) -> list[Chunk]:
    """Return what the S-records in ``data`` load, in runs by address; ``name`` is for messages.

    Raises:
        InputError: a record that is damaged, unknown, behind the end record, or over another one; a wrong
            count; no end.
    """
    runs: list[Run] = []
    seen = ended = number = 0
    for number, line in enumerate(data.removeprefix(BOM).splitlines(), 1):
        text = line.strip()
        if not text:
            continue
        where = f"{name}: line {number}"
        if ended:
            raise InputError(f"{where}: behind the end record of line {ended}: nothing of it would be loaded")
        kind, address, content = _record(text, where)
        if kind in _DATA:
            seen += 1
            if address + len(content) > 1 << 32:
                raise InputError(f"{where}: a record across the end of memory")
            add(runs, address, content, number)
        elif kind in _ENDS:
            ended = number
        elif kind in _COUNTS and address != seen:
            raise InputError(f"{where}: {address} records of content, says this one, and {seen} are there")
    if not ended:
        raise InputError(f"{name}: truncated S-record file: no end record up to line {number}")
    return joined(runs, name)


def _record(text: bytes, where: str) -> tuple[int, int, bytes]:
    """Return (type, address or count, content) of a line without its end."""
    found = _RECORD.fullmatch(text)
    if not found:
        raise InputError(f"{where}: damaged S-record file: not a record")
    kind, raw = int(found[1]), bytes.fromhex(found[2].decode())
    size = _ADDRESS.get(kind)
    if size is None or (kind in (*_COUNTS, *_ENDS) and len(raw) != size + 2) or len(raw) < size + 2:
        raise InputError(f"{where}: damaged S-record file: no record S{kind} has {len(raw)} bytes")
    if raw[0] != len(raw) - 1:
        raise InputError(f"{where}: damaged S-record file: {len(raw) - 1} bytes, not {raw[0]}")
    if sum(raw) & 0xFF != 0xFF:
        raise InputError(f"{where}: damaged S-record file: wrong checksum")
    return kind, int.from_bytes(raw[1 : 1 + size], "big"), raw[1 + size : -1]
