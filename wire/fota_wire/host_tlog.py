"""The release log's leaves and tiles (SPEC 8; C2SP tlog-tiles; not for devices).

Tiles are 256 hashes wide: tile ``index`` of level L has the tree's nodes of level 8 L from ``256 * index``
on. A tree whose last tile is not full has it in that width.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fota_wire import cbor, check
from fota_wire.errors import FormatError
from fota_wire.host_tree import Nodes, join
from fota_wire.merkle import HASH_SIZE

WIDTH = 256
MAX_ENTRY = 256
_INDEX = re.compile(r"(?:x[0-9]{3}/){0,5}[0-9]{3}")
_PARTIAL = re.compile(r"[1-9][0-9]{0,2}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A leaf: one release, by its manifest and image, and when it was published (s since 1970)."""

    manifest_digest: bytes
    class_id: bytes
    version: str
    sequence: int
    published_at: int

    def encode(self) -> bytes:
        """Return the bytes that are hashed (SPEC 8.1)."""
        values = (self.manifest_digest, self.class_id, self.version, self.sequence, self.published_at)
        return cbor.encode({1: 1, **dict(enumerate(values, 2))})


def read_entry(data: bytes) -> Entry:
    """Return the leaf in ``data``, in the one form that it has.

    Raises:
        FormatError: it is none.
    """
    if len(data) > MAX_ENTRY:
        raise FormatError(f"log entry: longer than {MAX_ENTRY} bytes", "log-entry")
    raw = check.fields(cbor.decode(data), "log entry", (1, 2, 3, 4, 5, 6))
    if raw[1] != 1:
        raise FormatError("log entry: of another format", "log-entry")
    version = check.tstr(raw[4], "log entry: version", 40)
    if not version:
        raise FormatError("log entry: no version", "log-entry")
    return Entry(
        check.bstr(raw[2], "log entry: manifest digest", 32),
        check.bstr(raw[3], "log entry: class", 16),
        version,
        check.uint(raw[5], "log entry: sequence"),
        check.uint(raw[6], "log entry: time"),
    )


@dataclass(frozen=True, slots=True)
class Tile:
    """Which tile: ``level`` (None: of the entries themselves), ``index``, ``width`` 1 to 256."""

    level: int | None
    index: int
    width: int

    @property
    def path(self) -> str:
        """Its path behind the log's own."""
        digits = f"{self.index:03}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        *high, low = (digits[at : at + 3] for at in range(0, len(digits), 3))
        level = "entries" if self.level is None else str(self.level)
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{level}/{''.join(f'x{part}/' for part in high)}{low}{partial}"

    @property
    def start(self) -> int:
        """The first leaf, or node of its level, that is in it."""
        return self.index * WIDTH


def read_tile(level: str, rest: str) -> Tile:
    """Return the tile of a path ``tile/{level}/{rest}``, in its one form.

    Raises:
        FormatError: it is none; code ``unknown-tile``.
    """
    place, partial, width = rest.partition(".p/")
    shaped = _INDEX.fullmatch(place) and (not partial or _PARTIAL.fullmatch(width))
    levelled = level == "entries" or (level.isascii() and level.isdigit() and len(level) <= 2)
    if not (shaped and levelled):
        raise FormatError("log: no such tile", "unknown-tile")
    number = int(place.replace("x", "").replace("/", ""))
    tile = Tile(None if level == "entries" else int(level), number, int(width) if partial else WIDTH)
    if tile.path != f"tile/{level}/{rest}" or (tile.level or 0) > 63 or tile.width > WIDTH:
        raise FormatError("log: no such tile", "unknown-tile")
    return tile


def tile_of(level: int | None, index: int, size: int) -> Tile:
    """Return tile ``index`` of a level in the tree of ``size`` leaves; there has to be one."""
    return Tile(level, index, min(WIDTH, (size >> 8 * (level or 0)) - index * WIDTH))


def pack(entries: list[bytes]) -> bytes:
    """Return entries as a tile of them: each behind its length, 2 bytes, big endian."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def unpack(data: bytes, count: int) -> list[bytes]:
    """Return the ``count`` entries of a tile.

    Raises:
        FormatError: there are more, fewer, or broken ones.
    """
    found: list[bytes] = []
    pos = 0
    while pos < len(data) and len(found) < count:
        end = pos + 2 + int.from_bytes(data[pos : pos + 2], "big")
        found.append(data[pos + 2 : end])
        pos = end
    if pos != len(data) or len(found) != count:
        raise FormatError(f"log: a tile without exactly {count} entries", "tile")
    return found


Fetch = Callable[[Tile], bytes]
"""Gives a tile's bytes, as a server has them: nothing is verified."""


def entries_of(fetch: Fetch, size: int) -> Iterator[bytes]:
    """Yield the entries of a log of ``size`` leaves.

    Raises:
        FormatError: a tile is none.
    """
    for index in range(-(-size // WIDTH)):
        tile = tile_of(None, index, size)
        yield from unpack(fetch(tile), tile.width)


def nodes_of(fetch: Fetch, size: int) -> Nodes:
    """Return the nodes of the tree of ``size`` leaves, by its tiles of hashes; each is fetched once.

    Raises:
        FormatError: a tile is none; when a node is asked for.
    """
    tiles: dict[tuple[int, int], bytes] = {}

    def node(level: int, index: int) -> bytes:
        height, rise = divmod(level, 8)
        first = index << rise
        at = height, first // WIDTH
        if at not in tiles:
            tile = tile_of(height, first // WIDTH, size)
            tiles[at] = raw = fetch(tile)
            if len(raw) != HASH_SIZE * tile.width:
                raise FormatError(f"log: a tile without exactly {tile.width} hashes", "tile")
        raw, first = tiles[at], first % WIDTH
        row = [raw[pos * HASH_SIZE : (pos + 1) * HASH_SIZE] for pos in range(first, first + (1 << rise))]
        while len(row) > 1:
            row = [join(row[pos], row[pos + 1]) for pos in range(0, len(row), 2)]
        return row[0]

    return node
