"""JSON that people write: what it says twice it does not say."""

import pytest

from fota_wire.errors import InputError
from fota_wire.host_json import read_json


@pytest.mark.parametrize(
    "text",
    ['{"confirmed": "90%", "confirmed": "80%"}', '[{"a": {"confirmed": 1, "b": 2, "confirmed": 1}}]'],
)
def test_field_that_is_there_twice_has_no_value(text: str) -> None:
    with pytest.raises(InputError, match=r"^p\.json: says 'confirmed' twice$"):
        read_json(text, "p.json")


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a": 1} x', b"NaN"])
def test_what_is_no_json_is_refused_in_one_line(raw: bytes) -> None:
    with pytest.raises(InputError, match=r"^p\.json: not JSON$"):
        read_json(raw, "p.json")


def test_json_is_what_it_says() -> None:
    assert read_json(b'{"a": [1, {"a": null}]}', "p.json") == {"a": [1, {"a": None}]}
