"""The dates of an X.509 certificate, for TLS libraries that leave them to their caller."""

from fota_wire.errors import FormatError

SEQUENCE, VERSION, UTC_TIME = 0x30, 0xA0, 0x17
TO_MARCH_1_0 = 719_468  # days from 0000-03-01 to 1970-01-01


def validity(der: "bytes | memoryview") -> "tuple[int, int]":
    """Return when the certificate begins and ends to be valid, in s since 1970.

    Raises:
        FormatError: it is no certificate.
    """
    try:
        _, at, _ = _head(der, 0)  # Certificate
        _, at, _ = _head(der, at)  # TBSCertificate
        for number in range(4):  # version, serial number, algorithm, issuer
            tag, _, end = _head(der, at)
            at = end if number or tag == VERSION else at
        _, at, _ = _head(der, at)
        begin, at = _time(der, at)
        return begin, _time(der, at)[0]
    except (IndexError, ValueError) as exc:
        raise FormatError("certificate: no dates are found in it", "x509") from exc


def _head(der: "bytes | memoryview", at: int) -> "tuple[int, int, int]":
    """Return (tag, where the content begins, where it ends)."""
    length = der[at + 1]
    start = at + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(bytes(der[at + 2 : start]), "big")
    return der[at], start, start + length


def _time(der: "bytes | memoryview", at: int) -> "tuple[int, int]":
    """Return a time in s since 1970, and where it ends."""
    tag, start, end = _head(der, at)
    text = bytes(der[start:end])
    if tag == UTC_TIME:
        text = (b"19" if text[0] >= 0x35 else b"20") + text
    year, month = int(text[:4]), int(text[4:6])
    day, hour, minute, second = [int(text[place : place + 2]) for place in (6, 8, 10, 12)]
    if month < 3:  # years of this reckoning begin in March
        year, month = year - 1, month + 12
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 1
    return (days - TO_MARCH_1_0) * 86_400 + hour * 3600 + minute * 60 + second, end
