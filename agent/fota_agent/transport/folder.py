"""An update on a card or disk: the same files as on a server, in a folder.

FOLDER/manifest.suit          the signed envelope
FOLDER/payload/<sha256 hex>   the image
FOLDER/root-<version>.cbor    ROOT documents that devices may lack, in order, optional
"""

from fota_wire.errors import TransportError
from fota_wire.root import MAX_ROOT
from fota_wire.suit import MAX_ENVELOPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

MAX_ROOTS = 64
FILE_KIND, REGULAR = 0xF000, 0x8000  # of st_mode


class Folder:
    """The folder at ``path`` as the source of one update, and as the ``Transport`` of its payload."""

    def __init__(self, path: str) -> None:
        self._path = path

    def envelope(self) -> bytes:
        """Return the manifest's envelope, unverified. TransportError if there is none."""
        return self._read("manifest.suit", MAX_ENVELOPE)

    def roots(self) -> "list[bytes]":
        """Return the ROOT documents, unverified, the oldest first."""
        found: list[bytes] = []
        for version in range(2, 2 + MAX_ROOTS):
            try:
                found.append(self._read(f"root-{version}.cbor", MAX_ROOT))
            except TransportError:
                if found:
                    break
        return found

    def request(
        self, method: str, path: str, headers: "dict[str, str]", body: bytes = b""
    ) -> "tuple[int, dict[str, str], FileReader]":
        """Answer the GET of a payload, with Range, as the server would. TransportError if it is not there."""
        name = path[4:] if path.startswith("/v1/payload/") else ""
        if method != "GET" or not name or ".." in name:
            raise TransportError(f"{self._path}: holds payloads only")
        file, size = self._open(name)
        first, _, last = headers.get("Range", "bytes=0-")[6:].partition("-")
        start, end = int(first), int(last) + 1 if last else size
        if start == 0:
            return 200, {}, FileReader(file, size)
        file.seek(start)
        return 206, {"content-range": f"bytes {start}-{end - 1}/{size}"}, FileReader(file, end - start)

    def close(self) -> None:
        """Nothing is kept open."""

    def _read(self, name: str, limit: int) -> bytes:
        file, size = self._open(name)
        try:
            if size > limit:
                raise TransportError(f"{self._path}/{name}: longer than {limit} bytes")
            return file.read(limit)
        except OSError as exc:
            raise TransportError(f"{self._path}/{name}: cannot be read") from exc
        finally:
            file.close()

    def _open(self, name: str) -> "tuple[BinaryIO, int]":
        import os

        try:
            kind = os.stat(f"{self._path}/{name}")[0] & FILE_KIND  # noqa: PTH116  as below
            if kind != REGULAR:  # a FIFO would never open, and /dev/zero never end
                raise TransportError(f"{self._path}/{name}: not a regular file")
            file = open(f"{self._path}/{name}", "rb")  # noqa: PTH123, SIM115  MicroPython has no pathlib
            size = file.seek(0, 2)
            file.seek(0)
        except OSError as exc:
            raise TransportError(f"{self._path}/{name}: cannot be read") from exc
        return file, size


class FileReader:
    """The rest of an open file as the ``Reader`` of ``fota_agent.seams``."""

    def __init__(self, file: "BinaryIO", length: int) -> None:
        self.length = length
        self._file = file
        self._left = length

    def readinto(self, buf: memoryview) -> int:
        """Fill a part of ``buf``; return how many bytes, 0 at the end. TransportError."""
        try:
            count = self._file.readinto(buf)  # type: ignore[attr-defined]
        except OSError as exc:
            raise TransportError("the card cannot be read") from exc
        self._left -= count
        if self._left <= 0:
            self.close()
        return int(count)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
