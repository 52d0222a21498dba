"""A client of the server's operator plane: standard library only, nothing to install for CI and laptops."""

import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from fota_wire.errors import FotaError, InputError, StorageError, TransportError, VerifyError
from fota_wire.files import name_of, read_text
from fota_wire.host_address import fault
from fota_wire.host_print import printable

TIMEOUT_S = 30
PAGE = 1000
UPLOAD_CHUNK = 65536
MAX_ANSWER = 64 << 20
MAX_LINE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorClient:
    """One server's operator plane; ``ca`` is a PEM file, or None for the system's own authorities;
    ``token`` is empty where nobody has to say who they are.
    """

    url: str
    token: str
    ca: Path | None

    def get(self, path: str, **query: str | None) -> dict[str, Any]:
        """Return the answer to a GET below ``/api/v1/``; queries that are None are left out.

        Raises:
            TransportError: the server cannot be reached (exit code 4).
            VerifyError, InputError, StorageError: it said no; the message is its own.
        """
        pairs = "&".join(
            f"{name}={quote(value, safe='')}" for name, value in query.items() if value is not None
        )
        return self._exchange("GET", path + ("?" + pairs if pairs else ""), None)

    def pages(
        self, path: str, name: str, *, most: int | None = None, **query: str | None
    ) -> Iterator[dict[str, Any]]:
        """Yield what the field ``name`` lists, page after page, at most ``most`` items.

        Raises:
            TransportError, VerifyError, InputError, StorageError: as ``get``; the server's list is none.
        """
        after: str | None = None
        given = 0
        while True:
            limit = None if most is None else str(min(most - given, PAGE))
            page = self.get(path, after=after, limit=limit, **query)
            items = page.get(name)
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise TransportError(f"{self.url}: the server's list of {name} is none")
            yield from items[: None if most is None else most - given]
            given += len(items)
            if page.get("next") is None or (most is not None and given >= most):
                return
            if str(page["next"]) == after:
                raise TransportError(f"{self.url}: the server's list of {name} has no end")
            after = str(page["next"])

    def post(
        self, path: str, body: dict[str, object] | bytes | None = None, *, shown_by: str = ""
    ) -> dict[str, Any]:
        """Return the answer to a POST of JSON or bytes; raises as ``get``.

        ``shown_by``: the command that shows whether it was carried out, for whoever gets no answer.
        """
        raw = json.dumps(body).encode() if isinstance(body, dict) else body or b""
        return self._exchange("POST", path, raw, shown_by=shown_by)

    def delete(self, path: str, *, shown_by: str = "") -> dict[str, Any]:
        """Return the answer to a DELETE; as ``post``."""
        return self._exchange("DELETE", path, b"", shown_by=shown_by)

    def upload(self, path: str, data: bytes, progress: Callable[[int], None]) -> dict[str, Any]:
        """Return the answer to a PUT of ``data``; ``progress`` is told what went out; raises as ``get``."""
        return self._exchange("PUT", path, data, progress)

    def stream(self, path: str, last: int | None, **query: str | None) -> Iterator[dict[str, Any] | None]:
        """Yield what a stream of events tells behind the event ``last``, None: from now on; None for a beat.
        It ends when the server ends it.

        Raises:
            TransportError: the server cannot be reached, or broke off. Others: as ``get``.
        """
        pairs = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items() if value)
        headers = {"authorization": f"Bearer {self.token}"}
        if last is not None:
            headers["last-event-id"] = str(last)
        connection = self._connect()
        try:
            connection.request("GET", f"/api/v1/{path}" + (f"?{pairs}" if pairs else ""), headers=headers)
            response = connection.getresponse()
            if response.status != 200:
                _read_answer(self.url, response.status, response.read(MAX_ANSWER))
            for line in iter(lambda: response.readline(MAX_LINE), b""):
                if line.startswith(b"data: "):
                    yield dict(printable(json.loads(line[6:])))
                elif line.startswith(b":"):
                    yield None
        except (OSError, ValueError, http.client.HTTPException) as exc:
            why = _why(exc) if isinstance(exc, OSError | http.client.HTTPException) else "it is none"
            raise TransportError(f"cannot hear events of {self.url}: {why}") from exc
        finally:
            connection.close()

    def fetch(self, path: str) -> bytes:
        """Return the answer to a GET of what is no JSON; raises as ``get``."""
        status, raw = self._ask("GET", path, None)
        if status != 200:
            _read_answer(self.url, status, raw)
        return raw

    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | None,
        progress: Callable[[int], None] | None = None,
        shown_by: str = "",
    ) -> dict[str, Any]:
        return _read_answer(self.url, *self._ask(method, path, body, progress, shown_by))

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None,
        progress: Callable[[int], None] | None = None,
        shown_by: str = "",
    ) -> tuple[int, bytes]:
        connection = self._connect()
        handed_over = False
        try:
            connection.putrequest(method, "/api/v1/" + path)
            if self.token:
                connection.putheader("authorization", f"Bearer {self.token}")
            if body is not None:
                connection.putheader("content-length", str(len(body)))
            connection.endheaders()
            if body:
                _send(connection, body, progress)
            handed_over = True
            response = connection.getresponse()
            raw = response.read(MAX_ANSWER)
        except ssl.SSLCertVerificationError as exc:
            raise TransportError(
                f"{self.url}: certificate not trusted ({exc.verify_message}); name its authority with --ca"
            ) from exc
        except (OSError, http.client.HTTPException) as exc:
            if handed_over:
                raise _unanswered(self.url, method, exc, shown_by) from exc
            raise TransportError(
                f"cannot reach {self.url}: {_why(exc)}; is the server running there?"
            ) from exc
        finally:
            connection.close()
        return response.status, raw

    def _connect(self) -> http.client.HTTPSConnection:
        wrong = fault(self.url)
        if wrong:
            raise InputError(f"--server {self.url}: {wrong}")
        parts = urlsplit(self.url)
        context = ssl.create_default_context(cadata=None if self.ca is None else _authorities(self.ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 8444, context=context, timeout=TIMEOUT_S
        )


def _authorities(path: Path) -> str:
    """Return the certificates in a PEM file.

    Raises:
        InputError: there are none; an empty text would be the system's own.
    """
    text = read_text(path, 1 << 20)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as exc:
        raise InputError(f"--ca {name_of(path)}: not a certificate file in PEM") from exc
    return text


def _send(
    connection: http.client.HTTPSConnection, body: bytes, progress: Callable[[int], None] | None
) -> None:
    for start in range(0, len(body), UPLOAD_CHUNK):
        chunk = body[start : start + UPLOAD_CHUNK]
        try:
            connection.send(chunk)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            return  # the server has said no already: its answer tells why
        if progress:
            progress(len(chunk))


def _unanswered(url: str, method: str, exc: Exception, shown_by: str) -> TransportError:
    """Return the error of a request that the server has, and gave no answer to."""
    if method == "GET":
        return TransportError(f"{url} took the request and did not answer: {_why(exc)}; try again")
    look = f"; '{shown_by}' shows it" if shown_by else ""
    return TransportError(
        f"{url} took the request and did not answer: {_why(exc)}; it may still be carried out{look}"
    )


def _read_answer(url: str, status: int, raw: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(raw)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise TransportError(
            f"{url}: answered {status} without JSON; is that the operator plane of a fota server?"
        )
    if status < 400:
        return dict(printable(answer))
    error = answer.get("error")
    error = error if isinstance(error, dict) else {}
    raise _error_kind(status)(
        str(error.get("message", f"the server answered {status}")), str(error.get("code", ""))
    )


def _error_kind(status: int) -> type[FotaError]:
    if status in (401, 403, 409):
        return VerifyError
    if status == 507:
        return StorageError
    return InputError if status < 500 else TransportError


def _why(exc: Exception) -> str:
    if isinstance(exc, socket.gaierror):
        return "no such host"
    if isinstance(exc, TimeoutError):
        return f"no answer in {TIMEOUT_S} s"
    if isinstance(exc, ssl.SSLError):
        return f"TLS: {(exc.reason or 'failed').lower().replace('_', ' ')}"
    if isinstance(exc, OSError):
        return (exc.strerror or type(exc).__name__).lower()
    return "the answer broke off"
