"""The operator plane: JSON under ``/api/v1``, bearer tokens with a role, every change in the audit trail.

<<<<<<< HEAD
What can be asked is in `operator_routes.py`, one row each; `fota server openapi` prints it.
=======
| Method, path | Right (tokens.py says which role has it) | What |
|---|---|---|
| GET health/live, health/ready | none | the process answers; database and artifact folder do, too |
| PUT artifacts/{sha256} | publish | upload an image file; 201, or 200 if it is there already |
| GET releases?after&limit; GET releases/{version} | see releases | published releases |
| POST releases | publish | publish a SUIT envelope, its artifact being there; 201, or 200 if it was already |
| POST releases?hardware; POST releases/{version}/hardware {"hardware"} | publish | revisions that it fits |
| POST releases/{version}/withdraw, releases/{version}/restore | operate | offered no more; again |
| GET roots; POST roots | see releases; administer | the chain of ROOT documents; append the next one |
| GET devices?group&filter&after&limit; GET devices/{id} | see | twins |
| GET attributes?after&limit; POST devices/{id}/attributes | see; operate | their names; what is said of one |
| POST devices/import {"devices": [{"id", "attributes"}], ? "admit"} | operate | all of it, or nothing |
| POST devices/{id}/revoke, devices/{id}/admit | operate | shut out; let in |
| POST devices/{id}/retire {? "reason"} | administer | end its life, for good |
| POST devices/{id}/key {"kind": "renew" or "rotate"} | operate | new certificate; new key, too (SPEC 5.6) |
| GET orders?after&limit; POST devices/{id}/certificate (DER) | operate | what to sign; signed |
| POST ddi {"controller", ? "by"}; POST ddi/{id}/token | operate | enrol a DDI device; a new token of it |
| POST ddi/gateway {? "revoke"} | administer | a new token for gateways, or none |
| POST releases/{version}/ddi {"digest", "name"} | publish | the file that DDI devices get |
| GET refusals?limit | see | who was turned away on the device plane, and why |
| GET groups?after&limit; POST groups; DELETE groups/{name} | see; operate; operate | groups |
| POST groups/{name}/filter {"filter"} | operate | have it go by another filter (filters.py) |
| POST groups/{name}/devices, groups/{name}/remove {"devices"} | operate | put in; take out |
| POST groups/{name}/key {"kind"} | operate | as devices/{id}/key, of all its devices |
| GET rollouts?after&limit; POST rollouts; GET rollouts/{id} | see; operate; see | with counts |
| GET rollouts/{id}/devices, rollouts/{id}/left-out ?after&limit | see | device by device |
| POST rollouts/{id}/pause, rollouts/{id}/resume, rollouts/{id}/cancel | operate | |
| POST rollouts/{id}/approve | operate | open the next wave |
| GET rollouts/{id}/rollback | see | what that would do, in numbers |
| POST rollouts/{id}/rollback | operate | cancel it, and send each device that was given it back |
| GET policies; POST policies/lab {"group", ? "devices"} | see; administer | what holds for every order |
| POST policies/approval {"policy"} | administer | what takes a second person (second_policy.py) |
| GET approvals?state&after&limit; GET approvals/{id} | see | what was asked for |
| POST approvals/{id}/give, approvals/{id}/deny {? "reason"} | operate | by another person: done; not done |
| GET limits; POST limits {"trials"} | see; operate | how many devices may be on trial, over all rollouts |
| POST halt {? "reason"}, unhalt | operate | stop all rollouts and rollbacks; let them go on |
| POST rollbacks | operate | send a device or a group back |
| GET preview?kind&version&device or group&policy&seed&after&limit | see | by device, before an order |
| GET metrics | see | for Prometheus (docs/metrics.md) |
| GET audit?after&limit&form | see | what operators did |

An order may have ``policy`` (wave_policy.py), and ``seed`` and ``digest`` of a plan. Orders to many answer
with a number at once: 202 while devices are still being planned, else 201; with ``"dry_run": true`` they only
say what they would do: in waves, that is a plan. Lists come in pages: ``next`` is the ``after`` of the next
one.
>>>>>>> 0a79cd9 (approval: what takes a second person waits for one)

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
from fota_server.artifacts import ArtifactStore
from fota_server.certificates import TlsFiles
from fota_server.crypto import AssignSigner
from fota_server.database import Database, DatabaseUnavailable
from fota_server.device_plane import TooLarge, TooSlow
from fota_server.metrics import count_refusal
<<<<<<< HEAD
from fota_server.operation import Operation
=======
from fota_server.operator_approvals import ApprovalHandlers
>>>>>>> 0a79cd9 (approval: what takes a second person waits for one)
from fota_server.operator_ddi import DdiHandlers
from fota_server.operator_devices import DeviceHandlers
from fota_server.operator_events import EventHandlers, TooManyStreams
from fota_server.operator_orders import OrderHandlers
from fota_server.operator_releases import ReleaseHandlers
from fota_server.operator_routes import OPERATIONS
from fota_server.operator_server import NotReady, ServerHandlers
from fota_server.operator_webhooks import WebhookHandlers
from fota_server.planner import Planner
from fota_server.refusals import Refusals
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
    RoleTooLow: 403,
    scopes.OutOfScope: 403,
    TooSlow: 408,
    TooLarge: 413,
    VerifyError: 409,
    InputError: 400,
    StorageError: 507,
    DatabaseUnavailable: 503,
    NotReady: 503,
    TooManyStreams: 503,
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


async def _on_http_error(_request: Request, exc: Exception) -> JSONResponse:
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    name = {404: "not-found", 405: "method"}.get(status, "http")
    count_refusal("operator", name)
    return _error(status, name, "there is nothing here")


class OperatorPlane:
    """Handlers of the operator plane, over what they need.

    ``image_keys``: x||y of the keys that devices know images by, for as long as ROOT does not name them.
    """

    def __init__(
        self,
        database: Database,
        artifacts: ArtifactStore,
        trust: TrustChain,
        signer: AssignSigner,
        retired: retirement.Retired,
        refusals: Refusals,
        tls_files: Callable[[], TlsFiles],
        planner: Planner,
        standing: Standing,
        events: EventHandlers,
        image_keys: tuple[bytes, ...] = (),
        interval_s: int = 300,
    ) -> None:
        self._database = database
<<<<<<< HEAD
        parts = (
            DeviceHandlers(database, retired, refusals, lambda: tls_files().device_cas),
            DdiHandlers(database, artifacts),
            OrderHandlers(database, trust, planner, interval_s),
            ReleaseHandlers(database, artifacts, trust, signer, tls_files, planner, image_keys),
            events,
            WebhookHandlers(database),
            ServerHandlers(database, artifacts, tls_files, standing, openapi.of_operators),
        )
        self._parts = {type(part).__name__: part for part in parts}

    def app(self) -> Starlette:
        """Return the ASGI application."""
        app = Starlette(
            routes=[
                Route(f"/api/v1/{one.path}", self._endpoint(one), methods=[one.method]) for one in OPERATIONS
=======
        self._artifacts = artifacts
        self._tls_files = tls_files
        self._standing = standing
        self._devices = DeviceHandlers(database, retired, refusals, lambda: tls_files().device_cas)
        self._ddi = DdiHandlers(database, artifacts)
        self._approvals = ApprovalHandlers(database, trust, planner)
        self._orders = OrderHandlers(database, trust, planner, interval_s)
        self._releases = ReleaseHandlers(database, artifacts, trust, signer, tls_files, planner, image_keys)

    def app(self) -> Starlette:
        """Return the ASGI application."""
        read, read_releases = self._needing(tokens.SEE), self._needing(tokens.SEE_RELEASES)
        publish, operate = self._needing(tokens.PUBLISH), self._needing(tokens.OPERATE)
        administer, of_devices = self._needing(tokens.ADMINISTER), self._devices
        orders, releases, approvals = self._orders, self._releases, self._approvals
        app = Starlette(
            routes=[
                Route("/api/v1/health/live", self.live, methods=["GET"]),
                Route("/api/v1/health/ready", self.ready, methods=["GET"]),
                Route("/api/v1/artifacts/{digest}", publish(releases.put_artifact), methods=["PUT"]),
                Route("/api/v1/releases", read_releases(releases.list_releases), methods=["GET"]),
                Route("/api/v1/releases", publish(releases.publish), methods=["POST"]),
                Route("/api/v1/releases/{version}", read_releases(releases.show_release), methods=["GET"]),
                Route("/api/v1/releases/{version}/hardware", publish(releases.set_fits), methods=["POST"]),
                Route("/api/v1/releases/{version}/withdraw", operate(releases.withdraw), methods=["POST"]),
                Route("/api/v1/releases/{version}/restore", operate(releases.restore), methods=["POST"]),
                Route("/api/v1/roots", read_releases(releases.list_roots), methods=["GET"]),
                Route("/api/v1/roots", administer(releases.add_root), methods=["POST"]),
                Route("/api/v1/devices", read(of_devices.list_devices), methods=["GET"]),
                Route("/api/v1/attributes", read(of_devices.list_attributes), methods=["GET"]),
                Route("/api/v1/devices/import", operate(of_devices.take_in), methods=["POST"]),
                Route("/api/v1/devices/{id}/attributes", operate(of_devices.describe), methods=["POST"]),
                Route("/api/v1/devices/{id}", read(of_devices.show_device), methods=["GET"]),
                Route("/api/v1/devices/{id}/revoke", operate(of_devices.revoke_device), methods=["POST"]),
                Route("/api/v1/devices/{id}/admit", operate(of_devices.admit_device), methods=["POST"]),
                Route("/api/v1/devices/{id}/retire", administer(of_devices.retire_device), methods=["POST"]),
                Route("/api/v1/devices/{id}/key", operate(of_devices.want_key), methods=["POST"]),
                Route("/api/v1/devices/{id}/certificate", operate(of_devices.certificate), methods=["POST"]),
                Route("/api/v1/ddi", operate(self._ddi.enrol), methods=["POST"]),
                Route("/api/v1/ddi/gateway", administer(self._ddi.gateway_token), methods=["POST"]),
                Route("/api/v1/ddi/{id}/token", operate(self._ddi.renew_token), methods=["POST"]),
                Route("/api/v1/releases/{version}/ddi", publish(self._ddi.attach), methods=["POST"]),
                Route("/api/v1/refusals", read(of_devices.list_refused), methods=["GET"]),
                Route("/api/v1/orders", operate(of_devices.list_orders), methods=["GET"]),
                Route("/api/v1/groups", read(orders.list_groups), methods=["GET"]),
                Route("/api/v1/groups", operate(orders.create_group), methods=["POST"]),
                Route("/api/v1/groups/{name}", operate(orders.delete_group), methods=["DELETE"]),
                Route("/api/v1/groups/{name}/filter", operate(orders.set_filter), methods=["POST"]),
                Route("/api/v1/groups/{name}/devices", operate(orders.add_to_group), methods=["POST"]),
                Route("/api/v1/groups/{name}/remove", operate(orders.remove_from_group), methods=["POST"]),
                Route("/api/v1/groups/{name}/key", operate(of_devices.want_group_key), methods=["POST"]),
                Route("/api/v1/rollouts", read(orders.list_rollouts), methods=["GET"]),
                Route("/api/v1/rollouts", operate(orders.start_rollout), methods=["POST"]),
                Route("/api/v1/rollouts/{id:row}", read(orders.show_rollout), methods=["GET"]),
                Route("/api/v1/rollouts/{id:row}/devices", read(orders.list_targets), methods=["GET"]),
                Route("/api/v1/rollouts/{id:row}/left-out", read(orders.list_left_out), methods=["GET"]),
                Route("/api/v1/rollouts/{id:row}/pause", operate(orders.pause_rollout), methods=["POST"]),
                Route("/api/v1/rollouts/{id:row}/resume", operate(orders.resume_rollout), methods=["POST"]),
                Route("/api/v1/rollouts/{id:row}/cancel", operate(orders.cancel_rollout), methods=["POST"]),
                Route("/api/v1/rollouts/{id:row}/approve", operate(orders.approve_rollout), methods=["POST"]),
                Route("/api/v1/rollouts/{id:row}/rollback", read(orders.preview_back), methods=["GET"]),
                Route("/api/v1/rollouts/{id:row}/rollback", operate(orders.take_back), methods=["POST"]),
                Route("/api/v1/limits", read(orders.show_limits), methods=["GET"]),
                Route("/api/v1/limits", operate(orders.set_limits), methods=["POST"]),
                Route("/api/v1/policies", read(approvals.show_policies), methods=["GET"]),
                Route("/api/v1/policies/lab", administer(approvals.set_lab), methods=["POST"]),
                Route("/api/v1/policies/approval", administer(approvals.set_approval), methods=["POST"]),
                Route("/api/v1/approvals", read(approvals.list_approvals), methods=["GET"]),
                Route("/api/v1/approvals/{id:row}", read(approvals.show_approval), methods=["GET"]),
                Route("/api/v1/approvals/{id:row}/give", operate(approvals.give_approval), methods=["POST"]),
                Route("/api/v1/approvals/{id:row}/deny", operate(approvals.deny_approval), methods=["POST"]),
                Route("/api/v1/halt", operate(orders.halt), methods=["POST"]),
                Route("/api/v1/unhalt", operate(orders.unhalt), methods=["POST"]),
                Route("/api/v1/rollbacks", operate(orders.start_rollback), methods=["POST"]),
                Route("/api/v1/preview", read(orders.preview_devices), methods=["GET"]),
                Route("/api/v1/metrics", read(self.metrics), methods=["GET"]),
                Route("/api/v1/audit", read(self.list_audit), methods=["GET"]),
>>>>>>> 0a79cd9 (approval: what takes a second person waits for one)
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
        right = operation.right
        part, _, name = operation.handler.__qualname__.partition(".")
        handler = getattr(self._parts[part], name)

        async def endpoint(request: Request) -> Response:
            operator = NOBODY if right is None else await self._operator(request)
            if right is not None and not operator.may(right):
                able = ", ".join(role for role, rights in tokens.ROLES.items() if right in rights)
                raise RoleTooLow(
                    f"token {operator.name} is a {operator.role}'s: this takes one of {able}", "role"
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
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("a token is needed: set FOTA_TOKEN or pass --token-file", "token")
        operator = await self._database.read(find_operator, token.strip())
        if operator is None:
            address = request.client.host if request.client else "nowhere"
            log.warning("operator plane: a token that is not in force, from %s", address)
            raise Unauthorized("this token is unknown or revoked", "token")
        request.scope["extensions"]["fota.known"]["say"]()
        return operator
