"""HTTP ranges, every limit at -1, 0, +1."""

import asyncio
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from fota_server.artifacts import FolderStore
from fota_server.device_plane import send_artifact
from fota_server.ranges import choose_part

ETAG = '"abc"'


@pytest.mark.parametrize(
    ("field", "status", "start", "end"),
    [
        (None, 200, 0, 100),
        ("bytes=0-", 206, 0, 100),
        ("bytes=0-0", 206, 0, 1),
        ("bytes=10-19", 206, 10, 20),
        ("bytes=98-", 206, 98, 100),
        ("bytes=99-", 206, 99, 100),
        ("bytes=100-", 416, 0, 0),
        ("bytes=0-98", 206, 0, 99),
        ("bytes=0-99", 206, 0, 100),
        ("bytes=0-100", 206, 0, 100),
        ("bytes=-1", 206, 99, 100),
        ("bytes=-100", 206, 0, 100),
        ("bytes=-101", 206, 0, 100),
        ("bytes=-0", 416, 0, 0),
        ("bytes=5-4", 200, 0, 100),
        ("bytes=-", 200, 0, 100),
        ("bytes=0-1,3-4", 200, 0, 100),
        ("lines=0-1", 200, 0, 100),
        ("bytes=1e3-", 200, 0, 100),
        ("bytes=" + "9" * 19 + "-", 200, 0, 100),
        ("bytes=" + "9" * 18 + "-", 416, 0, 0),
    ],
)
def test_range_selects_bytes(field: str | None, status: int, start: int, end: int) -> None:
    part = choose_part(field, None, ETAG, 100)
    assert (part.status, part.start, part.end) == (status, start, end)


@pytest.mark.parametrize(
    ("if_range", "status"),
    [(ETAG, 206), ('"other"', 200), ('W/"abc"', 200), ("Mon, 23 Nov 2026 00:00:00 GMT", 200), ("", 200)],
)
def test_if_range_lets_only_the_same_file_go_on(if_range: str, status: int) -> None:
    assert choose_part("bytes=10-", if_range, ETAG, 100).status == status


def test_content_range_names_part_and_size() -> None:
    assert choose_part("bytes=10-19", None, ETAG, 100).content_range == "bytes 10-19/100"
    assert choose_part("bytes=100-", None, ETAG, 100).content_range == "bytes */100"
    assert choose_part(None, None, ETAG, 100).content_range is None


def bytes_read() -> int:
    """Return how many bytes this process has read so far, from wherever."""
    (count,) = re.findall(r"^rchar: (\d+)$", Path("/proc/self/io").read_text(), re.MULTILINE)
    return int(count)


def test_range_reads_no_more_of_the_file_than_it_sends(tmp_path: Path) -> None:
    content = bytes(range(256)) * (64 << 10)
    digest = hashlib.sha256(content).hexdigest()
    store = FolderStore(tmp_path, len(content))
    store.prepare()
    store.path(digest).parent.mkdir(parents=True, exist_ok=True)
    store.path(digest).write_bytes(content)
    sent = bytearray()

    async def send(message: Any) -> None:
        sent.extend(message.get("body", b""))

    async def ask(start: int) -> None:
        scope = {
            "type": "http",
            "extensions": {},
            "method": "GET",
            "headers": [(b"range", b"bytes=%d-%d" % (start, start + 4095))],
        }
        await (await send_artifact(Request(scope), store, digest))(scope, None, send)  # type: ignore[arg-type]

    async def ask_all() -> int:
        await ask(0)
        sent.clear()
        before = bytes_read()
        for start in range(8 << 20, (8 << 20) + 64 * 4096, 4096):
            await ask(start)
        return bytes_read() - before

    read = asyncio.run(ask_all())
    assert bytes(sent) == content[8 << 20 : (8 << 20) + 64 * 4096]
    assert read < 2 * len(sent), "16 MiB lie there"
