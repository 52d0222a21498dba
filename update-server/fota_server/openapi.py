"""OpenAPI 3.1, made of what the planes go by: `operator_routes.OPERATIONS`, and the device plane's routes.

Deep on the operators' plane: parameters, bodies and answers in JSON Schema. Of the device plane it says
routes, methods, media types and statuses; what is in its CBOR, SPEC says, which JSON Schema cannot.
"""

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.routing import BaseRoute, Mount, Route

from fota_server import shapes
from fota_server.operation import JSON, Operation
from fota_server.operator_routes import OPERATIONS
from fota_wire.checkin import CONTENT_TYPE

VERSION = "3.1.0"
_PARAMETER = re.compile(r"\{(\w+)(?::(\w+))?\}")
_REQUEST_ID = {"X-Request-Id": {"schema": {"type": "string"}, "description": "as the server's log has it"}}
_SPEC = {"description": "as SPEC 5.5 and 5.6 say"}


def of_operators(operations: Iterable[Operation] = OPERATIONS) -> dict[str, Any]:
    """Return the document of the operator plane."""
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        path = "/api/v1/" + _PARAMETER.sub(r"{\1}", one.path)
        paths.setdefault(path, {})[one.method.lower()] = _operation(one)
    security = {"token": {"type": "http", "scheme": "bearer", "description": "fota server token create"}}
    errors = {"error": {"description": "refused", **_content(JSON, shapes.ERROR), "headers": _REQUEST_ID}}
    return _document("operator", paths) | {
        "security": [{"token": []}],
        "components": {"securitySchemes": security, "responses": errors},
    }


def _operation(one: Operation) -> dict[str, Any]:
    in_path = [
        _parameter(name, "path", shapes.NUMBER if kind == "row" else shapes.TEXT, required=True)
        for name, kind in _PARAMETER.findall(one.path)
    ]
    in_query = [_parameter(name, "query", shape) for name, shape in one.query.items()]
    done = {"description": "done", **_content(one.media, one.answer), "headers": _REQUEST_ID}
    said: dict[str, Any] = {
        "operationId": one.name,
        "summary": first_sentence(one.handler),
        "parameters": in_path + in_query,
        "responses": {
            **{str(status): done for status in one.statuses},
            "default": {"$ref": "#/components/responses/error"},
        },
    }
    if one.right is None:
        said["security"] = []
    else:
        said["description"] = f"Takes a token whose role may: {one.right}."
    if one.raw is not None:
        said["requestBody"] = {"required": True, **_content(one.raw, shapes.ANYTHING)}
    elif one.body is not None:
        optional = set(one.body) - set(one.needed)
        body = shapes.record(one.body, *optional)
        said["requestBody"] = {"required": True, **_content(JSON, body)}
    return said


def first_sentence(handler: object) -> str:
    """Return what its documentation says that an operation does."""
    return " ".join((inspect.getdoc(handler) or "").split("\n\n")[0].split())


def _parameter(name: str, place: str, shape: Mapping[str, Any], *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": shape}


def _content(media: str, shape: Mapping[str, Any]) -> dict[str, Any]:
    return {"content": {media: {"schema": shape}}}


def _document(plane: str, paths: Mapping[str, Any]) -> dict[str, Any]:
    info = {"title": f"fota update server, {plane} plane", "version": "1"}
    return {"openapi": VERSION, "info": info, "paths": dict(paths)}


def of_devices(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """Return the document of the device plane, by the ``routes`` that it serves."""
    paths: dict[str, dict[str, Any]] = {}
    for path, route in _flat("", routes):
        names = _PARAMETER.findall(path)
        in_path = [_parameter(name, "path", shapes.TEXT, required=True) for name, _ in names]
        ours = path.startswith("/v1/")
        for method in sorted(route.methods or ()):
            said: dict[str, Any] = {
                "operationId": f"{route.name}_{method.lower()}",
                "summary": first_sentence(route.endpoint),
                "parameters": in_path,
                "responses": {"default": {"description": "see SPEC" if ours else "see docs/hawkbit.md"}},
            }
            if ours and method == "POST":
                said["requestBody"] = {"required": True, **_content(CONTENT_TYPE, _SPEC)}
            paths.setdefault(_PARAMETER.sub(r"{\1}", path), {})[method.lower()] = said
    tls = {
        "type": "mutualTLS",
        "description": "the device's certificate; DDI devices may use a token instead",
    }
    return _document("device", paths) | {
        "security": [{"certificate": []}],
        "components": {"securitySchemes": {"certificate": tls}},
    }


def _flat(prefix: str, routes: Iterable[BaseRoute]) -> Iterable[tuple[str, Route]]:
    for route in routes:
        if isinstance(route, Mount):
            yield from _flat(prefix + route.path, route.routes)
        elif isinstance(route, Route):
            yield prefix + route.path, route
