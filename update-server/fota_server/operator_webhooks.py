"""The operator plane's handlers of webhooks."""

from starlette.requests import Request
from starlette.responses import JSONResponse

from fota_server import webhooks
from fota_server.database import Database
from fota_server.operator_input import limit_of, name_of, number_of, page, read_json, text_of
from fota_server.tokens import Operator
from fota_server.webhook_send import MAX_URL
from fota_wire.errors import InputError
from fota_wire.host_ca import pem_certificates

MAX_KINDS, MAX_KIND, MAX_CA = 32, 40, 65536


class WebhookHandlers:
    """What they need: the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_webhooks(self, _request: Request, _operator: Operator) -> JSONResponse:
        """GET webhooks: who is told of changes, and how far they are behind."""
        return JSONResponse({"webhooks": await self._database.read(webhooks.list_all)})

    async def add_webhook(self, request: Request, operator: Operator) -> JSONResponse:
        """POST webhooks {"name", "url", ? "kinds", ? "ca"}: tell it; its secret is in this answer alone."""
        body = await read_json(request)
        name, url, ca = text_of(body, "name"), text_of(body, "url", MAX_URL), text_of(body, "ca", MAX_CA)
        kinds = body.get("kinds", [])
        texts = isinstance(kinds, list) and all(isinstance(kind, str) and kind for kind in kinds)
        if not texts or len(kinds) > MAX_KINDS or any(len(kind) > MAX_KIND for kind in kinds):
            raise InputError(f"kinds has to be a list of up to {MAX_KINDS} texts", "json")
        if name is None or url is None:
            raise InputError("name or url is missing", "json")
        if ca is not None:
            try:
                pem_certificates(ca.encode(), "ca")
            except InputError as exc:
                raise InputError(str(exc), "ca") from exc
        added = await self._database.write(webhooks.add, name, url, kinds, ca, operator.name)
        return JSONResponse(added, 201)

    async def remove_webhook(self, request: Request, operator: Operator) -> JSONResponse:
        """DELETE webhooks/{name}: it is told nothing more."""
        name = name_of(request, "name")
        await self._database.write(webhooks.remove, name, operator.name)
        return JSONResponse({"name": name})

    async def list_dead(self, request: Request, _operator: Operator) -> JSONResponse:
        """GET webhooks/{name}/dead?after&limit: what its receiver refused for good."""
        limit, after = limit_of(request), number_of(request, "after", 1 << 62, default=0)
        rows = await self._database.read(webhooks.dead, name_of(request, "name"), after, limit)
        return page("letters", rows, limit, "id")

    async def redeliver(self, request: Request, operator: Operator) -> JSONResponse:
        """POST webhooks/{name}/redeliver: tell its dead letters again, and go on if it was given up."""
        name = name_of(request, "name")
        letters = await self._database.write(webhooks.redeliver, name, operator.name)
        return JSONResponse({"name": name, "letters": letters})
