"""ECDSA signatures in strict DER (SPEC 2): SEQUENCE { INTEGER r, INTEGER s } <-> 64 bytes r||s. And the outer
frame of certificates.
"""

from fota_wire import status
from fota_wire.errors import FormatError, VerifyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SIZE = 72
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256


def from_raw(signature: bytes) -> bytes:
    """Return the DER of r||s: at most 72 bytes, minimal integers."""
    body = _integer(signature[:32]) + _integer(signature[32:64])
    return bytes([0x30, len(body)]) + body


def to_raw(der: bytes) -> bytes:
    """Return r||s of a signature in strict DER.

    Raises:
        VerifyError: IM11: a length that does not fit, an integer that is not minimal or not in 1..n-1,
        or bytes behind.
    """
    if not 8 <= len(der) <= MAX_SIZE or der[0] != 0x30 or der[1] != len(der) - 2:
        raise _refused()
    r, pos = _read_integer(der, 2)
    s, pos = _read_integer(der, pos)
    if pos != len(der):
        raise _refused()
    return r + s


def require_sequence(raw: "bytes | memoryview", what: str) -> None:
    """Return if ``raw`` is one DER SEQUENCE of 128 to 65,535 bytes, with nothing behind it; content unseen.

    Raises:
        FormatError: it is not; code ``der``.
    """
    for width, shortest in ((1, 0x80), (2, 0x100)):
        size = len(raw) - 2 - width
        head = bytes([0x30, 0x80 | width])
        if size >= shortest and raw[:2] == head and int.from_bytes(raw[2 : 2 + width], "big") == size:
            return
    raise FormatError(f"{what} is not in DER", "der")


def split(raw: "bytes | memoryview") -> "Iterator[bytes | memoryview]":
    """Yield the certificates that lie one behind the other in ``raw``, content unseen; what has no such head
    comes as it is, for whoever reads certificates to refuse.
    """
    while raw:
        width = raw[1] - 0x80 if len(raw) > 1 and raw[1] in (0x81, 0x82) else 0
        end = 2 + width + int.from_bytes(raw[2 : 2 + width], "big") if width else len(raw)
        yield raw[:end]
        raw = raw[end:]


def _integer(value: bytes) -> bytes:
    start = 0
    while start < len(value) - 1 and value[start] == 0:
        start += 1
    value = value[start:]
    if value[0] & 0x80:
        value = b"\x00" + value
    return bytes([0x02, len(value)]) + value


def _read_integer(der: bytes, pos: int) -> "tuple[bytes, int]":
    if len(der) - pos < 3 or der[pos] != 0x02:
        raise _refused()
    size = der[pos + 1]
    value = der[pos + 2 : pos + 2 + size]
    if not 1 <= size <= 33 or len(value) != size or value[0] & 0x80:
        raise _refused()
    if value[0] == 0:
        if size < 2 or not value[1] & 0x80:  # zero, or a zero byte that is not needed
            raise _refused()
        value = value[1:]
    if len(value) > 32:
        raise _refused()
    if int.from_bytes(value, "big") >= ORDER:
        raise _refused()
    return bytes(32 - len(value)) + value, pos + 2 + size


def _refused() -> VerifyError:
    return VerifyError("image signature is not strict DER", status.IM11)
