"""The operator plane's handlers of the release log: checkpoint and tiles, as C2SP tlog-tiles has them."""

from starlette.requests import Request
from starlette.responses import Response

from fota_server import release_log
from fota_server.database import Database
from fota_server.operation import BYTES
from fota_server.operator_input import name_of
from fota_server.tokens import Operator
from fota_wire.host_tlog import read_tile


class LogHandlers:
    """What they need: the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def log_checkpoint(self, _request: Request, _operator: Operator) -> Response:
        """GET log/checkpoint: the newest one, a signed note."""
        note = await self._database.read(release_log.checkpoint)
        return Response(note, headers={"content-type": "text/plain; charset=utf-8"})

    async def log_tile(self, request: Request, _operator: Operator) -> Response:
        """GET log/tile/{level}/{tile}: hashes, 32 bytes each; at level ``entries`` the leaves themselves."""
        tile = read_tile(name_of(request, "level"), request.path_params["tile"])
        found = await self._database.read(release_log.tile_bytes, tile)
        return Response(found, headers={"content-type": BYTES})
