"""The operator plane: JSON under ``/api/v1``, bearer tokens with a role, every change in the audit trail.

What can be asked is in `operator_routes.py`, one row each; `fota server openapi` prints it.

Errors: ``{"error": {"code": ..., "message": ...}}``; 400 malformed, 401, 403, 404 unknown, 409 refused, 413,
507 disk full. Each answer names its request in ``X-Request-Id``, as the log does.
"""

import json
import logging
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fota_server import openapi, request_id, retirement, scopes, tokens
from fota_server.artifacts import ArtifactsAway, ArtifactStore
from fota_server.certificates import TlsFiles
from fota_server.crypto import Assigner
from fota_server.database import Database, DatabaseUnavailable
from fota_server.device_plane import TooLarge, TooSlow
from fota_server.methods import allow
from fota_server.metrics import count_refusal
from fota_server.oidc import NoRole, NotSignedIn, Provider, ProviderAway
from fota_server.operation import Operation
from fota_server.operator_approvals import ApprovalHandlers
from fota_server.operator_ddi import DdiHandlers
from fota_server.operator_devices import DeviceHandlers
from fota_server.operator_events import EventHandlers, TooManyStreams
from fota_server.operator_log import LogHandlers
from fota_server.operator_login import LoginHandlers
from fota_server.operator_orders import OrderHandlers
from fota_server.operator_releases import ReleaseHandlers
from fota_server.operator_routes import OPERATIONS
from fota_server.operator_server import NotReady, ServerHandlers
from fota_server.operator_webhooks import WebhookHandlers
from fota_server.planner import Planner
from fota_server.refusals import Refusals
from fota_server.release_log import LogKeys
from fota_server.standing import Standing
from fota_server.tokens import Operator, find_operator
from fota_server.trust import TrustChain
from fota_wire.errors import FotaError, InputError, StorageError, VerifyError
from fota_wire.status import label

log = logging.getLogger("fota.server")

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
"""Of every answer. No Strict-Transport-Security: it would bind whatever else this host serves by HTTP."""


class Unauthorized(FotaError):
    """No token, or none in force."""


class RoleTooLow(FotaError):
    """The token's role does not include this."""


NOBODY = Operator(name="nobody", role="none")


_STATUS: dict[type[FotaError], int] = {
    Unauthorized: 401,
    NotSignedIn: 401,
    RoleTooLow: 403,
    NoRole: 403,
    scopes.OutOfScope: 403,
    TooSlow: 408,
    TooLarge: 413,
    VerifyError: 409,
    InputError: 400,
    ArtifactsAway: 503,
    StorageError: 507,
    DatabaseUnavailable: 503,
    NotReady: 503,
    TooManyStreams: 503,
    ProviderAway: 503,
}


def error_body(code: str, message: str) -> tuple[bytes, bytes]:
    """Return content type and body of an error."""
    return b"application/json", json.dumps({"error": {"code": code, "message": message}}).encode()


def _error(status: int, code: str, message: str) -> JSONResponse:
    headers = {"connection": "close"} | ({"www-authenticate": "Bearer"} if status == 401 else {})
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


async def _on_fota_error(_request: Request, exc: Exception) -> JSONResponse:
    status = next((code for kind, code in _STATUS.items() if isinstance(exc, kind)), 500)
    code = getattr(exc, "code", None)
    name = code if isinstance(code, str) else type(exc).__name__.lower()
    said = str(exc)
    if isinstance(code, int):  # a status of SPEC's registry: of an image, say
        name = label(code).split()[-1]
        said = f"{label(code)}: {exc}"
    if name.startswith("unknown-"):
        status = 404
    if name == "artifact-missing":
        status = 404
    if name == "too-large":
        status = 413
    count_refusal("operator", name)
    if status >= 500:
        log.error("operator plane: %s", exc)
    return _error(status, name, said)


async def _on_mistake(_request: Request, _exc: Exception) -> JSONResponse:
    return _error(500, "internal", request_id.mistake())  # the listener logs it


async def _on_http_error(request: Request, exc: Exception) -> JSONResponse:
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    name = {404: "not-found", 405: "method"}.get(status, "http")
    count_refusal("operator", name)
    answer = _error(status, name, "there is nothing here")
    answer.headers.update(allow(request, status))
    return answer


class OperatorPlane:
    """Handlers of the operator plane, over what they need.

    ``image_keys``: x||y of the keys that devices know images by, for as long as ROOT does not name them.
    ``log_keys``: sign the release log. ``log_public``: it is served to everybody.
    """

    def __init__(
        self,
        database: Database,
        artifacts: ArtifactStore,
        trust: TrustChain,
        signer: Assigner,
        retired: retirement.Retired,
        refusals: Refusals,
        tls_files: Callable[[], TlsFiles],
        planner: Planner,
        standing: Standing,
        events: EventHandlers,
        image_keys: tuple[bytes, ...] = (),
        interval_s: int = 300,
        provider: Provider | None = None,
        log_keys: LogKeys = LogKeys(),  # noqa: B008 - nobody changes it
        log_public: bool = False,
    ) -> None:
        self._database = database
        self._log_public = log_public
        parts = (
            DeviceHandlers(database, retired, refusals, lambda: tls_files().device_cas),
            DdiHandlers(database, artifacts),
            OrderHandlers(database, trust, planner, interval_s),
            ApprovalHandlers(database, trust, planner),
            ReleaseHandlers(database, artifacts, trust, signer, tls_files, planner, image_keys, log_keys),
            LogHandlers(database),
            events,
            LoginHandlers(database, provider),
            WebhookHandlers(database),
            ServerHandlers(database, artifacts, tls_files, standing, openapi.of_operators),
        )
        self._parts = {type(part).__name__: part for part in parts}

    def app(self) -> Starlette:
        """Return the ASGI application."""
        app = Starlette(
            routes=[
                Route(f"/api/v1/{one.path}", self._endpoint(one), methods=[one.method]) for one in OPERATIONS
            ],
            exception_handlers={
                FotaError: _on_fota_error,
                HTTPException: _on_http_error,
                Exception: _on_mistake,
            },
        )
        app.router.redirect_slashes = False  # a redirect would be made of the client's Host
        return app

    # Who calls

    def _endpoint(self, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        """Return what answers an operation: whoever has the right to it, for what their token is for."""
        right = None if operation.of_log and self._log_public else operation.right
        part, _, name = operation.handler.__qualname__.partition(".")
        handler = getattr(self._parts[part], name)

        async def endpoint(request: Request) -> Response:
            operator = NOBODY if right is None else await self._operator(request)
            if right is not None and not operator.may(right):
                able = " or ".join(role for role, rights in tokens.ROLES.items() if right in rights)
                raise RoleTooLow(
                    f"token {operator.name} has the role {operator.role}: this takes {able}", "role"
                )
            scope = scopes.meant(request, operation.name, operator)
            if scope is not None:
                await self._database.read(scopes.require, operator, scope)
            operation.begin(request)
            request.scope["fota.again"] = lambda: self._operator(request)
            answer: Response = await handler(request, operator)
            return answer

        return endpoint

    async def _operator(self, request: Request) -> Operator:
        sent = request.headers.getlist("authorization")
        if len(sent) > 1:
            raise Unauthorized("more than one Authorization field: send one token", "token")
        scheme, _, token = "".join(sent).partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("a token is needed: set FOTA_TOKEN or pass --token-file", "token")
        operator = await self._database.read(find_operator, token.strip())
        if operator is None:
            address = request.client.host if request.client else "nowhere"
            log.warning("operator plane: a token that is not in force, from %s", address)
            raise Unauthorized("this token is unknown or revoked", "token")
        request.scope["extensions"]["fota.known"]["say"]()
        return operator
