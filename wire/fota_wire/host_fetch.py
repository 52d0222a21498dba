"""A JSON document from somebody else's HTTPS server: no redirects, bounded; by HTTP to this machine only."""

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from fota_wire.errors import InputError, TransportError

LIMIT = 1 << 20
WAIT_S = 15
HERE = frozenset(("localhost", "127.0.0.1", "::1"))


def require_url(url: str, what: str) -> None:
    """Return if ``url`` is one to ask.

    Raises:
        InputError: it is neither https://HOST[:PORT]/PATH nor http:// to this machine.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises where it is none
        fine = bool(parts.hostname) and not parts.username and not parts.fragment and url.isascii()
    except ValueError:
        fine = False
    if not fine or not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in HERE)):
        raise InputError(f"{what}: https://HOST/PATH, or http:// to this machine, not {url[:80]!a}")


def fetch(url: str, form: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    """Return (status, object) of a GET, or of a POST of ``form``.

    Raises:
        InputError: no such URL. TransportError: nobody answers there, or not with an object.
    """
    require_url(url, "URL")
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection = (
        http.client.HTTPConnection(host, parts.port, timeout=WAIT_S)
        if parts.scheme == "http"
        else http.client.HTTPSConnection(
            host, parts.port, timeout=WAIT_S, context=ssl.create_default_context()
        )
    )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"accept": "application/json"}
    try:
        if form is None:
            connection.request("GET", path, headers=headers)
        else:
            headers["content-type"] = "application/x-www-form-urlencoded"
            connection.request("POST", path, urlencode(form).encode(), headers)
        response = connection.getresponse()
        raw = response.read(LIMIT + 1)
    except (OSError, http.client.HTTPException) as exc:
        why = getattr(exc, "verify_message", None) or getattr(exc, "strerror", None) or type(exc).__name__
        raise TransportError(f"cannot reach {parts.scheme}://{parts.netloc}: {why}") from exc
    finally:
        connection.close()
    try:
        answer = json.loads(raw) if len(raw) <= LIMIT else None
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise TransportError(f"{url}: answered {response.status} without a JSON object")
    return response.status, answer
