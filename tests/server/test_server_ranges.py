"""HTTP ranges, every limit at -1, 0, +1."""

import pytest

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
