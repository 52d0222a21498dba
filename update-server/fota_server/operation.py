"""What one operation of the operator plane is: declared once, and all that is made of it follows.

The route, who may use it, which query parameters and JSON fields are taken at all, and what OpenAPI says of
it (`openapi.py`), are read from here; the shape of its answer is held to the answers by tests/server.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from fota_server.tokens import Operator
from fota_wire.errors import InputError

Schema = Mapping[str, Any]
"""JSON Schema, draft 2020-12."""
Handler = Callable[[Any, Request, Operator], Awaitable[Response]]
"""A method of the class that has what it needs; `scopes.MEANS` goes by its name."""
JSON, BYTES = "application/json", "application/octet-stream"
_SCOPE = "fota.operation"


@dataclass(frozen=True, slots=True)
class Operation:
    """``path``: below /api/v1. ``right``: of `tokens`; None: nobody has to say who they are. ``body``: JSON
    fields, those ``needed`` among them; ``raw``: what the body is where it is not JSON. ``statuses``: those
    of success; ``media``: of what is answered with them, ``answer`` its shape. ``of_log``: of the release
    log, which a server may be set up to serve to everybody.
    """

    method: str
    path: str
    right: str | None
    handler: Handler
    answer: Schema
    query: Mapping[str, Schema] = field(default_factory=dict)
    body: Mapping[str, Schema] | None = None
    needed: tuple[str, ...] = ()
    raw: str | None = None
    statuses: tuple[int, ...] = (200,)
    media: str = JSON
    of_log: bool = False

    @property
    def name(self) -> str:
        """What it is called, everywhere."""
        return self.handler.__name__

    def begin(self, request: Request) -> None:
        """Have `of` know what ``request`` is about.

        Raises:
            InputError: a query parameter that this operation does not have, and would not look at.
        """
        request.scope[_SCOPE] = self
        unknown = sorted(set(request.query_params) - set(self.query))
        if unknown:
            known = ", ".join(sorted(self.query)) or "none"
            raise InputError(f"{unknown[0][:32]!r} is no parameter of this; there are: {known}", "query")


def of(request: Request) -> Operation:
    """Return the operation that ``request`` asks for."""
    found = request.scope[_SCOPE]
    assert isinstance(found, Operation)  # noqa: S101 - put there by `begin`, never by a client
    return found
