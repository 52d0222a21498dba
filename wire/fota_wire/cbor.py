"""Deterministic CBOR (RFC 8949 section 4.2.1), the subset of SPEC 5, strict in both directions.

Definite lengths, shortest heads, map keys sorted by their encoding and unique, no floats, no simple values
but false, true and null, no tag that the caller does not name, nothing after the item. So an item has one
encoding only: what was decoded may be encoded again to get the received bytes.
"""

import hashlib

from fota_wire.errors import FormatError

MAX_DEPTH = 8
SHORT = 64  # bytes of a part that is put together from shorter ones, at most
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SHORTEST = (24, 0x100, 0x10000, 0x100000000)
_SIMPLE = {20: False, 21: True, 22: None}


class Tag:
    """A tagged item: ``tag`` number and ``value``."""

    def __init__(self, tag: int, value: object) -> None:
        self.tag = tag
        self.value = value

    def __eq__(self, other: object) -> bool:
        """Compare number and value."""
        return isinstance(other, Tag) and self.tag == other.tag and self.value == other.value

    def __hash__(self) -> int:
        """Hash the number; values may be unhashable."""
        return hash(self.tag)

    def __repr__(self) -> str:
        """Show number and value as in CBOR diagnostic notation."""
        return f"{self.tag}({self.value!r})"


def encode(obj: object) -> bytes:
    """Return the one deterministic encoding of int, bytes, str, list, tuple, dict, bool, None and Tag.

    Raises:
        TypeError: another type, a caller's mistake.
        ValueError: an integer beyond 64 bits.
    """
    parts: list[bytes | memoryview] = []
    _put(obj, parts.append)
    return b"".join([part if isinstance(part, bytes) else bytes(part) for part in parts])


def encode_parts(obj: object) -> "list[bytes | memoryview]":
    """Return what :func:`encode` does, in parts: byte strings as they are, where there is no room for a copy,
    and few parts, for a long list of them may find no room either.

    Raises:
        TypeError, ValueError: as :func:`encode`.
    """
    parts: list[bytes | memoryview] = []

    def add(raw: "bytes | memoryview") -> None:
        if parts and len(parts[-1]) + len(raw) <= SHORT:
            parts[-1] = bytes(parts[-1]) + bytes(raw)
        else:
            parts.append(raw)

    _put(obj, add)
    return parts


def _put(obj: object, add: "Callable[[bytes | memoryview], None]") -> None:
    if obj is None:
        add(b"\xf6")
    elif obj is True:
        add(b"\xf5")
    elif obj is False:
        add(b"\xf4")
    elif isinstance(obj, int):
        add(_head(0, obj) if obj >= 0 else _head(1, -1 - obj))
    elif isinstance(obj, (bytes, memoryview)):
        add(_head(2, len(obj)))
        add(obj)
    elif isinstance(obj, bytearray):
        _put(bytes(obj), add)
    elif isinstance(obj, str):
        raw = obj.encode()
        add(_head(3, len(raw)))
        add(raw)
    elif isinstance(obj, (list, tuple)):
        add(_head(4, len(obj)))
        for item in obj:
            _put(item, add)
    elif isinstance(obj, dict):
        add(_head(5, len(obj)))
        for raw, key in sorted([(encode(key), key) for key in obj]):
            add(raw)
            _put(obj[key], add)
    elif isinstance(obj, Tag):
        add(_head(6, obj.tag))
        _put(obj.value, add)
    else:
        raise TypeError(f"CBOR cannot encode {type(obj)}")


def decode(data: "bytes | memoryview", max_depth: int = MAX_DEPTH, tags: "tuple[int, ...]" = ()) -> object:
    """Return the single item in ``data``: int, bytes, str, list, dict, bool, None, or Tag if named in
    ``tags``.

    Map keys are int, bytes, str, or an array of those (a tuple then). Byte strings of a memoryview are views
    of it, where there is no room for copies: good as long as what it shows stays.

    Raises:
        FormatError: anything that :func:`encode` would not have produced, nesting deeper than ``max_depth``
            items, or bytes after the item. ``code`` tells which (``cbor-...``).
    """
    if not isinstance(data, memoryview):
        data = bytes(data)
    item, end = _item(data, 0, max_depth, tags)
    if end != len(data):
        raise FormatError(f"CBOR: {len(data) - end} bytes after the end", "cbor-trailing")
    return item


def pairs(data: "bytes | memoryview", counted: "tuple[int, ...]" = ()) -> "Iterator[tuple[object, object]]":
    """Yield key and value of the map in ``data`` one after the other, as :func:`decode` would return them:
    where there is no room for all at once. ``counted``: keys whose values, maps or arrays, are not looked
    into; how many items each has is yielded in its place.

    Raises:
        FormatError: as :func:`decode`, but only where it is come to; ``field``: not a map.
    """
    major, count, pos = _read_head(data, 0)
    if major != 5:
        raise FormatError("CBOR: not a map", "field")
    last = b""
    for _ in range(count):
        key, start = _item(data, pos, MAX_DEPTH - 1, ()) if counted else (None, 0)
        if key in counted:
            yield key, _read_head(data, start)[1]
            pos = _end(data, start)
            continue
        one, pos = _map(data, pos, 1, MAX_DEPTH - 1, (), last)
        for key, value in one.items():
            last = encode(key)
            yield key, value
        del one, value  # before the next is read
    if pos != len(data):
        raise FormatError(f"CBOR: {len(data) - pos} bytes after the end", "cbor-trailing")


def _end(data: "bytes | memoryview", pos: int) -> int:
    """Return where the item at ``pos`` ends."""
    major, value, pos = _read_head(data, pos)
    if major in (2, 3):
        return pos + value
    for _ in range(value * (major - 3) if major in (4, 5) else 0):
        pos = _end(data, pos)
    return pos


def hash_bstr(data: "bytes | memoryview", before: bytes = b"") -> bytes:
    """Return SHA-256 over ``before`` and the encoding of ``data``, which is not copied for that."""
    sha = hashlib.sha256(before + _head(2, len(data)))
    sha.update(data)
    return sha.digest()


def _head(major: int, value: int) -> bytes:
    major <<= 5
    if value < 24:
        return bytes([major | value])
    for step, size in enumerate((1, 2, 4, 8)):
        if value < 1 << 8 * size:
            return bytes([major | 24 + step]) + value.to_bytes(size, "big")
    raise ValueError("CBOR cannot encode an integer beyond 64 bits")


def _read_head(data: "bytes | memoryview", pos: int) -> "tuple[int, int, int]":
    """Return (major type, argument, position after the head)."""
    if pos >= len(data):
        raise FormatError("CBOR: ends too early", "cbor-truncated")
    major, info = data[pos] >> 5, data[pos] & 31
    pos += 1
    if info == 31:
        raise FormatError("CBOR: indefinite length", "cbor-indefinite")
    if major == 7 and info not in _SIMPLE:
        raise FormatError("CBOR: float or unknown simple value", "cbor-simple")
    if info < 24:
        return major, info, pos
    if info > 27:
        raise FormatError("CBOR: reserved head", "cbor-reserved")
    size = 1 << info - 24
    if len(data) - pos < size:
        raise FormatError("CBOR: ends too early", "cbor-truncated")
    value = int.from_bytes(data[pos : pos + size], "big")
    if value < _SHORTEST[info - 24]:
        raise FormatError("CBOR: head is not the shortest", "cbor-long-head")
    return major, value, pos + size


def _item(data: "bytes | memoryview", pos: int, depth: int, tags: "tuple[int, ...]") -> "tuple[object, int]":
    if depth < 1:
        raise FormatError("CBOR: nested too deeply", "cbor-depth")
    major, value, pos = _read_head(data, pos)
    if major == 0:
        return value, pos
    if major == 1:
        return -1 - value, pos
    if major == 7:
        return _SIMPLE[value], pos
    if major == 6:
        if value not in tags:
            raise FormatError(f"CBOR: tag {value} is not allowed here", "cbor-tag")
        item, pos = _item(data, pos, depth - 1, tags)
        return Tag(value, item), pos
    if value > len(data) - pos:  # every element takes a byte at least
        raise FormatError("CBOR: ends too early", "cbor-truncated")
    if major == 2:
        return data[pos : pos + value], pos + value
    if major == 3:
        return _text(bytes(data[pos : pos + value])), pos + value
    if major == 4:
        return _array(data, pos, value, depth - 1, tags)
    return _map(data, pos, value, depth - 1, tags)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeError as exc:
        raise FormatError("CBOR: text is not UTF-8", "cbor-utf8") from exc


def _array(
    data: "bytes | memoryview", pos: int, count: int, depth: int, tags: "tuple[int, ...]"
) -> "tuple[object, int]":
    items = []
    for _ in range(count):
        item, pos = _item(data, pos, depth, tags)
        items.append(item)
    return items, pos


def _map(
    data: "bytes | memoryview",
    pos: int,
    count: int,
    depth: int,
    tags: "tuple[int, ...]",
    last: bytes = b"",
) -> "tuple[dict[object, object], int]":
    """``last``: the encoding of the key before."""
    found: dict[object, object] = {}
    for _ in range(count):
        start = pos
        key, pos = _item(data, pos, depth, tags)
        raw = bytes(data[start:pos])
        if raw == last:
            raise FormatError("CBOR: duplicate key in a map", "cbor-duplicate-key")
        if raw < last:
            raise FormatError("CBOR: map keys are not in order", "cbor-order")
        last = raw
        item, pos = _item(data, pos, depth, tags)
        found[_key(key)] = item
    return found, pos


def _key(key: object) -> object:
    """Return a map key as a hashable value; true, false, null and maps are not keys (and true equals 1)."""
    if isinstance(key, list):
        return tuple([_key(part) for part in key])
    if isinstance(key, memoryview):
        return bytes(key)
    if isinstance(key, bool) or not isinstance(key, (int, bytes, str)):
        raise FormatError("CBOR: type not allowed as a map key", "cbor-key")
    return key
