"""The operator plane's handlers of DDI devices: who is enrolled, their tokens, and which file they get."""

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import JSONResponse

from fota_server import ddi_devices, ddi_files, devices
from fota_server.artifacts import ArtifactStore, aside, is_digest
from fota_server.database import Database
from fota_server.operator_input import device_of, flag_of, name_of, read_json, text_of
from fota_server.tokens import Operator
from fota_wire.errors import InputError


class DdiHandlers:
    """What they need: the database and the artifacts. They work whether or not the DDI is served."""

    def __init__(self, database: Database, artifacts: ArtifactStore) -> None:
        self._database = database
        self._artifacts = artifacts

    async def enrol(self, request: Request, operator: Operator) -> JSONResponse:
        """POST ddi {"controller", ? "by"}: the device, and its token if it is to have one."""
        body = await read_json(request)
        controller, way = text_of(body, "controller"), text_of(body, "by") or ddi_devices.TOKEN
        if controller is None:
            raise InputError("controller has to be the name that the device's client sends", "json")

        def work(connection: Connection) -> dict[str, object]:
            device_id, token = ddi_devices.enrol(connection, controller, way, operator.name)
            return devices.show_device(connection, device_id) | {"token": token}

        return JSONResponse(await self._database.write(work), 201)

    async def renew_token(self, request: Request, operator: Operator) -> JSONResponse:
        """POST ddi/{id}/token: a new one; the old one is none any more."""
        device_id = device_of(request)
        token = await self._database.write(ddi_devices.renew_token, device_id, operator.name)
        return JSONResponse({"id": device_id, "token": token})

    async def gateway_token(self, request: Request, operator: Operator) -> JSONResponse:
        """POST ddi/gateway {? "revoke"}: a new token for gateways, or none any more."""
        revoke = flag_of(await read_json(request), "revoke")
        token = await self._database.write(ddi_devices.set_gateway_token, operator.name, revoke=revoke)
        return JSONResponse({"token": token})

    async def attach(self, request: Request, operator: Operator) -> JSONResponse:
        """POST releases/{version or digest}/ddi {"digest", "name"}: the file that DDI devices get."""
        version, body = name_of(request, "version"), await read_json(request)
        digest, name = text_of(body, "digest") or "", text_of(body, "name") or ""
        if not is_digest(digest) or not await aside(self._artifacts.has, digest):
            raise InputError(f"no artifact {digest[:64]}: upload it first", "artifact-missing")
        hashed = await aside(ddi_files.hash_artifact, self._artifacts, digest)
        return JSONResponse(
            await self._database.write(ddi_files.attach, version, name, hashed, operator.name)
        )
