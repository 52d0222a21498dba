"""Reads Intel HEX by the line: every record counts, or the file is refused by the number of a line.

A reader of our own: the intelhex package (the tests' oracle, and what writes our HEX) stops at the first end
record and says nothing of what is behind it.
"""

from fota_signer.chunk import BOM, Chunk, Run, add, joined
from fota_wire.errors import InputError

_DATA, _END, _SEGMENT, _START_SEGMENT, _LINEAR, _START_LINEAR = range(6)
_SIZES = {_END: 0, _SEGMENT: 2, _START_SEGMENT: 4, _LINEAR: 2, _START_LINEAR: 4}


def looks_like_hex(data: bytes) -> bool:
    """Tell whether ``data`` begins as Intel HEX does, after a byte-order mark and blank lines."""
    return data[:512].removeprefix(BOM).lstrip()[:1] == b":"


def read(data: bytes, name: str) -> list[Chunk]:
    """Return what the HEX file ``data`` loads, in runs by address; ``name`` is for messages.

    Raises:
        InputError: a record that is damaged, unknown, behind the end record, or over another one; no end.
    """
    runs: list[Run] = []
    base, started, ended = 0, False, 0
    number = 0
    for number, line in enumerate(data.removeprefix(BOM).splitlines(), 1):
        text = line.strip()
        if not text:
            continue
        where = f"{name}: line {number}"
        if ended:
            raise InputError(f"{where}: behind the end record of line {ended}: nothing of it would be loaded")
        kind, offset, content = _record(text, where)
        if kind == _DATA:
            if offset + len(content) > 0x10000:
                raise InputError(f"{where}: a record across a boundary of 64 KiB")
            add(runs, base + offset, content, number)
        elif kind == _END:
            ended = number
        elif kind in (_SEGMENT, _LINEAR):
            base = int.from_bytes(content, "big") << (4 if kind == _SEGMENT else 16)
        elif started:
            raise InputError(f"{where}: a second start address")
        else:
            started = True
    if not ended:
        raise InputError(f"{name}: truncated Intel HEX file: no end record up to line {number}")
    return joined(runs, name)


def _record(text: bytes, where: str) -> tuple[int, int, bytes]:
    """Return (type, offset, content) of a line without its end."""
    try:
        raw = bytes.fromhex(text[1:].decode("ascii")) if text[:1] == b":" and text.isascii() else b""
    except ValueError:
        raw = b""
    if len(raw) < 5 or b" " in text:
        raise InputError(f"{where}: damaged Intel HEX file: not a record")
    if raw[0] != len(raw) - 5:
        raise InputError(f"{where}: damaged Intel HEX file: {len(raw) - 5} bytes of content, not {raw[0]}")
    if sum(raw) & 0xFF:
        raise InputError(f"{where}: damaged Intel HEX file: wrong checksum")
    kind, content = raw[3], raw[4:-1]
    if kind != _DATA and _SIZES.get(kind) != len(content):
        raise InputError(
            f"{where}: damaged Intel HEX file: no record of type {kind} has {len(content)} bytes"
        )
    return kind, raw[1] << 8 | raw[2], content
