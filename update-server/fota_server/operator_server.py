"""The operator plane's handlers of the server itself: health, metrics, its routes, the audit trail."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fota_server import schema
from fota_server.artifacts import ArtifactStore, aside
from fota_server.certificates import TlsFiles, utc_now
from fota_server.database import Database
from fota_server.operator_input import limit_of, number_of, query_text
from fota_server.standing import CONTENT_TYPE, Standing
from fota_server.tokens import Operator
from fota_wire.errors import FotaError, InputError
from fota_wire.host_audit import line_of


class NotReady(FotaError):
    """The server runs, and clients or devices cannot use it."""


class ServerHandlers:
    """What they need: database, artifacts, certificates, how the server stands, and what `openapi` says."""

    def __init__(
        self,
        database: Database,
        artifacts: ArtifactStore,
        tls_files: Callable[[], TlsFiles],
        standing: Standing,
        openapi: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._tls_files = tls_files
        self._standing = standing
        self._openapi = openapi

    async def live(self, _request: Request, _operator: Operator) -> JSONResponse:
        """GET health/live: the process answers."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _request: Request, _operator: Operator) -> JSONResponse:
        """GET health/ready: database, artifact folder, disk and certificates are fine."""
        await self._database.read(lambda connection: connection.execute(select(1)).scalar_one())
        if why := await aside(self._artifacts.why_not):
            raise NotReady(why, "artifacts")
        notices = self._tls_files().notices(utc_now())
        failing = [notice.text for notice in notices if notice.failing]
        if failing:
            raise NotReady("; ".join(failing), "certificate")
        return JSONResponse({"status": "ok", "warnings": [notice.text for notice in notices]})

    async def metrics(self, _request: Request, _operator: Operator) -> Response:
        """GET metrics: for Prometheus (docs/metrics.md)."""
        return Response(await self._standing.page(), headers={"content-type": CONTENT_TYPE})

    async def openapi(self, _request: Request, _operator: Operator) -> JSONResponse:
        """GET openapi.json: this plane, as OpenAPI 3.1 describes it."""
        return JSONResponse(self._openapi())

    async def list_audit(self, request: Request, _operator: Operator) -> JSONResponse:
        """GET audit?after&limit&form, oldest first; ``form=lines``: as they are exported (host_audit)."""
        form = query_text(request, "form")
        if form not in (None, "lines"):
            raise InputError("form has to be lines, or is left out", "query")
        table = schema.audit
        limit, after = limit_of(request), number_of(request, "after", 1 << 62, default=0)
        query = select(table).where(table.c.id > after).order_by(table.c.id).limit(limit)

        def work(connection: Connection) -> tuple[Sequence[RowMapping], int]:
            total = connection.execute(select(func.count()).select_from(table)).scalar_one()
            return connection.execute(query).mappings().all(), total

        rows, total = await self._database.read(work)
        following = rows[-1]["id"] if len(rows) == limit else None
        if form == "lines":
            return JSONResponse({"lines": [{"line": line_of(row)} for row in rows], "next": following})
        entries = [dict(row) | {"detail": json.loads(row["detail"])} for row in rows]
        return JSONResponse({"audit": entries, "total": total, "next": following})
