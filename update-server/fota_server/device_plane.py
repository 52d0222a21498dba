"""The device plane (SPEC 5.5): check-in and payload, CBOR over mutual TLS.

Every answer that is not 200, 206 or 416 carries ``{1: code, 2: message}`` and closes the connection.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fota_server import renewals, request_id, schema, telemetry
from fota_server.admission import KEY_COLUMNS, Forbidden, refuse
from fota_server.artifacts import ArtifactStore, is_digest, place
from fota_server.at_once import AtOnce
from fota_server.checkins import Busy, CheckIns
from fota_server.connection import Gate, OnUnread
from fota_server.crypto import SignerUnavailable
from fota_server.database import Database, DatabaseUnavailable
from fota_server.devices import may_fetch
from fota_server.identity import Identity, IdentityError, claimed_name, identify
from fota_server.methods import allow
from fota_server.metrics import PAYLOAD_BYTES
from fota_server.pace import CHECK_IN, HANDSHAKE, RANGE, Pace
from fota_server.quick import Reader, Statement
from fota_server.ranges import Part, choose_part
from fota_server.refusals import Refusals, described
from fota_server.reports import read_request
from fota_server.retirement import Retired
from fota_wire import certify, checkin
from fota_wire.errors import FormatError, FotaError, InputError, StorageError, VerifyError

log = logging.getLogger("fota.server")

BODY_S = 10.0
TOO_OFTEN = "too-often", "asks more often than a device has to, and is slowed down"
SLOWEST_RATE = 256  # bytes per second of the slowest link that is promised to work
STALL_S = 30.0
FETCH_S = 10.0
"""How long a device waits for an artifact that is not on this machine yet; then it is told to come again."""
CHUNK = 65536
PAYLOAD = "/v1/payload/"
CHECKIN = "/v1/checkin"
RETRY_AFTER_S = 30
HEADERS = ((b"x-content-type-options", b"nosniff"),)
"""Of every answer. No browser has a device's certificate, and slow links wait for each byte."""
_CBOR = ((b"content-type", checkin.CONTENT_TYPE.encode()), (b"cache-control", b"no-store"))


class TooLarge(FotaError):
    """The body is longer than the plane allows."""


class TooSlow(FotaError):
    """The body did not arrive in time."""


class NotFound(FotaError):
    """Nothing is here."""


_STATUS: dict[type[FotaError], int] = {
    IdentityError: 401,
    Forbidden: 403,
    NotFound: 404,
    TooSlow: 408,
    TooLarge: 413,
    FormatError: 400,
    VerifyError: 403,
    Busy: 503,
    DatabaseUnavailable: 503,
    SignerUnavailable: 503,
    StorageError: 503,
}


def error_body(code: str, message: str) -> tuple[bytes, bytes]:
    """Return content type and body of an error."""
    return checkin.CONTENT_TYPE.encode(), checkin.encode_error(code, message)


def _error(status: int, code: str, message: str) -> Response:
    content_type, body = error_body(code, message)
    headers = {"content-type": content_type.decode(), "connection": "close"}
    if status == 503:
        headers["retry-after"] = str(RETRY_AFTER_S)
    return Response(body, status, headers)


async def _nothing(request: Request) -> Response:
    """POST /v1/checkin (SPEC 5.5): answered before the framework is asked, which knows the other methods."""
    raise NotFound(f"{request.method} is not for the framework", "not-found")


async def _on_mistake(_request: Request, _exc: Exception) -> Response:
    return _error(500, "internal", request_id.mistake())  # the listener logs it


def gate(retired: Retired, refusals: Refusals) -> Gate:
    """Return what looks at the certificate of every connection: a retired device's is told so and closed."""

    def refusal(tls: Mapping[object, object], address: str) -> tuple[int, str, str] | None:
        try:
            device_id = identify({"extensions": {"tls": tls}}).device_id
        except IdentityError:
            return None  # the application says what is wrong with it
        if device_id not in retired:
            return None
        refusals.note(device_id, "retired", address, "the device is retired", proved=True)
        return 403, "retired", f"device {device_id} is retired"

    return refusal


def note_unread(refusals: Refusals) -> OnUnread:
    """Return what leaves a trace of that which no handler sees, since it is no request."""

    def note(tls: Mapping[object, object], address: str, code: str, why: str) -> None:
        scope = {"extensions": {"tls": tls}}
        try:
            device_id, proved = identify(scope).device_id, True
        except IdentityError:
            device_id, proved = claimed_name(scope), False
        refusals.note(device_id, code, address, why, proved=proved)

    return note


def admitted_device() -> Select[Any]:
    """Return what finds the row of ``device_id`` with all that `admission.refuse` looks at."""
    devices, retirements, keys = schema.devices, schema.retirements, schema.device_keys
    return (
        select(devices, retirements.c.at.label("retired_at"), *KEY_COLUMNS)
        .outerjoin(retirements, retirements.c.device_id == devices.c.id)
        .outerjoin(keys, keys.c.device_id == devices.c.id)
        .where(devices.c.id == bindparam("device_id", ""))
    )


def payload_asked() -> Select[Any]:
    """Return `admitted_device`, and ``may_fetch``: whether it may have ``file_digest``."""
    return admitted_device().add_columns(may_fetch().exists().label("may_fetch"))


class DevicePlane:
    """Handlers of the device plane, over what they need."""

    def __init__(
        self,
        database: Database,
        checkins: CheckIns,
        artifacts: ArtifactStore,
        refusals: Refusals,
        reader: Reader,
        auto_admission: bool,
    ) -> None:
        self._database = database
        self._checkins = checkins
        self._artifacts = artifacts
        self._refusals = refusals
        self._reader = reader
        self._pace = Pace()
        self._fetch = Statement(payload_asked())
        self._auto_admission = auto_admission

    def app(self, *more: BaseRoute) -> ASGIApp:
        """Return the ASGI application: check-ins and payloads go straight to their handlers, as they are
        nearly all there is; what else there is, and every refusal, goes by the framework. ``more``: served on
        this plane, too.
        """
        others = self._others(more)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["method"] in ("GET", "HEAD") and scope["path"].startswith(PAYLOAD):  # HEAD: a front
                await self._send_payload(scope, receive, send)
                return
            if scope["path"] != CHECKIN or scope["method"] != "POST":
                await others(scope, receive, send)
                return
            try:
                body = await self.checkin(scope, receive)
            except FotaError as exc:
                await (await self._on_fota_error(Request(scope), exc))(scope, receive, send)
            except Exception as exc:
                await (await _on_mistake(Request(scope), exc))(scope, receive, send)
                raise
            else:
                headers = [*_CBOR, (b"content-length", b"%d" % len(body))]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": body})

        return app

    def _others(self, more: Sequence[BaseRoute]) -> Starlette:
        app = Starlette(
            routes=[*routes(self), *more],
            exception_handlers={
                FotaError: self._on_fota_error,
                HTTPException: self._on_http_error,
                Exception: _on_mistake,
            },
        )
        app.router.redirect_slashes = False  # a redirect would be made of the client's Host
        return app

    async def _on_fota_error(self, request: Request, exc: Exception) -> Response:
        return self.refused(request.scope, exc)

    def refused(self, scope: Scope, exc: BaseException) -> Response:
        """Return the answer to what was refused, and leave a trace of it."""
        status = next((code for kind, code in _STATUS.items() if isinstance(exc, kind)), 500)
        given = getattr(exc, "code", None)
        code = given if isinstance(given, str) else type(exc).__name__.lower()
        if status >= 500:
            log.error("device plane: %s", exc)
            return _error(status, "unavailable", "the server cannot answer now; try again later")
        self._note(scope, code, str(exc))
        return _error(status, code, str(exc))

    async def _on_http_error(self, request: Request, exc: Exception) -> Response:
        """Answer what asks for nothing that is here: no device does, so it keeps pace, and leaves a trace."""
        status = exc.status_code if isinstance(exc, HTTPException) else 500
        code, why = {404: "not-found", 405: "method"}.get(status, "http"), "there is nothing here"
        with contextlib.suppress(IdentityError):
            await self._keep_pace(request.scope, identify(request.scope), CHECK_IN)
        self._note(request.scope, code, why)
        answer = _error(status, code, why)
        answer.headers.update(allow(request, status))
        return answer

    def _note(self, scope: Scope, code: str, why: str) -> None:
        """Leave a trace of a refusal; a front that was refused a grant asks once more, for the device."""
        if "fota.grant" in scope["extensions"]:
            return
        address = scope["client"][0] if scope.get("client") else ""
        try:
            identity = identify(scope)
        except IdentityError:
            chain = scope["extensions"]["tls"].get("client_cert_chain") or [""]
            why = "; ".join(filter(None, (why, described(chain[0]))))
            self._refusals.note(claimed_name(scope), code, address, why, proved=False)
            return
        digest = hashlib.sha256(identity.certificate).hexdigest()[:16]
        self._refusals.note(
            identity.device_id, code, address, f"{why}; certificate SHA-256 {digest}", proved=True
        )

    def visited(self, tls: Mapping[object, object], address: str) -> None:
        """Count a handshake of a device: what it asks next waits, and too many leave a trace."""
        scope = {"extensions": {"tls": tls}, "client": (address, 0)}
        with contextlib.suppress(IdentityError):
            if self._pace.wait(identify(scope).device_id, HANDSHAKE, asyncio.get_running_loop().time()):
                self._note(scope, *TOO_OFTEN)

    async def _keep_pace(self, scope: Scope, identity: Identity, cost: float) -> None:
        """Let a device that asks too often wait, and leave a trace of it."""
        wait_s = self._pace.wait(identity.device_id, cost, asyncio.get_running_loop().time())
        if wait_s:
            self._note(scope, *TOO_OFTEN)
            await asyncio.sleep(wait_s)

    async def checkin(self, scope: Scope, receive: Receive) -> bytes:
        """Return the body of the answer to POST /v1/checkin."""
        identity = identify(scope)
        await self._keep_pace(scope, identity, CHECK_IN)
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        raw = await receive_body(receive, length.decode("latin-1"), checkin.MAX_REQUEST, BODY_S)
        parsed = read_request(raw)
        telemetry.sort_out(parsed)
        return await self._checkins.answer(identity, parsed)

    def ask(self, scope: Scope, body: bytes) -> "asyncio.Future[bytes]":
        """As `checkin`, of one that came whole; what that would refuse, or have wait, is refused here."""
        identity = identify(scope)
        if len(body) > checkin.MAX_REQUEST:
            raise TooLarge("longer than a check-in", "too-large")
        now = asyncio.get_running_loop().time()
        if self._pace.is_late(identity.device_id, now, CHECK_IN):
            raise Busy("it has to wait")
        parsed = read_request(body)
        telemetry.sort_out(parsed)
        answer = self._checkins.answer(identity, parsed)
        self._pace.wait(identity.device_id, CHECK_IN, now)
        return answer

    def at_once(self) -> AtOnce:
        """Return what of this plane is answered at once."""
        return AtOnce(CHECKIN.encode(), _CBOR, self.ask, self.refused)

    async def certificate(self, request: Request) -> Response:
        """POST /v1/certificate (SPEC 5.6)."""
        identity = identify(request.scope)
        await self._keep_pace(request.scope, identity, CHECK_IN)
        order = certify.parse_request(await read_body(request, certify.MAX_BODY, BODY_S))
        body = await self._database.write(self._certificate, identity, order)
        return Response(body, headers={"content-type": checkin.CONTENT_TYPE, "cache-control": "no-store"})

    def _certificate(self, connection: Connection, identity: Identity, order: bytes | None) -> bytes:
        row = connection.execute(admitted_device(), {"device_id": identity.device_id}).first()
        self._require_admitted(row, identity, proving=order is None)
        if row is None:
            raise Forbidden("check in first", "unknown-device")
        return renewals.answer(connection, identity, row, order)

    def _require_admitted(self, row: Any, identity: Identity, *, proving: bool = False) -> None:  # noqa: ANN401 - a row
        refusal = refuse(row, identity, self._auto_admission, proving=proving)
        if refusal:
            raise refusal

    async def _send_payload(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        try:
            answer = await self.payload(request)
        except FotaError as exc:
            answer = await self._on_fota_error(request, exc)
        except Exception as exc:
            await (await _on_mistake(request, exc))(scope, receive, send)
            raise
        await answer(scope, receive, send)

    async def payload(self, request: Request) -> Response:
        """GET /v1/payload/<sha256 hex>: one read of the database, no write, however small the range."""
        scope = request.scope
        identity, digest = identify(scope), scope["path"][len(PAYLOAD) :]
        await self._keep_pace(scope, identity, RANGE)
        if not is_digest(digest):
            raise NotFound("a payload is named by 64 lower-case hex digits", "not-found")
        asked = {"device_id": identity.device_id, "file_digest": digest}
        row = await self._reader.first(self._fetch, **asked)
        self._require_admitted(row, identity)
        if row is None or not row.may_fetch:
            raise Forbidden(f"payload {digest[:16]} is not assigned to this device", "not-assigned")
        return await send_artifact(request, self._artifacts, digest)


def routes(plane: DevicePlane | type[DevicePlane]) -> list[Route]:
    """Return what the device plane serves; of the class: to be described."""
    return [
        Route(CHECKIN, _nothing, methods=["POST"]),
        Route("/v1/certificate", plane.certificate, methods=["POST"]),
        Route(PAYLOAD + "{digest}", plane.payload, methods=["GET"]),
    ]


async def send_artifact(request: Request, artifacts: ArtifactStore, digest: str) -> Response:
    """Answer with an artifact, or the part of it that ``request`` asks for; its digest is its ETag. A front
    that has the files sends them itself, where it would send the same.

    Raises:
        StorageError: it is in the catalog and not where artifacts are; or not here within `FETCH_S`, and is
            on its way.
    """
    fd = await _opened(artifacts, digest)
    etag = f'"{digest}"'
    size = os.fstat(fd).st_size
    part = choose_part(request.headers.get("range"), request.headers.get("if-range"), etag, size)
    headers = {
        "content-type": "application/octet-stream",
        "content-length": str(part.end - part.start),
        "accept-ranges": "bytes",
        "etag": etag,
        "cache-control": "private, max-age=31536000, immutable",
    }
    files = request.scope["extensions"].get("fota.files", {}).get("at")
    if files and _plainly_asked(request.headers, part, etag):
        os.close(fd)
        PAYLOAD_BYTES.inc(part.end - part.start if request.method == "GET" else 0)
        del headers["content-length"]
        return Response(None, 200, headers | {"x-accel-redirect": f"{files}/{place(digest)}"})
    if part.content_range:
        headers["content-range"] = part.content_range
    return PayloadResponse(fd, part, headers)


_PLAIN_RANGE = re.compile(r"bytes=(\d+-\d*|-\d+)")
_CONDITIONS = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")


def _plainly_asked(headers: Mapping[str, str], part: Part, etag: str) -> bool:
    """Tell whether nginx answers this as we do: the whole file, or one range that is there."""
    asked = headers.get("range")
    if any(name in headers for name in _CONDITIONS):
        return False
    other = headers.get("if-range", etag) != etag
    return asked is None or bool(_PLAIN_RANGE.fullmatch(asked) and (part.status == 206 or other))


async def _opened(artifacts: ArtifactStore, digest: str) -> int:
    """Return the file, brought onto this machine if it is not here; who waits for that holds no thread."""
    fd = artifacts.at_hand(digest)
    if fd is None:
        fetched = asyncio.wrap_future(artifacts.fetch(digest))
        try:
            async with asyncio.timeout(FETCH_S):
                await asyncio.shield(fetched)
        except TimeoutError as exc:
            raise StorageError(f"artifact {digest} is still on its way from {artifacts.where}") from exc
        except (InputError, VerifyError) as exc:
            raise StorageError(f"of the catalog: {exc}") from exc
        fd = artifacts.at_hand(digest)
    if fd is None:
        raise StorageError(f"artifact {digest} went as it came: the disk has no room for it")
    return fd


class PayloadResponse(Response):
    """A part of an open file; a client that takes none of it for ``STALL_S`` seconds is cut off."""

    def __init__(self, fd: int, part: Part, headers: dict[str, str]) -> None:
        super().__init__(None, part.status, headers)
        self._fd = fd
        self._part = part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the part and close the file."""
        begin = position = self._part.start if scope["method"] != "HEAD" else self._part.end
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            while position < self._part.end:
                size = min(CHUNK, self._part.end - position)
                data = _read_cached(self._fd, size, position)
                if data is None:
                    data = await asyncio.to_thread(os.pread, self._fd, size, position)
                if not data:
                    raise StorageError("artifact is shorter than it was")
                position += len(data)
                more = position < self._part.end
                async with asyncio.timeout(STALL_S):
                    await send({"type": "http.response.body", "body": data, "more_body": more})
            if self._part.end == self._part.start or scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            log.info(
                "payload: client took nothing for %g s", STALL_S
            )  # returning unfinished closes the connection
        finally:
            PAYLOAD_BYTES.inc(position - begin)
            os.close(self._fd)


def _read_cached(fd: int, size: int, position: int) -> bytes | None:
    """Return bytes of a file that are in memory; None if the disk would have to be waited for."""
    buffer = bytearray(size)
    try:
        count = os.preadv(fd, [buffer], position, os.RWF_NOWAIT)
    except (OSError, AttributeError):  # not in memory, or no such call on this system
        return None
    return bytes(memoryview(buffer)[:count]) if count else None


def body_time_s(declared: str, max_size: int, deadline_s: float) -> float:
    """Return how long a body may take: ``deadline_s``, and what its length takes at `SLOWEST_RATE`."""
    size = int(declared[:18]) if declared.isascii() and declared.isdigit() else max_size
    return deadline_s + min(size, max_size) / SLOWEST_RATE


async def read_body(request: Request, max_size: int, deadline_s: float) -> bytes:
    """Return the body of a request, as `receive_body`."""
    return await receive_body(
        request.receive, request.headers.get("content-length", ""), max_size, deadline_s
    )


async def receive_body(receive: Receive, declared: str, max_size: int, deadline_s: float) -> bytes:
    """Return a body of at most ``max_size`` bytes that arrives in its `body_time_s`; ``declared``: the
    Content-Length, or "".

    Raises:
        TooLarge, TooSlow: as named; the connection is of no further use.
        FormatError: the client went away in the middle.
    """
    if declared.isascii() and declared.isdigit() and int(declared[:18]) > max_size:
        raise TooLarge(f"body is longer than {max_size} bytes", "too-large")
    body = bytearray()
    time_s = body_time_s(declared, max_size, deadline_s)
    more = True
    try:
        async with asyncio.timeout(time_s):
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise FormatError("the connection broke off within the body", "broken-off")
                body += message["body"]
                if len(body) > max_size:
                    raise TooLarge(f"body is longer than {max_size} bytes", "too-large")
                more = message["more_body"]
    except TimeoutError as exc:
        raise TooSlow(f"the body did not arrive in {time_s:.0f} s", "too-slow") from exc
    return bytes(body)
