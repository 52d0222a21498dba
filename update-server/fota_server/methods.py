"""Which methods a path has, for whoever asked by another one (RFC 9110, 15.5.6)."""

from collections.abc import Iterable

from starlette.requests import Request
from starlette.routing import BaseRoute, Match, Route


def allow(request: Request, status: int) -> dict[str, str]:
    """Return the header fields that an answer of ``status`` needs: for 405, all methods of the path."""
    if status != 405:
        return {}
    routes: Iterable[BaseRoute] = request.app.routes
    fit = [one for one in routes if isinstance(one, Route) and one.matches(request.scope)[0] != Match.NONE]
    fewest = min((len(one.param_convertors) for one in fit), default=0)  # `devices/import` is no {id}
    fit = [one for one in fit if len(one.param_convertors) == fewest]
    return {"allow": ", ".join(sorted({method for one in fit for method in one.methods or ()}))}
