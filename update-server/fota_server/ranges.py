"""HTTP range requests (RFC 9110 section 14), one range at a time; pure."""

import re
from dataclasses import dataclass

_ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Bytes ``start`` to ``end`` (exclusive) of a file of ``size`` bytes; ``status`` is 200, 206 or 416."""

    status: int
    start: int
    end: int
    size: int

    @property
    def content_range(self) -> str | None:
        """Return the Content-Range field, if this answer has one."""
        if self.status == 206:
            return f"bytes {self.start}-{self.end - 1}/{self.size}"
        return f"bytes */{self.size}" if self.status == 416 else None


def choose_part(range_field: str | None, if_range: str | None, etag: str, size: int) -> Part:
    """Return what to send of a file with a strong ``etag``.

    A Range that is malformed or names several ranges is ignored, as the standard allows; so is one whose
    If-Range is not this very ETag: the file that the client holds a piece of is another one.
    """
    whole = Part(status=200, start=0, end=size, size=size)
    match = _ONE_RANGE.fullmatch(range_field.replace(" ", "")) if range_field else None
    if match is None or (if_range is not None and if_range != etag):
        return whole
    first, last = match.groups()
    if not first and not last:
        return whole
    if not first:  # the last n bytes
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return whole
    if start >= size or start >= end:
        return Part(status=416, start=0, end=0, size=size)
    return Part(status=206, start=start, end=end, size=size)
