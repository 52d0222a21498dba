"""Reading what operators send: JSON bodies and query parameters, checked field by field."""

import json
from typing import Any

from starlette.requests import Request

from fota_server.device_plane import read_body
from fota_server.rollouts import Scope
from fota_wire.errors import InputError

MAX_JSON = 1 << 20
BODY_S = 30.0


async def read_json(request: Request, allowed: set[str]) -> dict[str, Any]:
    """Return the JSON object in a request's body; no other fields than ``allowed``.

    Raises:
        InputError: not that.
    """
    raw = await read_body(request, MAX_JSON, BODY_S)
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as exc:
        raise InputError("the body is not JSON", "json") from exc
    if not isinstance(body, dict) or not set(body) <= allowed:
        raise InputError(f"the body has to be an object of {', '.join(sorted(allowed))}", "json")
    return body


def text_of(body: dict[str, Any], name: str) -> str | None:
    """Return the text in a field, or None if it is not there.

    Raises:
        InputError: something else is there, or an empty text.
    """
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise InputError(f"{name} has to be a text", "json")
    return value


def scope_of(body: dict[str, Any]) -> Scope:
    """Return the device or the group that a body names.

    Raises:
        InputError: it names both or neither.
    """
    device, group = text_of(body, "device"), text_of(body, "group")
    if (device is None) == (group is None):
        raise InputError("name either a device or a group", "json")
    return Scope(device=device, group=group)


def number_of(request: Request, name: str, limit: int, default: int | None = None) -> int:
    """Return the number in a query parameter, or ``default``, or else ``limit``.

    Raises:
        InputError: not a number of 0..``limit``.
    """
    text = request.query_params.get(name)
    if text is None:
        return limit if default is None else default
    if not (text.isascii() and text.isdigit()) or len(text) > 18 or int(text) > limit:
        raise InputError(f"{name} has to be a number up to {limit}", "query")
    return int(text)
