"""JSON that people and programs write for us (not for devices): what it says twice it does not say."""

import json
from typing import Any

from fota_wire.errors import InputError


def read_json(raw: bytes | str, name: str = "", code: str | None = None) -> Any:  # noqa: ANN401 - whatever JSON says
    """Return what JSON says.

    Raises:
        InputError: it is none (NaN and infinities are none, either), or says a field twice, of which there is
            no telling which one is meant; ``name`` says where, ``code`` is the error's.
    """

    where = f"{name}: " if name else ""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for field, value in pairs:
            if field in found:
                raise InputError(f"{where}says {ascii(field)[:40]} twice", code)
            found[field] = value
        return found

    def none(word: str) -> None:
        raise ValueError(word)

    try:
        return json.loads(raw, object_pairs_hook=once, parse_constant=none)
    except (ValueError, RecursionError) as exc:
        raise InputError(f"{where}not JSON", code) from exc
