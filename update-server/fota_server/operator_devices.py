"""The operator plane's handlers of devices: twins, in and out, end of life, keys and certificates."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from cryptography.x509 import Certificate
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import JSONResponse

from fota_server import attributes, bulk, devices, renewals, retirement
from fota_server.database import Database
from fota_server.device_plane import read_body
from fota_server.filters import MAX_FILTER
from fota_server.operator_input import (
    BODY_S,
    after_of,
    device_of,
    flag_of,
    limit_of,
    name_of,
    page,
    query_text,
    read_json,
    text_of,
)
from fota_server.refusals import SHOWN, Refusals, list_refusals
from fota_server.tokens import Operator
from fota_wire import certify
from fota_wire.errors import InputError


class DeviceHandlers:
    """What they need: the database, who is retired, who was refused, and the CAs whose certificates count."""

    def __init__(
        self,
        database: Database,
        retired: retirement.Retired,
        refusals: Refusals,
        device_cas: Callable[[], Sequence[Certificate]],
    ) -> None:
        self._database = database
        self._retired = retired
        self._refusals = refusals
        self._device_cas = device_cas

    async def list_devices(self, request: Request, _operator: Operator) -> JSONResponse:
        """GET devices?group&filter&after&limit; ``next`` is the ``after`` of the next page."""
        limit, group = limit_of(request), query_text(request, "group")
        text = query_text(request, "filter", MAX_FILTER)
        ask = self._database.read if text is None else self._database.search
        views = await ask(devices.list_devices, group=group, after=after_of(request), limit=limit, text=text)
        return page("devices", views, limit, "id")

    async def list_attributes(self, request: Request, _operator: Operator) -> JSONResponse:
        """GET attributes?after&limit: their names, and how many devices have each."""
        limit, after = limit_of(request), after_of(request)
        rows = await self._database.search(attributes.names, after, limit)
        return page("attributes", rows, limit, "name")

    async def take_in(self, request: Request, operator: Operator) -> JSONResponse:
        """POST devices/import: with "dry_run" only what is wrong with which row; else all rows or none."""
        body = await read_json(request)
        rows, admit = bulk.parse_rows(body.get("devices")), flag_of(body, "admit")
        if flag_of(body, "dry_run"):
            faults = await self._database.read(lambda connection: bulk.check(connection, rows, admit=admit))
            return JSONResponse({"refused": faults})
        actor = operator.name
        done = await self._database.write(
            lambda connection: bulk.take_in(connection, rows, actor, admit=admit)
        )
        return JSONResponse(done)

    async def describe(self, request: Request, operator: Operator) -> JSONResponse:
        """POST devices/{id}/attributes {"attributes": {name: text, "": a tag, null: not any more}}."""
        words = (await read_json(request)).get("attributes")
        if not isinstance(words, dict) or not words:
            raise InputError("attributes has to be an object of names and texts", "json")
        device_id = device_of(request)
        shown = await self._database.write(devices.set_attributes, device_id, words, operator.name)
        return JSONResponse(shown)

    async def show_device(self, request: Request, _operator: Operator) -> JSONResponse:
        """GET devices/{id}."""
        await self._refusals.flush(self._database)
        return JSONResponse(await self._database.read(devices.show_device, device_of(request)))

    async def list_refused(self, request: Request, _operator: Operator) -> JSONResponse:
        """GET refusals?limit: who was turned away on the device plane, the latest first."""
        limit = limit_of(request, SHOWN)
        await self._refusals.flush(self._database)
        return JSONResponse({"refusals": await self._database.read(list_refusals, limit=limit)})

    async def revoke_device(self, request: Request, operator: Operator) -> JSONResponse:
        """POST devices/{id}/revoke."""
        return JSONResponse(await self._database.write(devices.revoke, device_of(request), operator.name))

    async def admit_device(self, request: Request, operator: Operator) -> JSONResponse:
        """POST devices/{id}/admit."""
        return JSONResponse(await self._database.write(devices.admit, device_of(request), operator.name))

    async def retire_device(self, request: Request, operator: Operator) -> JSONResponse:
        """POST devices/{id}/retire {? "reason"}; when this returns, the device's connections are closed."""
        device_id = device_of(request)
        body = await read_json(request)
        reason = "" if body.get("reason") == "" else text_of(body, "reason") or ""
        # To its end, whoever hangs up: what is on the disk and what this process goes by are one.
        retiring = asyncio.ensure_future(self._retire(device_id, reason, operator.name))
        return JSONResponse(await asyncio.shield(retiring))

    async def _retire(self, device_id: str, reason: str, actor: str) -> dict[str, Any]:
        def work(connection: Connection) -> dict[str, Any]:
            retirement.retire(connection, device_id, reason, actor)
            return devices.show_device(connection, device_id)

        answer = await self._database.write(work)
        self._retired.add(device_id)
        return answer

    async def want_key(self, request: Request, operator: Operator) -> JSONResponse:
        """POST devices/{id}/key {"kind": "renew" or "rotate"}."""
        kind, device_id = await _kind_of(request), device_of(request)

        def work(connection: Connection) -> dict[str, Any]:
            renewals.want(connection, device_id, kind, operator.name)
            return devices.show_device(connection, device_id)

        return JSONResponse(await self._database.write(work))

    async def want_group_key(self, request: Request, operator: Operator) -> JSONResponse:
        """POST groups/{name}/key {"kind": "renew" or "rotate"}: of all its devices in service."""
        kind, name = await _kind_of(request), name_of(request, "name")
        wanted = await renewals.want_of_group(self._database, name, kind, operator.name)
        return JSONResponse({"name": name, **wanted})

    async def list_orders(self, request: Request, _operator: Operator) -> JSONResponse:
        """GET orders?after&limit: what waits for the device CA."""
        limit, after = limit_of(request, renewals.MAX_LISTED), after_of(request)
        rows = await self._database.read(renewals.list_orders, after, limit)
        return page("orders", rows, limit, "device")

    async def certificate(self, request: Request, operator: Operator) -> JSONResponse:
        """POST devices/{id}/certificate, DER: the CA's answer to an order."""
        raw = await read_body(request, certify.MAX_CERTIFICATE, BODY_S)
        device_id = device_of(request)

        def work(connection: Connection) -> dict[str, Any]:
            renewals.deliver(connection, device_id, raw, self._device_cas(), operator.name)
            return devices.show_device(connection, device_id)

        return JSONResponse(await self._database.write(work))


async def _kind_of(request: Request) -> int:
    kinds = {"renew": certify.RENEW, "rotate": certify.ROTATE}
    kind = kinds.get(str((await read_json(request)).get("kind")))
    if kind is None:
        raise InputError('kind has to be "renew" or "rotate"', "json")
    return kind
