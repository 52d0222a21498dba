"""hawkBit's Direct Device Integration API on the device plane: for devices that speak that already.

| Method, path below ``/{tenant}/controller/v1/{controller}`` | Answer |
|---|---|
| GET | when to poll again, and where to go on |
| PUT configData | 200, attributes stored |
| GET deploymentBase/{action}, installedBase/{action} | what to install, what was; else 404 |
| POST deploymentBase/{action}/feedback | 200; 410 if the action is closed |
| GET cancelAction/{action} | what to stop; 404 unless it is to be stopped |
| POST cancelAction/{action}/feedback | 200; 405 if it is not to be stopped |
| GET softwaremodules/{release}/artifacts | the file of a release that the device was given |
| GET, HEAD softwaremodules/{release}/artifacts/{name} | the file: 200, 206, 412, 416; {name}.MD5SUM |

Errors: ``{"errorCode": ..., "message": ...}``, and the connection closes; who was refused, and why, is told
by 'fota device refused'. An answer that says nothing has status 200 and no body: clients take no other.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from fota_server import ddi_devices, ddi_files, ddi_work, request_id
from fota_server import ddi_words as words
from fota_server.artifacts import ArtifactStore, aside
from fota_server.catalog import Catalog
from fota_server.database import Database, DatabaseUnavailable, now
from fota_server.ddi_devices import ShutOut, Unauthorized
from fota_server.ddi_words import File
from fota_server.decide import TargetState
from fota_server.device_plane import BODY_S, TooLarge, TooSlow, read_body, send_artifact
from fota_server.methods import allow
from fota_server.pace import CHECK_IN, RANGE, Pace
from fota_server.quick import Reader, Statement
from fota_server.refusals import Refusals
from fota_wire.errors import FormatError, FotaError, StorageError
from fota_wire.root import Root

log = logging.getLogger("fota.server")

PATH = "/{tenant}/controller/v1"
SOON_S = 10
"""When a device polls again that has a next step to do: some clients do one step with each poll."""
FLUSH_S = 10.0
ROW = "ddi.device"
"""Where a request keeps the row of the device that it comes from."""


class NotFound(FotaError):
    """Nothing is here."""


class NotNow(FotaError):
    """It was here, or may come to be: nothing is wrong with having asked."""


class Changed(FotaError):
    """The file is not the one that the client has a part of."""


_STATUS: dict[type[FotaError], int] = {
    Unauthorized: 401,
    ShutOut: 403,
    NotFound: 404,
    NotNow: 404,
    ddi_work.Foreign: 404,
    ddi_work.NotCancelable: 405,
    TooSlow: 408,
    ddi_work.Inactive: 410,
    Changed: 412,
    TooLarge: 413,
    FormatError: 400,
    DatabaseUnavailable: 503,
    StorageError: 503,
}
_NO_REFUSAL = (NotNow, Changed)


def _error(status: int, code: str, message: str) -> Response:
    headers = {"connection": "close"}
    if status == 401:
        headers["www-authenticate"] = "TargetToken"
    if status == 503:
        headers["retry-after"] = "30"
    return JSONResponse({"errorCode": f"fota.{code}", "message": message}, status, headers)


async def _on_mistake(_request: Request, _exc: Exception) -> Response:
    return _error(500, "internal", request_id.mistake())  # the listener logs it


class DdiPlane:
    """Handlers of the DDI, over what they need.

    ``tenant``: the only one, in any case; clients name it. ``on_failure``: as for `CheckIns`.
    """

    def __init__(
        self,
        tenant: str,
        database: Database,
        catalog: Catalog,
        artifacts: ArtifactStore,
        refusals: Refusals,
        reader: Reader,
        root: Callable[[], Root],
        interval_s: int,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._tenant = tenant.lower()
        self._database = database
        self._catalog = catalog
        self._artifacts = artifacts
        self._refusals = refusals
        self._reader = reader
        self._root = root
        self._interval_s = interval_s
        self._on_failure = on_failure
        self._pace = Pace()
        self._seen: dict[str, int] = {}
        self._enrolled, self._fetch = Statement(ddi_devices.enrolled()), Statement(ddi_files.may_fetch())

    def mount(self) -> Mount:
        """Return all of it, to be put into the device plane's application."""
        app = Starlette(
            routes=routes(self),
            exception_handlers={
                FotaError: self._on_fota_error,
                HTTPException: self._on_http_error,
                Exception: _on_mistake,
            },
        )
        app.router.redirect_slashes = False  # a redirect would be made of the client's Host
        return Mount(PATH, app=app)

    # Who calls

    async def _device(self, request: Request, cost: float = CHECK_IN) -> str:
        """Return the id of the device that a request comes from, once it may be answered.

        Raises:
            NotFound: another tenant. Unauthorized, ShutOut: as `ddi_devices.admit`.
        """
        if request.path_params["tenant"].lower() != self._tenant:
            raise NotFound("there is no such tenant here", "tenant")
        row = await self._reader.first(self._enrolled, controller=request.path_params["controller"])
        ddi_devices.admit(row, request.headers.get("authorization", ""), request.scope)
        request.scope[ROW] = row
        request.scope["extensions"]["fota.known"]["say"]()
        device_id = str(row.device_id)
        wait_s = self._pace.wait(device_id, cost, asyncio.get_running_loop().time())
        if wait_s:
            self._note(request, "too-often", "asks more often than a device has to, and is slowed down")
            await asyncio.sleep(wait_s)
        if row.last_seen is None:
            await self._database.write(ddi_work.note_seen, {device_id: now()})
        else:
            self._seen[device_id] = now()
        return device_id

    def _note(self, request: Request, code: str, why: str) -> None:
        """Leave a trace of a refusal: of a device that showed who it is, or of a name that was claimed."""
        address = request.client.host if request.client else ""
        row = request.scope.get(ROW)
        who = row.device_id if row is not None else str(request.path_params.get("controller", ""))
        self._refusals.note(who, code, address, why, proved=row is not None)

    async def _on_fota_error(self, request: Request, exc: Exception) -> Response:
        status = next((code for kind, code in _STATUS.items() if isinstance(exc, kind)), 500)
        given = getattr(exc, "code", None)
        code = given if isinstance(given, str) else type(exc).__name__.lower()
        if status >= 500:
            log.error("device plane: %s", exc)
            return _error(status, "unavailable", "the server cannot answer now; try again later")
        if not isinstance(exc, _NO_REFUSAL):
            self._note(request, code, str(exc))
        return _error(status, code, str(exc))

    async def _on_http_error(self, request: Request, exc: Exception) -> Response:
        status = exc.status_code if isinstance(exc, HTTPException) else 500
        code, why = {404: "not-found", 405: "method"}.get(status, "http"), "there is nothing here"
        self._note(request, code, why)
        answer = _error(status, code, why)
        answer.headers.update(allow(request, status))
        return answer

    async def keep_flushing(self) -> None:
        """Store when devices were last heard of every ``FLUSH_S`` seconds, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Store it now; what the database does not take stays."""
        seen, self._seen = self._seen, {}
        try:
            if seen:
                await self._database.write(ddi_work.note_seen, seen)
        except (DatabaseUnavailable, StorageError) as exc:
            log.warning("when DDI devices were last seen is not stored yet: %s", exc)
            self._seen = seen | self._seen

    # Polls and what they lead to

    async def poll(self, request: Request) -> Response:
        """GET: a device is given what it may be given now, and told where to go on."""
        device_id = await self._device(request)
        root = _url(request)
        standing = await self._database.read(ddi_work.look, device_id, self._catalog, self._root())
        if standing.may_be_given and standing.release is not None:
            await self._file_of(standing.release.id, standing.release.version, standing.release.file_digest)
            standing = await self._database.write(ddi_work.give, device_id, self._catalog, self._root())
        links = {}
        if standing.cancel is not None:
            links["cancelAction"] = f"{root}/cancelAction/{standing.cancel}"
        if standing.action is not None:
            # Clients take what they know for unchanged as long as this number is the same.
            links["deploymentBase"] = f"{root}/deploymentBase/{standing.action}?c={_C[standing.mode]}"
        if standing.done is not None:
            links["installedBase"] = f"{root}/installedBase/{standing.done}"
        if not request.scope[ROW].configured:
            links["configData"] = f"{root}/configData"
        busy = bool(links.keys() - {"installedBase"}) and standing.mode == words.FORCED
        return JSONResponse(words.base(words.sleep_text(self._sleep_s(busy)), links), headers=_FRESH)

    def _sleep_s(self, busy: bool) -> int:
        """Return the seconds until the next poll, spread by a fifth either way: fleets must not march."""
        base = min(self._interval_s, SOON_S) if busy else self._interval_s
        spread = base // 5
        return base - spread + secrets.randbelow(2 * spread + 1)

    async def _file_of(self, release_id: int, version: str, image: bytes) -> File:
        """Return the file of a release; of an image the hashes are made when the first device asks."""
        file = await self._database.read(ddi_files.file_of, release_id)
        if file is None:
            hashed = await aside(ddi_files.hash_artifact, self._artifacts, image.hex())
            name = f"{version}.bin".replace("/", "-")
            await self._database.write(ddi_files.store_image, release_id, name, hashed)
            file = await self._database.read(ddi_files.file_of, release_id)
        if file is None:
            raise StorageError(f"release {version} has no file for DDI devices")
        return file

    async def deployment(self, request: Request) -> Response:
        """GET deploymentBase/{action}: 404 while the device is asked to stop it, and once it is closed."""
        device_id, action = await self._device(request), _action(request)
        _, file = await self._database.read(ddi_work.mentioned, device_id, action)
        standing = await self._database.read(ddi_work.look, device_id, self._catalog, self._root())
        if standing.action != action or file is None:
            raise NotNow(f"action {action} is not to be carried out", "not-now")
        return self._shown(request, action, standing.mode, file)

    async def installed(self, request: Request) -> Response:
        """GET installedBase/{action}: the same of an action that the device said is done."""
        device_id, action = await self._device(request), _action(request)
        state, file = await self._database.read(ddi_work.mentioned, device_id, action)
        if state is not TargetState.SAID or file is None:
            raise NotNow(f"action {action} is not done", "not-now")
        return self._shown(request, action, words.FORCED, file)

    def _shown(self, request: Request, action: int, mode: str, file: File) -> Response:
        body = words.deployment(action, mode, file, "firmware", _url(request))
        return JSONResponse(body, headers=_FRESH)

    async def feedback(self, request: Request) -> Response:
        """POST deploymentBase/{action}/feedback."""
        device_id = await self._device(request)
        said = words.parse_feedback(await read_body(request, words.MAX_BODY, BODY_S))
        await self._database.write(ddi_work.hear, device_id, _action(request), said)
        if said.verdict is False:
            self._on_failure()
        return Response(headers=_FRESH)

    async def cancel(self, request: Request) -> Response:
        """GET cancelAction/{action}."""
        device_id, action = await self._device(request), _action(request)
        await self._database.read(ddi_work.mentioned, device_id, action)
        standing = await self._database.read(ddi_work.look, device_id, self._catalog, self._root())
        if standing.cancel != action:
            raise NotNow(f"action {action} is not to be stopped", "not-now")
        return JSONResponse(words.cancel(action), headers=_FRESH)

    async def cancelled(self, request: Request) -> Response:
        """POST cancelAction/{action}/feedback."""
        device_id = await self._device(request)
        said = words.parse_feedback(await read_body(request, words.MAX_BODY, BODY_S))
        await self._database.write(ddi_work.hear_cancel, device_id, request.path_params["action"], said)
        return Response(headers=_FRESH)

    async def attributes(self, request: Request) -> Response:
        """PUT configData."""
        device_id = await self._device(request)
        told = words.parse_attributes(await read_body(request, words.MAX_BODY, BODY_S))
        await self._database.write(ddi_work.learn, device_id, told)
        return Response(headers=_FRESH)

    async def nothing(self, request: Request) -> Response:
        """Answer what is asked for and not here: confirmationBase, say."""
        await self._device(request)
        raise NotFound("there is nothing here", "not-found")

    # Files: reads alone, however small the range

    async def files(self, request: Request) -> Response:
        """GET softwaremodules/{release}/artifacts."""
        file = await self._fetched(request, CHECK_IN)
        return JSONResponse([words.artifact(file, _url(request))], headers=_FRESH)

    async def file(self, request: Request) -> Response:
        """GET, HEAD softwaremodules/{release}/artifacts/{name}, and {name}.MD5SUM."""
        file, name = await self._fetched(request, RANGE), request.path_params["name"]
        if name == file.name + ".MD5SUM":
            return Response(f"{file.md5}  {file.name}\n", media_type="text/plain", headers=_FRESH)
        if name != file.name:
            raise NotFound("the release has no file of that name", "not-found")
        etag = f'"{file.sha256}"'
        match = request.headers.get("if-match", etag)
        if match != "*" and etag not in [one.strip() for one in match.split(",")]:
            raise Changed("the file is another one", "changed")
        return await send_artifact(request, self._artifacts, file.sha256)

    async def _fetched(self, request: Request, cost: float) -> File:
        device_id, release_id = await self._device(request, cost), int(request.path_params["release"] or 0)
        row = await self._reader.first(self._fetch, device_id=device_id, release_id=release_id)
        if row is None:
            raise NotFound("nothing of this release is for this device now", "not-assigned")
        return ddi_files.read_row(row)


_C = {words.FORCED: 1, words.SKIP: 2}


def routes(plane: DdiPlane | type[DdiPlane]) -> list[Route]:
    """Return what is served below `PATH`; of the class: to be described."""
    files = "/{controller}/softwaremodules/{release:ddi}/artifacts"
    return [
        Route("/{controller}", plane.poll, methods=["GET"]),
        Route("/{controller}/configData", plane.attributes, methods=["PUT"]),
        Route("/{controller}/deploymentBase/{action:ddi}", plane.deployment, methods=["GET"]),
        Route("/{controller}/installedBase/{action:ddi}", plane.installed, methods=["GET"]),
        Route("/{controller}/deploymentBase/{action:ddi}/feedback", plane.feedback, methods=["POST"]),
        Route("/{controller}/cancelAction/{action:ddi}", plane.cancel, methods=["GET"]),
        Route("/{controller}/cancelAction/{action:ddi}/feedback", plane.cancelled, methods=["POST"]),
        Route(files, plane.files, methods=["GET"]),
        Route(files + "/{name}", plane.file, methods=["GET"]),
        Route("/{controller}/{rest:path}", plane.nothing, methods=["GET", "POST", "PUT", "DELETE"]),
    ]


_FRESH = {"cache-control": "no-store"}


def _url(request: Request) -> str:
    """Return the URL of the device that asks, as it calls this server."""
    host = words.require_host(request.headers.get("host", ""))
    tenant, controller = request.path_params["tenant"], request.path_params["controller"]
    return f"https://{host}/{tenant}/controller/v1/{controller}"


def _action(request: Request) -> int:
    return min(int(request.path_params["action"] or 0), words.MAX_ACTION)


class _Number(Convertor[str]):
    """A number in a path, or nothing: some clients lose digits. A database has none of more digits."""

    regex = "[0-9]{0,10}"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("ddi", _Number())
