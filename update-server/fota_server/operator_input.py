"""Reading what operators send: JSON bodies and query parameters, checked field by field."""

import re
import secrets
from collections.abc import Mapping
from typing import Any

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import JSONResponse

from fota_server.device_plane import read_body
from fota_server.operation import of
from fota_server.orders import InWaves
from fota_server.plan import ROLLBACK, UPDATE, Scope
from fota_server.wave_policy import parse_policy
from fota_wire import host_json
from fota_wire.errors import InputError

MAX_JSON = 1 << 20
MAX_TEXT = 256
"""Characters of a name or another text, if its own rule does not say less."""
MAX_POLICY = 8192
BODY_S = 30.0
MAX_PAGE = 1000
_SEED, _DIGEST = re.compile(r"[A-Za-z0-9]{1,64}"), re.compile(r"[0-9a-f]{64}")


async def read_json(request: Request, limit: int = MAX_JSON) -> dict[str, Any]:
    """Return the JSON object in a request's body; no other fields than its operation has.

    Raises:
        InputError: not that.
    """
    allowed = set(of(request).body or ())
    body = _strictly(await read_body(request, limit, BODY_S), "the body", "json")
    if not isinstance(body, dict) or not set(body) <= allowed:
        raise InputError(f"the body has to be an object of {', '.join(sorted(allowed))}", "json")
    return body


def _strictly(raw: bytes | str, what: str, code: str) -> Any:  # noqa: ANN401 - whatever JSON says
    value = host_json.read_json(raw, what, code)
    try:
        raw_texts(value)
    except (ValueError, RecursionError) as exc:
        raise InputError(f"{what}: half a character", code) from exc
    return value


def raw_texts(value: object) -> None:
    """Return if every text of a JSON value can be said again: JSON can write half a character (RFC 8259 8.2).

    Raises:
        ValueError: one cannot.
    """
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, dict):
        for name, item in value.items():
            raw_texts(name)
            raw_texts(item)
    elif isinstance(value, list):
        for item in value:
            raw_texts(item)


def text_of(body: Mapping[str, Any], name: str, limit: int = MAX_TEXT) -> str | None:
    """Return the text in a field, or None if it is not there.

    Raises:
        InputError: something else is there, an empty text, or one of more than ``limit`` characters.
    """
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or not 1 <= len(value) <= limit):
        raise InputError(f"{name} has to be a text of 1 to {limit} characters", "json")
    return value


def name_of(request: Request, name: str) -> str:
    """Return a part of the path that names something.

    Raises:
        InputError: nothing can have that name.
    """
    value = str(request.path_params[name])
    if len(value) > MAX_TEXT or not value.isprintable():
        raise InputError(f"nothing can have this {name}: {value[:32]!r}", "unknown-name")
    return value


def device_of(request: Request) -> str:
    """Return the id of a device in the path, in small letters as certificates have it; as `name_of`."""
    return name_of(request, "id").lower()


class _RowId(Convertor[int]):
    """A row's number in a path; a database has none of more digits."""

    regex = "[0-9]{1,18}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("row", _RowId())


def flag_of(body: dict[str, Any], name: str) -> bool:
    """Return the truth value in a field, False if it is not there.

    Raises:
        InputError: something else is there.
    """
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise InputError(f"{name} has to be true or false", "json")
    return value


def device_ids_of(body: dict[str, Any], name: str) -> list[str]:
    """Return the ids of devices in a field, at least one, in small letters.

    Raises:
        InputError: something else is there, or what is too long for a name.
    """
    value = body.get(name)
    if not isinstance(value, list) or not value:
        raise InputError(f"{name} has to be a list", "json")
    if not all(isinstance(item, str) and len(item) <= MAX_TEXT for item in value):
        raise InputError(f"{name} has to be a list of names", "json")
    return [item.lower() for item in value]


def scope_of(body: Mapping[str, Any], kind: str = UPDATE) -> Scope:
    """Return the devices that a body names: one, those of a group, or, to a rollback, ``since``: all that
    were given something since that time, in seconds since 1970; digits in a query.

    Raises:
        InputError: it names none, or several; or it is no such time.
    """
    device, group = text_of(body, "device"), text_of(body, "group")
    since = body.get("since") if kind == ROLLBACK else None
    if [device, group, since].count(None) != 2:
        also = ", or since when to take back" if kind == ROLLBACK else ""
        raise InputError(f"name either a device or a group{also}", "json")
    if since is None:
        return Scope(device=device.lower() if device else None, group=group)
    text = str(since)
    if isinstance(since, bool) or not (text.isascii() and text.isdigit()) or len(text) > 12:
        raise InputError("since has to be a time in seconds since 1970", "json")
    return Scope(device=None, group=None, since=int(text))


def waves_of(body: dict[str, Any]) -> InWaves | None:
    """Return how an order is to go in waves: by its policy, with a plan's seed and digest or a new seed.

    Raises:
        InputError: a plan's digest without its seed, or what is no policy, seed or digest.
    """
    if body.get("policy") is None:
        if body.get("seed") is not None or body.get("digest") is not None:
            raise InputError("seed and digest belong to a policy", "json")
        return None
    seed, digest = text_of(body, "seed", 64), text_of(body, "digest", 64)
    if digest is not None and (seed is None or not _DIGEST.fullmatch(digest)):
        raise InputError("digest has to be that of a plan, with the plan's seed", "json")
    if seed is not None and not _SEED.fullmatch(seed):
        raise InputError("seed has to be letters and digits", "json")
    return InWaves(policy=parse_policy(body["policy"]), seed=seed or secrets.token_hex(8), digest=digest)


def waves_asked(request: Request) -> InWaves | None:
    """Return the same from the query parameters policy (JSON) and seed."""
    text = query_text(request, "policy", MAX_POLICY)
    if text is None:
        return None
    policy = _strictly(text, "policy", "query")
    return waves_of({"policy": policy, "seed": query_text(request, "seed")})


def query_text(request: Request, name: str, limit: int = MAX_TEXT) -> str | None:
    """Return the text in a query parameter, or None.

    Raises:
        InputError: it is longer than ``limit``, or there twice.
    """
    text = request.query_params.get(name)
    if len(request.query_params.getlist(name)) > 1:
        raise InputError(f"{name} is there twice", "query")
    if text is not None and len(text) > limit:
        raise InputError(f"{name} is longer than {limit} characters", "query")
    return text


def number_of(request: Request, name: str, most: int, default: int, least: int = 0) -> int:
    """Return the number in a query parameter, or ``default``.

    Raises:
        InputError: not a number of ``least``..``most``.
    """
    text = query_text(request, name)
    if text is None:
        return default
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    if not digits or not least <= int(text) <= most:
        raise InputError(f"{name} has to be a number of {least} to {most}", "query")
    return int(text)


def limit_of(request: Request, most: int = MAX_PAGE) -> int:
    """Return how long a page may be: the parameter ``limit``, or ``most``. InputError: not 1..``most``."""
    return number_of(request, "limit", most, default=most, least=1)


def page(name: str, rows: list[dict[str, Any]], limit: int, key: str) -> JSONResponse:
    """Return a page of a list; ``next`` is the ``after`` of the page that follows, null: none does."""
    return JSONResponse({name: rows, "next": rows[-1][key] if len(rows) == limit else None})


def after_of(request: Request) -> str:
    """Return where a page begins: behind the name in the parameter ``after``, or at the first one."""
    return query_text(request, "after") or ""
